// Matrix tiles in fp32, for weights in fp32, fp16 and bf16, and what happens to a finished tile. Compiled once an
// instruction set.
#pragma once
#include "codec/panel.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/vec.h"

namespace sotto::cpu {
namespace {

// One group of inputs of one panel as floats: w[input of the group][vector].
struct F32Panel {
  using Type = float;
  static constexpr int kGroup = 1;
  static void Load(const float* b, F w[1][kVecs]) {
    for (int v = 0; v < kVecs; ++v) w[0][v] = cpu::Load(b + v * kLanes);
  }
};
struct F16Panel {
  using Type = uint16_t;
  static constexpr int kGroup = 1;
  static void Load(const uint16_t* b, F w[1][kVecs]) {
    for (int v = 0; v < kVecs; ++v) w[0][v] = LoadHalf(b + v * kLanes);
  }
};
struct Bf16Panel {  // a pair of inputs is one 32-bit word, the first input in its low half
  using Type = uint16_t;
  static constexpr int kGroup = 2;
  static void Load(const uint16_t* b, F w[2][kVecs]) {
    for (int v = 0; v < kVecs; ++v) {
      I words;
      std::memcpy(&words, b + v * 2 * kLanes, sizeof words);
      w[0][v] = reinterpret_cast<F>(words << 16);
      w[1][v] = reinterpret_cast<F>(words & static_cast<int32_t>(0xFFFF0000));
    }
  }
};

// M rows x P panels of sums in registers.
template <class Panel, int M, int P>
inline __attribute__((always_inline)) void Multiply(const float* a, int64_t lda, const typename Panel::Type* const* b,
                                                    int64_t k, F (&c)[M][P][kVecs]) {
  constexpr int G = Panel::kGroup;
  const float* row[M];
#pragma GCC unroll 12
  for (int m = 0; m < M; ++m) row[m] = a + m * lda;
  int64_t i = 0;
  const auto step = [&](int inputs) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      F w[G][kVecs];
      Panel::Load(b[p] + i * 16, w);
#pragma GCC unroll 2
      for (int g = 0; g < G; ++g) {
        if (g >= inputs) break;
#pragma GCC unroll 12
        for (int m = 0; m < M; ++m) {
          const F x = Set(row[m][i + g]);
#pragma GCC unroll 4
          for (int v = 0; v < kVecs; ++v) c[m][p][v] = Fma(x, w[g][v], c[m][p][v]);
        }
      }
    }
  };
  for (; i + G <= k; i += G) step(G);
  if (i < k) step(1);
}

template <class Panel, int M>
void TileOf(const float* a, int64_t lda, Strip<typename Panel::Type> b, int64_t k, float* acc, int64_t ld, bool add) {
  for (int64_t p = 0; p < b.panels; ++p, acc += kPanel) {
    const typename Panel::Type* panel = b.data + p * b.stride;
    F c[M][1][kVecs] = {};
    if (add) {
#pragma GCC unroll 12
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) c[m][0][v] = Load(acc + m * ld + v * kLanes);
    }
    Multiply<Panel, M, 1>(a, lda, &panel, k, c);
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) Store(acc + m * ld + v * kLanes, c[m][0][v]);
  }
}

template <class Panel, int M = kTileRows>
void Tile(const float* a, int64_t lda, int m, Strip<typename Panel::Type> b, int64_t k, float* acc, int64_t ld,
          bool add) {
  if (m == M) return TileOf<Panel, M>(a, lda, b, k, acc, ld, add);
  if constexpr (M > 1) Tile<Panel, M - 1>(a, lda, m, b, k, acc, ld, add);
}

template <class Panel, int P>
void RowOf(const float* a, const std::byte* b, uint64_t stride, int64_t k, float* acc) {
  const typename Panel::Type* panels[P];
  for (int p = 0; p < P; ++p)
    panels[p] = reinterpret_cast<const typename Panel::Type*>(b + static_cast<uint64_t>(p) * stride);
  F c[1][P][kVecs] = {};
  Multiply<Panel, 1, P>(a, 0, panels, k, c);
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < kVecs; ++v) Store(acc + p * kPanel + v * kLanes, c[0][p][v]);
}

// As many panels at once as hide the latency of an addition (8 sums under way).
template <class Panel>
void Row(const float* a, const std::byte* b, uint64_t stride, int panels, int64_t k, float* acc) {
  constexpr int P = kVecs == 4 ? 2 : 4;
  for (; panels >= P; panels -= P, b += P * stride, acc += P * kPanel) RowOf<Panel, P>(a, b, stride, k, acc);
  for (; panels > 0; --panels, b += stride, acc += kPanel) RowOf<Panel, 1>(a, b, stride, k, acc);
}

