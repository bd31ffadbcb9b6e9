// Attention in 16-bit fixed point with AVX2: packing, the softmax of integer scores, and the way back to floats. The
// products are i16_tile's in kernels_avx2.cc.
#include <immintrin.h>

#include <cstring>

#include "codec/transpose_avx2.h"
#include "ops/cpu/kernels.h"

namespace sotto::cpu {
namespace {

__m256 Magnitude(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }

__m256 LoadPart(const float* x, int64_t n) {  // n < 8 floats, then zeros
  float edge[8] = {};
  std::memcpy(edge, x, static_cast<size_t>(n) * 4);
  return _mm256_loadu_ps(edge);
}

inline __attribute__((always_inline)) __m256 LoadUpTo(const float* x, int64_t n) {
  return n >= 8 ? _mm256_loadu_ps(x) : n > 0 ? LoadPart(x, n) : _mm256_setzero_ps();
}

float Highest(__m256 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

float Absmax(const float* x, int64_t n) {
  __m256 best = _mm256_setzero_ps();
  for (int64_t i = 0; i < n; i += 8) best = _mm256_max_ps(Magnitude(LoadUpTo(x + i, n - i)), best);
  return Highest(best);
}

// limit / absmax, or 0 when that is not finite.
float Factor(float limit, float absmax) { return absmax > 1e-30f ? limit / absmax : 0.0f; }

void Codes(const float* x, int64_t n, int64_t padded, float factor, int16_t* out) {
  const __m256 f = _mm256_set1_ps(factor);
  for (int64_t i = 0; i < padded; i += 16) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(LoadUpTo(x + i, n - i), f));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(LoadUpTo(x + i + 8, n - i - 8), f));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), packed);
  }
}

float Quantize(const float* x, int64_t n, int64_t padded, float limit, int16_t* out) {
  const float absmax = Absmax(x, n);
  Codes(x, n, padded, Factor(limit, absmax), out);
  return absmax / limit;
}

float PackKeys(const float* keys, int64_t stride, int64_t n, int dim, float limit, int16_t* out) {
  float absmax = 0;
  for (int64_t j = 0; j < n; ++j) {
    const float a = Absmax(keys + j * stride, dim);
    absmax = a > absmax ? a : absmax;
  }
  const float factor = Factor(limit, absmax);
  const int64_t padded = (dim + 15) / 16 * 16;
  for (int64_t at = 0; at < n; at += 16, out += 16 * padded)
    for (int64_t d = 0; d < padded; d += 16)
      for (int half = 0; half < 2; ++half) {
        __m256i words[8];
        for (int c = 0; c < 8; ++c) {
          const int64_t j = at + half * 8 + c;
          int16_t codes[16] = {};
          if (j < n) Codes(keys + j * stride + d, dim - d, 16, factor, codes);
          words[c] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
        }
        Transpose8(words);
        for (int i = 0; i < 8; ++i)
          _mm256_store_si256(reinterpret_cast<__m256i*>(out + (d / 2 + i) * 32 + half * 16), words[i]);
      }
  return absmax / limit;
}

void PackValues(const float* values, int64_t stride, int64_t n, int dim, float limit, int16_t* out, float* scales) {
  const int64_t padded = (n + 15) / 16 * 16;
  for (int64_t d = 0; d < dim; d += 8) {
    const int64_t left = dim - d;
    __m256 best = _mm256_setzero_ps();
    for (int64_t j = 0; j < n; ++j) best = _mm256_max_ps(Magnitude(LoadUpTo(values + j * stride + d, left)), best);
    _mm256_storeu_ps(scales + d, _mm256_div_ps(best, _mm256_set1_ps(limit)));
    const __m256 usable = _mm256_cmp_ps(best, _mm256_set1_ps(1e-30f), _CMP_GT_OQ);
    const __m256 factor = _mm256_and_ps(_mm256_div_ps(_mm256_set1_ps(limit), best), usable);
    int16_t* to = out + d / 16 * 16 * padded + d % 16 * 2;
    for (int64_t j = 0; j < padded; j += 2, to += 32) {
      const auto codes = [&](int64_t row) {
        if (row >= n) return _mm256_setzero_si256();
        return _mm256_cvtps_epi32(_mm256_mul_ps(LoadUpTo(values + row * stride + d, left), factor));
      };
      const __m256i even = _mm256_and_si256(codes(j), _mm256_set1_epi32(0xFFFF));
      const __m256i pairs = _mm256_or_si256(even, _mm256_slli_epi32(codes(j + 1), 16));
      _mm256_store_si256(reinterpret_cast<__m256i*>(to), pairs);
    }
  }
  if ((dim + 7) / 8 % 2 == 0) return;  // else the last panel has 8 columns behind the end
  const int64_t d = (dim + 7) / 8 * 8;
  _mm256_storeu_ps(scales + d, _mm256_setzero_ps());
  int16_t* to = out + d / 16 * 16 * padded + 16;
  for (int64_t j = 0; j < padded; j += 2, to += 32)
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm256_setzero_si256());
}

