// Filters by subject, and what they share.
#pragma once
#include <span>
#include <vector>

#include "text/jinja/operators.h"
#include "text/jinja/renderer.h"

namespace sotto::jinja {

std::span<const Native> TextFilters();
std::span<const Native> NumberFilters();
std::span<const Native> SequenceFilters();
std::span<const Native> LazyFilters();

// The value of "a.b.0" in an item, as the filters' parameter `attribute` means it.
class Getter {
 public:
  // `attribute` none or absent: the item itself. `otherwise` takes the place of what is undefined, unless it is none or
  // absent. With `fold` text becomes lower case.
  static Result<Getter> Make(Renderer& r, const Value& attribute, const Value& otherwise, bool fold);
  Result<Value> operator()(Renderer& r, Value item) const;
  int depth() const { return otherwise_.depth(); }

 private:
  std::vector<Value> parts_;
  Value otherwise_;
  bool fold_ = false;
};

inline bool IsGiven(const Value& v) { return v && !v.is(Kind::kNone); }
inline bool IsTrue(const Value& v) { return v && Truth(v); }

}  // namespace sotto::jinja
