// Rows: normalization, the parts of attention, and what a sampler asks. Compiled once an instruction set.
#pragma once
#include "codec/panel.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/vec.h"
#if defined(__AVX2__)
#include "codec/transpose_avx2.h"
#endif

namespace sotto::cpu {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();

// The last, partial vector of a row: kLanes floats from x, `fill` from n on.
inline F LoadPart(const float* x, int64_t n, float fill) {
  float edge[kLanes];
  for (float& e : edge) e = fill;
  std::memcpy(edge, x, static_cast<size_t>(n) * 4);
  return Load(edge);
}
inline void StorePart(float* x, int64_t n, F v) {
  float edge[kLanes];
  Store(edge, v);
  std::memcpy(x, edge, static_cast<size_t>(n) * 4);
}

// The sum of f(vector) over a row; what lies behind the end counts as f(fill).
template <class Function>
inline float SumOver(const float* x, int64_t n, float fill, const Function& f) {
  F sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int j = 0; j < 4; ++j) sum[j] += f(Load(x + i + j * kLanes));
  for (; i + kLanes <= n; i += kLanes) sum[0] += f(Load(x + i));
  if (i < n) sum[1] += f(LoadPart(x + i, n - i, fill));
  return Sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

void LayerNorm(const float* x, const float* gain, const float* bias, int64_t n, float eps, float* out) {
  const float mean = SumOver(x, n, 0.0f, [](F v) { return v; }) / static_cast<float>(n);
  const F m = Set(mean);
  const float squares = SumOver(x, n, mean, [&](F v) { return (v - m) * (v - m); });
  const float inverse = 1.0f / __builtin_sqrtf(squares / static_cast<float>(n) + eps);
  const F s = Set(inverse);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(out + i, Fma((Load(x + i) - m) * s, Load(gain + i), Load(bias + i)));
  if (i < n) {
    const int64_t left = n - i;
    const F scaled = (LoadPart(x + i, left, 0) - m) * s;
    StorePart(out + i, left, Fma(scaled, LoadPart(gain + i, left, 0), LoadPart(bias + i, left, 0)));
  }
}

void RmsNorm(const float* x, const float* gain, int64_t n, float eps, float* out) {
  const float squares = SumOver(x, n, 0.0f, [](F v) { return v * v; });
  const float inverse = 1.0f / __builtin_sqrtf(squares / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * inverse * gain[i];
}

void Rotate(float* x, const float* angles, int64_t half) {
  const float* sines = angles + half;
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * angles[i] - b * sines[i];
    x[i + half] = b * angles[i] + a * sines[i];
  }
}

inline F Silu(F x) { return x / (Set(1.0f) + Exp(F{} - x)); }

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(out + i, Silu(Load(gate + i)) * Load(up + i));
  if (i < n) StorePart(out + i, n - i, Silu(LoadPart(gate + i, n - i, 0)) * LoadPart(up + i, n - i, 0));
}

void Add(const float* a, const float* b, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] + b[i];
}

void Scale(const float* x, int64_t n, float factor, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * factor;
}

float MaxOf(const float* x, int64_t n) {
  F best[4];
  for (F& b : best) b = Set(kMinusInfinity);
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int j = 0; j < 4; ++j) best[j] = Max(Load(x + i + j * kLanes), best[j]);
  for (; i + kLanes <= n; i += kLanes) best[0] = Max(Load(x + i), best[0]);
  if (i < n) best[1] = Max(LoadPart(x + i, n - i, kMinusInfinity), best[1]);
  return Highest(Max(Max(best[0], best[1]), Max(best[2], best[3])));
}

int64_t ArgMax(const float* x, int64_t n) {
  const float best = MaxOf(x, n);
  for (int64_t i = 0; i < n; ++i)
    if (x[i] == best) return i;
  return 0;
}

