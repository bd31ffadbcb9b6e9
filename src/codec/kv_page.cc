#include "codec/kv_page.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "codec/half.h"

namespace sotto {
namespace {

// The steps of uniform quantizers with the least squared error on a Gaussian of variance 1 (Max 1960), by bits.
constexpr float kStep[] = {0, 0, 0.9957f, 0.5860f, 0.3352f};

// The bytes of a vector of a token in a block, and its bits in each.
struct Field {
  std::byte* block;
  bool value;
  int token, bits;  // token: of the page

  int shift() const { return token / 8 * bits; }
  int mask() const { return (1 << bits) - 1; }
  template <class Body>
  void Each(int dim, const Body& body) const {  // body(element, its byte)
    const int lane = token % 8;
    if (value) {
      std::byte* at = block + lane / 4 * 32 + lane % 4;
      for (int d = 0; d < dim; d += 8, at += 64)
        for (int i = 0; i < 8; ++i) body(d + i, at[4 * i]);
    } else {
      std::byte* at = block + lane * 4;
      for (int d = 0; d < dim; d += 4, at += 32)
        for (int i = 0; i < 4; ++i) body(d + i, at[i]);
    }
  }
  void Write(const uint8_t* codes, int dim, int down) const {  // of each code the bits from `down` on
    const int keep = ~(mask() << shift());
    Each(dim, [&](int d, std::byte& byte) {
      const int bits_of_it = (codes[d] >> down & mask()) << shift();
      byte = static_cast<std::byte>((static_cast<int>(byte) & keep) | bits_of_it);
    });
  }
  void Read(uint8_t* codes, int dim, int up) const {  // codes |= bits << up
    Each(dim, [&](int d, std::byte& byte) {
      const int code = static_cast<int>(byte) >> shift() & mask();
      codes[d] = static_cast<uint8_t>(codes[d] | code << up);
    });
  }
};

Field FieldOf(const KvPageShape& s, const KvGroup& g, int64_t slot, int head, bool value, bool plane) {
  const int bits = plane ? 1 : g.bits == 3 ? 2 : g.bits, tokens = KvPageTokens(bits);
  std::byte* page = (plane ? g.planes : g.pages)[slot / tokens];
  return {page + (2 * head + (value ? 1 : 0)) * s.block_bytes(), value, static_cast<int>(slot % tokens), bits};
}

// Codes as they are stored: of 8 bits in two's complement, else from 0 on.
void WriteCodes(const KvPageShape& s, const KvGroup& g, int64_t slot, int head, bool value, const uint8_t* codes) {
  FieldOf(s, g, slot, head, value, false).Write(codes, s.head_dim, g.bits == 3 ? 1 : 0);
  if (g.bits == 3) FieldOf(s, g, slot, head, value, true).Write(codes, s.head_dim, 0);
}

void ReadCodes(const KvPageShape& s, const KvGroup& g, int64_t slot, int head, bool value, uint8_t* codes) {
  std::fill(codes, codes + s.head_dim, uint8_t{0});
  FieldOf(s, g, slot, head, value, false).Read(codes, s.head_dim, g.bits == 3 ? 1 : 0);
  if (g.bits == 3) FieldOf(s, g, slot, head, value, true).Read(codes, s.head_dim, 0);
}

float Value(int code, int bits) {
  if (bits == 8) return static_cast<float>(static_cast<int8_t>(code));
  return static_cast<float>(2 * code + 1 - (1 << bits)) / 2;
}

uint16_t ScaleOf(float x) { return FloatToHalf(std::min(x, 65504.0f)); }  // a finite half

uint16_t Quantize8(const float* x, int n, uint8_t* codes) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: the rounded integer is in the low bits of the sum
  float absmax = 0;
  for (int i = 0; i < n; ++i) absmax = std::max(absmax, std::fabs(x[i]));
  const uint16_t half = ScaleOf(absmax / 127);
  const float scale = HalfToFloat(half), inverse = scale > 0 ? 1 / scale : 0;
  for (int i = 0; i < n; ++i) {
    const float y = std::min(std::max(-127.0f, x[i] * inverse), 127.0f);  // -127 for a NaN
    codes[i] = static_cast<uint8_t>(std::bit_cast<uint32_t>(y + kMagic));
  }
  return half;
}

uint16_t QuantizeMidrise(const float* x, int n, int bits, uint8_t* codes) {
  float power = 0;
  for (int i = 0; i < n; ++i) power += x[i] * x[i];
  const float step = kStep[bits] * std::sqrt(power / static_cast<float>(n));
  const float inverse = step > 1e-30f ? 1 / step : 0, middle = static_cast<float>(1 << (bits - 1)),
              last = 2 * middle - 1;
  float up = 0, down = 0;
  for (int i = 0; i < n; ++i) {
    const float y = std::min(std::max(0.0f, x[i] * inverse + middle), last);  // 0 for a NaN
    codes[i] = static_cast<uint8_t>(static_cast<int>(y));
    const float value = static_cast<float>(codes[i]) - middle + 0.5f;
    up += x[i] * value;
    down += value * value;
  }
  return ScaleOf(up / down);
}

uint16_t Quantize(const float* x, int n, int bits, uint8_t* codes) {
  return bits == 8 ? Quantize8(x, n, codes) : QuantizeMidrise(x, n, bits, codes);
}

// Drops the lowest bits in place; the scale is that of least squared distance to the finer values. Sums are exact.
uint16_t Drop(uint8_t* codes, int n, int from, int to, uint16_t scale) {
  const auto twice = [](int code, int bits) { return 2 * code + 1 - (1 << bits); };
  int up = 0, down = 0;
  for (int i = 0; i < n; ++i) {
    const int fine = twice(codes[i], from);
    codes[i] = static_cast<uint8_t>(codes[i] >> (from - to));
    const int coarse = twice(codes[i], to);
    up += fine * coarse;
    down += coarse * coarse;
  }
  return ScaleOf(HalfToFloat(scale) * static_cast<float>(up) / static_cast<float>(down));
}

void CheckSlot(const KvPageShape& s, const KvGroup& g, int64_t slot) {
  CHECK(s.ok() && slot >= 0 && g.pages != nullptr && (g.bits != 3 || g.planes != nullptr));
  CHECK(g.bits == 8 || (g.bits >= 2 && g.bits <= 4));
}

}  // namespace

