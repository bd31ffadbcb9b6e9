#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/jinja/operators.h"
#include "text/jinja/text.h"

namespace sotto::jinja {
namespace {

// long double holds every int64 and every double exactly.
long double Exact(const Value& v) {
  return v.IsInteger() ? static_cast<long double>(v.integer()) : static_cast<long double>(v.number());
}

template <class T>
bool Holds(char op, const T& a, const T& b) {
  switch (op) {
    case '<': return a < b;
    case '>': return a > b;
    case 'l': return a <= b;
    default: return a >= b;
  }
}

Result<bool> EqualItems(Budget& budget, const std::vector<Value>& a, const std::vector<Value>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (!Same(a[i], b[i]) && !TRY(Equal(budget, a[i], b[i]))) return false;
  return true;
}

bool EqualRanges(const Range& a, const Range& b) {
  if (a.count != b.count || a.count == 0) return a.count == b.count;
  return a.start == b.start && (a.count == 1 || a.step == b.step);
}

}  // namespace

bool Same(const Value& a, const Value& b) {
  if (a.kind() != b.kind()) return false;
  if (a.is(Kind::kNone)) return true;
  if (a.is(Kind::kBool)) return a.integer() == b.integer();
  if (a.is(Kind::kInt))
    return a.integer() == b.integer() && a.integer() >= -5 && a.integer() <= 256;  // CPython's small ones
  if (a.is(Kind::kString) && a.text().size() < 2) return a.text() == b.text();
  return a.object() != nullptr && a.object() == b.object();
}

Result<bool> Equal(Budget& budget, const Value& a, const Value& b) {
  TRY(budget.Spend(1));
  if (a.IsNumber() && b.IsNumber()) return Exact(a) == Exact(b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return true;
    case Kind::kString:
      if (a.text().size() != b.text().size()) return false;
      TRY(budget.Spend(a.text().size() / 64));
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple: return EqualItems(budget, a.items(), b.items());
    case Kind::kRange: return EqualRanges(a.as<Range>(), b.as<Range>());
    case Kind::kView:
      if (a.object() == b.object()) return true;
      return BadInput("the comparison of views of dicts isn't supported");
    case Kind::kDict: {
      if (a.dict().items.size() != b.dict().items.size()) return false;
      for (const auto& [key, value] : a.dict().items) {
        const auto at = b.dict().index.find(TRY(HashKey(budget, key)));
        if (at == b.dict().index.end()) return false;
        const Value& other = b.dict().items[at->second].second;
        if (!Same(value, other) && !TRY(Equal(budget, value, other))) return false;
      }
      return true;
    }
    default: return a.object() == b.object();
  }
}

Result<bool> Ordered(Budget& budget, char op, const Value& a, const Value& b) {
  TRY(budget.Spend(1));
  if (a.IsNumber() && b.IsNumber()) return Holds(op, Exact(a), Exact(b));
  if (a.kind() == b.kind() && a.is(Kind::kString)) {
    TRY(budget.Spend(std::min(a.text().size(), b.text().size()) / 64));
    return Holds(op, a.text(), b.text());  // the order of UTF-8 is that of code points
  }
  if (a.kind() == b.kind() && a.IsSequence()) {
    const size_t common = std::min(a.items().size(), b.items().size());
    for (size_t i = 0; i < common; ++i)
      if (!Same(a.items()[i], b.items()[i]) && !TRY(Equal(budget, a.items()[i], b.items()[i])))
        return Ordered(budget, op, a.items()[i], b.items()[i]);
    return Holds(op, a.items().size(), b.items().size());
  }
  return NoSuchOperation(op == 'l' ? "<=" : op == 'g' ? ">=" : std::string_view(&op, 1), a, b);
}

Result<bool> Contains(Budget& budget, const Value& container, const Value& item) {
  TRY(budget.Spend(1));
  switch (container.kind()) {
    case Kind::kString:
      if (!item.is(Kind::kString)) return NoSuchOperation("in", item, container);
      TRY(budget.Spend(container.text().size() / 64));
      return Find(container.text(), item.text(), 0) != std::string::npos;
    case Kind::kDict: return container.dict().index.contains(TRY(HashKey(budget, item)));
    case Kind::kView: {
      const View& view = container.as<View>();
      if (view.part == View::kKeys) return Contains(budget, view.dict, item);
      break;
    }
    case Kind::kUndefined: return false;
    default: break;
  }
  const auto iterator = Iterate(budget, container);
  if (!iterator.ok()) return NoSuchOperation("in", item, container);
  Value other;
  while (TRY((*iterator)->Next(&other)))
    if (Same(item, other) || TRY(Equal(budget, item, other))) return true;
  return false;
}

Result<std::string> HashKey(Budget& budget, const Value& value) {
  TRY(budget.Spend(1));
  switch (value.kind()) {
    case Kind::kNone: return std::string("n");
    case Kind::kBool:
    case Kind::kInt: return fmt::format("i{}", value.integer());
    case Kind::kFloat: {
      const double f = value.number();
      if (f == std::floor(f) && std::abs(f) < 9.2e18) return fmt::format("i{}", static_cast<int64_t>(f));
      return fmt::format("f{}", f);
    }
    case Kind::kString: TRY(budget.Spend(value.text().size() / 64)); return "s" + value.text();
    case Kind::kTuple: {
      std::string key = "t";
      for (const Value& item : value.items()) {
        const std::string part = TRY(HashKey(budget, item));
        key += fmt::format("{}:", part.size()) + part;
        TRY(budget.Fits(key.size()));
      }
      return key;
    }
    case Kind::kUndefined: return std::string("u");
    case Kind::kRange:
    case Kind::kList:
    case Kind::kDict:
    case Kind::kView: return BadInput(fmt::format("a {} can't be a key", TypeName(value)));
    default: return fmt::format("o{}", static_cast<const void*>(value.object()));
  }
}

}  // namespace sotto::jinja
