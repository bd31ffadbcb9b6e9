// The widths that a packed cache may use: 2, 3, 4 and 8 bits, or some of them.
//
//   KvWidths widths;                        // all four
//   widths.Below(8)                         // 4
#pragma once
#include <bit>
#include <cstdint>
#include <optional>
#include <span>

namespace sotto {

class KvWidths {
 public:
  KvWidths() = default;
  // nullopt when there is none, or one of another width.
  static std::optional<KvWidths> Of(std::span<const int64_t> bits) {
    KvWidths widths;
    widths.set_ = 0;
    for (const int64_t b : bits) {
      if (b < 0 || b > 15 || !KvWidths().Has(static_cast<int>(b))) return std::nullopt;
      widths.set_ |= 1U << b;
    }
    if (widths.set_ == 0) return std::nullopt;
    return widths;
  }
  bool Has(int bits) const { return (set_ >> bits & 1U) != 0; }
  int least() const { return std::countr_zero(set_); }
  int most() const { return 31 - std::countl_zero(set_); }
  // The next one of the set; 0: there is none.
  int Above(int bits) const {
    const uint32_t rest = set_ >> (bits + 1);
    return rest == 0 ? 0 : bits + 1 + std::countr_zero(rest);
  }
  int Below(int bits) const {
    const uint32_t rest = set_ & ((1U << bits) - 1);
    return rest == 0 ? 0 : 31 - std::countl_zero(rest);
  }

 private:
  uint32_t set_ = 1U << 2 | 1U << 3 | 1U << 4 | 1U << 8;
};

}  // namespace sotto
