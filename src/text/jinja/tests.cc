// Tests ("x is defined"). A test that Jinja has is here: there are none that templates don't use.
#include <algorithm>

#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/renderer.h"
#include "text/jinja/text.h"

namespace sotto::jinja {
namespace {

using Reply = Result<Value>;
using R = Renderer;
using V = const Value&;
using A = Arguments&;

Result<bool> Divisible(R& r, V value, V by, int64_t rest) {
  const Value modulo = TRY(Arithmetic(r.budget(), '%', value, by));
  return Equal(r.budget(), modulo, Value::Int(rest));
}

Reply Ordering(R& r, V self, A a, char op) { return Value::Bool(TRY(Ordered(r.budget(), op, self, a.positional[0]))); }
Reply Equality(R& r, V self, A a, bool wanted) {
  return Value::Bool(TRY(Equal(r.budget(), self, a.positional[0])) == wanted);
}

Reply Has(R& r, V self, bool (*known)(std::string_view)) {
  TRY(HashKey(r.budget(), self));
  return Value::Bool(self.is(Kind::kString) && known(self.text()));
}

Result<std::string> TextOfAny(R& r, V self) { return TRY(ToText(r.budget(), self)).text(); }

bool IsTest(std::string_view name) { return FindTest(name) != nullptr; }

bool HasItems(V v) {
  return v.is(Kind::kString) || v.IsSequence() || v.is(Kind::kDict) || v.is(Kind::kRange) || v.is(Kind::kUndefined);
}
bool CanIterate(V v) { return HasItems(v) || v.is(Kind::kView) || v.is(Kind::kIterator) || v.is(Kind::kLoop); }
bool CanCall(V v) { return v.is(Kind::kCallable) || v.is(Kind::kLoop) || v.is(Kind::kUndefined); }

constexpr Native kTests[] = {
    {"defined", "", [](R&, V s, A) -> Reply { return Value::Bool(!s.is(Kind::kUndefined)); }},
    {"undefined", "", [](R&, V s, A) -> Reply { return Value::Bool(s.is(Kind::kUndefined)); }},
    {"none", "", [](R&, V s, A) -> Reply { return Value::Bool(s.is(Kind::kNone)); }},
    {"boolean", "", [](R&, V s, A) -> Reply { return Value::Bool(s.is(Kind::kBool)); }},
    {"true", "", [](R&, V s, A) -> Reply { return Value::Bool(s.is(Kind::kBool) && Truth(s)); }},
    {"false", "", [](R&, V s, A) -> Reply { return Value::Bool(s.is(Kind::kBool) && !Truth(s)); }},
    {"integer", "", [](R&, V s, A) -> Reply { return Value::Bool(s.is(Kind::kInt)); }},
    {"float", "", [](R&, V s, A) -> Reply { return Value::Bool(s.is(Kind::kFloat)); }},
    {"number", "", [](R&, V s, A) -> Reply { return Value::Bool(s.IsNumber()); }},
    {"string", "", [](R&, V s, A) -> Reply { return Value::Bool(s.is(Kind::kString)); }},
    {"mapping", "", [](R&, V s, A) -> Reply { return Value::Bool(s.is(Kind::kDict)); }},
    {"sequence", "", [](R&, V s, A) -> Reply { return Value::Bool(HasItems(s)); }},
    {"iterable", "", [](R&, V s, A) -> Reply { return Value::Bool(CanIterate(s)); }},
    {"callable", "", [](R&, V s, A) -> Reply { return Value::Bool(CanCall(s)); }},
    {"escaped", "", [](R&, V s, A) -> Reply { return Value::Bool(s.is(Kind::kString) && s.as<String>().safe); }},
    {"lower", "", [](R& r, V s, A) -> Reply { return Value::Bool(AllCased(TRY(TextOfAny(r, s)), kLowerCase)); }},
    {"upper", "", [](R& r, V s, A) -> Reply { return Value::Bool(AllCased(TRY(TextOfAny(r, s)), kUpperCase)); }},
    {"odd", "", [](R& r, V s, A) -> Reply { return Value::Bool(TRY(Divisible(r, s, Value::Int(2), 1))); }},
    {"even", "", [](R& r, V s, A) -> Reply { return Value::Bool(TRY(Divisible(r, s, Value::Int(2), 0))); }},
    {"divisibleby", "num",
     [](R& r, V s, A a) -> Reply { return Value::Bool(TRY(Divisible(r, s, a.positional[0], 0))); }},
    {"sameas", "other", [](R&, V s, A a) -> Reply { return Value::Bool(Same(s, a.positional[0])); }},
    {"in", "seq", [](R& r, V s, A a) -> Reply { return Value::Bool(TRY(Contains(r.budget(), a.positional[0], s))); }},
    {"filter", "", [](R& r, V s, A) -> Reply { return Has(r, s, IsFilterOfJinja); }},
    {"test", "", [](R& r, V s, A) -> Reply { return Has(r, s, IsTest); }},
    {"==", ".b", [](R& r, V s, A a) -> Reply { return Equality(r, s, a, true); }},
    {"eq", ".b", [](R& r, V s, A a) -> Reply { return Equality(r, s, a, true); }},
    {"equalto", ".b", [](R& r, V s, A a) -> Reply { return Equality(r, s, a, true); }},
    {"!=", ".b", [](R& r, V s, A a) -> Reply { return Equality(r, s, a, false); }},
    {"ne", ".b", [](R& r, V s, A a) -> Reply { return Equality(r, s, a, false); }},
    {">", ".b", [](R& r, V s, A a) -> Reply { return Ordering(r, s, a, '>'); }},
    {"gt", ".b", [](R& r, V s, A a) -> Reply { return Ordering(r, s, a, '>'); }},
    {"greaterthan", ".b", [](R& r, V s, A a) -> Reply { return Ordering(r, s, a, '>'); }},
    {">=", ".b", [](R& r, V s, A a) -> Reply { return Ordering(r, s, a, 'g'); }},
    {"ge", ".b", [](R& r, V s, A a) -> Reply { return Ordering(r, s, a, 'g'); }},
    {"<", ".b", [](R& r, V s, A a) -> Reply { return Ordering(r, s, a, '<'); }},
    {"lt", ".b", [](R& r, V s, A a) -> Reply { return Ordering(r, s, a, '<'); }},
    {"lessthan", ".b", [](R& r, V s, A a) -> Reply { return Ordering(r, s, a, '<'); }},
    {"<=", ".b", [](R& r, V s, A a) -> Reply { return Ordering(r, s, a, 'l'); }},
    {"le", ".b", [](R& r, V s, A a) -> Reply { return Ordering(r, s, a, 'l'); }},
};

// Filters that Jinja has and no template here needs: an error when they are reached.
constexpr std::string_view kOtherFilters[] = {"filesizeformat", "pprint",    "random",   "striptags", "urlencode",
                                              "urlize",         "wordcount", "wordwrap", "xmlattr"};

const Native* Among(std::span<const Native> natives, std::string_view name) {
  const auto at = std::find_if(natives.begin(), natives.end(), [&](const Native& n) { return n.name == name; });
  return at == natives.end() ? nullptr : &*at;
}

}  // namespace

const Native* FindTest(std::string_view name) { return Among(kTests, name); }

const Native* FindFilter(std::string_view name) {
  for (const auto filters : {TextFilters(), NumberFilters(), SequenceFilters(), LazyFilters()})
    if (const Native* found = Among(filters, name); found != nullptr) return found;
  return nullptr;
}

bool IsFilterOfJinja(std::string_view name) {
  return FindFilter(name) != nullptr ||
         std::find(std::begin(kOtherFilters), std::end(kOtherFilters), name) != std::end(kOtherFilters);
}

}  // namespace sotto::jinja
