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
// Blocks of a GGUF type keep the file's bits. Block b of the 16 channels is one piece of a panel. Inside it each field of the
// block (codec/block_panel.h has the table) is cut into units of a few bytes, and the same unit of all channels stands
// together: with units of 4 bytes, a vector has four inputs of each channel, as dot products of bytes want them. All
// instruction sets read this one layout.
//
//   Q4_0, inputs 32b .. 32b+31
//   | d of channel 0 | of 1 | … | of 15 || q 0..3 of channel 0 | of 1 | … | of 15 || q 4..7 of channel 0 | … || … || q 12..15 …
//
//   PanelFormat f = FormatFor(DType::kI8, isa);
//   for (p …) PackPanel(f, DType::kF16, rows_of_panel_p, K, out + p * PanelStride(f, K));
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "codec/ggml_blocks.h"
#include "codec/isa.h"
#include "plan/dtype.h"
#include "plan/view.h"

namespace sotto {

inline constexpr int kPanel = 16;  // output channels a panel

struct PanelFormat {
  DType dtype = DType::kF32;         // kF32, kF16, kBF16 or kI8; kU8 with `blocks`
  int group = 1;                     // 1 for kF32, kF16 and blocks, 2 for kBF16, 2 or 4 for kI8
  const GgmlType* blocks = nullptr;  // an entry of kGgmlTypes
  friend bool operator==(PanelFormat, PanelFormat) = default;
};

// The format that kernels of `isa` read fastest (all of them read all formats of the list above).
PanelFormat FormatFor(DType dtype, Isa isa);
PanelFormat FormatFor(const GgmlType& blocks, Isa isa);

// Bytes of one panel, and of N x K weights. Both saturate: K and N may come from a hostile file. REQUIRES: N, K >= 0.
// Blocks: the file's bytes of 16 rows, rounded up to a multiple of 64.
uint64_t PanelStride(PanelFormat format, int64_t k);
Bytes PanelBytes(PanelFormat format, int64_t n, int64_t k);

// Where the scales of a kI8 panel stand, in bytes from its start; the sums follow 64 bytes later.
uint64_t ScalesOffset(PanelFormat format, int64_t k);

// Writes one panel, PanelStride() bytes at `out`, from 1 to 16 rows of k elements of type `source` (kF32, kF16 or
// kBF16; any alignment). fp16 to fp16 and bf16 to bf16 copy the bits. Infinite weights saturate, NaN becomes code 127:
// garbage, but defined. Blocks are made by QuantizerOf, which must have one for the type; k is whole blocks.
void PackPanel(PanelFormat format, DType source, std::span<const std::byte* const> rows, int64_t k, std::byte* out);
// The same by the kernels of one instruction set: all give the same bytes.
void PackPanel(Isa isa, PanelFormat format, DType source, std::span<const std::byte* const> rows, int64_t k,
               std::byte* out);
// From 1 to 16 rows of the very blocks that the format holds. k is whole blocks.
void PackBlocks(PanelFormat format, std::span<const std::byte* const> rows, int64_t k, std::byte* out);

// Row `row` of the weights as fp32: code * scale for kI8; for blocks what DequantizerOf says, which must have one for the
// type. `out` holds w.in floats. REQUIRES: 0 <= row < w.out.
void UnpackRow(const WeightView& w, int64_t row, float* out);
// The same for inputs [first, first + n) of a panel of blocks, channel by channel: out[16][n]. Both are whole blocks.
void UnpackBlocks(const GgmlType& type, GgmlDequantize decode, const std::byte* panel, int64_t first, int64_t n,
                  float* out);

// Whether Linear has integer kernels for a type: it quantizes activations then, else it dequantizes weights.
bool HasIntegerKernels(const GgmlType& type);

inline PanelFormat FormatOf(const WeightView& w) { return {w.dtype, w.group, w.blocks}; }

}  // namespace sotto
