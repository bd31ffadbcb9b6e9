// Products of weights in blocks of GGUF types with quantized activations. Compiled once an instruction set, which brings the
// integer sums; all else is here, in one order of operations, so that every instruction set gives the same bits:
//
//   y = sum over blocks of 32 inputs of (d * I) * scale - (dmin * min) * sum
//   I = exact integer: sum of (weight code - offset) * (activation code), times the integer scale of its group of 16 or 32
//
// 32 inputs of a panel are unpacked once, in registers, for all rows that pass by.
#pragma once
#include <utility>

#include "codec/block_panel.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/tile_inl.h"
#include "ops/cpu/vec.h"

namespace sotto::cpu {
namespace {

typedef uint32_t U __attribute__((vector_size(4 * kLanes)));
typedef uint32_t UnalignedU __attribute__((vector_size(4 * kLanes), aligned(1), may_alias));
inline U LoadU(const uint8_t* p) { return *reinterpret_cast<const UnalignedU*>(p); }
inline F LoadHalves(const uint8_t* p) { return LoadHalf(reinterpret_cast<const uint16_t*>(p)); }

// What a type's integers are. Sums of `steps` x 2 products of a code with +-127 fit 16 bits.
struct BlockShape {
  std::string_view type;
  int inputs;  // of a block
  int steps;   // 0: codes are signed
  int scales;  // integer scales for 32 inputs: 0, 1 or 2
  int offset;  // that codes are above their values
  bool has_min;
};

// 32 inputs of kLanes channels: a vector has four inputs of each channel.
struct Codes {
  U of[8];
  I scale[2];  // of inputs 0 … 15 and 16 … 31; only the first where they are one
  F min;       // times dmin
};

// One struct a type: made from the piece of a panel that begins with the block of the first of kLanes channels (`channel`);
// Group<g> are its inputs 32 g … 32 g + 31. Offsets are those of codec/block_panel.h: 16 times what they are in a block.
struct Q40Kind {
  static constexpr BlockShape kShape{"Q4_0", 32, 8, 0, 8, false};
  const uint8_t* q;
  F d;
  Q40Kind(const uint8_t* piece, int channel) : q(piece + 32 + 4 * channel), d(LoadHalves(piece + 2 * channel)) {}
  template <int g>
  Codes Group() const {
    Codes c;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const U both = LoadU(q + 64 * j);
      c.of[j] = both & 0x0F0F0F0F;
      c.of[4 + j] = both >> 4 & 0x0F0F0F0F;
    }
    return c;
  }
};

struct Q41Kind {
  static constexpr BlockShape kShape{"Q4_1", 32, 8, 0, 0, true};
  Q40Kind nibbles;  // two bytes a channel further on
  F d, m;
  Q41Kind(const uint8_t* piece, int channel)
      : nibbles(piece + 32, channel), d(LoadHalves(piece + 2 * channel)), m(LoadHalves(piece + 32 + 2 * channel)) {}
  template <int g>
  Codes Group() const {
    Codes c = nibbles.Group<g>();
    c.min = -m;
    return c;
  }
};

// Adds the fifth bits, of which a channel has a word, to nibbles: four bits spread to four bytes by a product.
inline void AddFifthBits(U high, Codes* c) {
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) c->of[j] |= ((high >> 4 * j & 15) * 0x00204081 & 0x01010101) << 4;
}

struct Q50Kind {
  static constexpr BlockShape kShape{"Q5_0", 32, 4, 0, 16, false};
  Q40Kind nibbles;  // four bytes a channel further on
  U high;
  F d;
  Q50Kind(const uint8_t* piece, int channel)
      : nibbles(piece + 64, channel), high(LoadU(piece + 32 + 4 * channel)), d(LoadHalves(piece + 2 * channel)) {}
  template <int g>
  Codes Group() const {
    Codes c = nibbles.Group<g>();
    AddFifthBits(high, &c);
    return c;
  }
};

struct Q51Kind {
  static constexpr BlockShape kShape{"Q5_1", 32, 4, 0, 0, true};
  Q41Kind nibbles;  // four bytes a channel further on, but for d and m
  U high;
  F d;
  Q51Kind(const uint8_t* piece, int channel)
      : nibbles(piece, channel), high(LoadU(piece + 64 + 4 * channel)), d(nibbles.d) {
    nibbles.nibbles.q += 64;
  }
  template <int g>
  Codes Group() const {
    Codes c = nibbles.Group<g>();
    AddFifthBits(high, &c);
    return c;
  }
};

struct Q80Kind {
  static constexpr BlockShape kShape{"Q8_0", 32, 0, 0, 0, false};
  const uint8_t* q;
  F d;
  Q80Kind(const uint8_t* piece, int channel) : q(piece + 32 + 4 * channel), d(LoadHalves(piece + 2 * channel)) {}
  template <int g>
  Codes Group() const {
    Codes c;
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) c.of[j] = LoadU(q + 64 * j);
    return c;
  }
};