double SumExp(const float* x, int64_t n, float shift) {
  const F s = Set(shift);
  double total = 0;  // by blocks: 50,000 terms in one float chain would lose digits
  for (int64_t at = 0; at < n; at += 4096) {
    const int64_t end = n - at < 4096 ? n : at + 4096;
    F sum[4] = {};
    int64_t i = at;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      F e[4];
      for (int j = 0; j < 4; ++j) e[j] = Load(x + i + j * kLanes) - s;
      Exp(e);
      for (int j = 0; j < 4; ++j) sum[j] += e[j];
    }
    for (; i + kLanes <= end; i += kLanes) sum[0] += Exp(Load(x + i) - s);
    if (i < end) sum[1] += Exp(LoadPart(x + i, end - i, kMinusInfinity) - s);
    total += Sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
  }
  return total;
}

void ExpShifted(const float* x, int64_t n, float shift, float* out) {
  const F s = Set(shift);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(out + i, Exp(Load(x + i) - s));
  if (i < n) StorePart(out + i, n - i, Exp(LoadPart(x + i, n - i, kMinusInfinity) - s));
}

float Soften(float* s, int64_t n, float* peak, float* sum) {
  const float before = *peak, high = MaxOf(s, n);
  const float now = high > before ? high : before;
  const F shift = Set(now);
  F totals[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    F e[4];
    for (int j = 0; j < 4; ++j) e[j] = Load(s + i + j * kLanes) - shift;
    Exp(e);
    for (int j = 0; j < 4; ++j) {
      Store(s + i + j * kLanes, e[j]);
      totals[j] += e[j];
    }
  }
  for (; i + kLanes <= n; i += kLanes) {
    const F e = Exp(Load(s + i) - shift);
    Store(s + i, e);
    totals[0] += e;
  }
  if (i < n) {
    const F e = Exp(LoadPart(s + i, n - i, kMinusInfinity) - shift);
    StorePart(s + i, n - i, e);
    totals[1] += e;
  }
  float lanes[kLanes];
  Store(lanes, Exp(Set(before - now)));  // 0 at the first step, when before is -inf
  *peak = now;
  *sum = *sum * lanes[0] + Sum((totals[0] + totals[1]) + (totals[2] + totals[3]));
  return lanes[0];
}

// A square: out[i][j] = in[j * stride + i].
#if defined(__AVX2__)
constexpr int kSquare = 8;
inline void Transpose(const float* in, int64_t stride, float* out, int64_t out_stride) {
  __m256i r[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i * stride));
  Transpose8(r);
  for (int i = 0; i < 8; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i * out_stride), r[i]);
}
#else
constexpr int kSquare = 4;
inline void Transpose(const float* in, int64_t stride, float* out, int64_t out_stride) {
  for (int i = 0; i < kSquare; ++i)
    for (int j = 0; j < kSquare; ++j) out[i * out_stride + j] = in[j * stride + i];
}
#endif

void PackKeys(const float* keys, int64_t stride, int64_t n, int dim, float* out) {
  for (int64_t at = 0; at < n; at += kPanel, out += kPanel * dim) {
    const int64_t valid = n - at < kPanel ? n - at : kPanel;
    const float* from = keys + at * stride;
    int d = 0;
    if (valid == kPanel)
      for (; d + kSquare <= dim; d += kSquare)
        for (int j = 0; j < kPanel; j += kSquare)
          Transpose(from + j * stride + d, stride, out + d * kPanel + j, kPanel);
    for (; d < dim; ++d)
      for (int64_t j = 0; j < kPanel; ++j) out[d * kPanel + j] = j < valid ? from[j * stride + d] : 0.0f;
  }
}

void PackValues(const float* values, int64_t stride, int64_t n, int dim, float* out) {
  for (int d = 0; d < dim; d += kPanel) {
    const int valid = dim - d < kPanel ? dim - d : kPanel;
    for (int64_t j = 0; j < n; ++j, out += kPanel) {
      const float* from = values + j * stride + d;
      if (valid == kPanel)
        for (int v = 0; v < kVecs; ++v) Store(out + v * kLanes, Load(from + v * kLanes));
      else
        for (int c = 0; c < kPanel; ++c) out[c] = c < valid ? from[c] : 0.0f;
    }
  }
}

