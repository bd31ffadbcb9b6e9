#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/operators.h"
#include "text/jinja/renderer.h"

namespace sotto::jinja {

Result<Value> Renderer::Eval(const Expr& e, Scope& scope) {
  const Depth depth(this);
  line_ = e.line;
  TRY(depth.Check());
  switch (e.kind) {
    case Expr::kConst: return e.value;
    case Expr::kName: return EvalName(e, scope);
    case Expr::kList:
    case Expr::kTuple: return EvalItems(e, scope);
    case Expr::kDict: return EvalDict(e, scope);
    case Expr::kCompare: return EvalCompare(e, scope);
    case Expr::kConcat: return EvalConcat(e, scope);
    case Expr::kSlice: return EvalSlice(e, scope);
    case Expr::kCall: return EvalCall(e, scope, Value());
    case Expr::kFilter:
    case Expr::kTest: return EvalFilter(e, scope);
    case Expr::kAnd:
    case Expr::kOr: {
      Value left = TRY(Eval(*e.args[0], scope));
      return Truth(left) == (e.kind == Expr::kAnd) ? Eval(*e.args[1], scope) : left;
    }
    case Expr::kCondition:
      if (Truth(TRY(Eval(*e.args[0], scope)))) return Eval(*e.args[1], scope);
      if (e.args[2] != nullptr) return Eval(*e.args[2], scope);
      return budget_.Undefined("the condition is false and has no 'else'");
    default: return EvalOperation(e, scope);
  }
}

Result<Value> Renderer::EvalOperation(const Expr& e, Scope& scope) {
  Value left = TRY(Eval(*e.args[0], scope));
  switch (e.kind) {
    case Expr::kNot: return Value::Bool(!Truth(left));
    case Expr::kNegative: return Negative(budget_, left);
    case Expr::kPositive: return Arithmetic(budget_, '+', Value::Int(0), left);
    case Expr::kAttribute: return Attribute(*this, left, e.name);
    case Expr::kItem: return Subscript(*this, left, TRY(Eval(*e.args[1], scope)));
    default: {
      const Value right = TRY(Eval(*e.args[1], scope));
      line_ = e.line;
      return Arithmetic(budget_, e.name[0], left, right);
    }
  }
}

Result<Value> Renderer::EvalName(const Expr& e, Scope& scope) {
  if (const Value* value = scope.Find(e.symbol); value != nullptr) return *value;
  const Value& global = context_[static_cast<size_t>(e.symbol)];
  if (global) return global;
  const std::string& name = program_.symbols[static_cast<size_t>(e.symbol)];
  if (name == "self") return BadInput("'self' isn't supported in a chat template");
  return budget_.Undefined(fmt::format("'{}' is undefined", name));
}

Result<Value> Renderer::EvalItems(const Expr& e, Scope& scope) {
  std::vector<Value> items;
  items.reserve(e.args.size());
  for (const ExprPtr& arg : e.args) items.push_back(TRY(Eval(*arg, scope)));
  return budget_.Items(e.kind == Expr::kList ? Kind::kList : Kind::kTuple, std::move(items));
}

Result<Value> Renderer::EvalDict(const Expr& e, Scope& scope) {
  std::vector<std::pair<Value, Value>> items;
  for (size_t i = 0; i < e.args.size(); i += 2) {
    Value key = TRY(Eval(*e.args[i], scope));
    items.emplace_back(std::move(key), TRY(Eval(*e.args[i + 1], scope)));
  }
  return budget_.MakeDict(std::move(items));
}

Result<Value> Renderer::EvalCompare(const Expr& e, Scope& scope) {
  Value left = TRY(Eval(*e.args[0], scope));
  for (size_t i = 0; i < e.name.size(); ++i) {
    Value right = TRY(Eval(*e.args[i + 1], scope));
    bool holds = false;
    switch (const char op = e.name[i]) {
      case '=': holds = TRY(Equal(budget_, left, right)); break;
      case '!': holds = !TRY(Equal(budget_, left, right)); break;
      case 'i': holds = TRY(Contains(budget_, right, left)); break;
      case 'n': holds = !TRY(Contains(budget_, right, left)); break;
      default: holds = TRY(Ordered(budget_, op, left, right)); break;
    }
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Result<Value> Renderer::EvalConcat(const Expr& e, Scope& scope) {
  std::string text;
  for (const ExprPtr& arg : e.args) TRY(AppendText(budget_, TRY(Eval(*arg, scope)), &text));
  return budget_.Text(std::move(text));
}

Result<Value> Renderer::EvalSlice(const Expr& e, Scope& scope) {
  Value parts[4];
  for (size_t i = 0; i < 4; ++i)
    if (e.args[i] != nullptr) parts[i] = TRY(Eval(*e.args[i], scope));
  return Slice(budget_, parts[0], parts[1], parts[2], parts[3]);
}

Result<Arguments> Renderer::EvalArguments(const Expr& e, Scope& scope) {
  Arguments out;
  const size_t positional = e.args.size() - e.names.size();
  for (size_t i = 1; i < positional; ++i) out.positional.push_back(TRY(Eval(*e.args[i], scope)));
  for (size_t i = positional; i < e.args.size(); ++i)
    out.named.emplace_back(e.names[i - positional], TRY(Eval(*e.args[i], scope)));
  if (e.star != nullptr) {
    std::vector<Value> more = TRY(ToList(budget_, TRY(Eval(*e.star, scope))));
    out.positional.insert(out.positional.end(), more.begin(), more.end());
  }
  if (e.stars == nullptr) return out;
  const Value more = TRY(Eval(*e.stars, scope));
  if (!more.is(Kind::kDict)) return BadInput(fmt::format("'**' needs a dict, not a {}", TypeName(more)));
  for (const auto& item : more.dict().items) {
    if (!item.first.is(Kind::kString)) return BadInput("'**' needs keys that are text");
    const std::string& name = item.first.text();
    TRY(budget_.Spend(out.named.size()));
    if (std::any_of(out.named.begin(), out.named.end(), [&](const auto& named) { return named.first == name; }))
      return BadInput(fmt::format("the argument '{}' is given twice", name));
    out.named.emplace_back(name, item.second);
  }
  return out;
}

Result<Value> Renderer::EvalCall(const Expr& e, Scope& scope, const Value& caller) {
  const Value function = TRY(Eval(*e.args[0], scope));
  Arguments arguments = TRY(EvalArguments(e, scope));
  if (caller) arguments.named.emplace_back("caller", caller);
  line_ = e.line;
  return Call(function, std::move(arguments));
}

Result<Value> Renderer::EvalFilter(const Expr& e, Scope& scope) {
  const Value input = TRY(Eval(*e.args[0], scope));
  Arguments arguments = TRY(EvalArguments(e, scope));
  line_ = e.line;
  if (e.kind == Expr::kFilter) return Filter(e.name, input, std::move(arguments));
  return Value::Bool(TRY(Test(e.name, input, std::move(arguments))));
}

Result<Value> Renderer::Filter(std::string_view name, const Value& value, Arguments arguments) {
  const Native* filter = FindFilter(name);
  if (filter == nullptr) return BadInput(fmt::format("the filter '{}' isn't supported in a chat template", name));
  return Apply(*filter, value, std::move(arguments));
}

Result<bool> Renderer::Test(std::string_view name, const Value& value, Arguments arguments) {
  const Native* test = FindTest(name);
  if (test == nullptr) return BadInput(fmt::format("there is no test '{}'", name));
  return Truth(TRY(Apply(*test, value, std::move(arguments))));
}

Result<Value> Renderer::Apply(const Native& native, const Value& self, Arguments arguments) {
  if (self.is(Kind::kString)) TRY(budget_.Spend(self.text().size() / 16));  // most read all of it
  std::string_view parameters = native.parameters;
  if (parameters == "*") return native.call(*this, self, arguments);
  std::vector<Value>& given = arguments.positional;
  size_t count = 0;
  while (!parameters.empty()) {
    const size_t space = std::min(parameters.find(' '), parameters.size());
    std::string_view name = parameters.substr(0, space);
    parameters.remove_prefix(std::min(space + 1, parameters.size()));
    const bool may_miss = name.starts_with('?');
    if (may_miss) name.remove_prefix(1);
    const auto named =
        std::find_if(arguments.named.begin(), arguments.named.end(), [&](const auto& n) { return n.first == name; });
    if (count >= given.size()) {
      if (named != arguments.named.end()) {
        given.push_back(std::move(named->second));
        arguments.named.erase(named);
      } else if (may_miss) {
        given.emplace_back();
      } else {
        if (name.starts_with('.')) name.remove_prefix(1);
        return BadInput(fmt::format("{}() needs the argument '{}'", native.name, name));
      }
    }
    ++count;
  }
  if (given.size() > count)
    return BadInput(fmt::format("{}() takes fewer arguments than {}", native.name, given.size()));
  if (!arguments.named.empty())
    return BadInput(fmt::format("{}() can't have the argument '{}'", native.name, arguments.named[0].first));
  return native.call(*this, self, arguments);
}

Result<Value> Renderer::Call(const Value& function, Arguments arguments) {
  const Depth depth(this, kCallDepth);
  TRY(depth.Check());
  if (function.is(Kind::kUndefined)) return UndefinedError(function);
  if (function.is(Kind::kLoop)) return Recurse(function.as<Loop>(), arguments);
  if (!function.is(Kind::kCallable)) return BadInput(fmt::format("a {} can't be called", TypeName(function)));
  const Callable& callable = function.as<Callable>();
  return callable.native != nullptr ? Apply(*callable.native, callable.self, std::move(arguments))
                                    : callable.code(arguments);
}

}  // namespace sotto::jinja
