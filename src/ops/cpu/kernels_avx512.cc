// AVX512 with VNNI. int8: vpdpbusd adds four products of unsigned and signed bytes to 32 bits without saturating, so
// activations are held as code + 128, and 128 * (sum of the channel's codes), which the panel carries, is taken off at
// the start. Sums may wrap on the way; the result is the exact one.
#if !defined(SOTTO_SIMDE)
#include <immintrin.h>
#endif

#include "ops/cpu/blocks_inl.h"
#include "ops/cpu/group_inl.h"
#include "ops/cpu/pages_inl.h"
#include "ops/cpu/planes_inl.h"
#include "ops/cpu/row_inl.h"
#include "ops/cpu/tile_inl.h"

namespace sotto::cpu {
namespace {

template <int M>
void I8TileOf(const uint8_t* a, int64_t lda, const int8_t* b, int64_t k, int32_t* acc) {
  const int64_t groups = (k + 3) / 4;
  I start;
  std::memcpy(&start, b + groups * 64 + 64, sizeof start);  // behind the codes and the scales (codec/panel.h)
  start = start * -128;
  __m512i c[M];
#pragma GCC unroll 12
  for (int m = 0; m < M; ++m) c[m] = reinterpret_cast<__m512i>(start);
  for (int64_t g = 0; g < groups; ++g) {
    __m512i w;
    std::memcpy(&w, b + g * 64, sizeof w);
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m) {
      int32_t four;
      std::memcpy(&four, a + m * lda + g * 4, sizeof four);
      c[m] = _mm512_dpbusd_epi32(c[m], _mm512_set1_epi32(four), w);
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < M; ++m) std::memcpy(acc + m * kPanel, &c[m], sizeof c[m]);
}

template <int M = kTileRows>
void I8Rows(const uint8_t* a, int64_t lda, int m, const int8_t* b, int64_t k, int32_t* acc) {
  if (m == M) return I8TileOf<M>(a, lda, b, k, acc);
  if constexpr (M > 1) I8Rows<M - 1>(a, lda, m, b, k, acc);
}

void I8Tile(const std::byte* a, int64_t lda, int m, const std::byte* panel, int, int64_t k, int32_t* acc) {
  I8Rows(reinterpret_cast<const uint8_t*>(a), lda, m, reinterpret_cast<const int8_t*>(panel), k, acc);
}

struct VnniDot {
  static constexpr bool kUnsigned = true;
  static I Add(I sum, I codes, int32_t four) {
    return reinterpret_cast<I>(
        _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(codes), _mm512_set1_epi32(four)));
  }
};
template <class Kind>
using BlockSums = DotSums<Kind, VnniDot>;

constexpr auto kWidenI8 = nullptr;
constexpr auto kI16Tile = nullptr;
constexpr const Attend16* kAttend16 = nullptr;  // fp32 runs at the same rate as int16 here
constexpr const PageProducts* kPages = &kPagesAvx2;

}  // namespace

#define SOTTO_QUANTIZE QuantizeTo<uint8_t, 128>
#define SOTTO_ACTIVATION_BYTES 1
#if !defined(SOTTO_TABLE)
#define SOTTO_TABLE kAvx512
#endif
#include "ops/cpu/table_inl.h"

}  // namespace sotto::cpu
