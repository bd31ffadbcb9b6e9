// The published allocation of SmartKV, exact on its 21 published vectors (tests/golden/smartkv_allocation.json): for
// comparison, not for use. Its scales are fp32, one for the keys and one for the values of each token and head.
//
//   const std::vector<uint8_t> bits = TRY(ReferenceWidths({.heads = 32, .head_dim = 128, .budget = 0.25}, importance));
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "kv/widths.h"

namespace sotto {

struct ReferenceCache {
  int64_t heads = 0, head_dim = 0;  // of keys, and of values alike
  double budget = 0;                // share of FP16's bytes
  KvWidths widths;
  double high_precision_fraction = 0.02;  // of the tokens: forced to the highest width
};

// Bits of each token; `importance` is finite. kOverBudget when the first four tokens at the highest width and all
// others at the lowest are too much.
Result<std::vector<uint8_t>> ReferenceWidths(const ReferenceCache& cache, std::span<const double> importance);

}  // namespace sotto
