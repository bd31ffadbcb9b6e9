// How tensor parallelism splits pairs of matrices: the first by its outputs, the second by its inputs, heads kept whole
// (Megatron-LM, https://arxiv.org/abs/1909.08053; vLLM's ColumnParallelLinear and RowParallelLinear).
#pragma once
#include "plan/anatomy.h"

namespace sotto {

inline Shard ByOut(int64_t unit = 1) { return {Shard::kFirst, unit}; }
inline Shard ByIn(int64_t unit = 1) { return {Shard::kSecond, unit}; }

}  // namespace sotto
