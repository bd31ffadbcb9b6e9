// Runs a program over variables. One Renderer renders once.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_fwd.h"
#include "text/chat_template.h"
#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace sotto::jinja {

// The variables that a body sets; those of the bodies around it are looked up through `parent`.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<int, Value>> variables;
  const Value* Find(int symbol) const;
  void Set(int symbol, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

// The variable `loop` of a for statement.
struct Loop : Object {
  std::shared_ptr<Iterator> source;
  Value sized;  // what the length is asked of; kAbsent when the source must be read to the end for it
  int64_t index0 = -1, depth0 = 0, length = -1;
  Value current, before, after;  // after: read ahead, kAbsent if it wasn't
  Value changed;                 // the last arguments of loop.changed()
  const Stmt* recursive = nullptr;
  ScopePtr scope;  // around a recursive loop
  // When the statement ends the loop lets go of all values, so that none holds itself. No attribute is left then.
  bool ended = false;
  void End();
};

class Renderer {
 public:
  Renderer(const Program& program, const RenderLimits& limits);
  ~Renderer();
  Result<std::string> Render(const Json& variables);

  // For filters, tests, methods and globals.
  Budget& budget() { return budget_; }
  const RenderLimits& limits() const { return limits_; }
  Result<Value> Call(const Value& function, Arguments arguments);  // the caller holds `function` until it returns
  Result<Value> Apply(const Native& native, const Value& self, Arguments arguments);
  Result<Value> Filter(std::string_view name, const Value& value, Arguments arguments);
  Result<bool> Test(std::string_view name, const Value& value, Arguments arguments);
  Error Raise(std::string message);  // what raise_exception gives: not prefixed with a line
  // A namespace may come to hold itself: its attributes are let go of when the rendering ends.
  Result<Value> MakeNamespace(std::vector<std::pair<std::string, Value>> attributes);

 private:
  enum class Flow { kNext, kBreak, kContinue };
  // Bounds how deep bodies, expressions and calls stand in each other, by what they take of the stack: a level is half a
  // kilobyte, four with the address sanitizer.
  class Depth {
   public:
    explicit Depth(Renderer* r, int levels = 1) : r_(r), levels_(levels) { r->depth_ += levels; }
    ~Depth() { r_->depth_ -= levels_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;
    Status Check() const {
      if (r_->depth_ > kMaxDepth) return BadInput("it nests or calls itself too deeply");
      return r_->budget_.Spend(1);
    }

   private:
    Renderer* r_;
    int levels_;
  };
  static constexpr int kMaxDepth = 700, kCallDepth = 5;

  Result<Value> Eval(const Expr& e, Scope& scope);
  Result<Value> EvalName(const Expr& e, Scope& scope);
  Result<Value> EvalDict(const Expr& e, Scope& scope);
  Result<Value> EvalItems(const Expr& e, Scope& scope);
  Result<Value> EvalCompare(const Expr& e, Scope& scope);
  Result<Value> EvalConcat(const Expr& e, Scope& scope);
  Result<Value> EvalSlice(const Expr& e, Scope& scope);
  Result<Value> EvalCall(const Expr& e, Scope& scope, const Value& caller);
  Result<Value> EvalFilter(const Expr& e, Scope& scope);
  Result<Value> EvalOperation(const Expr& e, Scope& scope);
  Result<Arguments> EvalArguments(const Expr& e, Scope& scope);

  Result<Flow> Run(const Body& body, const ScopePtr& scope);
  Result<Flow> Run(const Stmt& s, const ScopePtr& scope);
  Result<Flow> RunIf(const Stmt& s, const ScopePtr& scope);
  Result<Flow> RunFor(const Stmt& s, const ScopePtr& scope, const Value& iterable, int64_t depth);
  Result<Flow> RunSet(const Stmt& s, const ScopePtr& scope);
  Result<Flow> RunWith(const Stmt& s, const ScopePtr& scope);
  Result<Flow> RunFilterBlock(const Stmt& s, const ScopePtr& scope);
  Status RunMacro(const Stmt& s, const ScopePtr& scope);
  Status RunCall(const Stmt& s, const ScopePtr& scope);
  Result<std::shared_ptr<Iterator>> Filtered(const Stmt& s, const ScopePtr& scope, std::shared_ptr<Iterator> source);
  Result<Value> MakeMacro(const Stmt& s, const ScopePtr& scope, const std::string& printed);
  Result<Value> CallMacro(const Stmt& s, const std::weak_ptr<Scope>& around, Arguments& arguments);
  Result<Value> Recurse(Loop& loop, Arguments& arguments);
  Status Assign(const Expr& target, Value value, Scope& scope);
  // Runs `body` in `scope` with what it writes going to `text`.
  Result<Flow> Capture(const Body& body, const ScopePtr& scope, Value* text);
  Status Write(std::string_view text);

  const Program& program_;
  const RenderLimits& limits_;
  Budget budget_;
  std::vector<Value> context_;  // by symbol: variables and globals
  ScopePtr root_;
  std::string* out_ = nullptr;
  int line_ = 1, depth_ = 0;
  bool raised_ = false;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

// Attributes and items as Jinja's sandbox gives them; undefined when there is none.
Result<Value> Attribute(Renderer& r, const Value& value, std::string_view name);
Result<Value> Subscript(Renderer& r, const Value& value, const Value& key);
Result<Value> OwnAttribute(Renderer& r, const Value& value, std::string_view name);  // kAbsent where getattr() fails

const Native* FindFilter(std::string_view name);
const Native* FindTest(std::string_view name);
const Native* FindGlobal(std::string_view name);
const Native* FindMethod(const Value& value, std::string_view name);
bool IsFilterOfJinja(std::string_view name);  // those that are not supported here included
// A function as a value: a method with its object, a global with none.
Result<Value> MakeCallable(Budget& budget, const Native& native, const Value& self);

Result<Value> FromJson(Budget& budget, const Json& json);
struct JsonStyle {
  bool ascii = false, sort_keys = false, lines = false;
  std::string indent, comma = ", ", colon = ": ";
};
Status AppendJson(Budget& budget, const Value& value, const JsonStyle& style, int level, std::string* out);

// Arguments of natives.
Result<std::string_view> TextOf(const Value& value, std::string_view what);
Result<int64_t> IntOf(const Value& value, int64_t otherwise, std::string_view what);

}  // namespace sotto::jinja