void PutToken(const KvPageShape& shape, const float* k, const float* v, const KvGroup& to, int64_t slot,
              uint16_t* scales) {
  CheckSlot(shape, to, slot);
  uint8_t codes[kMaxKvHeadDim];
  for (int h = 0; h < shape.kv_heads; ++h)
    for (const bool value : {false, true}) {
      scales[2 * h + value] = Quantize((value ? v : k) + h * shape.head_dim, shape.head_dim, to.bits, codes);
      WriteCodes(shape, to, slot, h, value, codes);
    }
}

void MoveToken(const KvPageShape& shape, const KvGroup& from, int64_t from_slot, const KvGroup& to, int64_t slot,
               uint16_t* scales) {
  CheckSlot(shape, from, from_slot);
  CheckSlot(shape, to, slot);
  CHECK(to.bits <= from.bits);
  uint8_t codes[kMaxKvHeadDim];
  float values[kMaxKvHeadDim];
  for (int h = 0; h < shape.kv_heads; ++h)
    for (const bool value : {false, true}) {
      uint16_t& scale = scales[2 * h + value];
      ReadCodes(shape, from, from_slot, h, value, codes);
      if (to.bits < from.bits && from.bits == 8) {
        const float by = HalfToFloat(scale);
        for (int d = 0; d < shape.head_dim; ++d) values[d] = by * Value(codes[d], 8);
        scale = Quantize(values, shape.head_dim, to.bits, codes);
      } else if (to.bits < from.bits) {
        scale = Drop(codes, shape.head_dim, from.bits, to.bits, scale);
      }
      WriteCodes(shape, to, slot, h, value, codes);
    }
}

void ReadToken(const KvPageShape& shape, const KvGroup& from, int64_t slot, int head, const uint16_t* scales, float* k,
               float* v) {
  CheckSlot(shape, from, slot);
  uint8_t codes[kMaxKvHeadDim];
  for (const bool value : {false, true}) {
    const float scale = HalfToFloat(scales[2 * head + value]);
    ReadCodes(shape, from, slot, head, value, codes);
    for (int d = 0; d < shape.head_dim; ++d) (value ? v : k)[d] = scale * Value(codes[d], from.bits);
  }
}

}  // namespace sotto
