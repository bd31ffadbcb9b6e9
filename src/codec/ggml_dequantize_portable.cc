// Blocks of GGUF types to fp32, in plain C++: every product and sum is rounded as gguf-py rounds it.
#include <fmt/format.h>

#include "codec/ggml_blocks.h"
#include "codec/ggml_layout.h"

namespace sotto::codec {
namespace {

constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kE2m1Twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void Decode(const Q40& b, float* y) {
  const float d = b.d;
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>((b.q[i] & 15) - 8);
    y[i + 16] = d * static_cast<float>((b.q[i] >> 4) - 8);
  }
}

void Decode(const Q41& b, float* y) {
  const float d = b.d, m = b.m;
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(b.q[i] & 15) + m;
    y[i + 16] = d * static_cast<float>(b.q[i] >> 4) + m;
  }
}

uint32_t Bits(const uint8_t* high) { return high[0] | high[1] << 8 | high[2] << 16 | uint32_t{high[3]} << 24; }

void Decode(const Q50& b, float* y) {
  const float d = b.d;
  const uint32_t high = Bits(b.high);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(static_cast<int>((b.q[i] & 15) | ((high >> i) & 1) << 4) - 16);
    y[i + 16] = d * static_cast<float>(static_cast<int>((b.q[i] >> 4) | ((high >> (i + 16)) & 1) << 4) - 16);
  }
}

void Decode(const Q51& b, float* y) {
  const float d = b.d, m = b.m;
  const uint32_t high = Bits(b.high);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(static_cast<int>((b.q[i] & 15) | ((high >> i) & 1) << 4)) + m;
    y[i + 16] = d * static_cast<float>(static_cast<int>((b.q[i] >> 4) | ((high >> (i + 16)) & 1) << 4)) + m;
  }
}

void Decode(const Q80& b, float* y) {
  const float d = b.d;
  for (int i = 0; i < 32; ++i) y[i] = static_cast<float>(b.q[i]) * d;
}

void Decode16(float d, const uint8_t* q, const int8_t* values, int high, float* y) {
  for (int i = 0; i < high; ++i) {
    y[i] = d * static_cast<float>(values[q[i] & 15]);
    y[i + high] = d * static_cast<float>(values[q[i] >> 4]);
  }
}

void Decode(const Iq4Nl& b, float* y) { Decode16(b.d, b.q, kIq4Values, 16, y); }

void Decode(const Mxfp4& b, float* y) {
  const uint32_t bits = b.e < 2 ? 0x200000u << b.e : (b.e - 1u) << 23;  // 2^(e - 128), a subnormal below 2
  Decode16(std::bit_cast<float>(bits), b.q, kE2m1Twice, 16, y);
}

// Half of the unsigned E4M3 number, whose top bit means nothing. 0x7F, the NaN, is 0 (and 0xFF is 480, as in gguf-py).
float HalfOfE4m3(uint8_t x) {
  if (x == 0 || x == 0x7F) return 0;
  const int exponent = (x >> 3) & 15;
  const float mantissa = static_cast<float>(x & 7);
  if (exponent == 0) return mantissa * 0x1p-10f;
  return (1 + mantissa / 8) * std::bit_cast<float>(static_cast<uint32_t>(exponent - 8 + 127) << 23);
}

void Decode(const Nvfp4& b, float* y) {
  for (int g = 0; g < 4; ++g) Decode16(HalfOfE4m3(b.d[g]), b.q[g], kE2m1Twice, 8, y + 16 * g);
}

void Decode(const Q2K& b, float* y) {
  const float d = b.d, dmin = b.dmin;
  for (int g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(b.scales[g] & 15), min = dmin * static_cast<float>(b.scales[g] >> 4);
    const uint8_t* q = b.q + g / 8 * 32 + g % 2 * 16;
    const int shift = g % 8 / 2 * 2;
    for (int i = 0; i < 16; ++i) y[16 * g + i] = scale * static_cast<float>((q[i] >> shift) & 3) - min;
  }
}

void Decode(const Q3K& b, float* y) {
  const float d = b.d;
  for (int g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(UnpackQ3Scale(b.scales, g) - 32);
    const uint8_t *q = b.q + g / 8 * 32 + g % 2 * 16, *high = b.high + g % 2 * 16;
    const int shift = g % 8 / 2 * 2, bit = g / 2;
    for (int i = 0; i < 16; ++i)
      y[16 * g + i] = scale * static_cast<float>(((q[i] >> shift) & 3) + ((high[i] >> bit) & 1) * 4 - 4);
  }
}

void Decode(const Q4K& b, float* y) {
  const float d = b.d, dmin = b.dmin;
  for (int g = 0; g < 8; ++g) {
    const ScaleMin s = UnpackScaleMin(b.scales, g);
    const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
    const uint8_t* q = b.q + g / 2 * 32;
    const int shift = g % 2 * 4;
    for (int i = 0; i < 32; ++i) y[32 * g + i] = scale * static_cast<float>((q[i] >> shift) & 15) - min;
  }
}

