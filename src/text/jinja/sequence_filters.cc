#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "text/jinja/filters.h"
#include "text/jinja/text.h"
#include "text/utf8.h"

namespace sotto::jinja {
namespace {

using Reply = Result<Value>;
using R = Renderer;
using V = const Value&;
using A = Arguments&;

// Puts `items` in the order of `keys`; equal ones keep theirs, reversed or not.
Result<std::vector<Value>> Sorted(R& r, std::vector<Value> items, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  Status failed;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (!failed.ok()) return false;
    const auto less = Ordered(r.budget(), '<', keys[reverse ? b : a], keys[reverse ? a : b]);
    if (!less.ok()) failed = less.error();
    return less.ok() && *less;
  });
  TRY(failed);
  std::vector<Value> sorted;
  sorted.reserve(items.size());
  for (const size_t i : order) sorted.push_back(std::move(items[i]));
  return sorted;
}

Reply Sort(R& r, V self, A a) {
  const bool fold = !IsTrue(a.positional[1]);
  std::vector<Getter> getters;  // of "name,address.city"
  if (a.positional[2] && a.positional[2].is(Kind::kString)) {
    for (const std::string_view part : Split(a.positional[2].text(), ",", -1, false))
      getters.push_back(TRY(Getter::Make(r, TRY(r.budget().Text(std::string(part))), Value(), fold)));
  } else {
    getters.push_back(TRY(Getter::Make(r, a.positional[2], Value(), fold)));
  }
  std::vector<Value> items = TRY(ToList(r.budget(), self)), keys;
  for (const Value& item : items) {
    std::vector<Value> key;
    for (const Getter& get : getters) key.push_back(TRY(get(r, item)));
    keys.push_back(TRY(r.budget().List(std::move(key))));
  }
  return r.budget().List(TRY(Sorted(r, std::move(items), keys, IsTrue(a.positional[0]))));
}

Reply DictSort(R& r, V self, A a) {
  const std::string_view by = a.positional[1] ? TRY(TextOf(a.positional[1], "what is sorted by")) : "key";
  if (by != "key" && by != "value") return BadInput("dictsort sorts by 'key' or 'value'");
  if (self.is(Kind::kUndefined)) return UndefinedError(self);
  if (!self.is(Kind::kDict)) return BadInput(fmt::format("a {} can't be sorted by its keys", TypeName(self)));
  const Getter get = TRY(Getter::Make(r, Value(), Value(), !IsTrue(a.positional[0])));
  std::vector<Value> items, keys;
  for (const auto& [key, value] : self.dict().items) {
    items.push_back(TRY(r.budget().Tuple({key, value})));
    keys.push_back(TRY(get(r, by == "key" ? key : value)));
  }
  return r.budget().List(TRY(Sorted(r, std::move(items), keys, IsTrue(a.positional[2]))));
}

Reply GroupBy(R& r, V self, A a) {
  const bool fold = !IsTrue(a.positional[2]);
  const Getter get = TRY(Getter::Make(r, a.positional[0], a.positional[1], fold));
  const Getter shown = TRY(Getter::Make(r, a.positional[0], a.positional[1], false));
  std::vector<Value> items = TRY(ToList(r.budget(), self)), keys, groups;
  for (const Value& item : items) keys.push_back(TRY(get(r, item)));
  items = TRY(Sorted(r, std::move(items), keys, false));
  for (size_t begin = 0, end = 0; begin < items.size(); begin = end) {
    const Value key = TRY(get(r, items[begin]));
    for (end = begin + 1; end < items.size() && TRY(Equal(r.budget(), TRY(get(r, items[end])), key));) ++end;
    Value list = TRY(r.budget().List(
        {items.begin() + static_cast<std::ptrdiff_t>(begin), items.begin() + static_cast<std::ptrdiff_t>(end)}));
    groups.push_back(TRY(r.budget().Tuple({TRY(shown(r, items[begin])), std::move(list)})));
    groups.back().as<Sequence>().group = true;
  }
  return r.budget().List(std::move(groups));
}

Reply Extreme(R& r, V self, A a, char better) {
  const Getter get = TRY(Getter::Make(r, a.positional[1], Value(), !IsTrue(a.positional[0])));
  const auto source = TRY(Iterate(r.budget(), self));
  Value best, best_key, item;
  while (TRY(source->Next(&item))) {
    Value key = TRY(get(r, item));
    if (best && !TRY(Ordered(r.budget(), better, key, best_key))) continue;
    best = std::move(item);
    best_key = std::move(key);
  }
  return best ? best : TRY(r.budget().Undefined("there is no item"));
}

