// fp32 to the simple blocks of GGUF, equal to gguf-py's `quantize` (which is ggml's reference) bit for bit, and the list of
// all that can be written.
#include <fmt/format.h>

#include <cmath>

#include "codec/ggml_blocks.h"
#include "codec/ggml_quantize_k.h"

namespace sotto::codec {
namespace {

// The integer below v, within 0 … most; NaN is 0.
int Floor(float v, int most) {
  if (!(v > 0)) return 0;
  return v < static_cast<float>(most) ? static_cast<int>(v) : most;
}

float Inverse(float d) { return d == 0 ? 0 : 1 / d; }

// The element of largest magnitude, the first of equals.
float Largest(const float* x) {
  float largest = 0;
  for (int i = 0; i < 32; ++i)
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  return largest;
}

struct Range {
  float min, max;
};
Range RangeOf(const float* x) {
  Range r{x[0], x[0]};
  for (int i = 1; i < 32; ++i) {
    r.min = x[i] < r.min ? x[i] : r.min;
    r.max = x[i] > r.max ? x[i] : r.max;
  }
  return r;
}

void PackNibbles(const uint8_t (&codes)[32], uint8_t* q) {
  for (int i = 0; i < 16; ++i) q[i] = static_cast<uint8_t>((codes[i] & 15) | codes[i + 16] << 4);
}

void PackFifthBits(const uint8_t (&codes)[32], uint8_t* high) {
  for (int byte = 0; byte < 4; ++byte) {
    int bits = 0;
    for (int i = 0; i < 8; ++i) bits |= codes[8 * byte + i] >> 4 << i;
    high[byte] = static_cast<uint8_t>(bits);
  }
}

// The element of largest magnitude becomes code 0: -8 or -16 times d.
template <int kHalf>
float Signed(const float* x, uint8_t (&codes)[32]) {
  const float d = Largest(x) / -kHalf, inverse = Inverse(d);
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(Floor(x[i] * inverse + (kHalf + 0.5f), 2 * kHalf - 1));
  return d;
}

template <int kMost>
Range Unsigned(const float* x, uint8_t (&codes)[32], float* d) {
  const Range r = RangeOf(x);
  *d = (r.max - r.min) / kMost;
  const float inverse = Inverse(*d);
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(Floor((x[i] - r.min) * inverse + 0.5f, kMost));
  return r;
}

void Encode(const float* x, Q40* b) {
  uint8_t codes[32];
  b->d = Signed<8>(x, codes);
  PackNibbles(codes, b->q);
}

void Encode(const float* x, Q41* b) {
  uint8_t codes[32];
  float d;
  b->m = Unsigned<15>(x, codes, &d).min;
  b->d = d;
  PackNibbles(codes, b->q);
}

void Encode(const float* x, Q50* b) {
  uint8_t codes[32];
  b->d = Signed<16>(x, codes);
  PackNibbles(codes, b->q);
  PackFifthBits(codes, b->high);
}

void Encode(const float* x, Q51* b) {
  uint8_t codes[32];
  float d;
  b->m = Unsigned<31>(x, codes, &d).min;
  b->d = d;
  PackNibbles(codes, b->q);
  PackFifthBits(codes, b->high);
}

// Halves away from zero, as C's roundf.
void Encode(const float* x, Q80* b) {
  const float d = std::fabs(Largest(x)) / 127, inverse = Inverse(d);
  b->d = d;
  for (int i = 0; i < 32; ++i) {
    const float v = x[i] * inverse, magnitude = std::fabs(v);
    const int whole = Floor(magnitude, 127);
    const int code = whole + (magnitude - static_cast<float>(whole) >= 0.5f && whole < 127 ? 1 : 0);
    b->q[i] = static_cast<int8_t>(v < 0 ? -code : code);
  }
}

template <class Block>
void Rows(const float* row, int64_t n, std::byte* blocks) {
  auto* b = reinterpret_cast<Block*>(blocks);
  for (int64_t i = 0; i < n / Block::kElements; ++i) Encode(row + i * Block::kElements, &b[i]);
}

template <uint16_t (*kConvert)(float)>
void Halves(const float* from, int64_t n, std::byte* to) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t h = kConvert(from[i]);
    std::memcpy(to + 2 * i, &h, 2);
  }
}

void Floats(const float* from, int64_t n, std::byte* to) { std::memcpy(to, from, static_cast<size_t>(n) * 4); }

struct Entry {
  std::string_view name;
  GgmlQuantize encode;
};
constexpr Entry kEncoders[] = {
    {"F32", Floats},     {"F16", Halves<FloatToHalf>}, {"BF16", Halves<FloatToBf16>}, {"Q8_0", Rows<Q80>},
    {"Q4_0", Rows<Q40>}, {"Q4_1", Rows<Q41>},          {"Q5_0", Rows<Q50>},           {"Q5_1", Rows<Q51>},
    {"Q2_K", Rows<Q2K>}, {"Q3_K", Rows<Q3K>},          {"Q4_K", Rows<Q4K>},           {"Q5_K", Rows<Q5K>},
    {"Q6_K", Rows<Q6K>},
};

}  // namespace
}  // namespace sotto::codec

namespace sotto {

Result<GgmlQuantize> QuantizerOf(const GgmlType& type) {
  for (const codec::Entry& e : codec::kEncoders)
    if (e.name == type.name) return e.encode;
  return Usage(
      fmt::format("sotto doesn't write GGUF type {}; choose Q8_0, Q4_0, Q4_K or another of Q2_K to Q8_0", type.name));
}

}  // namespace sotto
