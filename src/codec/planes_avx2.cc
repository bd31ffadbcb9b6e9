// Decoding 64 weights of the plane code with AVX2 and BMI2: magnitudes stand in two vectors; a plane's bits are spread to the escaped
// ones by one pdep.
#include <immintrin.h>

#include <cstring>
#include <utility>

#include "codec/planes_decode.h"

namespace sotto::codec {
namespace {

// Fields that are asked of memory while the ones before them are multiplied; past the end of a block this does nothing.
constexpr int kAhead = 3072;

struct Two {
  __m256i of[2];  // weights 0 … 31, 32 … 63
};

inline __attribute__((always_inline)) uint64_t Load64(const uint8_t* from) {
  uint64_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

// All ones in the bytes whose bit is set.
inline __attribute__((always_inline)) Two Spread(uint64_t bits) {
  const __m256i all = _mm256_set1_epi64x(static_cast<int64_t>(bits));
  const __m256i each = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201ULL));
  const __m256i low = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i high = _mm256_add_epi8(low, _mm256_set1_epi8(4));
  return {{_mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(all, low), each), each),
           _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(all, high), each), each)}};
}

// `bits` bits of 64 weights.
template <int bits>
inline __attribute__((always_inline)) Two Fields(const uint8_t* from) {
  Two v{{_mm256_setzero_si256(), _mm256_setzero_si256()}};
  if constexpr (bits >= 4) {
    const __m256i nibbles = _mm256_set1_epi8(15), both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    v.of[0] = _mm256_and_si256(both, nibbles);
    v.of[1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibbles);
    if constexpr (bits > 4) {
      const Two more = Fields<bits - 4>(from + 32);
      for (int i = 0; i < 2; ++i) v.of[i] = _mm256_or_si256(v.of[i], _mm256_slli_epi16(more.of[i], 4));
    }
  } else if constexpr (bits >= 2) {
    const __m256i four = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    const __m256i mask = _mm256_set1_epi8(3);
    v.of[0] = _mm256_and_si256(_mm256_srlv_epi64(four, _mm256_setr_epi64x(0, 0, 2, 2)), mask);
    v.of[1] = _mm256_and_si256(_mm256_srlv_epi64(four, _mm256_setr_epi64x(4, 4, 6, 6)), mask);
    if constexpr (bits == 3) {
      const Two more = Spread(Load64(from + 16));
      for (int i = 0; i < 2; ++i) v.of[i] = _mm256_or_si256(v.of[i], _mm256_and_si256(more.of[i], _mm256_set1_epi8(4)));
    }
  } else if constexpr (bits == 1) {
    const Two ones = Spread(Load64(from));
    for (int i = 0; i < 2; ++i) v.of[i] = _mm256_and_si256(ones.of[i], _mm256_set1_epi8(1));
  }
  return v;
}

// What a base field of at most four bits becomes, looked up, and whether it takes a bit of the first plane. Where that plane is the
// only one: bytes with `offset` on them, to which the bit is added; else magnitudes.
struct Lookup {
  __m256i value, escapes;
};
__attribute__((noinline)) void FillLookup(PlaneReader* r, int offset) {
  const PlaneCode& code = r->panel.code;
  auto& [values, escapes] = r->lookup;
  const int half = 1 << (code.base_bits - 1);
  for (int field = 0; field < 2 * half; ++field) {
    const int m = field % half;
    const bool escaped = m >= code.threshold[0], negative = field >= half;
    const int magnitude = escaped ? 2 * m - code.threshold[0] : m;
    const int least = negative ? -1 - magnitude - (escaped ? 1 : 0) : magnitude;
    values[static_cast<size_t>(field)] = static_cast<uint8_t>(code.planes > 1 ? magnitude : least + offset);
    escapes[static_cast<size_t>(field)] = escaped ? 0x80 : 0;
  }
  r->lookup_offset = offset;
}
inline Lookup LookupOf(PlaneReader* r, int offset) {
  if (r->lookup_offset != offset) FillLookup(r, offset);
  const auto both = [](const std::array<uint8_t, 16>& table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data())));
  };
  return {both(r->lookup[0]), both(r->lookup[1])};
}

inline __attribute__((always_inline)) uint64_t TopBits(__m256i low, __m256i high) {
  return static_cast<uint32_t>(_mm256_movemask_epi8(low)) |
         static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(high))) << 32;
}

