// y = x W^T for every kind of weight. Work is cut into tasks of (row block, group of panels). Inside one, panels are
// the outer loop, so a panel stays in the first-level cache while the block's rows, which fit the second, pass by it:
//
//   for each panel            16 output channels
//     for each slice of k     256 inputs, widened to fp32 once when the weights are halves or blocks
//       for each tile         6 rows (AVX2): sums in registers, between slices in `sums`
//     finish                  bias, GELU or residual, columns behind N cut off
//
// Up to one tile of rows (a decoding step) there are no slices unless the weights are blocks: a panel is read once, straight
// from memory.
#include <algorithm>
#include <optional>

#include "codec/panel.h"
#include "codec/planes.h"
#include "ops/cpu/cpu_backend.h"

namespace sotto::cpu {
namespace {

// A thread's slice of scratch during Linear.
struct Areas {
  float* sums;        // [kMaxBlockRows][16]
  float* tile;        // [kSlice][16]
  float* row_scales;  // [kMaxBlockRows]
  int64_t* block;     // the row block whose quantized rows lie in `rows`; -1: none
  std::byte*
      rows;  // quantized activations: a row of a block after the other, or for blocks BlockInputs [w.in / 32][rows];
             // or [16][kSlice] of a panel of blocks in fp32
};
constexpr uint64_t kSumsBytes = kMaxBlockRows * kPanel * 4, kTileBytes = kSlice * kPanel * 4,
                   kScalesBytes = kMaxBlockRows * 4 + 64;

Areas Cut(std::byte* lane) {
  std::byte* scales = lane + kSumsBytes + kTileBytes;
  return {reinterpret_cast<float*>(lane), reinterpret_cast<float*>(lane + kSumsBytes), reinterpret_cast<float*>(scales),
          reinterpret_cast<int64_t*>(scales + kMaxBlockRows * 4), scales + kScalesBytes};
}

GgmlDequantize DecoderOf(const GgmlType& type) {
  static_assert(kPanel * kSlice * 4 <= kBlockBytes);  // where FloatPanel unpacks a slice
  const Result<GgmlDequantize> decode = DequantizerOf(type);
  CHECK(decode.ok() && kSlice % type.block == 0);
  return decode.value();
}

int64_t BlockRows(int64_t row_bytes, int64_t tile_rows) {
  const int64_t rows = std::clamp(kBlockBytes / std::max<int64_t>(row_bytes, 1), kMinBlockRows, kMaxBlockRows);
  return rows / tile_rows * tile_rows;
}

}  // namespace

uint64_t LinearBytes(const ScratchNeed& need) {
  const uint64_t rows =
      std::max<uint64_t>(kBlockBytes, kMinBlockRows * 2 * RoundUp(static_cast<uint64_t>(need.in), 16));
  return kSumsBytes + kTileBytes + kScalesBytes + rows;
}

struct CpuBackend::LinearCall {
  const Kernels& kernels;
  View x;
  const WeightView& w;
  BlockProduct product;   // of weights in blocks
  GgmlDequantize decode;  // of those that have no product
  const float* bias;
  View out;
  Into into;
  uint64_t stride;     // bytes of a panel
  uint64_t scales_at;  // kI8
  int64_t row_bytes;   // of a quantized row
  const Planes* planes;
  Isa isa;

  bool int8_planes() const { return planes != nullptr && planes->header().scheme == PlaneScheme::kInt8; }
  bool FloatPlanes() const { return planes != nullptr && (w.exact || planes->header().raw_bits > 0); }
  int Columns(int64_t panel) const { return static_cast<int>(std::min<int64_t>(kPanel, w.out - panel * kPanel)); }
  void Finish(const float* sums, int64_t row, int64_t rows, int64_t panel) const {
    kernels.finish(sums, static_cast<int>(rows), Columns(panel), bias != nullptr ? bias + panel * kPanel : nullptr,
                   into, out.F32(row) + panel * kPanel, out.stride);
  }

