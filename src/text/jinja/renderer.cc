#include "text/jinja/renderer.h"

#include <fmt/format.h>

#include "base/json.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"

namespace sotto::jinja {

const Value* Scope::Find(int symbol) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent)
    for (const auto& [name, value] : scope->variables)
      if (name == symbol) return &value;
  return nullptr;
}

void Scope::Set(int symbol, Value value) {
  for (auto& [name, old] : variables)
    if (name == symbol) {
      old = std::move(value);
      return;
    }
  variables.emplace_back(symbol, std::move(value));
}

Renderer::Renderer(const Program& program, const RenderLimits& limits)
    : program_(program),
      limits_(limits),
      budget_(limits.max_steps, limits.max_memory_bytes),
      context_(program.symbols.size()),
      root_(std::make_shared<Scope>()) {}

Renderer::~Renderer() {
  for (const auto& ns : namespaces_) ns->attributes.clear();
}

Error Renderer::Raise(std::string message) {
  raised_ = true;
  return BadInput(std::move(message));
}

Result<std::string> Renderer::Render(const Json& variables) {
  if (!variables.is_object()) return BadInput("the variables of a chat template are not an object");
  std::string out;
  out_ = &out;
  const auto run = [&]() -> Status {
    for (size_t i = 0; i < program_.symbols.size(); ++i) {
      const std::string& name = program_.symbols[i];
      if (const auto at = variables.find(name); at != variables.end())
        context_[i] = TRY(FromJson(budget_, *at));
      else if (const Native* global = FindGlobal(name); global != nullptr)
        context_[i] = TRY(MakeCallable(budget_, *global, Value()));
    }
    TRY(Run(program_.body, root_));
    return {};
  };
  const Status status = run();
  if (status.ok()) return out;
  if (raised_) return status.error();
  return BadInput(fmt::format("the chat template can't be rendered, line {}: {}", line_, status.error().message));
}

Status Renderer::Write(std::string_view text) {
  if (out_->size() + text.size() > limits_.max_output_bytes)
    return BadInput(fmt::format("it writes more than {} bytes", limits_.max_output_bytes));
  TRY(budget_.Take(text.size()));  // until the rendering ends, or what is captured becomes a value
  out_->append(text);
  return {};
}

Result<Renderer::Flow> Renderer::Capture(const Body& body, const ScopePtr& scope, Value* text) {
  std::string captured;
  std::string* const outer = std::exchange(out_, &captured);
  auto flow = Run(body, scope);
  out_ = outer;
  budget_.Give(captured.size());
  if (flow.ok()) *text = TRY(budget_.Text(std::move(captured)));
  return flow;
}

