#include "codec/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "codec/pack.h"

namespace sotto {
namespace {

std::vector<const codec::Kernels*> Tables() {
  std::vector<const codec::Kernels*> tables = {&codec::kPortableKernels};
#if defined(__x86_64__)
  if (Supports(Isa::kAvx2)) tables.push_back(&codec::kAvx2Kernels);
#endif
  return tables;
}

double HalfByDefinition(uint16_t h) {  // finite values only
  const int exponent = (h >> 10) & 31, mantissa = h & 0x3FF;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (h & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(Half, EveryPatternMeansWhatTheStandardSaysAndComesBack) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto h = static_cast<uint16_t>(i);
    const float f = HalfToFloat(h);
    EXPECT_EQ(std::signbit(f), (h & 0x8000) != 0);
    if ((h & 0x7C00) == 0x7C00) {
      EXPECT_TRUE((h & 0x3FF) != 0 ? std::isnan(f) : std::isinf(f)) << i;
      EXPECT_EQ(FloatToHalf(f), (h & 0x3FF) != 0 ? (h | 0x200) : h) << i;
    } else {
      EXPECT_EQ(f, HalfByDefinition(h)) << i;
      EXPECT_EQ(FloatToHalf(f), h) << i;
    }
    const float b = Bf16ToFloat(h);
    EXPECT_EQ(FloatToBf16(b), std::isnan(b) ? (h | 0x40) : h) << i;
  }
}

TEST(Half, RoundsToNearestEvenBetweenEveryTwoNeighbours) {
  for (uint32_t i = 0; i < 0x7BFF; ++i) {
    const auto low = static_cast<uint16_t>(i), high = static_cast<uint16_t>(i + 1), even = i % 2 == 0 ? low : high;
    const float middle = static_cast<float>((HalfByDefinition(low) + HalfByDefinition(high)) / 2);  // exact in fp32
    EXPECT_EQ(FloatToHalf(middle), even) << i;
    EXPECT_EQ(FloatToHalf(std::nextafter(middle, 0.0f)), low) << i;
    EXPECT_EQ(FloatToHalf(std::nextafter(middle, 1e9f)), high) << i;
    EXPECT_EQ(FloatToHalf(-middle), even | 0x8000) << i;
  }
  EXPECT_EQ(FloatToHalf(65519.996f), 0x7BFF);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7C00);
  for (uint32_t i = 0; i < 0x7F80; ++i) {
    const uint16_t even = static_cast<uint16_t>(i % 2 == 0 ? i : i + 1);
    EXPECT_EQ(FloatToBf16(std::bit_cast<float>(i << 16 | 0x8000)), even) << i;
    EXPECT_EQ(FloatToBf16(std::bit_cast<float>(i << 16 | 0x7FFF)), i) << i;
    EXPECT_EQ(FloatToBf16(std::bit_cast<float>(i << 16 | 0x8001)), i + 1) << i;
  }
}

TEST(Half, ArraysAgreeWithSingleValuesOnEveryInstructionSet) {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> floats;
  for (uint32_t i = 0; i < 65536;
       ++i)  // all signs, exponents and leading bits, with low bits around the ties of both types
    for (uint32_t low : {0u, 1u, 0x1000u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu})
      floats.push_back(std::bit_cast<float>(i << 16 | low));
  for (const codec::Kernels* kernels : Tables()) {
    std::vector<float> wide(65536), brain(65536);
    kernels->half_to_float(halves.data(), 65536, wide.data());
    kernels->bf16_to_float(halves.data(), 65536, brain.data());
    for (size_t i = 0; i < 65536; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(wide[i]), std::bit_cast<uint32_t>(HalfToFloat(halves[i]))) << i;
      ASSERT_EQ(std::bit_cast<uint32_t>(brain[i]), std::bit_cast<uint32_t>(Bf16ToFloat(halves[i]))) << i;
    }
    std::vector<uint16_t> half(floats.size()), bf16(floats.size());
    kernels->float_to_half(floats.data(), static_cast<int64_t>(floats.size()), half.data());
    kernels->float_to_bf16(floats.data(), static_cast<int64_t>(floats.size()), bf16.data());
    for (size_t i = 0; i < floats.size(); ++i) {
      ASSERT_EQ(half[i], FloatToHalf(floats[i])) << i << " " << floats[i];
      ASSERT_EQ(bf16[i], FloatToBf16(floats[i])) << i << " " << floats[i];
    }
    for (int64_t n = 0; n < 20; ++n) {  // writes exactly n elements
      std::vector<uint16_t> out(32, 0xABCD);
      kernels->float_to_half(floats.data() + 100, n, out.data());
      for (size_t i = 0; i < 32; ++i)
        EXPECT_EQ(out[i], static_cast<int64_t>(i) < n ? FloatToHalf(floats[100 + i]) : 0xABCD);
    }
  }
}

}  // namespace
}  // namespace sotto
