// Rows of GGUF tensors: blocks (codec/ggml_types.h) to fp32 and back. Bytes to bytes: no files, no names of tensors, no threads.
// Every result is the same bits on every instruction set. Not here: the types with code books of 256 entries and more
// (IQ1 … IQ3), and Q8_1 and Q8_K, which only ever hold activations.
//
//   const GgmlDequantize decode = TRY(DequantizerOf(type));       // once a tensor
//   decode(row, cols, floats);                                    // cols: whole blocks
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "codec/ggml_types.h"

namespace sotto {

// n elements, a multiple of the type's block; `blocks` may be unaligned. Equal to gguf-py's `dequantize` bit for bit; a NaN
// stays a NaN.
using GgmlDequantize = void (*)(const std::byte* blocks, int64_t n, float* out);
Result<GgmlDequantize> DequantizerOf(const GgmlType& type);  // kBadModel names the type

// The reverse, for what sotto writes: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 (equal to gguf-py's `quantize` bit for
// bit) and Q2_K to Q6_K (least squares: ggml_quantize_k_portable.cc). REQUIRES finite `row`; others give a block that
// means nothing.
using GgmlQuantize = void (*)(const float* row, int64_t n, std::byte* blocks);
Result<GgmlQuantize> QuantizerOf(const GgmlType& type);  // kUsage names the type

}  // namespace sotto
