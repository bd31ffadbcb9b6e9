// Bytes: the one unit of memory. Arithmetic saturates at the largest value instead of wrapping, so that a hostile shape
// becomes "more than any budget". Only reports convert: GiB is 2^30, GB is 10^9.
#pragma once
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sotto {

uint64_t SatAdd(uint64_t a, uint64_t b);
uint64_t SatMul(uint64_t a, uint64_t b);

struct Bytes {
  uint64_t n = 0;
  friend auto operator<=>(Bytes, Bytes) = default;
  friend Bytes operator+(Bytes a, Bytes b) { return {SatAdd(a.n, b.n)}; }
  friend Bytes operator*(Bytes a, uint64_t k) { return {SatMul(a.n, k)}; }
  Bytes& operator+=(Bytes b) { return *this = *this + b; }
};

inline constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;
inline constexpr uint64_t kPage = 4096;  // the system's smallest

// Rounds up to a multiple of `unit` (a power of two); saturates.
uint64_t RoundUp(uint64_t n, uint64_t unit);

// "512MiB", "2GiB", "6 GB", "80%" (of `available`), "1048576". Decimal fractions are allowed before a unit. kUsage when it
// is none of these, negative, zero or too large.
Result<Bytes> ParseSize(std::string_view text, Bytes available);

// "1.25 GiB", "37.1 MiB", "12 KiB", "17 bytes": binary units, for people.
std::string Human(Bytes bytes);

}  // namespace sotto
