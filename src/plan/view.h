// Views: what operations take instead of raw pointers. A view has extents, so a buffer sized by the wrong variable is a failed
// CHECK and not a silent overrun (an arena is one block to a sanitizer).
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "plan/dtype.h"

namespace sotto {

struct GgmlType;  // codec/ggml_types.h

// A matrix [rows, cols] in memory; row r starts at element r * stride. Rows may overlap (stride < cols), which is how a
// convolution reads its input without a copy. A vector is a view of one row.
struct View {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0, stride = 0;

  float* F32(int64_t row = 0) const {
    DCHECK(dtype == DType::kF32);
    return reinterpret_cast<float*>(data) + row * stride;
  }
  View Rows(int64_t first, int64_t count) const {
    CHECK(first >= 0 && count >= 0 && first + count <= rows);
    return {data + static_cast<uint64_t>(first * stride) * SizeOf(dtype), dtype, count, cols, stride};
  }
  View Cols(int64_t first, int64_t count) const {
    CHECK(first >= 0 && count >= 0 && first + count <= cols);
    return {data + static_cast<uint64_t>(first) * SizeOf(dtype), dtype, rows, count, stride};
  }
};

// A weight matrix [out, in] in the panel layout of codec/panel.h: out = n_out, in = n_in as in y = W x + b.
struct WeightView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;  // kF32, kF16, kBF16 or kI8; kU8 with `blocks`
  int group = 1;              // input elements that stand together (codec/panel.h)
  int64_t out = 0, in = 0;
  const GgmlType* blocks = nullptr;  // held in blocks of this type
  bool planes = false;               // instead: in the plane code (codec/planes.h); data begins with its header
  bool exact = false;                // planes: products in fp32, also where the kernels have integer ones
};

}  // namespace sotto
