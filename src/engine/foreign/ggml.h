// How llama.cpp and whisper.cpp keep a tensor, by ggml's blocks.
#pragma once
#include "engine/foreign/rules.h"

namespace sotto::foreign {

// The type of matrices: Q4_K of "q4_k", F16 of "fp16" … kUsage for int8, which is sotto's own.
Result<const GgmlType*> GgmlOf(const WeightKind& weights, std::string_view engine);

// F32, f16, q8_0 … as the options of these programs write it; nullptr when there is none.
const GgmlType* GgmlNamed(std::string_view lower);

// Bytes of a matrix. A row is whole blocks: where it isn't, the type that llama-quantize falls back to.
uint64_t MatrixBytes(const GgmlType& type, const Slot& slot);

}  // namespace sotto::foreign
