// F: as many floats as a register of the instruction set that this file is compiled for holds. Included only by the
// files that are compiled once an instruction set; everything is in an unnamed namespace, so that no copy of a function
// that was compiled for one instruction set can be linked into another.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "codec/half.h"

// SOTTO_SIMDE: the AVX512 kernels for a CPU without AVX512, their intrinsics taken from SIMDe (kernels_avx512_test.cc).
#if defined(__AVX512F__) || defined(SOTTO_SIMDE)
#define SOTTO_AVX512 1
#endif

namespace sotto::cpu {
namespace {

#if defined(SOTTO_AVX512)
constexpr int kLanes = 16, kTileRows = 12;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kTileRows = 6;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kTileRows = 6;
#else
constexpr int kLanes = 4, kTileRows = 2;  // 16 registers of 4 floats: 8 sums, 4 weights
#endif
constexpr int kVecs = 16 / kLanes;  // registers across a panel

typedef float F __attribute__((vector_size(4 * kLanes)));
typedef int32_t I __attribute__((vector_size(4 * kLanes)));
typedef float UnalignedF __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline F Load(const float* p) { return *reinterpret_cast<const UnalignedF*>(p); }
inline void Store(float* p, F v) { *reinterpret_cast<UnalignedF*>(p) = v; }
inline F Set(float x) { return x - F{}; }
inline F Select(I mask, F yes, F no) { return mask ? yes : no; }

// Min and Max return the second operand when the first is a NaN.
#if defined(__AVX2__)
inline float Sum8(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float Highest8(__m256 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
#endif
#if defined(SOTTO_AVX512)
inline F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F Max(F a, F b) { return _mm512_max_ps(a, b); }
inline F Min(F a, F b) { return _mm512_min_ps(a, b); }
inline __m256 Half(F v, int i) {
  __m256 h[2];
  std::memcpy(h, &v, sizeof v);
  return h[i];
}
inline F Join(__m256 low, __m256 high) {
  const __m256 h[2] = {low, high};
  F v;
  std::memcpy(&v, h, sizeof v);
  return v;
}
inline float Sum(F v) { return Sum8(_mm256_add_ps(Half(v, 0), Half(v, 1))); }
inline float Highest(F v) { return Highest8(_mm256_max_ps(Half(v, 0), Half(v, 1))); }
#elif defined(__AVX2__)
inline F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F Max(F a, F b) { return _mm256_max_ps(a, b); }
inline F Min(F a, F b) { return _mm256_min_ps(a, b); }
inline float Sum(F v) { return Sum8(v); }
inline float Highest(F v) { return Highest8(v); }
#else
#if defined(__aarch64__)
inline F Fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
#else
inline F Fma(F a, F b, F c) { return a * b + c; }
#endif
inline F Max(F a, F b) { return Select(a > b, a, b); }
inline F Min(F a, F b) { return Select(a < b, a, b); }
inline float Sum(F v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline float Highest(F v) {
  const float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
  return a > b ? a : b;
}
#endif

#if defined(__AVX2__)
inline __m256 LoadHalf8(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline __m256 LoadBf16x8(const uint16_t* p) {
  const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
#endif

// kLanes halves as floats.
inline F LoadHalf(const uint16_t* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(SOTTO_AVX512)
  return Join(LoadHalf8(p), LoadHalf8(p + 8));
#elif defined(__AVX2__)
  return LoadHalf8(p);
#elif defined(__aarch64__)
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
  // Halves are floats whose exponent is too small by 112; infinities and NaNs (exponent 143 after that) are lifted to
  // 255.
  I x = {p[0], p[1], p[2], p[3]};
  const I sign = (x & 0x8000) << 16, magnitude = (x & 0x7FFF) << 13;
  F v = reinterpret_cast<F>(magnitude) * 0x1p112f;
  const I bits = reinterpret_cast<I>(v) | ((magnitude >= (31 << 23)) & 0x7F800000);
  return reinterpret_cast<F>(bits | sign);
#endif
}
inline F LoadBf16(const uint16_t* p) {
#if defined(__AVX512F__)
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return reinterpret_cast<F>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
#elif defined(SOTTO_AVX512)
  return Join(LoadBf16x8(p), LoadBf16x8(p + 8));
#elif defined(__AVX2__)
  return LoadBf16x8(p);
#else
  const I x = {p[0], p[1], p[2], p[3]};
  return reinterpret_cast<F>(x << 16);
#endif
}

struct FromF32 {
  using Type = float;
  static F Load(const float* p) { return cpu::Load(p); }
  static float One(float v) { return v; }
};
struct FromF16 {
  using Type = uint16_t;
  static F Load(const uint16_t* p) { return LoadHalf(p); }
  static float One(uint16_t v) { return HalfToFloat(v); }
};
struct FromBf16 {
  using Type = uint16_t;
  static F Load(const uint16_t* p) { return LoadBf16(p); }
  static float One(uint16_t v) { return Bf16ToFloat(v); }
};

// exp(x) of N vectors, relative error below 2e-7; 0 below -87.33 (the least normal result), -inf included; the largest
// finite results stop at x = 88. Coefficients: Cephes expf; the power of two is added to the exponent. The vectors go
// through each step together: one after the other, their long chains of dependent instructions would fill the scheduler
// (twice the time on Zen 3).
template <int N>
inline __attribute__((always_inline)) void Exp(F (&x)[N]) {
  F r[N], p[N];
  I power[N];
#define SOTTO_EACH _Pragma("GCC unroll 8") for (int i = 0; i < N; ++i)
  SOTTO_EACH r[i] = Min(Max(x[i], Set(-87.33f)), Set(88.0f));
  SOTTO_EACH p[i] =
      Fma(r[i], Set(1.44269504088896341f), Set(12582912.0f));  // 1.5 * 2^23: the integer is in the low bits
  SOTTO_EACH power[i] = reinterpret_cast<I>(p[i]) << 23;
  SOTTO_EACH p[i] = p[i] - Set(12582912.0f);
  SOTTO_EACH r[i] = Fma(p[i], Set(-0.693359375f), r[i]);
  SOTTO_EACH r[i] = Fma(p[i], Set(2.12194440e-4f), r[i]);
  SOTTO_EACH p[i] = Fma(r[i], Set(1.9875691500e-4f), Set(1.3981999507e-3f));
  SOTTO_EACH p[i] = Fma(p[i], r[i], Set(8.3334519073e-3f));
  SOTTO_EACH p[i] = Fma(p[i], r[i], Set(4.1665795894e-2f));
  SOTTO_EACH p[i] = Fma(p[i], r[i], Set(1.6666665459e-1f));
  SOTTO_EACH p[i] = Fma(p[i], r[i], Set(5.0000001201e-1f));
  SOTTO_EACH p[i] = Fma(p[i], r[i] * r[i], r[i]);
  SOTTO_EACH power[i] = power[i] + reinterpret_cast<I>(p[i] + Set(1.0f));
  SOTTO_EACH x[i] = reinterpret_cast<F>(power[i] & (x[i] >= Set(-87.33f)));
#undef SOTTO_EACH
}

inline F Exp(F x) {
  F one[1] = {x};
  Exp(one);
  return one[0];
}

// x / 2 * (1 + erf(x / sqrt(2))) = max(x, 0) - |x| q(|x|) with q the upper tail of the normal distribution, q(a) ~
// p(a)^-16 as in Abramowitz & Stegun 7.1.28; coefficients refitted for the least error of |x| q(|x|), in fp32 5.1e-7.
// Exact zeros and exact x far out, where p^16 overflows to infinity.
inline F Gelu(F x) {
  const F a = reinterpret_cast<F>(reinterpret_cast<I>(x) & 0x7FFFFFFF);
  F p = Set(6.987957476667361e-06f);
  p = Fma(p, a, Set(3.964970528613776e-05f));
  p = Fma(p, a, Set(7.532061863457784e-05f));
  p = Fma(p, a, Set(0.0033705132082104683f));
  p = Fma(p, a, Set(0.02211371436715126f));
  p = Fma(p, a, Set(0.05206397920846939f));
  p = Fma(p, a, Set(1.0442748069763184f));
  p = p * p;
  p = p * p;
  p = p * p;
  p = p * p;
  return Max(x, Set(0.0f)) - a / p;
}

}  // namespace
}  // namespace sotto::cpu
