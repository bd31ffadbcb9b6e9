// Products of weights in blocks of GGUF types with quantized activations. Compiled once an instruction set, which brings the
// integer sums; all else is here, in one order of operations, so that every instruction set gives the same bits:
//
//   y = sum over blocks of 32 inputs of (d * I) * scale - (dmin * min) * sum
//   I = exact integer: sum of (weight code - offset) * (activation code), times the integer scale of its group of 16 or 32
//
// A panel's 32 inputs are unpacked once, to bytes [8][16 channels][4 inputs], for all rows that pass by.
#pragma once
#include "codec/block_panel.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/tile_inl.h"
#include "ops/cpu/vec.h"

namespace sotto::cpu {
namespace {

typedef uint32_t U __attribute__((vector_size(4 * kLanes)));
typedef uint32_t UnalignedU __attribute__((vector_size(4 * kLanes), aligned(1), may_alias));

// 32 inputs of a panel's 16 channels.
struct Wide {
  const uint8_t* codes;  // [8][16][4]: `unpacked`, or in the panel itself
  alignas(64) uint8_t unpacked[8 * 64];
  alignas(64) int32_t scale[2][16];  // integer scales of inputs 0 … 15 and 16 … 31; only the first where they are one
  alignas(64) float d[16], min[16];  // min: times dmin
  // Of the whole block, for the K types: scales and mins of groups 0 … 3 and 4 … 7, a byte each.
  alignas(64) uint32_t scales[2][16], mins[2][16];
  alignas(64) float dmin[16];
};

// What a type's integers are. Sums of `steps` x 2 products of a code with +-127 fit 16 bits.
struct BlockShape {
  std::string_view type;
  int inputs;  // of a block
  int steps;   // 0: codes are signed
  int scales;  // integer scales for 32 inputs: 0, 1 or 2
  int offset;  // that codes are above their values
  bool has_min;
};

inline U LoadU(const uint8_t* p) { return *reinterpret_cast<const UnalignedU*>(p); }

// f(bytes of a vector) for `count` rows of 64 bytes.
template <class Function>
inline void Unpack(int count, const Function& f, uint8_t* out) {
  for (int i = 0; i < count * 64; i += 4 * kLanes) *reinterpret_cast<UnalignedU*>(out + i) = f(i);
}

inline void LoadHalves(const uint8_t* from, float* to) {
  for (int i = 0; i < 16; i += kLanes) Store(to + i, LoadHalf(reinterpret_cast<const uint16_t*>(from + 2 * i)));
}

// Offsets are those of codec/block_panel.h: 16 times what they are in a block.
struct Q40Kind {
  static constexpr BlockShape kShape{"Q4_0", 32, 8, 0, 8, false};
  static void Open(const uint8_t* piece, Wide& w) { LoadHalves(piece, w.d); }
  static void Load(const uint8_t* piece, int, Wide& w) {
    Unpack(
        4, [q = piece + 32](int i) { return LoadU(q + i) & 0x0F0F0F0F; }, w.unpacked);
    Unpack(
        4, [q = piece + 32](int i) { return LoadU(q + i) >> 4 & 0x0F0F0F0F; }, w.unpacked + 256);
  }
};

struct Q80Kind {
  static constexpr BlockShape kShape{"Q8_0", 32, 0, 0, 0, false};
  static void Open(const uint8_t* piece, Wide& w) { LoadHalves(piece, w.d); }
  static void Load(const uint8_t* piece, int, Wide& w) { w.codes = piece + 32; }
};

// Scales and mins as in UnpackScaleMin of codec/ggml_layout.h, four groups of a channel in a word.
inline void OpenK(const uint8_t* piece, Wide& w) {
  LoadHalves(piece, w.d);
  LoadHalves(piece + 32, w.dmin);
  const uint8_t* packed = piece + 64;
  for (int c = 0; c < 16; c += kLanes) {
    const U a = LoadU(packed + 4 * c), b = LoadU(packed + 64 + 4 * c), last = LoadU(packed + 128 + 4 * c);
    const U parts[] = {a & 0x3F3F3F3F, (last & 0x0F0F0F0F) | (a >> 6 & 0x03030303) << 4, b & 0x3F3F3F3F,
                       (last >> 4 & 0x0F0F0F0F) | (b >> 6 & 0x03030303) << 4};
    for (int i = 0; i < 2; ++i) {
      std::memcpy(w.scales[i] + c, &parts[i], sizeof(U));
      std::memcpy(w.mins[i] + c, &parts[2 + i], sizeof(U));
    }
  }
}
inline void LoadK(int g, Wide& w) {
  for (int c = 0; c < 16; ++c) {
    w.scale[0][c] = static_cast<int32_t>(w.scales[g / 4][c] >> g % 4 * 8 & 255);
    w.min[c] = static_cast<float>(static_cast<int32_t>(w.mins[g / 4][c] >> g % 4 * 8 & 255)) * w.dmin[c];
  }
}

struct Q4KKind {
  static constexpr BlockShape kShape{"Q4_K", 256, 8, 1, 0, true};
  static void Open(const uint8_t* piece, Wide& w) { OpenK(piece, w); }
  static void Load(const uint8_t* piece, int g, Wide& w) {
    LoadK(g, w);
    const int shift = g % 2 * 4;
    Unpack(
        8, [q = piece + 256 + g / 2 * 512, shift](int i) { return LoadU(q + i) >> shift & 0x0F0F0F0F; }, w.unpacked);
  }
};

struct Q5KKind {
  static constexpr BlockShape kShape{"Q5_K", 256, 4, 1, 0, true};
  static void Open(const uint8_t* piece, Wide& w) { OpenK(piece, w); }
  static void Load(const uint8_t* piece, int g, Wide& w) {
    LoadK(g, w);
    const uint8_t *high = piece + 256, *q = piece + 768 + g / 2 * 512;
    const int shift = g % 2 * 4;
    Unpack(
        8, [=](int i) { return (LoadU(q + i) >> shift & 0x0F0F0F0F) | (LoadU(high + i) >> g & 0x01010101) << 4; },
        w.unpacked);
  }
};

struct Q6KKind {
  static constexpr BlockShape kShape{"Q6_K", 256, 2, 2, 32, false};
  static void Open(const uint8_t* piece, Wide& w) { LoadHalves(piece + 3328, w.d); }
  static void Load(const uint8_t* piece, int g, Wide& w) {
    const auto* scales = reinterpret_cast<const int8_t*>(piece + 3072 + 32 * g);
    for (int c = 0; c < 16; ++c)
      for (int i = 0; i < 2; ++i) w.scale[i][c] = scales[2 * c + i];
    const uint8_t *q = piece + g / 4 * 1024 + g % 2 * 512, *high = piece + 2048 + g / 4 * 512;
    const int shift = g % 4 / 2 * 4, high_shift = g % 4 * 2;
    Unpack(
        8,
        [=](int i) { return (LoadU(q + i) >> shift & 0x0F0F0F0F) | (LoadU(high + i) >> high_shift & 0x03030303) << 4; },
        w.unpacked);
  }
};

// Integer sums of kLanes channels, the v-th such, by a dot product of four bytes: Dot::Add(sums, codes, activations). Where it
// takes unsigned codes, signed ones get 128 more.
template <class Kind, class Dot>
struct DotSums {
  static constexpr BlockShape kShape = Kind::kShape;
  static constexpr int kOffset = kShape.steps == 0 && Dot::kUnsigned ? 128 : kShape.offset;
  I codes[8], scale[2];
  DotSums(const Wide& w, int v) {
    for (int j = 0; j < 8; ++j) {
      std::memcpy(&codes[j], w.codes + 64 * j + v * 4 * kLanes, sizeof(I));
      if (kShape.steps == 0 && Dot::kUnsigned) codes[j] ^= static_cast<int32_t>(0x80808080);
    }
    for (int i = 0; i < kShape.scales; ++i) std::memcpy(&scale[i], w.scale[i] + v * kLanes, sizeof(I));
  }
  I Of(const BlockInputs& x) const {
    I sum[2] = {};
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      int32_t four;
      std::memcpy(&four, x.codes + 4 * j, 4);
      sum[j / 4] = Dot::Add(sum[j / 4], codes[j], four);
    }
    for (int i = 0; kOffset != 0 && i < 2; ++i) sum[i] -= kOffset * x.sums[i];
    if constexpr (kShape.scales == 2) return sum[0] * scale[0] + sum[1] * scale[1];
    if constexpr (kShape.scales == 1) return (sum[0] + sum[1]) * scale[0];
    return sum[0] + sum[1];
  }
};

template <class Kind, template <class> class Sums>
void BlockProductOf(const std::byte* panel, int64_t k, const BlockInputs* x, int m, float* acc) {
  constexpr BlockShape shape = Kind::kShape;
  constexpr int64_t bytes = int64_t{kPanel} * FindGgmlType(shape.type)->bytes;
  std::memset(acc, 0, static_cast<size_t>(m) * kPanel * sizeof(float));
  Wide w;
  w.codes = w.unpacked;
  const auto* piece = reinterpret_cast<const uint8_t*>(panel);
  for (int64_t at = 0; at < k; at += shape.inputs, piece += bytes) {
    Kind::Open(piece, w);
    for (int g = 0; g < shape.inputs / 32; ++g, x += m) {
      Kind::Load(piece, g, w);
      for (int v = 0; v < kVecs; ++v) {
        const Sums<Kind> sums(w, v);
        const F d = Load(w.d + v * kLanes), min = Load(w.min + v * kLanes);
        float* to = acc + v * kLanes;
        for (int r = 0; r < m; ++r, to += kPanel) {
          F y = Load(to) + __builtin_convertvector(sums.Of(x[r]), F) * d * Set(x[r].scale);
          if constexpr (shape.has_min) y = y - min * Set(x[r].sum);
          Store(to, y);
        }
      }
    }
  }
}

template <template <class> class Sums>
BlockProduct FindBlockProduct(std::string_view type) {
  struct Entry {
    std::string_view type;
    BlockProduct product;
  };
  constexpr Entry kProducts[] = {{"Q4_0", BlockProductOf<Q40Kind, Sums>},
                                 {"Q8_0", BlockProductOf<Q80Kind, Sums>},
                                 {"Q4_K", BlockProductOf<Q4KKind, Sums>},
                                 {"Q5_K", BlockProductOf<Q5KKind, Sums>},
                                 {"Q6_K", BlockProductOf<Q6KKind, Sums>}};
  for (const Entry& e : kProducts)
    if (e.type == type) return e.product;
  return nullptr;
}

// Quantizes a row by 32: block b to out[b * stride].
void QuantizeBlocks(const float* x, int64_t k, BlockInputs* out, int64_t stride) {
  for (int64_t i = 0; i < k; i += 32, out += stride) {
    out->scale = QuantizeTo<int8_t, 0>(x + i, 32, 32, reinterpret_cast<std::byte*>(out->codes));
    for (int h = 0; h < 2; ++h) {
      int32_t sum = 0;
      for (int j = 0; j < 16; ++j) sum += out->codes[16 * h + j];
      out->sums[h] = static_cast<int16_t>(sum);
    }
    out->sum = static_cast<float>(out->sums[0] + out->sums[1]) * out->scale;
  }
}

}  // namespace
}  // namespace sotto::cpu
