// Adding one row of a table (positions), kept as fp32, fp16 or bf16.
#pragma once
#include <algorithm>

#include "codec/half.h"
#include "plan/view.h"

namespace sotto {

// out[i] += row[0, i] for all columns of the row.
inline void AddRow(const View& row, float* out) {
  constexpr int64_t kPiece = 256;
  float wide[kPiece];
  for (int64_t i = 0; i < row.cols; i += kPiece) {
    const int64_t n = std::min(kPiece, row.cols - i);
    const float* values = wide;
    switch (row.dtype) {
      case DType::kF32: values = row.F32() + i; break;
      case DType::kF16: HalfToFloat(reinterpret_cast<const uint16_t*>(row.data) + i, n, wide); break;
      case DType::kBF16: Bf16ToFloat(reinterpret_cast<const uint16_t*>(row.data) + i, n, wide); break;
      default: CHECK(false);
    }
    for (int64_t j = 0; j < n; ++j) out[i + j] += values[j];
  }
}

}  // namespace sotto
