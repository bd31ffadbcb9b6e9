// What a sampler asks of one row of logits. Vectorised, on the calling thread.
#pragma once
#include <cstdint>

namespace sotto {

// The index of the largest value; the first one wins ties, NaNs never win. n >= 1; 0 when no value is larger than -inf.
int64_t ArgMax(const float* x, int64_t n);

// log(sum(exp(x))), -inf when every x is -inf. n >= 1.
float LogSumExp(const float* x, int64_t n);

// out = exp(x - LogSumExp(x)); `out` may be x.
void Softmax(const float* x, int64_t n, float* out);

}  // namespace sotto
