// The plane code: signed bytes in a few bits each, so laid out that a vector of them is decoded with a handful of instructions and no
// table. A byte L is a sign and a magnitude m (L = m, or -1 - m). Magnitudes are written in levels:
//
//   base      `base_bits` bits of every weight: the sign on top, below it the smallest magnitudes 0 … 2^(base_bits - 1) - 1
//   plane i   one bit of every weight that has reached m >= threshold[i] by then: m becomes 2 m - threshold[i] + x, x being the bit of
//             positive weights and what it is not of negative ones: so L itself always grows by the bit
//   literals  where even the last level's largest magnitude, cap(), is too small: the place and what is missing
//
// so frequent, small magnitudes take base_bits, rarer ones a bit more for each plane that they pass (a prefix code whose lengths
// grow with the magnitude). Each plane holds bits of escaped weights only, in order: decoding 64 weights takes one comparison, one
// bit count and one bit deposit (pdep) a plane.
//
//   const PlaneCode code = ChooseCode(histogram, 1);      // histogram[m]: how often
//   const double bits = CodeBits(code, histogram);
#pragma once
#include <array>
#include <cstdint>
#include <span>

namespace sotto {

inline constexpr int kMostPlanes = 8, kFewPlanes = 2;
// Of a literal: the place and what is missing; as many again where that is more than kNearLiteral.
inline constexpr int kLiteralBits = 16, kNearLiteral = 15;
using Magnitudes = std::array<uint64_t, 128>;

struct PlaneCode {        // as it stands in files
  uint8_t base_bits = 8;  // 2 … 8
  uint8_t planes = 0;     // 0 … kMostPlanes
  std::array<uint8_t, kMostPlanes> threshold{};
  std::array<uint8_t, 2> reserved{};

  // The largest magnitude that needs no literal; at most 127 in a valid code.
  int cap() const;
  friend bool operator==(const PlaneCode&, const PlaneCode&) = default;
};

// Whether base_bits, planes and thresholds are within their bounds, thresholds don't fall, and the cap is at most 127.
bool IsValid(const PlaneCode& code);

inline int MagnitudeOf(int value) { return value < 0 ? -1 - value : value; }

// Bits of all weights of a histogram, with literals.
double CodeBits(const PlaneCode& code, const Magnitudes& histogram);

// The code of at most `planes` planes with the fewest bits for these magnitudes: the exact optimum, by dynamic programming over how many
// magnitudes end at each level. With one or two planes none is asked for by more than 62 in a hundred weights, so that 64 neighbours
// with more than 57 escapes, which the decoders of such codes have no room for, are rare.
PlaneCode ChooseCode(const Magnitudes& histogram, int planes);

// Entropy of the bytes, in bits a weight, from a histogram of all 256 values (L + 128).
double Entropy(std::span<const uint64_t> counts);

}  // namespace sotto