  void Tile(const float* a, int64_t rows, const std::byte* b, int64_t k, float* sums, bool add) const {
    const auto* halves = reinterpret_cast<const uint16_t*>(b);
    const int m = static_cast<int>(rows);
    switch (w.dtype) {
      case DType::kF32:
        return kernels.f32_tile(a, x.stride, m, OnePanel(reinterpret_cast<const float*>(b)), k, sums, kPanel, add);
      case DType::kF16: return kernels.f16_tile(a, x.stride, m, OnePanel(halves), k, sums, kPanel, add);
      default: return kernels.bf16_tile(a, x.stride, m, OnePanel(halves), k, sums, kPanel, add);
    }
  }

  void FloatPanel(int64_t row, int64_t rows, int64_t panel, const Areas& s) const {
    const std::byte* b = w.data + static_cast<uint64_t>(panel) * stride;
    if (rows <= kernels.tile_rows && decode == nullptr) {
      Tile(x.F32(row), rows, b, w.in, s.sums, false);
      return Finish(s.sums, row, rows, panel);
    }
    Slices(row, rows, s, [&](int64_t k, int64_t slice) {
      const std::byte* from = b + static_cast<uint64_t>(k * kPanel) * SizeOf(w.dtype);
      const auto* tile = reinterpret_cast<const float*>(from);
      if (decode != nullptr) {
        auto* wide = reinterpret_cast<float*>(s.rows);
        UnpackBlocks(*w.blocks, decode, b, k, slice, wide);
        kernels.pack_keys(wide, slice, kPanel, static_cast<int>(slice), s.tile);
        tile = s.tile;
      } else if (w.dtype != DType::kF32) {
        (w.dtype == DType::kF16 ? kernels.widen_f16 : kernels.widen_bf16)(reinterpret_cast<const uint16_t*>(from),
                                                                          slice, s.tile);
        tile = s.tile;
      }
      return tile;
    });
    Finish(s.sums, row, rows, panel);
  }

  // Rows times a panel whose slices tile_of(k, inputs) gives as fp32.
  template <class TileOf>
  void Slices(int64_t row, int64_t rows, const Areas& s, const TileOf& tile_of) const {
    for (int64_t k = 0; k < w.in; k += kSlice) {
      const int64_t slice = std::min(kSlice, w.in - k);
      const float* tile = tile_of(k, slice);
      for (int64_t r = 0; r < rows; r += kernels.tile_rows)
        kernels.f32_tile(x.F32(row + r) + k, x.stride, TileRows(rows - r), OnePanel(tile), slice, s.sums + r * kPanel,
                         kPanel, k != 0);
    }
  }

  // What a panel needs from its beginning on, but has behind its base fields.
  static void AskFor(const uint8_t* at, const uint8_t* end) {
    for (; at < end; at += 64) __builtin_prefetch(at, 0, 2);
  }

  void PlanePanelOf(int64_t row, int64_t rows, int64_t panel, const Areas& s) const {
    static_assert(kMaxBlockRows <= kSlice);  // literals' sums lie in `tile`
    if (FloatPlanes()) {
      PlaneFloats floats(*planes, panel, isa);
      Slices(row, rows, s, [&](int64_t, int64_t slice) {
        floats.Next((slice + kPlaneInputs - 1) / kPlaneInputs, s.tile);
        return s.tile;
      });
      return Finish(s.sums, row, rows, panel);
    }
    if (panel + 2 < planes->panels()) AskFor(planes->Panel(panel + 1).literals, planes->Panel(panel + 2).base);
    kernels.plane_product(planes->Panel(panel), int8_planes(), isa, reinterpret_cast<const BlockInputs*>(s.rows),
                          static_cast<int>(rows), s.sums, s.tile);
    float scale[kPanel] = {};
    for (int c = 0; c < Columns(panel); ++c) scale[c] = planes->Scale(panel * kPanel + c) * (int8_planes() ? 1 : 0.5F);
    if (int8_planes())
      kernels.dequantize(reinterpret_cast<const int32_t*>(s.sums), static_cast<int>(rows), s.row_scales, scale, s.sums);
    for (int64_t i = 0; !int8_planes() && i < rows * kPanel; ++i) s.sums[i] *= scale[i % kPanel];
    Finish(s.sums, row, rows, panel);
  }

