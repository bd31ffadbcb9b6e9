// Products with the codes of packed pages in fixed point with AVX2. vpmaddubsw multiplies unsigned bytes by signed ones
// and adds pairs to 16 bits; kSteps of them fit there: 8 * 2 * 15 * 127 = 30,480 and 8 * 2 * 255 * 8 = 32,640. Codes of
// 8 bits are widened to 16 as they are loaded.
#include <immintrin.h>

#include <cstring>

#include "ops/cpu/kernels.h"

namespace sotto::cpu {
namespace {

constexpr int64_t kSteps = 8;  // groups of four codes
#define SOTTO_UNROLL _Pragma("GCC unroll 8")

inline __m256i Load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline __m256i Four(const std::byte* p) {
  int32_t word;
  std::memcpy(&word, p, sizeof word);
  return _mm256_set1_epi32(word);
}
inline __m256i FourWide(const std::byte* p) {
  int64_t word;
  std::memcpy(&word, p, sizeof word);
  return _mm256_set1_epi64x(word);
}

// What all products end with (kernels.h).
struct Finish {
  const float *minus, *times, *columns;
  float* out;
  int64_t ldo;
  void operator()(int row, int64_t column, __m256i sum) const {
    const __m256 v = _mm256_sub_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(minus[row]));
    const __m256 t = _mm256_set1_ps(times[row]);
    float* to = out + row * ldo + column;
    if (columns == nullptr)
      _mm256_storeu_ps(to, _mm256_fmadd_ps(v, t, _mm256_loadu_ps(to)));
    else
      _mm256_storeu_ps(to, _mm256_mul_ps(v, _mm256_mul_ps(t, _mm256_loadu_ps(columns + column))));
  }
};

// Q rows of x and P panels. kSignedCodes: x is the unsigned side.
template <bool kSignedCodes, int Q, int P>
void NarrowBlock(const std::byte* tile, int64_t stride, int64_t quads, const std::byte* x, int64_t ldx, int64_t column,
                 const Finish& finish) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[Q][P];
  SOTTO_UNROLL for (int q = 0; q < Q; ++q) for (int p = 0; p < P; ++p) sum[q][p] = _mm256_setzero_si256();
  for (int64_t begin = 0; begin < quads; begin += kSteps) {
    const int64_t end = begin + kSteps < quads ? begin + kSteps : quads;
    __m256i part[Q][P];
    SOTTO_UNROLL for (int q = 0; q < Q; ++q) for (int p = 0; p < P; ++p) part[q][p] = _mm256_setzero_si256();
    const auto step = [&](int64_t i) __attribute__((always_inline)) {
      __m256i codes[P];
      SOTTO_UNROLL for (int p = 0; p < P; ++p) codes[p] = Load(tile + p * stride + 32 * i);
      SOTTO_UNROLL for (int q = 0; q < Q; ++q) {
        const __m256i four = Four(x + q * ldx + 4 * i);
        SOTTO_UNROLL for (int p = 0; p < P; ++p) {
          const __m256i pairs =
              kSignedCodes ? _mm256_maddubs_epi16(four, codes[p]) : _mm256_maddubs_epi16(codes[p], four);
          part[q][p] = _mm256_add_epi16(part[q][p], pairs);
          asm volatile("" : "+x"(part[q][p]));  // one after the other: all products at once don't fit the registers
        }
      }
    };
    for (int64_t i = begin; i < end; i += 2) {
      step(i);
      step(i + 1);
    }
    SOTTO_UNROLL for (int q = 0; q < Q; ++q) SOTTO_UNROLL for (int p = 0; p < P; ++p) sum[q][p] =
        _mm256_add_epi32(sum[q][p], _mm256_madd_epi16(part[q][p], ones));
  }
  SOTTO_UNROLL for (int q = 0; q < Q; ++q) SOTTO_UNROLL for (int p = 0; p < P; ++p)
      finish(q, column + 8 * p, sum[q][p]);
}

template <int Q>
void WideBlock(const std::byte* tile, int64_t quads, const std::byte* x, int64_t ldx, int64_t column,
               const Finish& finish) {
  __m256i sum[Q][2];
  SOTTO_UNROLL for (int q = 0; q < Q; ++q) sum[q][0] = sum[q][1] = _mm256_setzero_si256();
  for (int64_t i = 0; i < quads; ++i) {
    __m256i codes[2];
    for (int h = 0; h < 2; ++h)
      codes[h] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(tile + 32 * i + 16 * h)));
    SOTTO_UNROLL for (int q = 0; q < Q; ++q) {
      const __m256i four = FourWide(x + q * ldx + 8 * i);
      for (int h = 0; h < 2; ++h) sum[q][h] = _mm256_add_epi32(sum[q][h], _mm256_madd_epi16(codes[h], four));
    }
  }
  SOTTO_UNROLL for (int q = 0; q < Q; ++q)  // two words a column; columns 0 … 3 are in the first sum
      finish(q, column, _mm256_permute4x64_epi64(_mm256_hadd_epi32(sum[q][0], sum[q][1]), 0xD8));
}

