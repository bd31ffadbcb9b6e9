// Packing in plain C++: the definition that the other instruction sets reproduce bit for bit.
#include <algorithm>
#include <cfloat>
#include <cstring>

#include "codec/half.h"
#include "codec/pack.h"

namespace sotto::codec {
namespace {

uint16_t Read16(const std::byte* p) {
  uint16_t v;
  std::memcpy(&v, p, 2);
  return v;
}

float ReadF32(DType source, const std::byte* row, int64_t k) {
  if (source == DType::kF16) return HalfToFloat(Read16(row + 2 * k));
  if (source == DType::kBF16) return Bf16ToFloat(Read16(row + 2 * k));
  float v;
  std::memcpy(&v, row + 4 * k, 4);
  return v;
}

// Adding 1.5 * 2^23 leaves the integer, rounded to nearest even, in the low bits.
int32_t RoundToInt(float v) { return std::bit_cast<int32_t>(v + 12582912.0f) - 0x4B400000; }

void PackInt8(PanelFormat f, DType source, std::span<const std::byte* const> rows, int64_t k, std::byte* out) {
  float scales[kPanel] = {};
  int32_t sums[kPanel] = {};
  auto* codes = reinterpret_cast<int8_t*>(out);
  for (size_t c = 0; c < rows.size(); ++c) {
    float absmax = 0;  // a NaN never enters: comparisons with it are false
    for (int64_t i = 0; i < k; ++i) {
      const float a = std::bit_cast<float>(std::bit_cast<uint32_t>(ReadF32(source, rows[c], i)) & 0x7FFFFFFF);
      absmax = a > absmax ? a : absmax;
    }
    absmax = std::min(absmax, FLT_MAX);
    if (absmax < kLeastAbsmax) continue;
    scales[c] = absmax / 127;
    const float inverse = 127 / absmax;
    for (int64_t i = 0; i < k; ++i) {
      float v = ReadF32(source, rows[c], i) * inverse;
      v = v < 127.0f ? v : 127.0f;
      v = v > -127.0f ? v : -127.0f;
      const int32_t code = RoundToInt(v);
      codes[(i / f.group * kPanel + static_cast<int64_t>(c)) * f.group + i % f.group] = static_cast<int8_t>(code);
      sums[c] += code;
    }
  }
  std::memcpy(out + ScalesOffset(f, k), scales, sizeof scales);
  std::memcpy(out + ScalesOffset(f, k) + sizeof scales, sums, sizeof sums);
}

void Pack(PanelFormat f, DType source, std::span<const std::byte* const> rows, int64_t k, std::byte* out) {
  const int64_t groups = (k + f.group - 1) / f.group;
  std::memset(out, 0, static_cast<uint64_t>(groups * f.group * kPanel) * SizeOf(f.dtype));
  if (f.dtype == DType::kI8) return PackInt8(f, source, rows, k, out);
  for (size_t c = 0; c < rows.size(); ++c) {
    for (int64_t i = 0; i < k; ++i) {
      const int64_t at = (i / f.group * kPanel + static_cast<int64_t>(c)) * f.group + i % f.group;
      if (f.dtype == DType::kF32) {
        reinterpret_cast<float*>(out)[at] = ReadF32(source, rows[c], i);
      } else {
        const uint16_t bits = source == f.dtype        ? Read16(rows[c] + 2 * i)
                              : f.dtype == DType::kF16 ? FloatToHalf(ReadF32(source, rows[c], i))
                                                       : FloatToBf16(ReadF32(source, rows[c], i));
        reinterpret_cast<uint16_t*>(out)[at] = bits;
      }
    }
  }
}

template <auto convert, class From, class To>
void Each(const From* from, int64_t n, To* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = convert(from[i]);
}

constexpr float (*kFromHalf)(uint16_t) = HalfToFloat;
constexpr uint16_t (*kToHalf)(float) = FloatToHalf;
constexpr float (*kFromBf16)(uint16_t) = Bf16ToFloat;
constexpr uint16_t (*kToBf16)(float) = FloatToBf16;

}  // namespace

const Kernels kPortableKernels = {Pack, Each<kFromHalf, uint16_t, float>, Each<kToHalf, float, uint16_t>,
                                  Each<kFromBf16, uint16_t, float>, Each<kToBf16, float, uint16_t>};

}  // namespace sotto::codec
