// fp16 (IEEE binary16) and bf16 to and from fp32. Rounds to nearest, ties to even; overflow gives infinity; a NaN stays
// a NaN of the same sign and leading payload bits, made quiet: bit for bit what F16C and AVX512-BF16 do (bf16
// subnormals are kept, though).
#pragma once
#include <bit>
#include <cstdint>

namespace sotto {

constexpr float HalfToFloat(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3FF;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000 | (mantissa != 0 ? 0x400000 : 0) | mantissa << 13);
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24, exact
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | mantissa << 13);
}

constexpr uint16_t FloatToHalf(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f), x = bits & 0x7FFFFFFF, sign = (bits >> 16) & 0x8000;
  if (x > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00 | ((x >> 13) & 0x3FF));
  if (x >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);  // from 65,520 on
  if (x < 0x38800000) {  // below 2^-14: adding 0.5 puts the unit of a half's subnormals, 2^-24, in the last place
    const float shifted = std::bit_cast<float>(x) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000));
  }
  return static_cast<uint16_t>(sign | ((x - (112u << 23) + 0xFFF + ((x >> 13) & 1)) >> 13));
}

constexpr float Bf16ToFloat(uint16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }

constexpr uint16_t FloatToBf16(float f) {
  const uint32_t x = std::bit_cast<uint32_t>(f);
  if ((x & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>((x >> 16) | 0x40);
  return static_cast<uint16_t>((x + 0x7FFF + ((x >> 16) & 1)) >> 16);
}

// Arrays of n elements, vectorised. `from` and `to` may be unaligned but do not overlap.
void HalfToFloat(const uint16_t* from, int64_t n, float* to);
void FloatToHalf(const float* from, int64_t n, uint16_t* to);
void Bf16ToFloat(const uint16_t* from, int64_t n, float* to);
void FloatToBf16(const float* from, int64_t n, uint16_t* to);

}  // namespace sotto
