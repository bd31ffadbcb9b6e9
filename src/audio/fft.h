// RealFft: the power spectrum of real signals in double precision, `kLanes` signals at a time. A signal of n samples
// becomes one complex transform of n/2 points (even samples real, odd ones imaginary), by a mixed-radix Stockham
// transform (radices 4, 2, 3, 5), every butterfly on `kLanes` signals at once. Whisper's n is 400: 200 = 4 x 2 x 5 x 5.
#pragma once
#include <cstdint>
#include <span>

#include "base/bytes.h"

namespace sotto {

class RealFft {
 public:
  static constexpr int kLanes = 4;

  // n even and n/2 a product of 2, 3 and 5.
  static bool Supports(int64_t n);
  // Doubles of table for a transform of n, and of scratch for each thread.
  static uint64_t TableDoubles(int64_t n) { return static_cast<uint64_t>(2 * n); }
  static uint64_t ScratchDoubles(int64_t n) { return static_cast<uint64_t>(n * kLanes); }

  RealFft() = default;
  // REQUIRES Supports(n). `table` has TableDoubles(n) and outlives this.
  RealFft(int64_t n, std::span<double> table);

  // `x` [n, kLanes]: sample i of lane l at i * kLanes + l; it is overwritten. `power` [n/2 + 1, kLanes] receives
  // |X(k)|^2. `scratch` has ScratchDoubles(n).
  void Power(double* x, double* scratch, double* power) const;

 private:
  int64_t n_ = 0;
  int factors_[32] = {};
  int count_ = 0;
  const double* half_ = nullptr;  // exp(-2 pi i k / (n/2)), k < n/2, (re, im)
  const double* full_ = nullptr;  // exp(-2 pi i k / n), k < n/2, (re, im)
};

}  // namespace sotto