constexpr float kPower0 = 0.9999992847442627f, kPower1 = 0.6931217908859253f, kPower2 = 0.240247443318367f,
                kPower3 = 0.05591786652803421f, kPower4 = 0.009570102207362652f;

// codes = 2^max(score * factor + top, -20), rounded, of N vectors of scores; the exponents are at most 13. 2^t = 2^n
// 2^r, |r| <= 1/2; the polynomial is the least-error one of degree 4, relative error 2.6e-6. All vectors go through
// each step together (vec.h says why).
template <int N>
inline __attribute__((always_inline)) void Powers(const int32_t* scores, __m256 factor, __m256 top,
                                                  __m256i (&codes)[N]) {
  const __m256 magic = _mm256_set1_ps(12582912.0f);  // 1.5 * 2^23: the integer is in the low bits of the sum
  __m256 t[N], p[N];
#define SOTTO_EACH _Pragma("GCC unroll 8") for (int i = 0; i < N; ++i)
  SOTTO_EACH t[i] = _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scores + 8 * i)));
  SOTTO_EACH t[i] = _mm256_max_ps(_mm256_fmadd_ps(t[i], factor, top), _mm256_set1_ps(-20.0f));
  SOTTO_EACH p[i] = _mm256_add_ps(t[i], magic);
  SOTTO_EACH codes[i] = _mm256_slli_epi32(_mm256_castps_si256(p[i]), 23);
  SOTTO_EACH t[i] = _mm256_sub_ps(t[i], _mm256_sub_ps(p[i], magic));
  SOTTO_EACH p[i] = _mm256_fmadd_ps(_mm256_set1_ps(kPower4), t[i], _mm256_set1_ps(kPower3));
  SOTTO_EACH p[i] = _mm256_fmadd_ps(p[i], t[i], _mm256_set1_ps(kPower2));
  SOTTO_EACH p[i] = _mm256_fmadd_ps(p[i], t[i], _mm256_set1_ps(kPower1));
  SOTTO_EACH p[i] = _mm256_fmadd_ps(p[i], t[i], _mm256_set1_ps(kPower0));
  SOTTO_EACH codes[i] = _mm256_add_epi32(codes[i], _mm256_castps_si256(p[i]));
  SOTTO_EACH codes[i] = _mm256_cvtps_epi32(_mm256_castsi256_ps(codes[i]));
#undef SOTTO_EACH
}

int32_t Soften(int32_t* s, int64_t n, float factor, float* peak, int16_t* p) {
  const int64_t padded = (n + 15) / 16 * 16;
  for (int64_t j = n; j < padded; ++j) s[j] = INT32_MIN;
  __m256i best[2] = {_mm256_set1_epi32(INT32_MIN), _mm256_set1_epi32(INT32_MIN)};
  const auto load = [&](int64_t j) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s + j)); };
  for (int64_t j = 0; j < padded; j += 16)
    for (int i = 0; i < 2; ++i) best[i] = _mm256_max_epi32(best[i], load(j + 8 * i));
  int32_t lanes[8], high = INT32_MIN;
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), _mm256_max_epi32(best[0], best[1]));
  for (int32_t v : lanes) high = v > high ? v : high;
  *peak = static_cast<float>(high) * factor;

  const __m256 f = _mm256_set1_ps(factor), top = _mm256_set1_ps(13.0f - *peak);
  __m256i sums[2] = {};
  const auto pack = [&](int64_t j, __m256i first, __m256i second) {
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xD8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + j), packed);
  };
  int64_t j = 0;
  for (; j + 32 <= padded; j += 32) {
    __m256i c[4];
    Powers(s + j, f, top, c);
    sums[0] = _mm256_add_epi32(sums[0], _mm256_add_epi32(c[0], c[1]));
    sums[1] = _mm256_add_epi32(sums[1], _mm256_add_epi32(c[2], c[3]));
    pack(j, c[0], c[1]);
    pack(j + 16, c[2], c[3]);
  }
  if (j < padded) {
    __m256i c[2];
    Powers(s + j, f, top, c);
    sums[0] = _mm256_add_epi32(sums[0], _mm256_add_epi32(c[0], c[1]));
    pack(j, c[0], c[1]);
  }
  int32_t sum = 0;
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi32(sums[0], sums[1]));
  for (int32_t v : lanes) sum += v;
  for (j = n; j < padded; ++j) {
    sum -= p[j];
    p[j] = 0;
  }
  return sum;
}

void Mix(const int32_t* acc, int64_t n, const float* scales, float factor, float shrink, float* out) {
  const __m256 f = _mm256_set1_ps(factor), s = _mm256_set1_ps(shrink);
  for (int64_t d = 0; d < n; d += 8) {
    const __m256 sum = _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + d)));
    const __m256 add = _mm256_mul_ps(sum, _mm256_mul_ps(_mm256_loadu_ps(scales + d), f));
    _mm256_storeu_ps(out + d, _mm256_fmadd_ps(_mm256_loadu_ps(out + d), s, add));
  }
}

}  // namespace

const Attend16 kAttend16Avx2 = {Quantize, PackKeys, PackValues, Soften, Mix};

}  // namespace sotto::cpu
