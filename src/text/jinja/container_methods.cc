#include <algorithm>

#include "text/jinja/methods.h"
#include "text/jinja/operators.h"

namespace sotto::jinja {
namespace {

using R = Renderer;
using V = const Value&;
using A = Arguments&;

Result<Value> Index(R& r, V self, A a) {
  const int64_t length = TRY(Length(self));
  const auto bound = [&](const Value& v, int64_t otherwise) -> Result<int64_t> {
    const int64_t at = TRY(IntOf(v, otherwise, "a bound"));
    return at < 0 ? std::max<int64_t>(0, at + length) : at;
  };
  const int64_t stop = std::min(length, TRY(bound(a.positional[2], length)));
  for (int64_t i = TRY(bound(a.positional[1], 0)); i < stop; ++i) {
    const Value item = TRY(ItemAt(r.budget(), self, Value::Int(i)));
    if (Same(item, a.positional[0]) || TRY(Equal(r.budget(), item, a.positional[0]))) return Value::Int(i);
  }
  return BadInput("the item isn't in the list");
}

Result<Value> Count(R& r, V self, A a) {
  const auto source = TRY(Iterate(r.budget(), self));
  int64_t count = 0;
  Value item;
  while (TRY(source->Next(&item)))
    count += Same(item, a.positional[0]) || TRY(Equal(r.budget(), item, a.positional[0]));
  return Value::Int(count);
}

Result<Value> Get(R& r, V self, A a) {
  const auto at = self.dict().index.find(TRY(HashKey(r.budget(), a.positional[0])));
  if (at != self.dict().index.end()) return self.dict().items[at->second].second;
  return a.positional[1] ? a.positional[1] : Value::None();
}

Result<Value> Part(R& r, V self, View::Part part) {
  auto view = std::make_shared<View>();
  view->part = part;
  view->dict = self;
  return r.budget().Make(Kind::kView, std::move(view), 32, self.depth());
}

// Nothing changes a list or dict here, so a copy is equal and need not be another one but for `is sameas`.
Result<Value> Copy(R& r, V self, A) {
  return self.is(Kind::kDict) ? r.budget().MakeDict(self.dict().items) : r.budget().List(self.items());
}

constexpr Native kSequenceMethods[] = {
    {"index", ".value ?.start ?.stop", Index}, {"count", ".value", Count}, {"copy", "", Copy}};
constexpr Native kDictMethods[] = {
    {"get", ".key ?.default", Get},
    {"keys", "", [](R& r, V s, A) -> Result<Value> { return Part(r, s, View::kKeys); }},
    {"values", "", [](R& r, V s, A) -> Result<Value> { return Part(r, s, View::kValues); }},
    {"items", "", [](R& r, V s, A) -> Result<Value> { return Part(r, s, View::kItems); }},
    {"copy", "", Copy},
};

}  // namespace

std::span<const Native> SequenceMethods() { return kSequenceMethods; }
std::span<const Native> DictMethods() { return kDictMethods; }

}  // namespace sotto::jinja
