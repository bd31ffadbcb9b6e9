// Panels: the one layout in which weights [out = N, in = K] (y = W x + b) are held, read by matrix-vector and
// matrix-matrix kernels alike. 16 output channels stand together; inside a panel the input runs in groups of `group`
// elements:
//
//   panel p: channels 16p .. 16p+15
//   | k 0..g-1 of channel 0 | of channel 1 | … | of channel 15 || k g..2g-1 of channel 0 | …      ceil(K/g) groups
//   | kI8 only, at the next multiple of 64 bytes: 16 float scales | 16 int32 sums of the channel's codes |
//   up to a multiple of 64 bytes; missing channels and inputs are zeros, so kernels never branch on N or K
//
// kI8 is symmetric, one scale a channel: scale = absmax / 127, code = round to nearest even of w * (127 / absmax), in
// [-127, 127]. A channel whose absmax is below 1e-30 has scale 0 and codes 0. The sums undo the +128 of kernels with
// unsigned activations.
//
//   PanelFormat f = FormatFor(DType::kI8, isa);
//   for (p …) PackPanel(f, DType::kF16, rows_of_panel_p, K, out + p * PanelStride(f, K));
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "codec/isa.h"
#include "plan/dtype.h"
#include "plan/view.h"

namespace sotto {

inline constexpr int kPanel = 16;  // output channels a panel

struct PanelFormat {
  DType dtype = DType::kF32;  // kF32, kF16, kBF16 or kI8
  int group = 1;              // 1 for kF32 and kF16, 2 for kBF16, 2 or 4 for kI8
  friend bool operator==(PanelFormat, PanelFormat) = default;
};

// The format that kernels of `isa` read fastest (all of them read all formats of the list above).
PanelFormat FormatFor(DType dtype, Isa isa);

// Bytes of one panel, and of N x K weights. Both saturate: K and N may come from a hostile file. REQUIRES: N, K >= 0.
uint64_t PanelStride(PanelFormat format, int64_t k);
Bytes PanelBytes(PanelFormat format, int64_t n, int64_t k);

// Where the scales of a kI8 panel stand, in bytes from its start; the sums follow 64 bytes later.
uint64_t ScalesOffset(PanelFormat format, int64_t k);

// Writes one panel, PanelStride() bytes at `out`, from 1 to 16 rows of k elements of type `source` (kF32, kF16 or
// kBF16; any alignment). fp16 to fp16 and bf16 to bf16 copy the bits. Infinite weights saturate, NaN becomes code 127:
// garbage, but defined.
void PackPanel(PanelFormat format, DType source, std::span<const std::byte* const> rows, int64_t k, std::byte* out);
// The same by the kernels of one instruction set: all give the same bytes.
void PackPanel(Isa isa, PanelFormat format, DType source, std::span<const std::byte* const> rows, int64_t k,
               std::byte* out);

// Row `row` of the weights as fp32: code * scale for kI8. `out` holds w.in floats. REQUIRES: 0 <= row < w.out.
void UnpackRow(const WeightView& w, int64_t row, float* out);

inline PanelFormat FormatOf(const WeightView& w) { return {w.dtype, w.group}; }

}  // namespace sotto
