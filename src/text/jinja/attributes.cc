// What stands behind a dot and in brackets: methods, items, and the attributes of loops, namespaces and cyclers.
#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/renderer.h"
#include "text/jinja/text.h"

namespace sotto::jinja {
namespace {

// What Python has and templates don't use: an error, so that it isn't taken for an item that is missing.
constexpr std::string_view kUnsupported[] = {"str.casefold",
                                             "str.encode",
                                             "str.expandtabs",
                                             "str.isidentifier",
                                             "str.istitle",
                                             "str.maketrans",
                                             "str.swapcase",
                                             "str.translate",
                                             "dict.fromkeys",
                                             "int.as_integer_ratio",
                                             "int.bit_count",
                                             "int.bit_length",
                                             "int.conjugate",
                                             "int.denominator",
                                             "int.from_bytes",
                                             "int.imag",
                                             "int.numerator",
                                             "int.real",
                                             "int.to_bytes",
                                             "bool.as_integer_ratio",
                                             "bool.bit_count",
                                             "bool.bit_length",
                                             "bool.conjugate",
                                             "bool.denominator",
                                             "bool.from_bytes",
                                             "bool.imag",
                                             "bool.numerator",
                                             "bool.real",
                                             "bool.to_bytes",
                                             "float.as_integer_ratio",
                                             "float.conjugate",
                                             "float.fromhex",
                                             "float.hex",
                                             "float.imag",
                                             "float.is_integer",
                                             "float.real",
                                             "dict view.isdisjoint",
                                             "dict view.mapping",
                                             "generator.close",
                                             "generator.send",
                                             "generator.throw",
                                             "generator.gi_code",
                                             "generator.gi_frame",
                                             "generator.gi_running",
                                             "generator.gi_suspended",
                                             "generator.gi_yieldfrom",
                                             "cycler.items",
                                             "cycler.pos",
                                             "function.arguments",
                                             "function.caller",
                                             "function.catch_kwargs",
                                             "function.catch_varargs",
                                             "function.explicit_caller",
                                             "function.fromkeys",
                                             "function.name",
                                             "function.sep",
                                             "function.used"};
constexpr std::string_view kMutators[] = {"list.append",  "list.clear",      "list.extend", "list.insert", "list.pop",
                                          "list.remove",  "list.reverse",    "list.sort",   "dict.clear",  "dict.pop",
                                          "dict.popitem", "dict.setdefault", "dict.update"};

bool IsAmong(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Result<Value> LoopNext(Loop& loop) {
  const auto source = loop.source;
  if (!loop.after && !TRY(source->Next(&loop.after))) loop.after = Value();
  return loop.after;
}

Result<int64_t> LoopLength(Renderer& r, Loop& loop) {
  if (loop.length >= 0) return loop.length;
  if (loop.sized) return loop.length = TRY(Length(loop.sized));
  // What is left is read, and visited from a list instead.
  const auto source = loop.source;
  std::vector<Value> rest;
  Value item;
  while (TRY(source->Next(&item))) {
    rest.push_back(std::move(item));
    TRY(r.budget().Fits(rest.size() * sizeof(Value)));
  }
  loop.length = loop.index0 + 1 + (loop.after ? 1 : 0) + static_cast<int64_t>(rest.size());
  loop.source = TRY(Iterate(r.budget(), TRY(r.budget().List(std::move(rest)))));
  return loop.length;
}

Result<Value> LoopCycle(Renderer&, const Value& self, Arguments& a) {
  if (a.positional.empty() || !a.named.empty()) return BadInput("loop.cycle() needs values");
  return a.positional[static_cast<size_t>(self.as<Loop>().index0) % a.positional.size()];
}

Result<Value> LoopChanged(Renderer& r, const Value& self, Arguments& a) {
  Loop& loop = self.as<Loop>();
  if (loop.ended) return BadInput("a loop is used after its end");
  Value now = TRY(r.budget().Tuple(std::move(a.positional)));
  if (loop.changed && TRY(Equal(r.budget(), loop.changed, now))) return Value::Bool(false);
  loop.changed = std::move(now);
  return Value::Bool(true);
}

Result<Value> CyclerNext(Renderer&, const Value& self, Arguments&) {
  Cycler& cycler = self.as<Cycler>();
  const Value& now = cycler.items.items()[cycler.at];
  cycler.at = (cycler.at + 1) % cycler.items.items().size();
  return now;
}

Result<Value> CyclerReset(Renderer&, const Value& self, Arguments&) {
  self.as<Cycler>().at = 0;
  return Value::None();
}

constexpr Native kLoopMethods[] = {{"cycle", "*", LoopCycle}, {"changed", "*", LoopChanged}};
constexpr Native kCyclerMethods[] = {{"next", "", CyclerNext}, {"reset", "", CyclerReset}};

Result<Value> LoopAttribute(Renderer& r, const Value& value, std::string_view name) {
  Loop& loop = value.as<Loop>();
  if (loop.ended) return BadInput("a loop is used after its end");
  if (name == "index0") return Value::Int(loop.index0);
  if (name == "index") return Value::Int(loop.index0 + 1);
  if (name == "depth0") return Value::Int(loop.depth0);
  if (name == "depth") return Value::Int(loop.depth0 + 1);
  if (name == "first") return Value::Bool(loop.index0 == 0);
  if (name == "last") return Value::Bool(!TRY(LoopNext(loop)));
  if (name == "length") return Value::Int(TRY(LoopLength(r, loop)));
  if (name == "revindex") return Value::Int(TRY(LoopLength(r, loop)) - loop.index0);
  if (name == "revindex0") return Value::Int(TRY(LoopLength(r, loop)) - loop.index0 - 1);
  if (name == "previtem") return loop.index0 > 0 ? loop.before : TRY(r.budget().Undefined("there is no previous item"));
  if (name != "nextitem") return Value();
  Value next = TRY(LoopNext(loop));
  return next ? next : TRY(r.budget().Undefined("there is no next item"));
}

Result<Value> SpecialAttribute(Renderer& r, const Value& value, std::string_view name) {
  switch (value.kind()) {
    case Kind::kLoop: return LoopAttribute(r, value, name);
    case Kind::kNamespace:
      for (const auto& [key, attribute] : value.as<Namespace>().attributes)
        if (key == name) return attribute;
      return Value();
    case Kind::kCycler: return name == "current" ? value.as<Cycler>().items.items()[value.as<Cycler>().at] : Value();
    case Kind::kTuple:
      if (!value.as<Sequence>().group || (name != "grouper" && name != "list")) return Value();
      return value.items()[name == "list"];
    case Kind::kRange:
      if (name == "start") return Value::Int(value.as<Range>().start);
      if (name == "stop") return Value::Int(value.as<Range>().stop);
      return name == "step" ? Value::Int(value.as<Range>().step) : Value();
    default: return Value();
  }
}

}  // namespace

Result<Value> OwnAttribute(Renderer& r, const Value& value, std::string_view name) {
  const auto is_unsafe = [&] {
    return r.budget().Undefined(fmt::format("access to attribute '{}' of '{}' is unsafe", name, TypeName(value)));
  };
  if (value.is(Kind::kUndefined)) return UndefinedError(value);
  if (name.starts_with("__") && name.ends_with("__") && !value.is(Kind::kNamespace)) return is_unsafe();
  if (name.starts_with('_')) return Value();
  Value own = TRY(SpecialAttribute(r, value, name));
  if (own) return own;
  if (const Native* method = FindMethod(value, name); method != nullptr)
    return MakeCallable(r.budget(), *method, value);
  const std::string full = fmt::format("{}.{}", TypeName(value), name);
  if (IsAmong(kMutators, full)) return is_unsafe();
  if (IsAmong(kUnsupported, full)) return BadInput(fmt::format("{} isn't supported in a chat template", full));
  return Value();
}

const Native* FindMethod(const Value& value, std::string_view name) {
  std::span<const Native> methods;
  switch (value.kind()) {
    case Kind::kString: methods = TextMethods(); break;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange: methods = SequenceMethods(); break;
    case Kind::kDict: methods = DictMethods(); break;
    case Kind::kLoop: methods = kLoopMethods; break;
    case Kind::kCycler: methods = kCyclerMethods; break;
    default: break;
  }
  if (name == "copy" && !value.is(Kind::kList) && !value.is(Kind::kDict)) return nullptr;
  const auto at = std::find_if(methods.begin(), methods.end(), [&](const Native& n) { return n.name == name; });
  return at == methods.end() ? nullptr : &*at;
}

Result<Value> MakeCallable(Budget& budget, const Native& native, const Value& self) {
  auto callable = std::make_shared<Callable>();
  callable->native = &native;
  callable->self = self;
  return budget.Make(Kind::kCallable, std::move(callable), 64, self.depth());
}

Result<Value> Attribute(Renderer& r, const Value& value, std::string_view name) {
  Value own = TRY(OwnAttribute(r, value, name));
  if (own) return own;
  if (value.is(Kind::kDict))
    if (const Value* item = value.dict().Find(name); item != nullptr) return *item;
  return r.budget().Undefined(fmt::format("'{}' has no attribute '{}'", TypeName(value), name));
}

Result<Value> Subscript(Renderer& r, const Value& value, const Value& key) {
  Value item = TRY(ItemAt(r.budget(), value, key));
  if (item) return item;
  if (!key.is(Kind::kString)) return r.budget().Undefined(fmt::format("a {} has no such element", TypeName(value)));
  Value own = TRY(OwnAttribute(r, value, key.text()));
  if (own) return own;
  return r.budget().Undefined(fmt::format("'{}' has no attribute '{}'", TypeName(value), key.text()));
}

Result<std::string_view> TextOf(const Value& value, std::string_view what) {
  if (value.is(Kind::kUndefined)) return UndefinedError(value);
  if (!value.is(Kind::kString)) return BadInput(fmt::format("{} is a {}, not text", what, TypeName(value)));
  return std::string_view(value.text());
}

Result<int64_t> IntOf(const Value& value, int64_t otherwise, std::string_view what) {
  if (!value) return otherwise;
  if (!value.IsInteger()) return BadInput(fmt::format("{} is a {}, not a whole number", what, TypeName(value)));
  return value.integer();
}

}  // namespace sotto::jinja
