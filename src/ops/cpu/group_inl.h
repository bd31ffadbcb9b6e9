// Attention of several query heads that share their keys and values: each key is read and widened once for all of them.
// Compiled once an instruction set.
#pragma once
#include "ops/cpu/row_inl.h"

namespace sotto::cpu {
namespace {

// The sums of the lanes of up to 8 vectors, in order.
inline void SumsOf(const F* v, int count, float* out) {
#if defined(__AVX2__) && !defined(SOTTO_AVX512)
  (void)count;
  const auto add = [](__m256 a, __m256 b) { return _mm256_unpacklo_ps(a, b) + _mm256_unpackhi_ps(a, b); };
  const auto join = [](__m256 a, __m256 b) {
    const __m256d c = _mm256_castps_pd(a), d = _mm256_castps_pd(b);
    return _mm256_castpd_ps(_mm256_unpacklo_pd(c, d)) + _mm256_castpd_ps(_mm256_unpackhi_pd(c, d));
  };
  const __m256 low = join(add(v[0], v[1]), add(v[2], v[3])), high = join(add(v[4], v[5]), add(v[6], v[7]));
  Store(out, _mm256_permute2f128_ps(low, high, 0x20) + _mm256_permute2f128_ps(low, high, 0x31));
#else
  for (int i = 0; i < count; ++i) out[i] = Sum(v[i]);
#endif
}

template <class From, int G>
void GroupDotsOf(const float* q, const typename From::Type* keys, int64_t n, int dim, float scale, float* scores,
                 int64_t ld) {
  const int whole = dim / kLanes * kLanes;
  for (int64_t j = 0; j < n; j += kMaxGroup) {
    const int64_t count = n - j < kMaxGroup ? n - j : kMaxGroup;
    float by_key[kMaxGroup * kMaxGroup] = {}, by_head[kMaxGroup * kMaxGroup];
    for (int64_t i = 0; i < count; ++i, keys += dim) {
      F sum[kMaxGroup] = {};
      for (int d = 0; d < whole; d += kLanes) {
        const F key = From::Load(keys + d);
#pragma GCC unroll 8
        for (int g = 0; g < G; ++g) sum[g] = Fma(Load(q + g * dim + d), key, sum[g]);
      }
      SumsOf(sum, G, by_key + i * kMaxGroup);
      for (int d = whole; d < dim; ++d)
        for (int g = 0; g < G; ++g) by_key[i * kMaxGroup + g] += q[g * dim + d] * From::One(keys[d]);
    }
    for (int a = 0; a < kMaxGroup; a += kSquare)
      for (int b = 0; b < kMaxGroup; b += kSquare)
        Transpose(by_key + a * kMaxGroup + b, kMaxGroup, by_head + b * kMaxGroup + a, kMaxGroup);
    for (int g = 0; g < G; ++g)
      for (int64_t i = 0; i < count; ++i) scores[g * ld + j + i] = by_head[g * kMaxGroup + i] * scale;
  }
}

// Q heads by V vectors of sums in registers.
template <class From, int Q, int V>
void MixTile(const float* p, int64_t ld, const typename From::Type* values, int64_t n, int dim, float* out,
             int64_t ldo) {
  F sum[Q][V];
  for (int g = 0; g < Q; ++g)
    for (int v = 0; v < V; ++v) sum[g][v] = Load(out + g * ldo + v * kLanes);
  for (int64_t j = 0; j < n; ++j) {
    F value[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) value[v] = From::Load(values + j * dim + v * kLanes);
#pragma GCC unroll 4
    for (int g = 0; g < Q; ++g) {
      const F w = Set(p[g * ld + j]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[g][v] = Fma(w, value[v], sum[g][v]);
    }
  }
  for (int g = 0; g < Q; ++g)
    for (int v = 0; v < V; ++v) Store(out + g * ldo + v * kLanes, sum[g][v]);
}

template <class From, int Q>
void MixHeads(const float* p, int64_t ld, const typename From::Type* values, int64_t n, int dim, float* out,
              int64_t ldo) {
  int d = 0;
  for (; d + 2 * kLanes <= dim; d += 2 * kLanes) MixTile<From, Q, 2>(p, ld, values + d, n, dim, out + d, ldo);
  for (; d + kLanes <= dim; d += kLanes) MixTile<From, Q, 1>(p, ld, values + d, n, dim, out + d, ldo);
  for (; d < dim; ++d)
    for (int g = 0; g < Q; ++g)
      for (int64_t j = 0; j < n; ++j) out[g * ldo + d] += p[g * ld + j] * From::One(values[j * dim + d]);
}

template <class From>
void GroupMixOf(const float* p, int64_t ld, int heads, const typename From::Type* values, int64_t n, int dim,
                float* out, int64_t ldo) {
  for (; heads >= 4; heads -= 4, p += 4 * ld, out += 4 * ldo) MixHeads<From, 4>(p, ld, values, n, dim, out, ldo);
  if (heads == 3) return MixHeads<From, 3>(p, ld, values, n, dim, out, ldo);
  if (heads == 2) return MixHeads<From, 2>(p, ld, values, n, dim, out, ldo);
  if (heads == 1) MixHeads<From, 1>(p, ld, values, n, dim, out, ldo);
}

template <class From, int G = kMaxGroup>
void GroupDotsBy(const float* q, int heads, const typename From::Type* keys, int64_t n, int dim, float scale,
                 float* scores, int64_t ld) {
  if (heads == G) return GroupDotsOf<From, G>(q, keys, n, dim, scale, scores, ld);
  if constexpr (G > 1) GroupDotsBy<From, G - 1>(q, heads, keys, n, dim, scale, scores, ld);
}

void GroupDots(const float* q, int heads, const std::byte* keys, DType dtype, int64_t n, int dim, float scale,
               float* scores, int64_t ld) {
  const auto* halves = reinterpret_cast<const uint16_t*>(keys);
  if (dtype == DType::kF32)
    return GroupDotsBy<FromF32>(q, heads, reinterpret_cast<const float*>(keys), n, dim, scale, scores, ld);
  if (dtype == DType::kF16) return GroupDotsBy<FromF16>(q, heads, halves, n, dim, scale, scores, ld);
  GroupDotsBy<FromBf16>(q, heads, halves, n, dim, scale, scores, ld);
}

void GroupMix(const float* p, int64_t ld, int heads, const std::byte* values, DType dtype, int64_t n, int dim,
              float* out, int64_t ldo) {
  const auto* halves = reinterpret_cast<const uint16_t*>(values);
  if (dtype == DType::kF32)
    return GroupMixOf<FromF32>(p, ld, heads, reinterpret_cast<const float*>(values), n, dim, out, ldo);
  if (dtype == DType::kF16) return GroupMixOf<FromF16>(p, ld, heads, halves, n, dim, out, ldo);
  GroupMixOf<FromBf16>(p, ld, heads, halves, n, dim, out, ldo);
}

}  // namespace
}  // namespace sotto::cpu