// A plane's next bits, at least kMostEscapes of them, or 64.
template <bool all>
inline __attribute__((always_inline)) uint64_t BitsFrom(const uint8_t* plane, uint64_t at) {
  const uint8_t* from = plane + (at >> 3);
  const uint64_t bits = Load64(from) >> (at & 7);
  return all ? bits | static_cast<uint64_t>(from[8]) << 1 << (63 - (at & 7)) : bits;
}

template <int base_bits, int planes>
void Decode(PlaneReader* r, int groups, int offset, uint8_t* to) {
  const uint8_t* base = r->panel.base + r->group * 8 * base_bits;
  r->group += groups;
  const uint8_t* plane[planes + 1];
  uint64_t bits[planes + 1];
  __m256i threshold[planes + 1], reach[planes + 1];  // m + reach has its top bit set where m >= threshold
#pragma GCC unroll 6
  for (int i = 0; i < planes; ++i) {
    const auto at = static_cast<size_t>(i);
    plane[i] = r->panel.plane[at], bits[i] = r->bits[at];
    threshold[i] = _mm256_set1_epi8(static_cast<char>(r->panel.code.threshold[at]));
    reach[i] = _mm256_set1_epi8(static_cast<char>(128 - r->panel.code.threshold[at]));
  }
  constexpr bool kLooksUp = base_bits <= 4 && planes >= 1, kSignStays = kLooksUp && planes == 1;
  const Lookup table = kLooksUp ? LookupOf(r, offset) : Lookup{};
  const __m256i shift = _mm256_set1_epi8(static_cast<char>(offset));
  constexpr int kSign = 1 << (base_bits - 1);
  const __m256i most = _mm256_set1_epi8(static_cast<char>(kSign - 1));
  for (; groups > 0; --groups, base += 8 * base_bits, to += kPlaneGroup) {
    _mm_prefetch(reinterpret_cast<const char*>(base + kAhead), _MM_HINT_T0);
    Two m = Fields<base_bits>(base), sign, escapes;
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      // Fields of eight bits have their sign where a byte has it.
      if (!kSignStays)
        sign.of[h] =
            base_bits == 8 ? _mm256_cmpgt_epi8(_mm256_setzero_si256(), m.of[h]) : _mm256_cmpgt_epi8(m.of[h], most);
      if (kLooksUp) {
        escapes.of[h] = _mm256_shuffle_epi8(table.escapes, m.of[h]);
        m.of[h] = _mm256_shuffle_epi8(table.value, m.of[h]);
      } else {
        m.of[h] = _mm256_and_si256(m.of[h], most);
      }
    }
    const uint64_t negative = kSignStays || planes == 0 ? 0 : TopBits(sign.of[0], sign.of[1]);
#pragma GCC unroll 6
    for (int i = 0; i < planes; ++i) {
      const bool looked_up = kLooksUp && i == 0;
#pragma GCC unroll 2
      for (int h = 0; h < 2 && !looked_up; ++h) escapes.of[h] = _mm256_add_epi8(m.of[h], reach[i]);
      const uint64_t escaped = TopBits(escapes.of[0], escapes.of[1]);
      const uint64_t x = _pdep_u64(BitsFrom<(planes > kFewPlanes)>(plane[i], bits[i]), escaped);
      const Two grow = Spread(x ^ (escaped & negative));
      bits[i] += static_cast<uint64_t>(_mm_popcnt_u64(escaped));
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        if (!looked_up) m.of[h] = _mm256_add_epi8(m.of[h], _mm256_subs_epu8(m.of[h], threshold[i]));
        m.of[h] = _mm256_sub_epi8(m.of[h], grow.of[h]);
      }
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32 * h),
                          kSignStays ? m.of[h] : _mm256_add_epi8(_mm256_xor_si256(m.of[h], sign.of[h]), shift));
  }
#pragma GCC unroll 6
  for (int i = 0; i < planes; ++i) r->bits[static_cast<size_t>(i)] = bits[i];
}

constexpr int kLeastBase = 2, kBases = 7;

template <int base_bits, int... planes>
constexpr std::array<DecodePlanesFunction, sizeof...(planes)> Row(std::integer_sequence<int, planes...>) {
  return {Decode<base_bits, planes>...};
}
template <int... bases>
constexpr auto Table(std::integer_sequence<int, bases...>) {
  return std::array{Row<bases + kLeastBase>(std::make_integer_sequence<int, kMostPlanes + 1>())...};
}

}  // namespace

DecodePlanesFunction DecodePlanesAvx2(const PlaneCode& code) {
  static constexpr auto kTable = Table(std::make_integer_sequence<int, kBases>());
  return kTable[static_cast<size_t>(code.base_bits - kLeastBase)][code.planes];
}

}  // namespace sotto::codec
