// ARM64 with the dot product of ARMv8.2: sdot adds four products of signed bytes to 32 bits, exactly.
#include "ops/cpu/blocks_inl.h"
#include "ops/cpu/group_inl.h"
#include "ops/cpu/pages_inl.h"
#include "ops/cpu/planes_inl.h"
#include "ops/cpu/row_inl.h"
#include "ops/cpu/tile_inl.h"

namespace sotto::cpu {
namespace {

template <int M>
void I8TileOf(const int8_t* a, int64_t lda, const int8_t* b, int64_t k, int32_t* acc) {
  int32x4_t c[M][4];
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) c[m][v] = vdupq_n_s32(0);
  for (int64_t i = 0; i < k; i += 4) {
    int8x16_t w[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) w[v] = vld1q_s8(b + i * kPanel + 16 * v);
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m) {
      int32_t four;
      std::memcpy(&four, a + m * lda + i, sizeof four);
      const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) c[m][v] = vdotq_s32(c[m][v], w[v], x);
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) vst1q_s32(acc + m * kPanel + 4 * v, c[m][v]);
}

template <int M = kTileRows>
void I8Rows(const int8_t* a, int64_t lda, int m, const int8_t* b, int64_t k, int32_t* acc) {
  if (m == M) return I8TileOf<M>(a, lda, b, k, acc);
  if constexpr (M > 1) I8Rows<M - 1>(a, lda, m, b, k, acc);
}

void I8Tile(const std::byte* a, int64_t lda, int m, const std::byte* panel, int, int64_t k, int32_t* acc) {
  I8Rows(reinterpret_cast<const int8_t*>(a), lda, m, reinterpret_cast<const int8_t*>(panel), k, acc);
}

struct SignedDot {
  static constexpr bool kUnsigned = false;
  static I Add(I sum, I codes, int32_t four) {
    return vdotq_s32(sum, reinterpret_cast<int8x16_t>(codes), vreinterpretq_s8_s32(vdupq_n_s32(four)));
  }
};
template <class Kind>
using BlockSums = DotSums<Kind, SignedDot>;

constexpr auto kWidenI8 = nullptr;
constexpr auto kI16Tile = nullptr;
constexpr const Attend16* kAttend16 = nullptr;
constexpr const PageProducts* kPages = nullptr;

}  // namespace

#define SOTTO_QUANTIZE QuantizeTo<int8_t, 0>
#define SOTTO_ACTIVATION_BYTES 1
#define SOTTO_TABLE kNeon
#include "ops/cpu/table_inl.h"

}  // namespace sotto::cpu
