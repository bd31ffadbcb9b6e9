// The values of a template: Python's, as far as templates can tell. A Value is small and copied freely; text and containers
// are shared and never change, but for namespaces, loops, cyclers and iterators, which have an identity as in Python.
//
//   Value greeting = TRY(budget.Text("hello"));
//   if (greeting.is(Kind::kString)) use(greeting.text());
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"

namespace sotto::jinja {

enum class Kind : uint8_t {
  kAbsent,  // no value at all: an argument that was left out. Templates never see it
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kView,  // keys, values or items of a dict
  kRange,
  kIterator,
  kNamespace,
  kLoop,
  kCycler,
  kCallable,
};

class Budget;

// What a Value shares. Its bytes count while it lives.
struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object();

  Budget* budget = nullptr;
  uint64_t bytes = 0;
  int depth = 1;  // of containers in containers: bounded, so that no recursion over a value overflows the stack
};

struct String;
struct Sequence;
struct Dict;

class Value {
 public:
  Value() = default;
  static Value None() { return Value(Kind::kNone); }
  static Value Bool(bool b) { return Value(Kind::kBool, b); }
  static Value Int(int64_t i) { return Value(Kind::kInt, i); }
  static Value Float(double f) {
    Value v(Kind::kFloat);
    v.float_ = f;
    return v;
  }
  Value(Kind kind, std::shared_ptr<Object> object) : kind_(kind), object_(std::move(object)) {}

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  explicit operator bool() const { return kind_ != Kind::kAbsent; }
  bool IsInteger() const { return is(Kind::kInt) || is(Kind::kBool); }  // as in Python, where True + 1 is 2
  bool IsNumber() const { return IsInteger() || is(Kind::kFloat); }
  bool IsSequence() const { return is(Kind::kList) || is(Kind::kTuple); }

  int64_t integer() const { return int_; }  // REQUIRES: IsInteger()
  double number() const { return is(Kind::kFloat) ? float_ : static_cast<double>(int_); }
  const std::string& text() const;          // of a string
  const std::vector<Value>& items() const;  // of a list or tuple
  const Dict& dict() const;
  template <class T>
  T& as() const {
    return static_cast<T&>(*object_);
  }
  template <class T>
  std::shared_ptr<T> share() const {
    return std::static_pointer_cast<T>(object_);
  }
  const Object* object() const { return object_.get(); }
  int depth() const { return object_ ? object_->depth : 0; }

 private:
  explicit Value(Kind kind, int64_t i = 0) : kind_(kind), int_(i) {}
  Kind kind_ = Kind::kAbsent;
  union {
    int64_t int_ = 0;
    double float_;
  };
  std::shared_ptr<Object> object_;
};

struct String : Object {
  std::string text;    // UTF-8; of an undefined value: what an operation on it fails with
  int64_t length = 0;  // in characters
  bool safe = false;   // a result of |safe or |escape (markupsafe.Markup)
};

struct Sequence : Object {
  std::vector<Value> items;
  bool group = false;  // a tuple of |groupby: has .grouper and .list
};

struct Dict : Object {
  std::vector<std::pair<Value, Value>> items;       // in the order of insertion
  std::unordered_map<std::string, uint32_t> index;  // HashKey of the key -> position
  const Value* Find(std::string_view text_key) const;
};

struct View : Object {
  enum Part { kKeys, kValues, kItems } part = kKeys;
  Value dict;
};

struct Range : Object {
  int64_t start = 0, stop = 0, step = 1, count = 0;
  int64_t At(int64_t i) const { return start + i * step; }
};

struct Iterator : Object {
  Result<bool> Next(Value* out);             // false at the end
  std::function<Result<bool>(Value*)> step;  // what Next does. It may hold other values, never itself
  bool running = false;
};

struct Namespace : Object {
  std::vector<std::pair<std::string, Value>> attributes;
};

struct Cycler : Object {
  Value items;  // a tuple
  size_t at = 0;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Renderer;

// A function of ours that templates call: filter, test, method or global. `self` is what a filter, test or method is
// applied to. `parameters` names the others, separated by spaces: "?name" may be left out, ".name" can't be given by name,
// "*" takes all arguments as they come. A function sees them in their order in `positional`, absent ones as kAbsent.
struct Native {
  const char* name;
  const char* parameters;
  Result<Value> (*call)(Renderer&, const Value& self, Arguments&);
};

struct Callable : Object {
  const Native* native = nullptr;  // with self, or else:
  Value self;
  std::function<Result<Value>(Arguments&)> code;
  std::string macro;  // the name to print, of a macro
};

// Bounds the work and the memory of a rendering, and makes values.
class Budget {
 public:
  static constexpr int kMaxDepth = 100;
  Budget(uint64_t steps, uint64_t bytes) : steps_(steps), bytes_(bytes) {}

  Status Spend(uint64_t steps);  // kBadInput when they are used up
  Status Fits(uint64_t bytes);   // kBadInput when so much can't be taken now
  Status Take(uint64_t bytes);   // until Give
  void Give(uint64_t bytes) { bytes_ += bytes; }

  Result<Value> Text(std::string text, bool safe = false);
  Result<Value> Undefined(std::string why);
  Result<Value> List(std::vector<Value> items) { return Items(Kind::kList, std::move(items)); }
  Result<Value> Tuple(std::vector<Value> items) { return Items(Kind::kTuple, std::move(items)); }
  Result<Value> Items(Kind kind, std::vector<Value> items);
  // A later pair replaces the value of an earlier one with an equal key. kBadInput for keys that can't be hashed.
  Result<Value> MakeDict(std::vector<std::pair<Value, Value>> items);
  // `depth` is that of the deepest value that the object keeps.
  Result<Value> Make(Kind kind, std::shared_ptr<Object> object, uint64_t bytes, int depth = 0);
  Result<Value> MakeIterator(std::function<Result<bool>(Value*)> next, int depth);

 private:
  uint64_t steps_, bytes_;  // left
};

// A constant of a template: not counted.
Value Constant(std::string text);

}  // namespace sotto::jinja
