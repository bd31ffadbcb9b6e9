// Packing with AVX2: rows become 32-bit words in the target type (1 fp32, 2 halves or 4 codes each), an 8 x 8 transpose
// of words turns rows into columns, and formats whose group is half a word are split into their two halves. Nothing
// inline from shared headers is called here: the linker could keep this file's copy of it, compiled for AVX2.
#include <immintrin.h>

#include <cfloat>
#include <cstring>

#include "codec/pack.h"
#include "codec/transpose_avx2.h"

namespace sotto::codec {
namespace {

template <DType source>
__m256 Load8(const std::byte* p) {
  if constexpr (source == DType::kF32) return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
  const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  if constexpr (source == DType::kF16) return _mm256_cvtph_ps(h);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

__m128i ToHalf(__m256 v) { return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

// The bf16 bits in the low halves of 8 words.
__m256i Bf16Words(__m256 v) {
  const __m256i x = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(x, _mm256_set1_epi32(0x7FFF)), odd);
  const __m256i quiet = _mm256_or_si256(x, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}

__m256i Code8(__m256 v,
              __m256 inverse) {  // int32 codes; NaN and +inf become 127, -inf the least int32, saturated below
  return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_mul_ps(v, inverse), _mm256_set1_ps(127)));
}

template <DType target>
constexpr int kStep = target == DType::kF32  ? 8
                      : target == DType::kI8 ? 32
                                             : 16;  // elements in 8 words

template <DType source>
constexpr int kSize = source == DType::kF32 ? 4 : 2;

// kStep elements of one row as 8 words of the target type.
template <DType source, DType target>
__m256i Words(const std::byte* p, [[maybe_unused]] float inverse) {
  constexpr int kBytes8 = 8 * kSize<source>;
  if constexpr (target == DType::kF32) {
    return _mm256_castps_si256(Load8<source>(p));
  } else if constexpr (target == source) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  } else if constexpr (target == DType::kF16) {
    return _mm256_set_m128i(ToHalf(Load8<source>(p + kBytes8)), ToHalf(Load8<source>(p)));
  } else if constexpr (target == DType::kBF16) {
    const __m256i both = _mm256_packus_epi32(Bf16Words(Load8<source>(p)), Bf16Words(Load8<source>(p + kBytes8)));
    return _mm256_permute4x64_epi64(both, 0xD8);
  } else {
    const __m256 inv = _mm256_set1_ps(inverse);
    const __m256i ab = _mm256_packs_epi32(Code8(Load8<source>(p), inv), Code8(Load8<source>(p + kBytes8), inv));
    const __m256i cd =
        _mm256_packs_epi32(Code8(Load8<source>(p + 2 * kBytes8), inv), Code8(Load8<source>(p + 3 * kBytes8), inv));
    const __m256i codes = _mm256_max_epi8(_mm256_packs_epi16(ab, cd), _mm256_set1_epi8(-127));
    return _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
}

// kStep elements of 16 rows (null: zeros) to 512 bytes. split: groups are half a word.
template <DType source, DType target, bool split>
inline __attribute__((always_inline)) void Block(const std::byte* const* rows, const float* inverse, __m256i sums[2],
                                                 std::byte* out) {
  __m256i w[2][8];
  for (int half = 0; half < 2; ++half) {
    for (int c = 0; c < 8; ++c) {
      const std::byte* row = rows[half * 8 + c];
      w[half][c] = row != nullptr ? Words<source, target>(row, inverse[half * 8 + c]) : _mm256_setzero_si256();
    }
    Transpose8(w[half]);
    if constexpr (target == DType::kI8)
      for (int i = 0; i < 8; ++i) {
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), w[half][i]);
        sums[half] = _mm256_add_epi32(sums[half], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
      }
  }
  for (int i = 0; i < 8; ++i) {
    __m256i first = w[0][i], second = w[1][i];
    if constexpr (split) {
      const __m256i low = _mm256_set1_epi32(0xFFFF);
      const __m256i even = _mm256_packus_epi32(_mm256_and_si256(first, low), _mm256_and_si256(second, low));
      const __m256i odd = _mm256_packus_epi32(_mm256_srli_epi32(first, 16), _mm256_srli_epi32(second, 16));
      first = _mm256_permute4x64_epi64(even, 0xD8);
      second = _mm256_permute4x64_epi64(odd, 0xD8);
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i * 64), first);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i * 64 + 32), second);
  }
}

