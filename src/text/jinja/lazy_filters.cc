// Filters whose result is an iterator: as in Python nothing is done, and nothing fails, before an item is asked for, and an
// item is given out once.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "text/jinja/filters.h"

namespace sotto::jinja {
namespace {

using Reply = Result<Value>;
using R = Renderer;
using V = const Value&;
using A = Arguments&;
using Source = std::shared_ptr<Iterator>;

int DepthOf(const Value& self, const Arguments& a) {
  int depth = self.depth();
  for (const Value& v : a.positional) depth = std::max(depth, v.depth());
  for (const auto& [name, v] : a.named) depth = std::max(depth, v.depth());
  return depth;
}

// An iterator over `each(source, out)`, which is false at the end. With `lenient` what is not true has no items.
template <class Each>
Reply Lazily(R& r, V self, const Arguments& a, bool lenient, Each each) {
  const auto next = [&r, self, lenient, each = std::move(each), source = Source()](Value* out) mutable -> Result<bool> {
    TRY(r.budget().Spend(1));
    if (source == nullptr) source = TRY(Iterate(r.budget(), lenient && !Truth(self) ? TRY(r.budget().List({})) : self));
    return each(*source, out);
  };
  return r.budget().MakeIterator(next, DepthOf(self, a));
}

Reply Map(R& r, V self, A a) {
  return Lazily(r, self, a, true, [&r, a](Iterator& source, Value* out) -> Result<bool> {
    Value item;
    if (!TRY(source.Next(&item))) return false;
    if (!a.positional.empty()) {
      const std::string_view name = TRY(TextOf(a.positional[0], "the name of a filter"));
      Arguments rest = a;
      rest.positional.erase(rest.positional.begin());
      *out = TRY(r.Filter(name, item, std::move(rest)));
      return true;
    }
    Value attribute, otherwise;
    for (const auto& [name, value] : a.named) {
      if (name != "attribute" && name != "default")
        return BadInput(fmt::format("map can't have the argument '{}'", name));
      (name == "attribute" ? attribute : otherwise) = value;
    }
    if (!attribute) return BadInput("map needs a filter or an attribute");
    const Getter get = TRY(Getter::Make(r, attribute, otherwise, false));
    *out = TRY(get(r, std::move(item)));
    return true;
  });
}

// Keeps the items whose truth, or whose test's result, is `wanted`; with `by_attribute` that of an attribute.
Reply Select(R& r, V self, A a, bool wanted, bool by_attribute) {
  return Lazily(r, self, a, true, [&r, a, wanted, by_attribute](Iterator& source, Value* out) -> Result<bool> {
    const size_t test = by_attribute ? 1 : 0;
    if (a.positional.size() < test) return BadInput("the name of an attribute is missing");
    const Getter get = TRY(Getter::Make(r, by_attribute ? a.positional[0] : Value(), Value(), false));
    while (TRY(source.Next(out))) {
      const Value tested = TRY(get(r, *out));
      bool holds = false;
      if (a.positional.size() > test) {
        Arguments rest = a;
        rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(test) + 1);
        holds = TRY(r.Test(TRY(TextOf(a.positional[test], "the name of a test")), tested, std::move(rest)));
      } else {
        holds = Truth(tested);
      }
      if (holds == wanted) return true;
    }
    return false;
  });
}

Reply Unique(R& r, V self, A a) {
  const Getter get = TRY(Getter::Make(r, a.positional[1], Value(), !IsTrue(a.positional[0])));
  const auto each = [&r, get, seen = std::unordered_set<std::string>()](Iterator& source,
                                                                        Value* out) mutable -> Result<bool> {
    while (TRY(source.Next(out))) {
      std::string key = TRY(HashKey(r.budget(), TRY(get(r, *out))));
      const uint64_t bytes = key.size() + 64;
      if (!seen.insert(std::move(key)).second) continue;
      TRY(r.budget().Take(bytes));  // until the rendering ends
      return true;
    }
    return false;
  };
  return Lazily(r, self, a, false, each);
}

Reply Batch(R& r, V self, A a) {
  const int64_t size = TRY(IntOf(a.positional[0], 0, "a size"));
  if (size < 1) return BadInput("batch needs a positive size");
  return Lazily(r, self, a, false, [&r, size, fill = a.positional[1]](Iterator& source, Value* out) -> Result<bool> {
    std::vector<Value> items;
    Value item;
    while (static_cast<int64_t>(items.size()) < size && TRY(source.Next(&item))) {
      items.push_back(std::move(item));
      TRY(r.budget().Fits(items.size() * sizeof(Value)));
    }
    if (items.empty()) return false;
    if (IsGiven(fill)) {
      TRY(r.budget().Fits(static_cast<uint64_t>(size) * sizeof(Value)));
      items.resize(static_cast<size_t>(size), fill);
    }
    *out = TRY(r.budget().List(std::move(items)));
    return true;
  });
}

Reply SliceUp(R& r, V self, A a) {
  const int64_t slices = TRY(IntOf(a.positional[0], 0, "a number of slices"));
  if (slices < 1) return BadInput("slice needs a positive number");
  const auto each = [&r, slices, fill = a.positional[1], all = Value(), i = int64_t{0}](
                        Iterator& source, Value* out) mutable -> Result<bool> {
    if (!all) {
      std::vector<Value> items;
      for (Value item; TRY(source.Next(&item)); items.push_back(std::move(item)))
        TRY(r.budget().Fits(items.size() * sizeof(Value)));
      all = TRY(r.budget().List(std::move(items)));
    }
    if (i == slices) return false;
    const int64_t count = static_cast<int64_t>(all.items().size()), size = count / slices, longer = count % slices;
    const auto begin = all.items().begin() + static_cast<std::ptrdiff_t>(i * size + std::min(i, longer));
    std::vector<Value> part(begin, begin + static_cast<std::ptrdiff_t>(size + (i < longer ? 1 : 0)));
    if (IsGiven(fill) && i >= longer) part.push_back(fill);
    ++i;
    *out = TRY(r.budget().List(std::move(part)));
    return true;
  };
  return Lazily(r, self, a, false, each);
}

Reply Items(R& r, V self, A a) {
  return Lazily(r, self, a, false, [&r, self](Iterator& source, Value* out) -> Result<bool> {
    if (self.is(Kind::kUndefined)) return false;
    if (!self.is(Kind::kDict)) return BadInput(fmt::format("a {} has no items", TypeName(self)));
    Value key;
    if (!TRY(source.Next(&key))) return false;
    Value item = TRY(ItemAt(r.budget(), self, key));
    *out = TRY(r.budget().Tuple({std::move(key), std::move(item)}));
    return true;
  });
}

constexpr Native kFilters[] = {
    {"map", "*", Map},
    {"select", "*", [](R& r, V s, A a) -> Reply { return Select(r, s, a, true, false); }},
    {"reject", "*", [](R& r, V s, A a) -> Reply { return Select(r, s, a, false, false); }},
    {"selectattr", "*", [](R& r, V s, A a) -> Reply { return Select(r, s, a, true, true); }},
    {"rejectattr", "*", [](R& r, V s, A a) -> Reply { return Select(r, s, a, false, true); }},
    {"unique", "?case_sensitive ?attribute", Unique},
    {"batch", "linecount ?fill_with", Batch},
    {"slice", "slices ?fill_with", SliceUp},
    {"items", "", Items},
};

}  // namespace

std::span<const Native> LazyFilters() { return kFilters; }

}  // namespace sotto::jinja
