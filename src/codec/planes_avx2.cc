// Decoding the plane code with AVX2 and BMI2: 64 weights stand in two vectors; a plane's bits are spread to the escaped ones by one pdep.
#include <immintrin.h>

#include <algorithm>
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

// What is left of a plane, and where magnitudes pass into it.
struct Plane {
  const uint8_t* from;
  uint64_t bits;             // taken so far
  __m256i threshold, reach;  // m + reach has its top bit set where m >= threshold
  Plane(const PlaneReader& r, size_t i)
      : from(r.panel.plane[i]),
        bits(r.bits[i]),
        threshold(_mm256_set1_epi8(static_cast<char>(r.panel.code.threshold[i]))),
        reach(_mm256_set1_epi8(static_cast<char>(128 - r.panel.code.threshold[i]))) {}

  // The next bits, at least kMostEscapes of them, or 64.
  template <bool all>
  inline __attribute__((always_inline)) uint64_t Next() const {
    const uint8_t* at = from + (bits >> 3);
    const uint64_t next = Load64(at) >> (bits & 7);
    return all ? next | static_cast<uint64_t>(at[8]) << 1 << (63 - (bits & 7)) : next;
  }
  // Ones (all of a byte's bits) where a weight grows by one: those with the top bit of `escapes` have a bit here, which `negative` turns.
  template <bool all>
  inline __attribute__((always_inline)) Two Take(const Two& escapes, uint64_t negative) {
    const uint64_t escaped = TopBits(escapes.of[0], escapes.of[1]);
    const uint64_t x = _pdep_u64(Next<all>(), escaped);
    bits += static_cast<uint64_t>(_mm_popcnt_u64(escaped));
    return Spread(x ^ (escaped & negative));
  }
  // Magnitudes in m, one plane further.
  template <bool all>
  inline __attribute__((always_inline)) void Grow(Two* m, uint64_t negative) {
    const Two grow = Take<all>({{_mm256_add_epi8(m->of[0], reach), _mm256_add_epi8(m->of[1], reach)}}, negative);
    for (int h = 0; h < 2; ++h)
      m->of[h] = _mm256_sub_epi8(_mm256_add_epi8(m->of[h], _mm256_subs_epu8(m->of[h], threshold)), grow.of[h]);
  }
};

inline __attribute__((always_inline)) Two LoadTwo(const uint8_t* from) {
  return {{_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)),
           _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32))}};
}
inline __attribute__((always_inline)) void StoreTwo(const Two& v, uint8_t* to) {
  for (int h = 0; h < 2; ++h) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32 * h), v.of[h]);
}

// Base fields and the first plane. What leaves: bytes that are final, and nothing in `signs`, or magnitudes, with signs as bytes of
// zeros or ones, and as bits.
template <int base_bits, bool planes, bool last>
inline __attribute__((always_inline)) void DecodeFirst(PlaneReader* r, int groups, int offset, uint8_t* to,
                                                       uint8_t* signs, uint64_t* negative) {
  const uint8_t* base = r->panel.base + r->group * 8 * base_bits;
  constexpr bool kLooksUp = base_bits <= 4 && planes;
  constexpr bool kSignStays = kLooksUp && last;  // what is looked up has it, and only grows
  const Lookup table = kLooksUp ? LookupOf(r, offset) : Lookup{};
  Plane plane(*r, 0);
  const __m256i shift = _mm256_set1_epi8(static_cast<char>(offset));
  const __m256i most = _mm256_set1_epi8(static_cast<char>((1 << (base_bits - 1)) - 1));
  for (int g = 0; g < groups; ++g, base += 8 * base_bits, to += kPlaneGroup) {
    _mm_prefetch(reinterpret_cast<const char*>(base + kAhead), _MM_HINT_T0);
    Two m = Fields<base_bits>(base), sign{};
    for (int h = 0; h < 2 && !kSignStays; ++h)  // fields of eight bits have their sign where a byte has it
      sign.of[h] =
          base_bits == 8 ? _mm256_cmpgt_epi8(_mm256_setzero_si256(), m.of[h]) : _mm256_cmpgt_epi8(m.of[h], most);
    const uint64_t minus = planes && !kSignStays ? TopBits(sign.of[0], sign.of[1]) : 0;
    if constexpr (kLooksUp) {
      const Two escapes = {{_mm256_shuffle_epi8(table.escapes, m.of[0]), _mm256_shuffle_epi8(table.escapes, m.of[1])}};
      const Two grow = plane.Take<!last>(escapes, minus);
      for (int h = 0; h < 2; ++h) m.of[h] = _mm256_sub_epi8(_mm256_shuffle_epi8(table.value, m.of[h]), grow.of[h]);
    } else {
      for (int h = 0; h < 2; ++h) m.of[h] = _mm256_and_si256(m.of[h], most);
      if (planes) plane.Grow<!last>(&m, minus);
    }
    if constexpr (!last) {
      StoreTwo(sign, signs + g * kPlaneGroup);
      negative[g] = minus;
    } else if constexpr (!kSignStays) {
      for (int h = 0; h < 2; ++h) m.of[h] = _mm256_add_epi8(_mm256_xor_si256(m.of[h], sign.of[h]), shift);
    }
    StoreTwo(m, to);
  }
  if (planes) r->bits[0] = plane.bits;
  r->group += groups;
}