template <DType source>
float Absmax(const std::byte* row, int64_t k) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  __m256 m[4] = {};
  int64_t i = 0;
  for (; i + 32 <= k; i += 32)  // max(x, m) is m when x is a NaN
    for (int j = 0; j < 4; ++j)
      m[j] = _mm256_max_ps(_mm256_and_ps(Load8<source>(row + (i + 8 * j) * kSize<source>), magnitude), m[j]);
  std::byte tail[32 * 4] = {};
  std::memcpy(tail, row + i * kSize<source>, static_cast<size_t>(k - i) * kSize<source>);
  for (int j = 0; j < 4; ++j)
    m[j] = _mm256_max_ps(_mm256_and_ps(Load8<source>(tail + 8 * j * kSize<source>), magnitude), m[j]);
  m[0] = _mm256_max_ps(_mm256_max_ps(m[0], m[1]), _mm256_max_ps(m[2], m[3]));
  float lanes[8], best = 0;
  _mm256_storeu_ps(lanes, m[0]);
  for (float v : lanes) best = v > best ? v : best;
  return best < FLT_MAX ? best : FLT_MAX;
}

template <DType source, DType target, bool split>
void PackRows(std::span<const std::byte* const> rows, int64_t k, std::byte* out, std::byte* scales_at) {
  constexpr int64_t kStepBytes = int64_t{kStep<target>} * kSize<source>;
  float scales[kPanel] = {}, inverse[kPanel] = {};
  const std::byte* at[kPanel] = {};
  for (size_t c = 0; c < rows.size(); ++c) {
    at[c] = rows[c];
    if constexpr (target == DType::kI8) {
      const float absmax = Absmax<source>(rows[c], k);
      if (absmax < kLeastAbsmax) {
        at[c] = nullptr;
        continue;
      }
      scales[c] = absmax / 127;
      inverse[c] = 127 / absmax;
    }
  }
  __m256i sums[2] = {};
  int64_t left = k;
  for (; left >= kStep<target>; left -= kStep<target>, out += 512) {
    Block<source, target, split>(at, inverse, sums, out);
    for (const std::byte*& p : at)
      if (p != nullptr) p += kStepBytes;
  }
  if (left > 0) {
    alignas(32) std::byte tails[kPanel][kStepBytes] = {};
    alignas(32) std::byte packed[512];
    for (int c = 0; c < kPanel; ++c)
      if (at[c] != nullptr) {
        std::memcpy(tails[c], at[c], static_cast<size_t>(left) * kSize<source>);
        at[c] = tails[c];
      }
    Block<source, target, split>(at, inverse, sums, packed);
    constexpr int64_t kGroup = kStep<target> / 8 / (split ? 2 : 1);
    const int64_t groups = (left + kGroup - 1) / kGroup;
    std::memcpy(out, packed, static_cast<size_t>(groups) * (split ? 32 : 64));
  }
  if constexpr (target == DType::kI8) {
    std::memcpy(scales_at, scales, sizeof scales);
    std::memcpy(scales_at + sizeof scales, sums, sizeof sums);
  }
}

template <DType source>
void PackFrom(PanelFormat f, std::span<const std::byte* const> rows, int64_t k, std::byte* out) {
  switch (f.dtype) {
    case DType::kF32: return PackRows<source, DType::kF32, false>(rows, k, out, nullptr);
    case DType::kF16: return PackRows<source, DType::kF16, true>(rows, k, out, nullptr);
    case DType::kBF16: return PackRows<source, DType::kBF16, false>(rows, k, out, nullptr);
    default: break;
  }
  std::byte* scales = out + ScalesOffset(f, k);
  if (f.group == 2) return PackRows<source, DType::kI8, true>(rows, k, out, scales);
  return PackRows<source, DType::kI8, false>(rows, k, out, scales);
}

void Pack(PanelFormat f, DType source, std::span<const std::byte* const> rows, int64_t k, std::byte* out) {
  if (source == DType::kF32) return PackFrom<DType::kF32>(f, rows, k, out);
  if (source == DType::kF16) return PackFrom<DType::kF16>(f, rows, k, out);
  return PackFrom<DType::kBF16>(f, rows, k, out);
}

template <DType source>
void Widen(const uint16_t* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, Load8<source>(reinterpret_cast<const std::byte*>(from + i)));
  uint16_t tail[8] = {};
  float wide[8];
  std::memcpy(tail, from + i, static_cast<size_t>(n - i) * 2);
  _mm256_storeu_ps(wide, Load8<source>(reinterpret_cast<const std::byte*>(tail)));
  std::memcpy(to + i, wide, static_cast<size_t>(n - i) * 4);
}

template <DType target>
void Narrow(const float* from, int64_t n, uint16_t* to) {
  const auto convert = [](const float* p) {
    const __m256 v = _mm256_loadu_ps(p);
    if constexpr (target == DType::kF16) return ToHalf(v);
    const __m256i words = Bf16Words(v);
    return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  };
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), convert(from + i));
  float tail[8] = {};
  std::memcpy(tail, from + i, static_cast<size_t>(n - i) * 4);
  const __m128i narrow = convert(tail);
  std::memcpy(to + i, &narrow, static_cast<size_t>(n - i) * 2);
}

}  // namespace

const Kernels kAvx2Kernels = {Pack, Widen<DType::kF16>, Narrow<DType::kF16>, Widen<DType::kBF16>, Narrow<DType::kBF16>};

}  // namespace sotto::codec
