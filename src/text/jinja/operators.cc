#include "text/jinja/operators.h"

#include <fmt/format.h>

#include <cmath>

#include "text/jinja/text.h"

namespace sotto::jinja {
namespace {

Error Overflow() { return BadInput("a whole number doesn't fit in 64 bits"); }
Error DivisionByZero() { return BadInput("division by zero"); }

int64_t FloorDivide(int64_t a, int64_t b) { return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0); }

double FloatMod(double a, double b) {  // with the sign of b
  double mod = std::fmod(a, b);
  if (mod != 0) {
    if ((b < 0) != (mod < 0)) mod += b;
  } else {
    mod = std::copysign(0.0, b);
  }
  return mod;
}

double FloatFloorDivide(double a, double b) {
  const double quotient = (a - FloatMod(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

Result<Value> Power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return DivisionByZero();
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  while (exponent > 0) {
    if (exponent & 1)
      if (__builtin_mul_overflow(result, base, &result)) return Overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return Overflow();
  }
  return Value::Int(result);
}

Result<Value> Integers(char op, int64_t a, int64_t b) {
  int64_t r = 0;
  switch (op) {
    case '+': return __builtin_add_overflow(a, b, &r) ? Result<Value>(Overflow()) : Value::Int(r);
    case '-': return __builtin_sub_overflow(a, b, &r) ? Result<Value>(Overflow()) : Value::Int(r);
    case '*': return __builtin_mul_overflow(a, b, &r) ? Result<Value>(Overflow()) : Value::Int(r);
    case 'P': return Power(a, b);
    default: break;
  }
  if (b == 0) return DivisionByZero();
  if (op == '/') return Value::Float(static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
  if (b == -1) return op == '%' ? Value::Int(0) : Integers('-', 0, a);
  const int64_t quotient = FloorDivide(a, b);
  return Value::Int(op == 'F' ? quotient : a - quotient * b);
}

Result<Value> Floats(char op, double a, double b) {
  switch (op) {
    case '+': return Value::Float(a + b);
    case '-': return Value::Float(a - b);
    case '*': return Value::Float(a * b);
    case 'P':
      if (a == 0 && b < 0) return DivisionByZero();
      if (a < 0 && std::isfinite(b) && b != std::floor(b)) return BadInput("a complex number isn't supported");
      if (const double r = std::pow(a, b); std::isfinite(r) || !std::isfinite(a) || !std::isfinite(b))
        return Value::Float(r);
      return BadInput("the result of ** is too large");
    default: break;
  }
  if (b == 0) return DivisionByZero();
  return Value::Float(op == '/' ? a / b : op == 'F' ? FloatFloorDivide(a, b) : FloatMod(a, b));
}

Result<Value> Repeat(Budget& budget, const Value& value, int64_t count) {
  if (count < 0) count = 0;
  const uint64_t size = value.is(Kind::kString) ? value.text().size() : value.items().size() * sizeof(Value);
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(size, static_cast<uint64_t>(count), &bytes)) bytes = UINT64_MAX;
  TRY(budget.Fits(bytes));
  if (size == 0) count = 0;
  if (value.is(Kind::kString)) {
    return budget.Text(Repeated(value.text(), count), value.as<String>().safe);
  }
  std::vector<Value> items;
  items.reserve(bytes / sizeof(Value));
  for (int64_t i = 0; i < count; ++i) items.insert(items.end(), value.items().begin(), value.items().end());
  return budget.Items(value.kind(), std::move(items));
}

Result<Value> Join(Budget& budget, const Value& a, const Value& b) {
  if (a.is(Kind::kString)) {
    TRY(budget.Fits(a.text().size() + b.text().size()));
    const bool safe = a.as<String>().safe || b.as<String>().safe;  // what isn't safe yet is escaped
    const auto part = [&](const Value& v) { return safe && !v.as<String>().safe ? HtmlEscaped(v.text()) : v.text(); };
    return budget.Text(part(a) + part(b), safe);
  }
  TRY(budget.Fits((a.items().size() + b.items().size()) * sizeof(Value)));
  std::vector<Value> items = a.items();
  items.insert(items.end(), b.items().begin(), b.items().end());
  return budget.Items(a.kind(), std::move(items));
}

const char* Symbol(char op) {
  switch (op) {
    case 'F': return "//";
    case 'P': return "**";
    case '+': return "+";
    case '-': return "-";
    case '*': return "*";
    case '/': return "/";
    default: return "%";
  }
}

}  // namespace

const char* TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return "str";
    case Kind::kList: return "list";
    case Kind::kTuple: return "tuple";
    case Kind::kDict: return "dict";
    case Kind::kView: return "dict view";
    case Kind::kRange: return "range";
    case Kind::kIterator: return "generator";
    case Kind::kNamespace: return "namespace";
    case Kind::kLoop: return "loop";
    case Kind::kCycler: return "cycler";
    default: return "function";
  }
}

Error UndefinedError(const Value& undefined) { return BadInput(undefined.text()); }

Error NoSuchOperation(std::string_view operation, const Value& a, const Value& b) {
  if (a.is(Kind::kUndefined)) return UndefinedError(a);
  if (b.is(Kind::kUndefined)) return UndefinedError(b);
  return BadInput(fmt::format("'{}' isn't defined for {} and {}", operation, TypeName(a), TypeName(b)));
}

bool Truth(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool:
    case Kind::kInt: return value.integer() != 0;
    case Kind::kFloat: return value.number() != 0;
    case Kind::kString: return !value.text().empty();
    case Kind::kList:
    case Kind::kTuple: return !value.items().empty();
    case Kind::kDict: return !value.dict().items.empty();
    case Kind::kView: return Truth(value.as<View>().dict);
    case Kind::kRange: return value.as<Range>().count > 0;
    default: return true;
  }
}

Result<Value> Negative(Budget&, const Value& value) {
  if (value.IsInteger()) return Integers('-', 0, value.integer());
  if (value.is(Kind::kFloat)) return Value::Float(-value.number());
  return value.is(Kind::kUndefined) ? UndefinedError(value)
                                    : BadInput(fmt::format("'-' isn't defined for {}", TypeName(value)));
}

Result<Value> Arithmetic(Budget& budget, char op, const Value& a, const Value& b) {
  if (op == '%' && a.is(Kind::kString)) return Percent(budget, a, b);
  if (a.IsNumber() && b.IsNumber())
    return a.IsInteger() && b.IsInteger() ? Integers(op, a.integer(), b.integer()) : Floats(op, a.number(), b.number());
  const bool same = a.kind() == b.kind(), a_repeats = a.is(Kind::kString) || a.IsSequence();
  if (op == '+' && same && a_repeats) return Join(budget, a, b);
  if (op == '*' && a_repeats && b.IsInteger()) return Repeat(budget, a, b.integer());
  if (op == '*' && a.IsInteger() && (b.is(Kind::kString) || b.IsSequence())) return Repeat(budget, b, a.integer());
  return NoSuchOperation(Symbol(op), a, b);
}

}  // namespace sotto::jinja