void Decode(const Q5K& b, float* y) {
  const float d = b.d, dmin = b.dmin;
  for (int g = 0; g < 8; ++g) {
    const ScaleMin s = UnpackScaleMin(b.scales, g);
    const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
    const uint8_t* q = b.q + g / 2 * 32;
    const int shift = g % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int code = ((q[i] >> shift) & 15) | ((b.high[i] >> g) & 1) << 4;
      y[32 * g + i] = scale * static_cast<float>(code) - min;
    }
  }
}

void Decode(const Q6K& b, float* y) {
  const float d = b.d;
  for (int g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(b.scales[g]);
    const uint8_t *q = b.q + g / 8 * 64 + g % 4 * 16, *high = b.high + g / 8 * 32 + g % 2 * 16;
    const int shift = g / 4 % 2 * 4, high_shift = g % 8 / 2 * 2;
    for (int i = 0; i < 16; ++i) {
      const int code = ((q[i] >> shift) & 15) | ((high[i] >> high_shift) & 3) << 4;
      y[16 * g + i] = scale * static_cast<float>(code - 32);
    }
  }
}

void Decode(const Iq4Xs& b, float* y) {
  const float d = b.d;
  const int top = b.high[0] | b.high[1] << 8;
  for (int g = 0; g < 8; ++g) {
    const int scale = ((b.low[g / 2] >> (g % 2 * 4)) & 15) | ((top >> (2 * g)) & 3) << 4;
    Decode16(d * static_cast<float>(scale - 32), b.q[g], kIq4Values, 16, y + 32 * g);
  }
}

// The digit in place k of a byte: the top of 3 times what is left of the fraction.
float Trit(float d, uint8_t q, uint8_t power) {
  return d * static_cast<float>(((static_cast<uint8_t>(q * power) * 3) >> 8) - 1);
}

void Decode(const Tq10& b, float* y) {
  constexpr uint8_t kPowers[] = {1, 3, 9, 27, 81};
  const float d = b.d;
  for (int k = 0; k < 5; ++k) {
    for (int i = 0; i < 32; ++i) y[32 * k + i] = Trit(d, b.q[i], kPowers[k]);
    for (int i = 0; i < 16; ++i) y[160 + 16 * k + i] = Trit(d, b.q[32 + i], kPowers[k]);
  }
  for (int k = 0; k < 4; ++k)
    for (int i = 0; i < 4; ++i) y[240 + 4 * k + i] = Trit(d, b.last[i], kPowers[k]);
}

void Decode(const Tq20& b, float* y) {
  const float d = b.d;
  for (int part = 0; part < 8; ++part)
    for (int i = 0; i < 32; ++i)
      y[32 * part + i] = d * static_cast<float>(((b.q[part / 4 * 32 + i] >> (part % 4 * 2)) & 3) - 1);
}

template <class Block>
void Rows(const std::byte* blocks, int64_t n, float* out) {
  const auto* b = reinterpret_cast<const Block*>(blocks);
  for (int64_t i = 0; i < n / Block::kElements; ++i) Decode(b[i], out + i * Block::kElements);
}

template <float (*kConvert)(uint16_t)>
void Halves(const std::byte* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t h;
    std::memcpy(&h, from + 2 * i, 2);
    to[i] = kConvert(h);
  }
}

void Floats(const std::byte* from, int64_t n, float* to) { std::memcpy(to, from, static_cast<size_t>(n) * 4); }

struct Entry {
  std::string_view name;
  GgmlDequantize decode;
};

template <class Block>
consteval Entry Of(std::string_view name) {
  const GgmlType* type = FindGgmlType(name);
  if (sizeof(Block) != type->bytes || Block::kElements != type->block) throw "the struct is not the type's block";
  return {name, Rows<Block>};
}

constexpr Entry kDecoders[] = {{"F32", Floats},
                               {"F16", Halves<HalfToFloat>},
                               {"BF16", Halves<Bf16ToFloat>},
                               Of<Q40>("Q4_0"),
                               Of<Q41>("Q4_1"),
                               Of<Q50>("Q5_0"),
                               Of<Q51>("Q5_1"),
                               Of<Q80>("Q8_0"),
                               Of<Q2K>("Q2_K"),
                               Of<Q3K>("Q3_K"),
                               Of<Q4K>("Q4_K"),
                               Of<Q5K>("Q5_K"),
                               Of<Q6K>("Q6_K"),
                               Of<Iq4Nl>("IQ4_NL"),
                               Of<Iq4Xs>("IQ4_XS"),
                               Of<Tq10>("TQ1_0"),
                               Of<Tq20>("TQ2_0"),
                               Of<Mxfp4>("MXFP4"),
                               Of<Nvfp4>("NVFP4")};

}  // namespace
}  // namespace sotto::codec

namespace sotto {

Result<GgmlDequantize> DequantizerOf(const GgmlType& type) {
  for (const codec::Entry& e : codec::kDecoders)
    if (e.name == type.name) return e.decode;
  return BadModel(
      fmt::format("GGUF type {} is one that sotto doesn't read; take a file in Q2_K to Q8_0, F16 or BF16", type.name));
}

}  // namespace sotto