Reply Sum(R& r, V self, A a) {
  const Getter get = TRY(Getter::Make(r, a.positional[0], Value(), false));
  Value sum = a.positional[1] ? a.positional[1] : Value::Int(0);
  if (sum.is(Kind::kString)) return BadInput("text can't be summed up; join it");
  const auto source = TRY(Iterate(r.budget(), self));
  Value item;
  while (TRY(source->Next(&item))) sum = TRY(Arithmetic(r.budget(), '+', sum, TRY(get(r, std::move(item)))));
  return sum;
}

Reply First(R& r, V self, A) {
  Value item;
  return TRY(TRY(Iterate(r.budget(), self))->Next(&item)) ? item : TRY(r.budget().Undefined("there is no first item"));
}

// The items of what can be read from its end.
Result<std::vector<Value>> Reversible(R& r, V self) {
  if (self.is(Kind::kIterator)) return BadInput("an iterator can't be read from its end; make it a list first");
  return ToList(r.budget(), self);
}

Reply Last(R& r, V self, A) {
  if (self.IsSequence() && !self.items().empty()) return self.items().back();
  const std::vector<Value> items = TRY(Reversible(r, self));
  return items.empty() ? TRY(r.budget().Undefined("there is no last item")) : items.back();
}

Reply Reverse(R& r, V self, A) {
  if (self.is(Kind::kString)) return Slice(r.budget(), self, Value(), Value(), Value::Int(-1));
  std::vector<Value> items = TRY(ToList(r.budget(), self));
  std::reverse(items.begin(), items.end());
  const Value list = TRY(r.budget().List(std::move(items)));
  if (self.is(Kind::kIterator)) return list;
  const auto source = TRY(Iterate(r.budget(), list));
  return Value(Kind::kIterator, source);
}

Reply Default(R&, V self, A a) {
  const bool replaced = self.is(Kind::kUndefined) || (IsTrue(a.positional[1]) && !Truth(self));
  if (!replaced) return self;
  return a.positional[0] ? a.positional[0] : Constant("");
}

Reply Count(R&, V self, A) { return Value::Int(TRY(Length(self))); }

constexpr Native kFilters[] = {
    {"sort", "?reverse ?case_sensitive ?attribute", Sort},
    {"dictsort", "?case_sensitive ?by ?reverse", DictSort},
    {"groupby", "attribute ?default ?case_sensitive", GroupBy},
    {"min", "?case_sensitive ?attribute", [](R& r, V s, A a) -> Reply { return Extreme(r, s, a, '<'); }},
    {"max", "?case_sensitive ?attribute", [](R& r, V s, A a) -> Reply { return Extreme(r, s, a, '>'); }},
    {"sum", "?attribute ?start", Sum},
    {"first", "", First},
    {"last", "", Last},
    {"reverse", "", Reverse},
    {"default", "?default_value ?boolean", Default},
    {"d", "?default_value ?boolean", Default},
    {"length", "", Count},
    {"count", "", Count},
    {"list", "", [](R& r, V s, A) -> Reply { return r.budget().List(TRY(ToList(r.budget(), s))); }},
    {"attr", "name",
     [](R& r, V s, A a) -> Reply {
       const std::string_view name = TRY(TextOf(a.positional[0], "the name of an attribute"));
       const Value own = TRY(OwnAttribute(r, s, name));
       return own ? own : TRY(r.budget().Undefined(fmt::format("'{}' has no attribute '{}'", TypeName(s), name)));
     }},
};

}  // namespace

std::span<const Native> SequenceFilters() { return kFilters; }

Result<Getter> Getter::Make(Renderer& r, const Value& attribute, const Value& otherwise, bool fold) {
  Getter getter;
  getter.fold_ = fold;
  if (IsGiven(otherwise)) getter.otherwise_ = otherwise;
  if (!IsGiven(attribute)) return getter;
  if (!attribute.is(Kind::kString)) {
    getter.parts_.push_back(attribute);
    return getter;
  }
  for (const std::string_view part : Split(attribute.text(), ".", -1, false)) {
    const bool number =
        !part.empty() && part.size() < 18 && part.find_first_not_of("0123456789") == std::string_view::npos;
    getter.parts_.push_back(number ? Value::Int(std::stoll(std::string(part)))
                                   : TRY(r.budget().Text(std::string(part))));
  }
  return getter;
}

Result<Value> Getter::operator()(Renderer& r, Value item) const {
  for (const Value& part : parts_) {
    item = TRY(Subscript(r, item, part));
    if (otherwise_ && item.is(Kind::kUndefined)) item = otherwise_;
  }
  if (!fold_ || !item.is(Kind::kString)) return item;
  TRY(r.budget().Spend(item.text().size() / 8));
  return r.budget().Text(Cased(item.text(), Case::kLower));
}

}  // namespace sotto::jinja
