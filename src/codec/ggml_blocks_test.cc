#include "codec/ggml_blocks.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/json.h"

namespace sotto {
namespace {

// The bytes, rows and digests of tests/golden/make_ggml_blocks.py.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}
uint64_t Word(uint64_t seed, uint64_t i) { return Mix(((seed << 40) + i) * 0x9E3779B97F4A7C15); }

template <class T>
std::string Digest(const std::vector<T>& values) {
  uint64_t sum = 0;
  for (size_t i = 0; i < values.size(); ++i) sum += Mix(i << 32 | values[i]);
  return fmt::format("{:016x}", sum);
}

std::vector<uint8_t> RandomBytes(uint64_t seed, size_t count) {
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(Word(seed, i / 8) >> (i % 8 * 8));
  return bytes;
}

double Normal(uint64_t seed, uint64_t i) {
  double sum = -6;
  for (uint64_t k = 0; k < 12; ++k) sum += static_cast<double>(Word(seed, 12 * i + k) >> 40) * 0x1p-24;
  return sum;
}

constexpr const char* kKinds[] = {"gaussian", "student", "outliers"};

std::vector<float> Row(const std::string& kind, size_t count = 16384) {
  std::vector<float> row(count);
  for (size_t i = 0; i < count; ++i) {
    double x, squares = 0;
    if (kind == "gaussian") {
      x = Normal(1, i);
    } else if (kind == "student") {
      for (uint64_t k = 0; k < 6; ++k) squares += Normal(3 + k, i) * Normal(3 + k, i);
      x = Normal(2, i) / std::sqrt(squares / 6);
    } else {
      x = Normal(9, i) * (Word(10, i) >> 57 == 0 ? 10 : 1);
    }
    row[i] = static_cast<float>(x * 0.02);
  }
  return row;
}

std::vector<float> Special() {
  std::vector<float> all;
  for (int block = 0; block < 11; ++block)
    for (int i = 0; i < 32; ++i) {
      const auto k = static_cast<float>(i);
      const float spike = i == 7 ? 1 : 0;
      const float x[11] = {0,
                           3,
                           -3,
                           k / 2 - 8,
                           8 - k / 2,
                           (k - 16) * 63.5f / 16,
                           spike,
                           -spike,
                           0,
                           (k - 9) * 1e4f,
                           i % 2 == 0 ? 1.0f : -1.0f};
      all.push_back(block == 8 ? static_cast<float>(k * 1e-30) : x[block]);
    }
  return all;
}

std::vector<uint8_t> Quantized(const GgmlType& type, const std::vector<float>& x) {
  std::vector<uint8_t> blocks(GgmlBytes(type, 1, x.size()));
  QuantizerOf(type).value()(x.data(), static_cast<int64_t>(x.size()), reinterpret_cast<std::byte*>(blocks.data()));
  return blocks;
}

std::vector<float> Dequantized(const GgmlType& type, const std::vector<uint8_t>& blocks) {
  std::vector<float> x(blocks.size() / type.bytes * type.block);
  DequantizerOf(type).value()(reinterpret_cast<const std::byte*>(blocks.data()), static_cast<int64_t>(x.size()),
                              x.data());
  return x;
}

std::vector<uint32_t> Bits(const std::vector<float>& floats) {
  std::vector<uint32_t> bits;
  for (const float f : floats) bits.push_back(std::isnan(f) ? 0x7FC00000 : std::bit_cast<uint32_t>(f));
  return bits;
}

double RootMeanSquare(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

std::vector<uint8_t> FromHex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

Json Golden(const char* file) {
  return ReadJson(std::string(SOTTO_SOURCE_DIR "/tests/golden/") + file, Code::kBadInput).value();
}

TEST(GgmlBlocks, AreDecodedAsTheReferencePackageDecodesThem) {
  const Json golden = Golden("ggml_blocks.json");
  int types = 0;
  for (const auto& [name, want] : golden["dequantize"].items()) {
    const GgmlType& type = *FindGgmlType(name);
    const std::vector<uint8_t> blocks = FromHex(want["blocks"].get<std::string>());
    const std::vector<uint8_t> floats = FromHex(want["floats"].get<std::string>());
    const std::vector<uint32_t> got = Bits(Dequantized(type, blocks));
    ASSERT_EQ(got.size() * 4, floats.size());
    EXPECT_EQ(std::memcmp(got.data(), floats.data(), floats.size()), 0) << name;
    std::vector<uint8_t> more = RandomBytes(type.id + 100, size_t{2050} * type.bytes);
    ASSERT_EQ(std::memcmp(more.data(), blocks.data(), blocks.size()), 0) << name;
    more.erase(more.begin(), more.begin() + 2 * type.bytes);
    EXPECT_EQ(Digest(Bits(Dequantized(type, more))), want["digest"]) << name;
    ++types;
  }
  EXPECT_EQ(types, 19);
}

TEST(GgmlBlocks, TheSimpleTypesAreWrittenAsTheReferencePackageWritesThem) {
  const Json golden = Golden("ggml_blocks.json");
  std::vector<float> rows;
  for (const char* kind : kKinds) {
    const std::vector<float> row = Row(kind);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  const std::vector<float> special = Special();
  rows.insert(rows.end(), special.begin(), special.end());
  EXPECT_EQ(golden["quantize"].size(), 7u);
  for (const auto& [name, want] : golden["quantize"].items())
    EXPECT_EQ(Digest(Quantized(*FindGgmlType(name), rows)), want) << name;
}

TEST(GgmlBlocks, ATypeThatIsNotReadOrWrittenIsNamed) {
  for (const GgmlType& type : kGgmlTypes) {
    const auto decode = DequantizerOf(type);
    if (!decode.ok()) {
      EXPECT_EQ(decode.error().code, Code::kBadModel);
      EXPECT_NE(decode.error().message.find(type.name), std::string::npos) << decode.error().message;
      EXPECT_FALSE(QuantizerOf(type).ok()) << type.name;
    }
  }
  EXPECT_FALSE(DequantizerOf(*FindGgmlType("IQ2_XXS")).ok());
  EXPECT_FALSE(DequantizerOf(*FindGgmlType("Q8_K")).ok());
  EXPECT_EQ(QuantizerOf(*FindGgmlType("IQ4_NL")).error().code, Code::kUsage);
}

constexpr const char* kWritten[] = {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"};

// ggml_rmse.json: bench/peers/ggml_blocks.py --out.
TEST(GgmlBlocks, ErrorsAreNotAboveThoseOfGgmlsQuantizer) {
  const Json ggml = Golden("ggml_rmse.json");
  for (const char* name : kWritten)
    for (const char* kind : kKinds) {
      const GgmlType& type = *FindGgmlType(name);
      const std::vector<float> row = Row(kind);
      const double error = RootMeanSquare(row, Dequantized(type, Quantized(type, row)));
      EXPECT_LE(error, ggml[name][kind].get<double>() * (std::string_view(name).ends_with("K") ? 0.99 : 1.000001))
          << name << " " << kind;
    }
}

// The search for scales does the same arithmetic everywhere, so a file written on one machine is the file of another. A better
// search changes these; a compiler or an instruction set must not.
TEST(GgmlBlocks, TheKTypesAreTheSameBytesOnEveryInstructionSet) {
  const std::pair<const char*, const char*> want[] = {{"Q2_K", "b5cb96e5fed95f56"},
                                                      {"Q3_K", "e2c0eb911a1c5df9"},
                                                      {"Q4_K", "672fe10b3e894294"},
                                                      {"Q5_K", "b3155be42d261cb6"},
                                                      {"Q6_K", "1179c3d27a476abd"}};
  for (const auto& [name, digest] : want)
    EXPECT_EQ(Digest(Quantized(*FindGgmlType(name), Row("student"))), digest) << name;
}

// Blocks of every size, one-sided and constant ones, single spikes. The simple types' bounds are half a step and the rounding of
// d to fp16; the signed ones clip the side that has one code less. The K types trade a far element for many near ones.
TEST(GgmlBlocks, WhatIsWrittenIsReadBackWithinTheTypesBound) {
  const std::pair<const char*, double> bounds[] = {{"Q8_0", 0.0045}, {"Q4_0", 0.126}, {"Q4_1", 0.068}, {"Q5_0", 0.0635},
                                                   {"Q5_1", 0.033},  {"Q2_K", 0.4},   {"Q3_K", 0.3},   {"Q4_K", 0.11},
                                                   {"Q5_K", 0.05},   {"Q6_K", 0.025}};
  for (const auto& [name, bound] : bounds) {
    const GgmlType& type = *FindGgmlType(name);
    for (uint64_t trial = 0; trial < 400; ++trial) {
      std::vector<float> x(256);
      const double scale = std::ldexp(1, static_cast<int>(trial % 15) - 2),
                   shift = static_cast<double>(trial / 15 % 5) - 2;
      for (size_t i = 0; i < x.size(); ++i) {
        const double spike = trial % 3 == 0 && i == trial % 256 ? 20 : 0, still = trial % 7 == 0 ? 0 : 1;
        x[i] = static_cast<float>(scale * (shift + still * Normal(20 + trial, i) + spike));
      }
      float range = 0;
      for (const float v : x) range = std::max(range, std::fabs(v));
      const std::vector<float> y = Dequantized(type, Quantized(type, x));
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_LE(std::fabs(x[i] - y[i]), bound * range)
            << name << " trial " << trial << " element " << i << ": " << x[i];
    }
  }
}

TEST(GgmlBlocks, APowerOfTwoChangesNothingButTheScale) {  // while no scale is a subnormal fp16
  for (const char* name : kWritten) {
    const GgmlType& type = *FindGgmlType(name);
    std::vector<float> x = Row("student", 4096);
    for (float& v : x) v *= 64;
    std::vector<float> want = Dequantized(type, Quantized(type, x));
    for (float& v : x) v *= 32;
    for (float& v : want) v *= 32;
    EXPECT_EQ(Bits(Dequantized(type, Quantized(type, x))), Bits(want)) << name;
  }
}

TEST(GgmlBlocks, NoNumberMakesAQuantizerFail) {  // under the sanitizers of `make test-full`
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  for (const char* name : kWritten)
    for (const float odd : {kInf, -kInf, kNan, 3e38f, -3e38f, 1e-45f, -1e-40f, 7e4f}) {
      const GgmlType& type = *FindGgmlType(name);
      std::vector<float> x(256, 0.0f);
      x[3] = odd, x[40] = -odd, x[41] = 1, x[200] = odd;
      Dequantized(type, Quantized(type, x));
      const std::vector<float> y = Dequantized(type, Quantized(type, std::vector<float>(256, odd)));
      if (std::fabs(odd) < 1e-39f) {
        for (const float v : y) EXPECT_LE(std::fabs(v), 1e-7f) << name;
      }
    }
}

}  // namespace
}  // namespace sotto