// A further plane of as many groups: plane by plane, so that what one group waits for another one fills.
template <bool last>
void DecodeNext(PlaneReader* r, size_t i, int groups, int offset, uint8_t* to, const uint8_t* signs,
                const uint64_t* negative) {
  Plane plane(*r, i);
  const __m256i shift = _mm256_set1_epi8(static_cast<char>(offset));
  for (int g = 0; g < groups; ++g, to += kPlaneGroup) {
    Two m = LoadTwo(to);
    plane.Grow<true>(&m, negative[g]);
    if constexpr (last) {
      const Two sign = LoadTwo(signs + g * kPlaneGroup);
      for (int h = 0; h < 2; ++h) m.of[h] = _mm256_add_epi8(_mm256_xor_si256(m.of[h], sign.of[h]), shift);
    }
    StoreTwo(m, to);
  }
  r->bits[i] = plane.bits;
}

enum class How { kNone, kOne, kMore };
template <int base_bits, How how>
void Decode(PlaneReader* r, int groups, int offset, uint8_t* to) {
  if constexpr (how != How::kMore) {
    DecodeFirst<base_bits, how == How::kOne, true>(r, groups, offset, to, nullptr, nullptr);
  } else {
    constexpr int kAtOnce = 32;
    uint8_t signs[kAtOnce * kPlaneGroup];
    uint64_t negative[kAtOnce];
    for (; groups > 0; groups -= kAtOnce, to += kAtOnce * kPlaneGroup) {
      const int n = groups < kAtOnce ? groups : kAtOnce;
      const size_t last = r->panel.code.planes - size_t{1};
      DecodeFirst<base_bits, true, false>(r, n, offset, to, signs, negative);
      for (size_t i = 1; i < last; ++i) DecodeNext<false>(r, i, n, offset, to, signs, negative);
      DecodeNext<true>(r, last, n, offset, to, signs, negative);
    }
  }
}

constexpr int kLeastBase = 2;

template <How how, int... bases>
constexpr auto Table(std::integer_sequence<int, bases...>) {
  return std::array<DecodePlanesFunction, sizeof...(bases)>{Decode<bases + kLeastBase, how>...};
}

}  // namespace

DecodePlanesFunction DecodePlanesAvx2(const PlaneCode& code) {
  constexpr std::make_integer_sequence<int, 7> kBases;
  static constexpr std::array kTables = {Table<How::kNone>(kBases), Table<How::kOne>(kBases),
                                         Table<How::kMore>(kBases)};
  return kTables[std::min<size_t>(code.planes, 2)][static_cast<size_t>(code.base_bits - kLeastBase)];
}

}  // namespace sotto::codec
