// AVX2 with FMA and F16C. int8: weights are widened to int16 as they are loaded and multiplied in pairs by vpmaddwd,
// whose sums of two products never overflow 32 bits; vpmaddubsw, which needs half the instructions, saturates at 16
// bits and is exact only for the narrow codes of blocks.
#include "ops/cpu/blocks_inl.h"
#include "ops/cpu/group_inl.h"
#include "ops/cpu/pages_inl.h"
#include "ops/cpu/planes_inl.h"
#include "ops/cpu/row_inl.h"
#include "ops/cpu/tile_inl.h"

namespace sotto::cpu {
namespace {

// Two int16 codes a channel for 8 channels; from panels of int8 (widened here) or from widened tiles.
inline void LoadPairs(const int8_t* b, __m256i w[2]) {
  for (int i = 0; i < 2; ++i) w[i] = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(b + 16 * i)));
}
inline void LoadPairs(const int16_t* b, __m256i w[2]) {
  for (int i = 0; i < 2; ++i) w[i] = _mm256_load_si256(reinterpret_cast<const __m256i*>(b + 16 * i));
}

template <int M, class Code>
void IntTileOf(const int16_t* a, int64_t lda, Strip<Code> b, int64_t k, int32_t* acc, int64_t ld, bool add) {
  for (int64_t p = 0; p < b.panels; ++p, acc += kPanel) {
    const Code* panel = b.data + p * b.stride;
    __m256i c[M][2] = {};
#pragma GCC unroll 6
    for (int m = 0; m < M && add; ++m) {
      c[m][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + m * ld));
      c[m][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + m * ld + 8));
    }
    for (int64_t i = 0; i < k; i += 2) {
      __m256i w[2];
      LoadPairs(panel + i * kPanel, w);
#pragma GCC unroll 6
      for (int m = 0; m < M; ++m) {
        int32_t pair;
        std::memcpy(&pair, a + m * lda + i, sizeof pair);
        const __m256i x = _mm256_set1_epi32(pair);
        c[m][0] = _mm256_add_epi32(c[m][0], _mm256_madd_epi16(x, w[0]));
        c[m][1] = _mm256_add_epi32(c[m][1], _mm256_madd_epi16(x, w[1]));
      }
    }
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc + m * ld), c[m][0]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc + m * ld + 8), c[m][1]);
    }
  }
}

template <class Code, int M = kTileRows>
void IntTile(const int16_t* a, int64_t lda, int m, Strip<Code> b, int64_t k, int32_t* acc, int64_t ld, bool add) {
  if (m == M) return IntTileOf<M>(a, lda, b, k, acc, ld, add);
  if constexpr (M > 1) IntTile<Code, M - 1>(a, lda, m, b, k, acc, ld, add);
}

void I8Tile(const std::byte* a, int64_t lda, int m, const std::byte* panel, int, int64_t k, int32_t* acc) {
  IntTile(reinterpret_cast<const int16_t*>(a), lda / 2, m, OnePanel(reinterpret_cast<const int8_t*>(panel)), k, acc,
          kPanel, false);
}

void WidenI8(const std::byte* b, int64_t k, int16_t* tile) {
  for (int64_t i = 0; i < (k + 1) / 2 * 2 * kPanel; i += 16)
    _mm256_store_si256(reinterpret_cast<__m256i*>(tile + i),
                       _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(b + i))));
}

// QuantizeTo<int16_t, 0> with the rounding and the narrowing of AVX2: the same codes.
float Quantize(const float* x, int64_t k, int64_t padded, std::byte* out) {
  const QuantizeScale s = ScaleOf(x, k);
  const F inverse = Set(s.inverse), high = Set(127.0f);
  auto* q = reinterpret_cast<int16_t*>(out);
  const auto codes = [&](const float* from) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_mul_ps(Load(from), inverse), high));
    const __m256i b = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_mul_ps(Load(from + 8), inverse), high));
    const __m256i packed = _mm256_max_epi16(_mm256_packs_epi32(a, b), _mm256_set1_epi16(-127));
    return _mm256_permute4x64_epi64(packed, 0xD8);
  };
  int64_t i = 0;
  if (!s.zero)
    for (; i + 16 <= k; i += 16) _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i), codes(x + i));
  for (; i < padded; i += 16) {
    float edge[16] = {};
    if (i < k && !s.zero) std::memcpy(edge, x + i, static_cast<size_t>(k - i < 16 ? k - i : 16) * 4);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i), codes(edge));
  }
  return s.scale;
}

// vpmaddubsw adds two products of an unsigned and a signed byte to 16 bits: `steps` of
// them fit (Kind::kShape). vpmaddwd then adds the pairs, times the group's scale. Signed codes go as absolute values, their
// signs put on the activations: 128 * 127 * 2 fits once.
template <class Kind>
struct BlockSums {
  static constexpr BlockShape kShape = Kind::kShape;
  __m256i codes[8], scale[2], offset;
  explicit BlockSums(const Codes& c) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) codes[j] = reinterpret_cast<__m256i>(c.of[j]);
    scale[0] = scale[1] = _mm256_set1_epi16(1);
    for (int i = 0; i < kShape.scales; ++i) scale[i] = Pairs(c.scale[i], c.scale[i]);
    if (kShape.scales == 1) scale[1] = scale[0];
    const __m256i times = kShape.scales == 2 ? Pairs(c.scale[0], c.scale[1]) : scale[0];
    offset = _mm256_mullo_epi16(times, _mm256_set1_epi16(-kShape.offset));
  }
  // Words to pairs of int16: `even` in the low halves, `odd` in the high ones.
  static __m256i Pairs(I even, I odd) {
    return _mm256_blend_epi16(reinterpret_cast<__m256i>(even), reinterpret_cast<__m256i>(odd << 16), 0xAA);
  }
  static __m256i Word(const void* p) {
    int32_t word;
    std::memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
  }
  I Of(const BlockInputs& x) const {
    constexpr int kSteps = kShape.steps == 0 ? 1 : kShape.steps;
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += kSteps) {
      __m256i part = _mm256_setzero_si256();
#pragma GCC unroll 8
      for (int j = i; j < i + kSteps; ++j) {
        const __m256i a = Word(x.codes + 4 * j);
        const __m256i pairs = kShape.steps == 0
                                  ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes[j]), _mm256_sign_epi8(a, codes[j]))
                                  : _mm256_maddubs_epi16(codes[j], a);
        part = j == i ? pairs : _mm256_add_epi16(part, pairs);
      }
      part = _mm256_madd_epi16(part, scale[i / 4]);
      sum = i == 0 ? part : _mm256_add_epi32(sum, part);
    }
    if constexpr (kShape.offset != 0) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(Word(x.sums), offset));
    return reinterpret_cast<I>(sum);
  }
};

constexpr auto kWidenI8 = WidenI8;
constexpr auto kI16Tile = IntTile<int16_t>;
constexpr const Attend16* kAttend16 = &kAttend16Avx2;
constexpr const PageProducts* kPages = &kPagesAvx2;

}  // namespace

#define SOTTO_QUANTIZE Quantize
#define SOTTO_ACTIVATION_BYTES 2
#define SOTTO_TABLE kAvx2
#include "ops/cpu/table_inl.h"

}  // namespace sotto::cpu
