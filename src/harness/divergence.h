// How far one row of logits is from another.
#pragma once
#include <cstdint>

#include "ops/row.h"

namespace sotto {

// KL(softmax(x) || softmax(y)), nats; exactly 0 for equal rows. `scratch`: n floats.
inline double Divergence(const float* x, const float* y, int64_t n, float* scratch) {
  Softmax(x, n, scratch);
  double sum = double{LogSumExp(y, n)} - double{LogSumExp(x, n)};
  for (int64_t i = 0; i < n; ++i) sum += double{scratch[i]} * (double{x[i]} - double{y[i]});
  return sum;
}

}  // namespace sotto