enum class Mode { kKeys, kValues, kWide };

template <Mode mode, int Q>
void Rows(const std::byte* tile, int64_t stride, int64_t panels, int64_t quads, const std::byte* x, int64_t ldx,
          const Finish& finish) {
  int64_t p = 0;
  if constexpr (mode == Mode::kWide) {
    for (; p < panels; ++p) WideBlock<Q>(tile + p * stride, quads, x, ldx, 8 * p, finish);
  } else {
    constexpr int kPanels = Q == 1 ? 4 : 2;
    for (; p + kPanels <= panels; p += kPanels)
      NarrowBlock<mode == Mode::kValues, Q, kPanels>(tile + p * stride, stride, quads, x, ldx, 8 * p, finish);
    for (; p < panels; ++p)
      NarrowBlock<mode == Mode::kValues, Q, 1>(tile + p * stride, stride, quads, x, ldx, 8 * p, finish);
  }
}

template <Mode mode>
void Product(const std::byte* tile, int64_t stride, int64_t panels, int64_t quads, const std::byte* x, int64_t ldx,
             int count, const float* minus, const float* times, const float* columns, float* out, int64_t ldo) {
  for (int q = 0; q < count;) {
    const int n = count - q < 4 ? count - q : 4;
    const Finish finish{minus + q, times + q, columns, out + q * ldo, ldo};
    switch (n) {
      case 4: Rows<mode, 4>(tile, stride, panels, quads, x + q * ldx, ldx, finish); break;
      case 3: Rows<mode, 3>(tile, stride, panels, quads, x + q * ldx, ldx, finish); break;
      case 2: Rows<mode, 2>(tile, stride, panels, quads, x + q * ldx, ldx, finish); break;
      default: Rows<mode, 1>(tile, stride, panels, quads, x + q * ldx, ldx, finish);
    }
    q += n;
  }
}

float Highest(__m256 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
float Total(__m256i v) {
  const __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i t = _mm_hadd_epi32(s, s);
  return static_cast<float>(_mm_cvtsi128_si32(_mm_hadd_epi32(t, t)));
}

float Factor(float limit, float largest) { return largest > 1e-30f ? limit / largest : 0.0f; }

// Eight words to eight bytes or int16.
inline __m128i Pack16(__m256i v) { return _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)); }

float Absmax(const float* x, int64_t n) {
  __m256 best = _mm256_setzero_ps();
  for (int64_t i = 0; i < n; i += 8)
    best = _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_loadu_ps(x + i)), best);
  return Highest(best);
}

float Quantize(const float* x, int64_t n, int8_t* out, float* sum) {
  const float absmax = Absmax(x, n);
  const __m256 f = _mm256_set1_ps(Factor(127, absmax));
  __m256i total = _mm256_setzero_si256();
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i codes = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), f));
    const __m128i words = Pack16(codes);
    total = _mm256_add_epi32(total, codes);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), _mm_packs_epi16(words, words));
  }
  *sum = Total(total);
  return absmax / 127;
}

float WideQuantize(const float* x, int64_t n, int16_t* out) {
  const float absmax = Absmax(x, n);
  const __m256 f = _mm256_set1_ps(Factor(32767, absmax));
  for (int64_t i = 0; i < n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     Pack16(_mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), f))));
  return absmax / 32767;
}

float Largest(const float* e, const float* scales, int64_t n) {
  __m256 best = _mm256_setzero_ps();
  for (int64_t i = 0; i < n; i += 8)
    best = _mm256_max_ps(_mm256_mul_ps(_mm256_loadu_ps(e + i), _mm256_loadu_ps(scales + i)), best);
  return Highest(best);
}

inline __m256i WeightCodes(const float* e, const float* scales, __m256 factor) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(e), _mm256_loadu_ps(scales)), factor));
}

float Weights(const float* e, const float* scales, int64_t n, uint8_t* out, float* sum) {
  const float largest = Largest(e, scales, n);
  const __m256 f = _mm256_set1_ps(Factor(255, largest));
  __m256i total = _mm256_setzero_si256();
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i codes = WeightCodes(e + i, scales + i, f);
    const __m128i words = Pack16(codes);
    total = _mm256_add_epi32(total, codes);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), _mm_packus_epi16(words, words));
  }
  *sum = Total(total);
  return largest / 255;
}

float WideWeights(const float* e, const float* scales, int64_t n, int16_t* out) {
  const float largest = Largest(e, scales, n);
  const __m256 f = _mm256_set1_ps(Factor(32767, largest));
  for (int64_t i = 0; i < n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), Pack16(WeightCodes(e + i, scales + i, f)));
  return largest / 32767;
}

}  // namespace

const PageProducts kPagesAvx2 = {.keys = Product<Mode::kKeys>,
                                 .values = Product<Mode::kValues>,
                                 .wide = Product<Mode::kWide>,
                                 .quantize = Quantize,
                                 .wide_quantize = WideQuantize,
                                 .weights = Weights,
                                 .wide_weights = WideWeights};

}  // namespace sotto::cpu