template <class Panel>
void Widen(const uint16_t* b, int64_t k, float* tile) {
  for (int64_t i = 0; i < k; i += Panel::kGroup) {
    F w[Panel::kGroup][kVecs];
    Panel::Load(b + i * 16, w);
    for (int g = 0; g < Panel::kGroup && i + g < k; ++g)
      for (int v = 0; v < kVecs; ++v) Store(tile + (i + g) * 16 + v * kLanes, w[g][v]);
  }
}

void Dequantize(const int32_t* acc, int m, const float* row_scale, const float* scale, float* out) {
  for (int r = 0; r < m; ++r)
    for (int v = 0; v < kVecs; ++v) {
      I sum;
      std::memcpy(&sum, acc + r * 16 + v * kLanes, sizeof sum);
      const F factor = Set(row_scale[r]) * Load(scale + v * kLanes);
      Store(out + r * 16 + v * kLanes, __builtin_convertvector(sum, F) * factor);
    }
}

template <Into into>
void FinishRows(const float* acc, int m, int n, const F* bias, float* out, int64_t ldo) {
  for (int r = 0; r < m; ++r, acc += 16, out += ldo) {
    float edge[16];
    float* to = n == 16 ? out : edge;
    if (n != 16 && into == Into::kAdd) std::memcpy(edge, out, static_cast<size_t>(n) * 4);
    for (int v = 0; v < kVecs; ++v) {
      F y = Load(acc + v * kLanes) + bias[v];
      if constexpr (into == Into::kGelu) y = Gelu(y);
      if constexpr (into == Into::kAdd) y = y + Load(to + v * kLanes);
      Store(to + v * kLanes, y);
    }
    if (n != 16) std::memcpy(out, edge, static_cast<size_t>(n) * 4);
  }
}

void Finish(const float* acc, int m, int n, const float* bias, Into into, float* out, int64_t ldo) {
  F b[kVecs] = {};
  if (bias != nullptr) {
    float edge[16] = {};
    std::memcpy(edge, bias, static_cast<size_t>(n) * 4);
    for (int v = 0; v < kVecs; ++v) b[v] = Load(edge + v * kLanes);
  }
  switch (into) {
    case Into::kStore: return FinishRows<Into::kStore>(acc, m, n, b, out, ldo);
    case Into::kAdd: return FinishRows<Into::kAdd>(acc, m, n, b, out, ldo);
    case Into::kGelu: return FinishRows<Into::kGelu>(acc, m, n, b, out, ldo);
  }
}

struct QuantizeScale {
  float scale, inverse;
  bool zero;
};

// Of one row of activations: infinities saturate, and 127 / absmax stays finite. A NaN never enters a maximum.
inline QuantizeScale ScaleOf(const float* x, int64_t k) {
  const auto magnitude = [](F v) { return reinterpret_cast<F>(reinterpret_cast<I>(v) & 0x7FFFFFFF); };
  F peak[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= k; i += 4 * kLanes)
    for (int j = 0; j < 4; ++j) peak[j] = Max(magnitude(Load(x + i + j * kLanes)), peak[j]);
  float absmax = Highest(Max(Max(peak[0], peak[1]), Max(peak[2], peak[3])));
  for (; i < k; ++i) {
    const float a = x[i] < 0 ? -x[i] : x[i];
    absmax = a > absmax ? a : absmax;
  }
  constexpr float kLargest = 3.40282347e38f, kLeast = 1e-30f;
  absmax = absmax < kLargest ? absmax : kLargest;
  if (absmax < kLeast) return {0, 0, true};
  return {absmax / 127, 127 / absmax, false};
}

// Codes of a row as `Stored`, plus `offset`. Rounds to nearest even by adding 1.5 * 2^23; a NaN becomes 127.
template <class Stored, int offset>
void QuantizeBy(const QuantizeScale& s, const float* x, int64_t k, int64_t padded, std::byte* out) {
  auto* q = reinterpret_cast<Stored*>(out);
  const auto code = [&](F v) {
    v = s.zero ? F{} : Max(Min(v * Set(s.inverse), Set(127.0f)), Set(-127.0f));
    return reinterpret_cast<I>(v + Set(12582912.0f)) - (0x4B400000 - offset);
  };
  for (int64_t i = 0; i < padded; i += kLanes) {
    I c;
    if (i + kLanes <= k) {
      c = code(Load(x + i));
    } else {
      float edge[kLanes] = {};
      if (i < k) std::memcpy(edge, x + i, static_cast<size_t>(k - i) * 4);
      c = code(Load(edge));
    }
    typedef Stored Narrow __attribute__((vector_size(kLanes * sizeof(Stored))));
    const Narrow narrow = __builtin_convertvector(c, Narrow);
    std::memcpy(q + i, &narrow, sizeof narrow);
  }
}

// The same by the scale that fits the row, which is returned.
template <class Stored, int offset>
float QuantizeTo(const float* x, int64_t k, int64_t padded, std::byte* out) {
  const QuantizeScale s = ScaleOf(x, k);
  QuantizeBy<Stored, offset>(s, x, k, padded, out);
  return s.scale;
}

}  // namespace
}  // namespace sotto::cpu