Result<Renderer::Flow> Renderer::Run(const Body& body, const ScopePtr& scope) {
  for (const Stmt& s : body) {
    const Flow flow = TRY(Run(s, scope));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Renderer::Flow> Renderer::Run(const Stmt& s, const ScopePtr& scope) {
  const Depth depth(this);
  line_ = s.line;
  TRY(depth.Check());
  switch (s.kind) {
    case Stmt::kData: TRY(Write(s.text)); break;
    case Stmt::kOutput: {
      const Value value = TRY(Eval(*s.exprs[0], *scope));
      if (value.is(Kind::kString)) {
        TRY(Write(value.text()));
      } else {
        std::string text;
        TRY(AppendText(budget_, value, &text));
        TRY(Write(text));
      }
      break;
    }
    case Stmt::kIf: return RunIf(s, scope);
    case Stmt::kFor: return RunFor(s, scope, TRY(Eval(*s.exprs[1], *scope)), 0);
    case Stmt::kSet:
    case Stmt::kSetBlock: return RunSet(s, scope);
    case Stmt::kWith: return RunWith(s, scope);
    case Stmt::kFilterBlock: return RunFilterBlock(s, scope);
    case Stmt::kMacro: TRY(RunMacro(s, scope)); break;
    case Stmt::kCall: TRY(RunCall(s, scope)); break;
    case Stmt::kBreak: return Flow::kBreak;
    case Stmt::kContinue: return Flow::kContinue;
  }
  return Flow::kNext;
}

Result<Renderer::Flow> Renderer::RunIf(const Stmt& s, const ScopePtr& scope) {
  for (size_t i = 0; i < s.exprs.size(); ++i)
    if (Truth(TRY(Eval(*s.exprs[i], *scope)))) return Run(s.bodies[i], scope);
  return s.bodies.size() > s.exprs.size() ? Run(s.bodies.back(), scope) : Flow::kNext;
}

Result<Renderer::Flow> Renderer::RunSet(const Stmt& s, const ScopePtr& scope) {
  if (s.kind == Stmt::kSet) {
    TRY(Assign(*s.exprs[0], TRY(Eval(*s.exprs[1], *scope)), *scope));
    return Flow::kNext;
  }
  const auto inner = std::make_shared<Scope>(Scope{scope.get(), {}});
  Value text;
  const Flow flow = TRY(Capture(s.bodies[0], inner, &text));
  if (flow != Flow::kNext) return flow;
  if (s.exprs[1] != nullptr) {
    inner->Set(program_.content, std::move(text));
    text = TRY(Eval(*s.exprs[1], *inner));
  }
  TRY(Assign(*s.exprs[0], std::move(text), *scope));
  return Flow::kNext;
}

Result<Renderer::Flow> Renderer::RunFilterBlock(const Stmt& s, const ScopePtr& scope) {
  const auto inner = std::make_shared<Scope>(Scope{scope.get(), {}});
  Value text;
  const Flow flow = TRY(Capture(s.bodies[0], inner, &text));
  if (flow != Flow::kNext) return flow;
  inner->Set(program_.content, std::move(text));
  const Value filtered = TRY(Eval(*s.exprs[0], *inner));
  TRY(Write(TRY(TextOf(filtered, "what a filter block makes"))));
  return Flow::kNext;
}

Result<Renderer::Flow> Renderer::RunWith(const Stmt& s, const ScopePtr& scope) {
  const auto inner = std::make_shared<Scope>(Scope{scope.get(), {}});
  for (size_t i = 0; i < s.exprs.size(); i += 2) TRY(Assign(*s.exprs[i], TRY(Eval(*s.exprs[i + 1], *scope)), *inner));
  return Run(s.bodies[0], inner);
}

Status Renderer::Assign(const Expr& target, Value value, Scope& scope) {
  if (target.kind == Expr::kName) return scope.Set(target.symbol, std::move(value)), Status();
  if (target.kind == Expr::kNsRef) {
    const Value* ns = scope.Find(target.symbol);
    if (ns == nullptr || !ns->is(Kind::kNamespace)) return BadInput("only attributes of a namespace can be set");
    if (target.name.starts_with('_'))
      return BadInput(fmt::format("a namespace can't have an attribute '{}'", target.name));
    for (auto& [name, old] : ns->as<Namespace>().attributes)
      if (name == target.name) return old = std::move(value), Status();
    TRY(budget_.Take(target.name.size() + 64));
    ns->as<Namespace>().attributes.emplace_back(target.name, std::move(value));
    return {};
  }
  const auto source = TRY(Iterate(budget_, value));
  std::vector<Value> items(target.args.size());
  bool fits = true;
  for (Value& item : items) fits = fits && TRY(source->Next(&item));
  Value more;
  if (!fits || TRY(source->Next(&more)))
    return BadInput(fmt::format("a {} doesn't have {} items", TypeName(value), target.args.size()));
  for (size_t i = 0; i < items.size(); ++i) TRY(Assign(*target.args[i], std::move(items[i]), scope));
  return {};
}

Result<Value> Renderer::MakeNamespace(std::vector<std::pair<std::string, Value>> attributes) {
  auto ns = std::make_shared<Namespace>();
  ns->attributes = std::move(attributes);
  Value value = TRY(budget_.Make(Kind::kNamespace, ns, ns->attributes.size() * 96));
  namespaces_.push_back(std::move(ns));
  return value;
}

}  // namespace sotto::jinja
