// AVX2 with FMA and F16C. int8: weights are widened to int16 as they are loaded and multiplied in pairs by vpmaddwd,
// whose sums of two products never overflow 32 bits; vpmaddubsw, which needs half the instructions, saturates at 16
// bits and is not exact.
#include "ops/cpu/row_inl.h"
#include "ops/cpu/tile_inl.h"

namespace sotto::cpu {
namespace {

template <int M>
void I8TileOf(const int16_t* a, int64_t lda, const int8_t* b, int64_t k, int32_t* acc) {
  const int16_t* row[M];
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) row[m] = a + m * lda;
  __m256i c[M][2] = {};
  for (int64_t i = 0; i < k; i += 2) {
    const auto* pairs = reinterpret_cast<const __m128i*>(b + i * kPanel);
    const __m256i w0 = _mm256_cvtepi8_epi16(_mm_load_si128(pairs)),
                  w1 = _mm256_cvtepi8_epi16(_mm_load_si128(pairs + 1));
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m) {
      int32_t pair;
      std::memcpy(&pair, row[m] + i, sizeof pair);
      const __m256i x = _mm256_set1_epi32(pair);
      c[m][0] = _mm256_add_epi32(c[m][0], _mm256_madd_epi16(x, w0));
      c[m][1] = _mm256_add_epi32(c[m][1], _mm256_madd_epi16(x, w1));
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc + m * kPanel), c[m][0]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc + m * kPanel + 8), c[m][1]);
  }
}

template <int M = kTileRows>
void I8Rows(const int16_t* a, int64_t lda, int m, const int8_t* b, int64_t k, int32_t* acc) {
  if (m == M) return I8TileOf<M>(a, lda, b, k, acc);
  if constexpr (M > 1) I8Rows<M - 1>(a, lda, m, b, k, acc);
}

void I8Tile(const std::byte* a, int64_t lda, int m, const std::byte* panel, int, int64_t k, int32_t* acc) {
  I8Rows(reinterpret_cast<const int16_t*>(a), lda / 2, m, reinterpret_cast<const int8_t*>(panel), k, acc);
}

}  // namespace

#define SOTTO_QUANTIZE QuantizeTo<int16_t, 0>
#define SOTTO_ACTIVATION_BYTES 2
#define SOTTO_TABLE kAvx2
#include "ops/cpu/table_inl.h"

}  // namespace sotto::cpu