  // One row: several panels at once, a piece of `sums` at a time.
  void FloatRow(int64_t at, int64_t first, int64_t last, const Areas& s) const {
    const auto row = w.dtype == DType::kF32   ? kernels.f32_row
                     : w.dtype == DType::kF16 ? kernels.f16_row
                                              : kernels.bf16_row;
    for (int64_t p = first; p < last; p += kMaxBlockRows) {
      const int64_t count = std::min(kMaxBlockRows, last - p);
      row(x.F32(at), w.data + static_cast<uint64_t>(p) * stride, stride, static_cast<int>(count), w.in, s.sums);
      for (int64_t i = 0; i < count; ++i) Finish(s.sums + i * kPanel, at, 1, p + i);
    }
  }

  void QuantizeRows(int64_t row, int64_t rows, const Areas& s) const {
    auto* const inputs = reinterpret_cast<BlockInputs*>(s.rows);
    if (int8_planes()) {
      for (int64_t r = 0; r < rows; ++r)
        s.row_scales[r] = kernels.quantize_whole(x.F32(row + r), w.in, inputs + r, rows);
      return;
    }
    if (product != nullptr || planes != nullptr) {
      for (int64_t r = 0; r < rows; ++r) kernels.quantize_blocks(x.F32(row + r), w.in, inputs + r, rows);
      return;
    }
    const int64_t padded = row_bytes / kernels.activation_bytes;
    for (int64_t r = 0; r < rows; ++r)
      s.row_scales[r] = kernels.quantize(x.F32(row + r), w.in, padded, s.rows + r * row_bytes);
  }

  void BlockPanel(int64_t row, int64_t rows, int64_t panel, const Areas& s) const {
    product(w.data + static_cast<uint64_t>(panel) * stride, w.in, reinterpret_cast<const BlockInputs*>(s.rows),
            static_cast<int>(rows), s.sums);
    Finish(s.sums, row, rows, panel);
  }

  void Int8Panel(int64_t row, int64_t rows, int64_t panel, const Areas& s) const {
    const std::byte* b = w.data + static_cast<uint64_t>(panel) * stride;
    auto* sums = reinterpret_cast<int32_t*>(s.sums);
    if (rows > 2 * kernels.tile_rows && kernels.i16_tile != nullptr) {
      Int16Panel(rows, b, sums, s);
    } else {
      for (int64_t r = 0; r < rows; r += kernels.tile_rows)
        kernels.i8_tile(s.rows + r * row_bytes, row_bytes, TileRows(rows - r), b, w.group, w.in, sums + r * kPanel);
    }
    kernels.dequantize(sums, static_cast<int>(rows), s.row_scales, reinterpret_cast<const float*>(b + scales_at),
                       s.sums);
    Finish(s.sums, row, rows, panel);
  }

  void Int16Panel(int64_t rows, const std::byte* b, int32_t* sums, const Areas& s) const {
    constexpr int64_t kSlice16 = 2 * kSlice;
    auto* tile = reinterpret_cast<int16_t*>(s.tile);
    const auto* a = reinterpret_cast<const int16_t*>(s.rows);
    for (int64_t k = 0; k < w.in; k += kSlice16) {
      const int64_t slice = std::min(kSlice16, w.in - k);
      kernels.widen_i8(b + k * kPanel, slice, tile);
      for (int64_t r = 0; r < rows; r += kernels.tile_rows)
        kernels.i16_tile(a + r * (row_bytes / 2) + k, row_bytes / 2, TileRows(rows - r), OnePanel<int16_t>(tile), slice,
                         sums + r * kPanel, kPanel, k != 0);
    }
  }

