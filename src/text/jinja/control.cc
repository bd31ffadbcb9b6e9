// Loops and macros.
#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/operators.h"
#include "text/jinja/renderer.h"

namespace sotto::jinja {

void Loop::End() {
  ended = true;
  source = nullptr;
  scope = nullptr;
  sized = current = before = after = changed = Value();
}

Result<std::shared_ptr<Iterator>> Renderer::Filtered(const Stmt& s, const ScopePtr& scope,
                                                     std::shared_ptr<Iterator> source) {
  const auto next = [this, &s, scope, source](Value* out) -> Result<bool> {
    while (TRY(source->Next(out))) {
      Scope inner{scope.get(), {}};
      TRY(Assign(*s.exprs[0], *out, inner));
      if (Truth(TRY(Eval(*s.exprs[2], inner)))) return true;
    }
    return false;
  };
  return TRY(budget_.MakeIterator(next, source->depth)).share<Iterator>();
}

Result<Renderer::Flow> Renderer::RunFor(const Stmt& s, const ScopePtr& scope, const Value& iterable, int64_t depth) {
  auto loop = std::make_shared<Loop>();
  loop->source = TRY(Iterate(budget_, iterable));
  if (s.exprs[2] != nullptr)
    loop->source = TRY(Filtered(s, scope, loop->source));
  else if (!iterable.is(Kind::kIterator))
    loop->sized = iterable;
  loop->depth0 = depth;
  if (s.recursive) {
    loop->recursive = &s;
    loop->scope = scope;
  }
  const Value self = TRY(budget_.Make(Kind::kLoop, loop, sizeof(Loop)));
  struct AtEnd {
    Loop& loop;
    ~AtEnd() { loop.End(); }
  } const at_end{*loop};
  bool finished = false;  // some round came to its end
  while (true) {
    Value item = std::exchange(loop->after, Value());
    const auto source = loop->source;  // loop.length may replace it meanwhile
    if (!item && !TRY(source->Next(&item))) break;
    TRY(budget_.Spend(4));
    ++loop->index0;
    loop->before = std::exchange(loop->current, item);
    const auto inner = std::make_shared<Scope>(Scope{scope.get(), {}});
    inner->Set(program_.loop, self);
    TRY(Assign(*s.exprs[0], std::move(item), *inner));
    const Flow flow = TRY(Run(s.bodies[0], inner));
    if (flow == Flow::kBreak) break;
    finished = finished || flow == Flow::kNext;
  }
  if (finished || s.bodies.size() == 1) return Flow::kNext;
  return Run(s.bodies[1], std::make_shared<Scope>(Scope{scope.get(), {}}));
}

Result<Value> Renderer::Recurse(Loop& loop, Arguments& arguments) {
  if (loop.ended) return BadInput("a loop is used after its end");
  if (loop.recursive == nullptr) return BadInput("the loop isn't marked 'recursive'");
  if (arguments.positional.size() != 1 || !arguments.named.empty()) return BadInput("loop() takes one argument");
  const ScopePtr scope = loop.scope;
  std::string captured;
  std::string* const outer = std::exchange(out_, &captured);
  const auto flow = RunFor(*loop.recursive, scope, arguments.positional[0], loop.depth0 + 1);
  out_ = outer;
  budget_.Give(captured.size());
  if (!flow.ok()) return flow.error();
  return budget_.Text(std::move(captured));
}

Result<Value> Renderer::MakeMacro(const Stmt& s, const ScopePtr& scope, const std::string& printed) {
  auto macro = std::make_shared<Callable>();
  macro->macro = printed;
  // A macro that outlives the body it stands in doesn't see that body's variables any more, as in Python.
  macro->code = [this, &s, around = std::weak_ptr<Scope>(scope)](Arguments& arguments) {
    return CallMacro(s, around, arguments);
  };
  return budget_.Make(Kind::kCallable, std::move(macro), printed.size() + 64);
}

Status Renderer::RunMacro(const Stmt& s, const ScopePtr& scope) {
  scope->Set(s.symbol, TRY(MakeMacro(s, scope, fmt::format("'{}'", s.text))));
  return {};
}

Status Renderer::RunCall(const Stmt& s, const ScopePtr& scope) {
  const Value body = TRY(MakeMacro(s, scope, "anonymous"));
  const Value result = s.exprs[0] != nullptr ? TRY(EvalCall(*s.exprs[0], *scope, body)) : TRY(Call(body, {}));
  return Write(TRY(TextOf(result, "what a call block makes")));
}

Result<Value> Renderer::CallMacro(const Stmt& s, const std::weak_ptr<Scope>& around, Arguments& arguments) {
  const ScopePtr outer = around.expired() ? root_ : around.lock();
  const auto scope = std::make_shared<Scope>(Scope{outer.get(), {}});
  const auto take = [&](std::string_view name) {
    const auto at =
        std::find_if(arguments.named.begin(), arguments.named.end(), [&](const auto& n) { return n.first == name; });
    if (at == arguments.named.end()) return Value();
    Value value = std::move(at->second);
    arguments.named.erase(at);
    return value;
  };
  bool has_caller = false;
  std::vector<bool> missing(s.parameters.size());
  for (size_t i = 0; i < s.parameters.size(); ++i) {
    const Parameter& p = s.parameters[i];
    has_caller |= p.name == "caller";
    Value value = i < arguments.positional.size() ? arguments.positional[i] : take(p.name);
    missing[i] = !value;
    if (!value) value = TRY(budget_.Undefined(fmt::format("the parameter '{}' was not given", p.name)));
    scope->Set(p.symbol, std::move(value));
  }
  if (s.caller && !has_caller) {
    Value caller = take("caller");
    if (!caller || caller.is(Kind::kNone)) caller = TRY(budget_.Undefined("there is no caller"));
    scope->Set(program_.caller, std::move(caller));
  }
  const auto is_parameter = [&](const char* name) {
    return std::any_of(s.parameters.begin(), s.parameters.end(), [&](const Parameter& p) { return p.name == name; });
  };
  if (s.kwargs && !is_parameter("kwargs")) {
    std::vector<std::pair<Value, Value>> items;
    for (auto& [name, value] : arguments.named) items.emplace_back(TRY(budget_.Text(name)), std::move(value));
    scope->Set(program_.kwargs, TRY(budget_.MakeDict(std::move(items))));
  } else if (!arguments.named.empty()) {
    return BadInput(fmt::format("the macro '{}' has no parameter '{}'", s.text, arguments.named[0].first));
  }
  const size_t used = std::min(s.parameters.size(), arguments.positional.size());
  if (s.varargs && !is_parameter("varargs")) {
    scope->Set(program_.varargs, TRY(budget_.Tuple({arguments.positional.begin() + static_cast<std::ptrdiff_t>(used),
                                                    arguments.positional.end()})));
  } else if (used < arguments.positional.size()) {
    return BadInput(fmt::format("the macro '{}' takes at most {} arguments", s.text, s.parameters.size()));
  }
  for (size_t i = 0; i < s.parameters.size(); ++i)
    if (missing[i] && s.parameters[i].otherwise != nullptr)
      scope->Set(s.parameters[i].symbol, TRY(Eval(*s.parameters[i].otherwise, *scope)));
  Value text;
  TRY(Capture(s.bodies[0], scope, &text));
  return text;
}

}  // namespace sotto::jinja