template <class From>
void DotsOf(const float* q, const typename From::Type* keys, int64_t n, int dim, float scale, float* scores) {
  constexpr int kAtOnce = 4;
  const int whole = dim / kLanes * kLanes;
  const auto finish = [&](const typename From::Type* key, F sum) {
    float total = Sum(sum);
    for (int d = whole; d < dim; ++d) total += q[d] * From::One(key[d]);
    return total * scale;
  };
  int64_t j = 0;
  for (; j + kAtOnce <= n; j += kAtOnce, keys += kAtOnce * dim) {
    F sum[kAtOnce] = {};
    for (int d = 0; d < whole; d += kLanes) {
      const F x = Load(q + d);
#pragma GCC unroll 4
      for (int i = 0; i < kAtOnce; ++i) sum[i] = Fma(x, From::Load(keys + i * dim + d), sum[i]);
    }
    for (int i = 0; i < kAtOnce; ++i) scores[j + i] = finish(keys + i * dim, sum[i]);
  }
  for (; j < n; ++j, keys += dim) {
    F sum = {};
    for (int d = 0; d < whole; d += kLanes) sum = Fma(Load(q + d), From::Load(keys + d), sum);
    scores[j] = finish(keys, sum);
  }
}

// Columns in blocks of up to 8 registers, so that a head of 64 is read once from front to back.
template <class From>
void MixOf(const float* p, const typename From::Type* values, int64_t n, int dim, float* out) {
  constexpr int kBlock = 8;
  int d = 0;
  for (; d + kBlock * kLanes <= dim; d += kBlock * kLanes) {
    F sum[kBlock];
    for (int b = 0; b < kBlock; ++b) sum[b] = Load(out + d + b * kLanes);
    for (int64_t j = 0; j < n; ++j) {
      const F w = Set(p[j]);
#pragma GCC unroll 8
      for (int b = 0; b < kBlock; ++b) sum[b] = Fma(w, From::Load(values + j * dim + d + b * kLanes), sum[b]);
    }
    for (int b = 0; b < kBlock; ++b) Store(out + d + b * kLanes, sum[b]);
  }
  for (; d + kLanes <= dim; d += kLanes) {
    F sum = Load(out + d);
    for (int64_t j = 0; j < n; ++j) sum = Fma(Set(p[j]), From::Load(values + j * dim + d), sum);
    Store(out + d, sum);
  }
  for (; d < dim; ++d)
    for (int64_t j = 0; j < n; ++j) out[d] += p[j] * From::One(values[j * dim + d]);
}

void Dots(const float* q, const std::byte* keys, DType dtype, int64_t n, int dim, float scale, float* scores) {
  if (dtype == DType::kF32) return DotsOf<FromF32>(q, reinterpret_cast<const float*>(keys), n, dim, scale, scores);
  const auto* halves = reinterpret_cast<const uint16_t*>(keys);
  if (dtype == DType::kF16) return DotsOf<FromF16>(q, halves, n, dim, scale, scores);
  DotsOf<FromBf16>(q, halves, n, dim, scale, scores);
}

void Mix(const float* p, const std::byte* values, DType dtype, int64_t n, int dim, float* out) {
  if (dtype == DType::kF32) return MixOf<FromF32>(p, reinterpret_cast<const float*>(values), n, dim, out);
  const auto* halves = reinterpret_cast<const uint16_t*>(values);
  if (dtype == DType::kF16) return MixOf<FromF16>(p, halves, n, dim, out);
  MixOf<FromBf16>(p, halves, n, dim, out);
}

}  // namespace
}  // namespace sotto::cpu