  int TileRows(int64_t left) const { return static_cast<int>(std::min<int64_t>(kernels.tile_rows, left)); }
};

void CpuBackend::Linear(View x, const WeightView& w, View bias, View out, Into into) {
  CHECK(x.dtype == DType::kF32 && out.dtype == DType::kF32 && x.cols == w.in && out.cols == w.out &&
        x.rows == out.rows);
  CHECK(bias.data == nullptr || (bias.dtype == DType::kF32 && bias.rows == 1 && bias.cols == w.out));
  const PanelFormat format = FormatOf(w);
  CHECK(isa_ == Isa::kPortable || w.blocks != nullptr || w.planes || format == FormatFor(w.dtype, isa_));
  const std::optional<Planes> planes = w.planes ? std::optional<Planes>(w.data) : std::nullopt;
  const BlockProduct product = w.blocks != nullptr ? kernels_.block_product(w.blocks->name) : nullptr;
  const bool int8 = w.dtype == DType::kI8,
             quantized = int8 || product != nullptr || (planes && planes->header().raw_bits == 0 && !w.exact);
  const int64_t padded = static_cast<int64_t>(RoundUp(static_cast<uint64_t>(w.in), 16));
  const int64_t row_bytes =
      int8 ? padded * kernels_.activation_bytes : (w.in + 31) / 32 * static_cast<int64_t>(sizeof(BlockInputs));
  const LinearCall call{
      kernels_,
      x,
      w,
      product,
      w.blocks != nullptr && product == nullptr ? DecoderOf(*w.blocks) : nullptr,
      bias.data != nullptr ? bias.F32() : nullptr,
      out,
      into,
      planes ? planes->header().bytes / static_cast<uint64_t>(planes->panels()) : PanelStride(format, w.in),
      int8 ? ScalesOffset(format, w.in) : 0,
      row_bytes,
      planes ? &*planes : nullptr,
      isa_};
  static_assert(sizeof(BlockInputs) <= 64);  // LinearBytes has two bytes for an activation
  CHECK(w.blocks == nullptr || w.in % w.blocks->block == 0);
  if (quantized) CHECK(w.in <= need_.in && w.in <= 131072);  // 127 * 127 * 131,072 < 2^31
  if (x.rows == 0 || w.out == 0) return;

  const int64_t panels = (w.out + kPanel - 1) / kPanel;
  const int64_t block = BlockRows(quantized ? row_bytes : w.in * 4, kernels_.tile_rows);
  const int64_t blocks = (x.rows + block - 1) / block;
  // A step reads pieces of at least 32 KiB of weights; a long input is cut into groups of 8 panels, 128 channels.
  const int64_t per_group =
      x.rows > kernels_.tile_rows ? 8 : std::max<int64_t>(1, (32 << 10) / static_cast<int64_t>(call.stride + 1));
  const int64_t groups = (panels + per_group - 1) / per_group;
  if (quantized)
    for (int t = 0; t < threads_->count(); ++t) *Cut(Lane(t)).block = -1;
  threads_->For(blocks * groups, 1, [&](int64_t begin, int64_t end, int thread) {
    const Areas s = Cut(Lane(thread));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / groups * block, rows = std::min(block, x.rows - row);
      const int64_t first = task % groups * per_group, last = std::min(panels, first + per_group);
      if (quantized && *s.block != row) {
        call.QuantizeRows(row, rows, s);
        *s.block = row;
      }
      if (!quantized && rows == 1 && w.blocks == nullptr && !planes) {
        call.FloatRow(row, first, last, s);
        continue;
      }
      for (int64_t p = first; p < last; ++p) {
        if (planes)
          call.PlanePanelOf(row, rows, p, s);
        else if (product != nullptr)
          call.BlockPanel(row, rows, p, s);
        else
          int8 ? call.Int8Panel(row, rows, p, s) : call.FloatPanel(row, rows, p, s);
      }
    }
  });
}

}  // namespace sotto::cpu