// Scales and mins as in UnpackScaleMin of codec/ggml_layout.h; groups 0 … 3 and 4 … 7 of a channel are the bytes of two words.
struct KScales {
  F d, dmin;
  U scales[2], mins[2];
  KScales(const uint8_t* piece, int channel)
      : d(LoadHalves(piece + 2 * channel)), dmin(LoadHalves(piece + 32 + 2 * channel)) {
    const uint8_t* packed = piece + 64 + 4 * channel;
    const U a = LoadU(packed), b = LoadU(packed + 64), last = LoadU(packed + 128);
    scales[0] = a & 0x3F3F3F3F, mins[0] = b & 0x3F3F3F3F;
    scales[1] = (last & 0x0F0F0F0F) | (a >> 2 & 0x30303030);
    mins[1] = (last >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030);
  }
  template <int g>
  Codes Group() const {
    Codes c;
    c.scale[0] = reinterpret_cast<I>(scales[g / 4] >> g % 4 * 8 & 255);
    c.min = __builtin_convertvector(reinterpret_cast<I>(mins[g / 4] >> g % 4 * 8 & 255), F) * dmin;
    return c;
  }
};

// The bits of x that begin at bit `from` of each byte, put at bit `to`.
template <int from, int to>
inline U Moved(U x, uint32_t mask) {
  if constexpr (from < to) return x << (to - from) & mask;
  return x >> (from - to) & mask;
}

struct Q4KKind : KScales {
  static constexpr BlockShape kShape{"Q4_K", 256, 8, 1, 0, true};
  const uint8_t* q;
  Q4KKind(const uint8_t* piece, int channel) : KScales(piece, channel), q(piece + 256 + 4 * channel) {}
  template <int g>
  Codes Group() const {
    Codes c = KScales::Group<g>();
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) c.of[j] = Moved<g % 2 * 4, 0>(LoadU(q + g / 2 * 512 + 64 * j), 0x0F0F0F0F);
    return c;
  }
};

struct Q5KKind : KScales {
  static constexpr BlockShape kShape{"Q5_K", 256, 4, 1, 0, true};
  const uint8_t *high, *q;
  Q5KKind(const uint8_t* piece, int channel)
      : KScales(piece, channel), high(piece + 256 + 4 * channel), q(piece + 768 + 4 * channel) {}
  template <int g>
  Codes Group() const {
    Codes c = KScales::Group<g>();
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j)
      c.of[j] = Moved<g % 2 * 4, 0>(LoadU(q + g / 2 * 512 + 64 * j), 0x0F0F0F0F) |
                Moved<g, 4>(LoadU(high + 64 * j), 0x10101010);
    return c;
  }
};

struct Q6KKind {
  static constexpr BlockShape kShape{"Q6_K", 256, 2, 2, 32, false};
  const uint8_t *q, *high, *scales;
  F d;
  Q6KKind(const uint8_t* piece, int channel)
      : q(piece + 4 * channel),
        high(piece + 2048 + 4 * channel),
        scales(piece + 3072 + 2 * channel),
        d(LoadHalves(piece + 3328 + 2 * channel)) {}
  template <int g>
  Codes Group() const {
    Codes c;
    typedef int16_t Short __attribute__((vector_size(2 * kLanes)));
    Short pairs;  // two bytes a channel
    std::memcpy(&pairs, scales + 32 * g, sizeof pairs);
    const I words = __builtin_convertvector(pairs, I);
    c.scale[0] = words << 24 >> 24;
    c.scale[1] = words >> 8;
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j)
      c.of[j] = Moved<g % 4 / 2 * 4, 0>(LoadU(q + g / 4 * 1024 + g % 2 * 512 + 64 * j), 0x0F0F0F0F) |
                Moved<g % 4 * 2, 4>(LoadU(high + g / 4 * 512 + 64 * j), 0x30303030);
    return c;
  }
};

// Integer sums by a dot product of four bytes: Dot::Add(sums, codes, activations). Where it takes unsigned codes, signed ones
// get 128 more.
template <class Kind, class Dot>
struct DotSums {
  static constexpr BlockShape kShape = Kind::kShape;
  static constexpr int kOffset = kShape.steps == 0 && Dot::kUnsigned ? 128 : kShape.offset;
  I codes[8], scale[2];
  explicit DotSums(const Codes& c) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j)
      codes[j] = reinterpret_cast<I>(kShape.steps == 0 && Dot::kUnsigned ? c.of[j] ^ 0x80808080 : c.of[j]);
    for (int i = 0; i < kShape.scales; ++i) scale[i] = c.scale[i];
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

