// The blocks of GGUF types as bytes: what codec/ggml_blocks.h reads and writes. Internal to codec/. Structs are of bytes only,
// so they have no padding and need no alignment. `d` and `dmin` are fp16. The layouts are gguf-py's (gguf/quants.py).
#pragma once
#include <cstring>

#include "codec/half.h"

namespace sotto::codec {

struct HalfBytes {
  uint8_t bytes[2];
  operator float() const {  // NOLINT(google-explicit-constructor)
    return HalfToFloat(static_cast<uint16_t>(bytes[0] | bytes[1] << 8));
  }
  HalfBytes& operator=(float f) {
    const uint16_t h = FloatToHalf(f);
    bytes[0] = static_cast<uint8_t>(h & 255), bytes[1] = static_cast<uint8_t>(h >> 8);
    return *this;
  }
};

// x = d (q - 8). Byte i of q: element i in the low four bits, i + 16 in the high ones; likewise in all types of 32.
struct Q40 {
  static constexpr int kElements = 32;
  HalfBytes d;
  uint8_t q[16];
};
// x = d q + m
struct Q41 {
  static constexpr int kElements = 32;
  HalfBytes d, m;
  uint8_t q[16];
};
// x = d (q - 16). Bit i of `high` (little endian): the fifth bit of element i.
struct Q50 {
  static constexpr int kElements = 32;
  HalfBytes d;
  uint8_t high[4], q[16];
};
// x = d q + m
struct Q51 {
  static constexpr int kElements = 32;
  HalfBytes d, m;
  uint8_t high[4], q[16];
};
// x = d q
struct Q80 {
  static constexpr int kElements = 32;
  HalfBytes d;
  int8_t q[32];
};
// x = d values[q], the fixed values of kIq4Values
struct Iq4Nl {
  static constexpr int kElements = 32;
  HalfBytes d;
  uint8_t q[16];
};
// x = 2^(e - 128) values[q], twice the values of E2M1: 0 1 2 3 4 6 8 12 and their negatives
struct Mxfp4 {
  static constexpr int kElements = 32;
  uint8_t e;
  uint8_t q[16];
};
// Four groups of 16: x = d values[q] / 2, d unsigned E4M3; byte i of a group's eight holds its elements i and i + 8.
struct Nvfp4 {
  static constexpr int kElements = 64;
  uint8_t d[4];
  uint8_t q[4][8];
};

// The K types: 256 elements, in groups of 16 or 32 with integer scales of their own.

// 16 groups of 16: x = d scale q - dmin min. scales[g]: scale in the low four bits, min in the high ones. Byte 32 h + i of q
// holds elements 128 h + 32 s + i at bits 2 s (s = 0 … 3).
struct Q2K {
  static constexpr int kElements = 256;
  uint8_t scales[16], q[64];
  HalfBytes d, dmin;
};
// 16 groups of 16: x = d (scale - 32) (q - 4). The low two bits of q as in Q2_K; the third at bit (element / 32) of
// high[element % 32]. Six bits a scale: the low four of scale g in nibble g / 8 of scales[g % 8], the high two at bits
// 2 (g / 4) of scales[8 + g % 4].
struct Q3K {
  static constexpr int kElements = 256;
  uint8_t high[32], q[64], scales[12];
  HalfBytes d;
};
// 8 groups of 32: x = d scale q - dmin min. Byte 32 p + i of q: element 64 p + i in the low four bits, 64 p + 32 + i in the
// high ones. Scales and mins of six bits: those of groups 0 … 3 in scales[g] and scales[4 + g], those of groups 4 … 7 in the
// nibbles of scales[4 + g] (low: scale), their high two bits in the top of scales[g - 4] and scales[g].
struct Q4K {
  static constexpr int kElements = 256;
  HalfBytes d, dmin;
  uint8_t scales[12], q[128];
};
// As Q4_K, and bit g of high[i]: the fifth bit of element 32 g + i.
struct Q5K {
  static constexpr int kElements = 256;
  HalfBytes d, dmin;
  uint8_t scales[12], high[32], q[128];
};
// 16 groups of 16: x = d scale (q - 32). Byte 64 h + i of q: elements 128 h + i (low) and 128 h + 64 + i (high), i < 64;
// byte 32 h + i of high: the top two bits of elements 128 h + 32 s + i at bits 2 s.
struct Q6K {
  static constexpr int kElements = 256;
  uint8_t q[128], high[64];
  int8_t scales[16];
  HalfBytes d;
};
// 8 groups of 32: x = d (scale - 32) values[q]; nibbles as in Q4_0, group by group. Scale g: the low four bits in nibble g % 2
// of low[g / 2], the high two at bits 2 g of `high` (little endian).
struct Iq4Xs {
  static constexpr int kElements = 256;
  HalfBytes d;
  uint8_t high[2], low[4], q[8][16];
};
// x = d (t - 1), t in base 3: a byte of q is ceil(256 n / 243) of five digits n. Digit k of byte i is element 32 k + i in the
// first 32 bytes, 160 + 16 k + i in the next 16, and 240 + 4 k + i in the four (of four digits) of `last`.
struct Tq10 {
  static constexpr int kElements = 256;
  uint8_t q[48], last[4];
  HalfBytes d;
};
// x = d (q - 1), q as in Q2_K
struct Tq20 {
  static constexpr int kElements = 256;
  uint8_t q[64];
  HalfBytes d;
};

// Scale and min of a group of Q4_K and Q5_K.
struct ScaleMin {
  int scale, min;
};
inline ScaleMin UnpackScaleMin(const uint8_t* scales, int group) {
  if (group < 4) return {scales[group] & 63, scales[group + 4] & 63};
  return {(scales[group + 4] & 15) | (scales[group - 4] >> 6) << 4, (scales[group + 4] >> 4) | (scales[group] >> 6)
                                                                                                   << 4};
}

inline int UnpackQ3Scale(const uint8_t* scales, int group) {
  return ((scales[group % 8] >> (group / 8 * 4)) & 15) | ((scales[8 + group % 4] >> (group / 4 * 2)) & 3) << 4;
}

}  // namespace sotto::codec