// Group<g> of a kind, times the 32 inputs of a row that are its own.
template <class Kind, template <class> class Sums, int g>
struct GroupSums {
  Codes codes;
  Sums<Kind> sums;
  F d;
  explicit GroupSums(const Kind& kind) : codes(kind.template Group<g>()), sums(codes), d(kind.d) {}
  F AddTo(F y, const BlockInputs& x) const {
    y = y + __builtin_convertvector(sums.Of(x), F) * d * Set(x.scale);
    if constexpr (Kind::kShape.has_min) y = y - codes.min * Set(x.sum);
    return y;
  }
  void AddTo(float* acc, const BlockInputs* x, int m) const {
    for (int r = 0; r < m; ++r, acc += kPanel) Store(acc, AddTo(Load(acc), x[r]));
  }
};

// All groups of a piece, x[group][m]. One row's sum stays in its register; its weights come from memory, in an order that hides
// the stream from the CPU, so each group asks for its share of `ahead`.
template <class Kind, template <class> class Sums, bool kOne, int... g>
inline __attribute__((always_inline)) void AddGroups(const Kind& kind, const uint8_t* ahead, const BlockInputs* x,
                                                     int m, float* acc, std::integer_sequence<int, g...>) {
  if constexpr (kOne) {
    constexpr int64_t kShare = kPanel * FindGgmlType(Kind::kShape.type)->bytes / kVecs / sizeof...(g);
    const auto fetch = [](const uint8_t* from) __attribute__((always_inline)) {
      for (int64_t i = 0; i < kShare; i += 64) __builtin_prefetch(from + i);
    };
    F y = Load(acc);
    ((fetch(ahead + g * kShare), y = GroupSums<Kind, Sums, g>(kind).AddTo(y, x[g])), ...);
    Store(acc, y);
  } else {
    (GroupSums<Kind, Sums, g>(kind).AddTo(acc, x + int64_t{g} * m, m), ...);
  }
}

template <class Kind, template <class> class Sums, bool kOne>
void AddPieces(const uint8_t* piece, int64_t k, const BlockInputs* x, int m, float* acc) {
  constexpr int kGroups = Kind::kShape.inputs / 32;
  constexpr int64_t kBytes = kPanel * FindGgmlType(Kind::kShape.type)->bytes, kAhead = kBytes > 2048 ? kBytes : 2048;
  for (int64_t at = 0; at < k; at += 32 * kGroups, piece += kBytes, x += int64_t{kGroups} * m)
    for (int v = 0; v < kVecs; ++v)
      AddGroups<Kind, Sums, kOne>(Kind(piece, v * kLanes), piece + kAhead + v * kBytes / kVecs, x, m, acc + v * kLanes,
                                  std::make_integer_sequence<int, kGroups>());
}

template <class Kind, template <class> class Sums>
void BlockProductOf(const std::byte* panel, int64_t k, const BlockInputs* x, int m, float* acc) {
  std::memset(acc, 0, static_cast<size_t>(m) * kPanel * sizeof(float));
  (m == 1 ? AddPieces<Kind, Sums, true> : AddPieces<Kind, Sums, false>)(reinterpret_cast<const uint8_t*>(panel), k, x,
                                                                        m, acc);
}

template <template <class> class Sums>
BlockProduct FindBlockProduct(std::string_view type) {
  struct Entry {
    std::string_view type;
    BlockProduct product;
  };
  constexpr Entry kProducts[] = {{"Q4_0", BlockProductOf<Q40Kind, Sums>}, {"Q4_1", BlockProductOf<Q41Kind, Sums>},
                                 {"Q5_0", BlockProductOf<Q50Kind, Sums>}, {"Q5_1", BlockProductOf<Q51Kind, Sums>},
                                 {"Q8_0", BlockProductOf<Q80Kind, Sums>}, {"Q4_K", BlockProductOf<Q4KKind, Sums>},
                                 {"Q5_K", BlockProductOf<Q5KKind, Sums>}, {"Q6_K", BlockProductOf<Q6KKind, Sums>}};
  for (const Entry& e : kProducts)
    if (e.type == type) return e.product;
  return nullptr;
}

inline void SumCodes(BlockInputs* x) {
  for (int h = 0; h < 2; ++h) {
    int32_t sum = 0;
    for (int j = 0; j < 16; ++j) sum += x->codes[16 * h + j];
    x->sums[h] = static_cast<int16_t>(sum);
  }
}

// Quantizes a row by 32: block b to out[b * stride]. Codes behind k are 0.
void QuantizeBlocks(const float* x, int64_t k, BlockInputs* out, int64_t stride) {
  for (int64_t i = 0; i < k; i += 32, out += stride) {
    out->scale = QuantizeTo<int8_t, 0>(x + i, k - i < 32 ? k - i : 32, 32, reinterpret_cast<std::byte*>(out->codes));
    SumCodes(out);
    out->sum = static_cast<float>(out->sums[0] + out->sums[1]) * out->scale;
  }
}

}  // namespace
}  // namespace sotto::cpu
