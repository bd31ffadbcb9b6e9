// Linear with weights in the plane code: the oracle's plain loops, the same bits on every instruction set, and lossless blocks are the
// panels that they were made from.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "codec/planes.h"
#include "ops/testing.h"

namespace sotto {
namespace {

using testing::Cpu;
using testing::Isas;
using testing::kUnit;
using testing::Matrix;
using testing::Packed;
using testing::Rng;

struct Block {
  // v from at(row, column).
  template <class At>
  Block(PlaneScheme scheme, int raw_bits, int64_t n, int64_t k, std::vector<float> scales, const PlanesLevel& level,
        const At& at, std::vector<uint8_t> values = {}) {
    const PlanesSource source{scheme,
                              raw_bits,
                              n,
                              k,
                              std::move(scales),
                              [&](int64_t first, int64_t count, int32_t* to) {
                                for (int64_t i = 0; i < count * k; ++i) to[i] = at(first + i / k, i % k);
                              },
                              std::move(values)};
    Threads threads(1);
    auto made = EncodePlanes(source, PlanPlanes(source, level, threads), threads);
    EXPECT_TRUE(made.ok());
    bytes = std::move(made).value();
    EXPECT_TRUE(CheckPlanes(bytes, n, k, "w").ok());
    view = {bytes.data(), DType::kU8, 0, n, k, nullptr, true};
  }
  std::vector<std::byte> bytes;
  WeightView view;
};

Block RandomBlock(Rng& rng, int64_t n, int64_t k, double sigma, int raw_bits, const PlanesLevel& level) {
  std::student_t_distribution<double> draw(6);
  const int most = (128 << raw_bits) - 1;
  std::vector<int32_t> v(static_cast<size_t>(n * k));
  for (int32_t& x : v) x = std::clamp(static_cast<int>(std::floor(draw(rng) * sigma)), -most - 1, most);
  return Block(PlaneScheme::kStep, raw_bits, n, k, {0.03F}, level,
               [&](int64_t r, int64_t c) { return v[static_cast<size_t>(r * k + c)]; });
}

bool SameBits(const Matrix& a, const Matrix& b) {
  return std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(float)) == 0;
}

TEST(PlaneLinear, AgreesWithTheOracleAndBetweenInstructionSets) {
  Rng rng(1);
  for (int i = 0; i < 120; ++i) {
    const int64_t k = 1 + static_cast<int64_t>(rng() % 300), n = 1 + static_cast<int64_t>(rng() % 50),
                  m = 1 + static_cast<int64_t>(rng() % (i % 2 == 0 ? 6 : 60));
    const double sigma = std::exp2(static_cast<double>(rng() % 14) / 2 - 1);
    const int raw_bits = i % 5 == 0 ? static_cast<int>(rng() % 8) : 0;
    const Block w = RandomBlock(rng, n, k, sigma * (1 << raw_bits), raw_bits,
                                {static_cast<int>(rng() % 7), 1 + static_cast<int>(rng() % 3)});
    Matrix x(rng, m, k, 1, 3);
    if (i % 4 == 0)  // the largest products
      for (float& v : x.values) v = v < 0 ? -1.0F : 1.0F;
    const Matrix bias(rng, 1, n), before(rng, m, n);
    Matrix want = before, plain = before;
    MakeRefBackend()->Linear(x.view(), w.view, bias.view(), want.view(), Into::kAdd);
    Cpu(Isa::kPortable, 1, k)->Linear(x.view(), w.view, bias.view(), plain.view(), Into::kAdd);
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t c = 0; c < n; ++c) {
      UnpackRow(w.view, c, row.data());
      for (int64_t r = 0; r < m; ++r) {
        double sum = 1 + std::fabs(double{before.at(r, c)} + bias.at(0, c));
        for (int64_t j = 0; j < k; ++j) sum += std::fabs(double{x.at(r, j)} * row[static_cast<size_t>(j)]);
        ASSERT_NEAR(plain.at(r, c), want.at(r, c), (static_cast<double>(k) + 16) * kUnit * sum)
            << i << " at " << r << ", " << c;
      }
    }
    for (const Isa isa : Isas()) {
      Matrix got = before;
      Cpu(isa, 2, k)->Linear(x.view(), w.view, bias.view(), got.view(), Into::kAdd);
      ASSERT_TRUE(raw_bits != 0 || SameBits(plain, got)) << NameOf(isa) << " " << i;
      for (size_t at = 0; at < got.values.size(); ++at)
        ASSERT_NEAR(got.values[at], plain.values[at], 1e-4 * (1 + std::fabs(plain.values[at]))) << NameOf(isa);
    }
  }
}

TEST(PlaneLinear, ExactProductsAreThoseOfTheWeightsInFp32) {
  Rng rng(2);
  for (int i = 0; i < 60; ++i) {
    const int64_t k = 1 + static_cast<int64_t>(rng() % 700), n = 1 + static_cast<int64_t>(rng() % 50),
                  m = 1 + static_cast<int64_t>(rng() % (i % 2 == 0 ? 6 : 60));
    Block w = RandomBlock(rng, n, k, std::exp2(static_cast<double>(i % 8)), 0, {1 + i % 4, 2});
    w.view.exact = true;
    const Matrix x(rng, m, k, 1, 3);
    Matrix want(rng, m, n);
    MakeRefBackend()->Linear(x.view(), w.view, {}, want.view(), Into::kStore);
    std::vector<float> row(static_cast<size_t>(k));
    for (const Isa isa : Isas()) {
      Matrix got(rng, m, n);
      Cpu(isa, 2, k)->Linear(x.view(), w.view, {}, got.view(), Into::kStore);
      for (int64_t c = 0; c < n; ++c) {
        UnpackRow(w.view, c, row.data());
        for (int64_t r = 0; r < m; ++r) {
          double product = 0, sum = 0;
          for (int64_t j = 0; j < k; ++j) {
            const double term = double{x.at(r, j)} * row[static_cast<size_t>(j)];
            product += term, sum += std::fabs(term);
          }
          ASSERT_NEAR(want.at(r, c), product, kUnit * std::fabs(product)) << i << " at " << r << ", " << c;
          ASSERT_NEAR(got.at(r, c), product, (static_cast<double>(k) + 1) * kUnit * sum) << NameOf(isa) << " " << i;
        }
      }
    }
  }
}

TEST(PlaneLinear, ResultsDependNeitherOnThreadsNorOnTheRowsBeside) {
  Rng rng(3);
  for (const Isa isa : Isas())
    for (const int raw_bits : {0, 2}) {
      const Block w = RandomBlock(rng, 90, 516, 4 << raw_bits, raw_bits, {1, 4});
      const Matrix x(rng, 150, 516), bias(rng, 1, 90);
      Matrix want(rng, 150, 90), got = want;
      Cpu(isa, 1, 516)->Linear(x.view(), w.view, bias.view(), want.view(), Into::kStore);
      Cpu three(isa, 3, 516);
      for (int64_t r = 0; r < 150; r += 1 + r % 5) {
        const int64_t count = std::min<int64_t>(1 + r % 5, 150 - r);
        three->Linear(x.view().Rows(r, count), w.view, bias.view(), got.view().Rows(r, count), Into::kStore);
      }
      EXPECT_TRUE(SameBits(want, got)) << NameOf(isa) << " " << raw_bits;
    }
}

TEST(PlaneLinear, LosslessInt8IsInt8) {
  Rng rng(4);
  for (const Isa isa : Isas())
    for (const int64_t k : {64, 80, 700}) {
      const int64_t n = 50;
      const Matrix w(rng, n, k, 0.1F), x(rng, 40, k), bias(rng, 1, n);
      const Packed panels(w, DType::kI8, isa);
      std::vector<float> scales, row(static_cast<size_t>(k));
      std::vector<int32_t> codes;
      for (int64_t r = 0; r < n; ++r) {  // scale = absmax / 127, codes rounded to even: codec/panel.h
        float absmax = 0;
        for (int64_t c = 0; c < k; ++c) absmax = std::max(absmax, std::fabs(w.at(r, c)));
        scales.push_back(absmax / 127);
        for (int64_t c = 0; c < k; ++c)
          codes.push_back(static_cast<int32_t>(std::nearbyint(w.at(r, c) * (127 / absmax))));
      }
      const Block block(PlaneScheme::kInt8, 0, n, k, scales, {2, 2},
                        [&](int64_t r, int64_t c) { return codes[static_cast<size_t>(r * k + c)]; });
      for (const int64_t m : {1, 2, 40}) {
        Matrix want(rng, m, n), got = want;
        Cpu cpu(isa, 2, k);
        cpu->Linear(x.view().Rows(0, m), panels.view, bias.view(), want.view(), Into::kStore);
        cpu->Linear(x.view().Rows(0, m), block.view, bias.view(), got.view(), Into::kStore);
        ASSERT_TRUE(SameBits(want, got)) << NameOf(isa) << " " << k << " " << m;
      }
      for (int64_t r = 0; r < n; ++r) {
        std::vector<float> a(static_cast<size_t>(k)), b(a);
        UnpackRow(panels.view, r, a.data());
        UnpackRow(block.view, r, b.data());
        ASSERT_EQ(a, b);
      }
    }
}

TEST(PlaneLinear, LosslessHalvesAreHalves) {
  Rng rng(5);
  for (const Isa isa : Isas())
    for (const auto& [dtype, raw_bits] : {std::pair{DType::kF16, 8}, {DType::kBF16, 8}, {DType::kBF16, 7}}) {
      const int64_t n = 40, k = 333;
      const Matrix w(rng, n, k, 0.05F), x(rng, 30, k), bias(rng, 1, n);
      const Packed panels(w, dtype, isa);
      // Ranks of the upper bits: any order decodes, and no exponent is above 127.
      std::vector<uint8_t> values(128);
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(127 - i);
      const Block block(
          dtype == DType::kF16 ? PlaneScheme::kF16 : PlaneScheme::kBF16, raw_bits, n, k, {}, {3, 2},
          [&, dtype = dtype, raw_bits = raw_bits](int64_t r, int64_t c) {
            const float v = w.at(r, c);
            uint16_t bits;
            if (dtype == DType::kF16) FloatToHalf(&v, 1, &bits);
            if (dtype == DType::kBF16) FloatToBf16(&v, 1, &bits);
            const int rank = 127 - ((bits & 0x7FFF) >> raw_bits), high = (bits & 0x8000) != 0 ? -1 - rank : rank;
            return high * (1 << raw_bits) + (bits & ((1 << raw_bits) - 1));
          },
          values);
      for (const int64_t m : {1, 3, 30}) {
        Matrix want(rng, m, n), got = want;
        Cpu cpu(isa, 2, k);
        cpu->Linear(x.view().Rows(0, m), panels.view, bias.view(), want.view(), Into::kStore);
        cpu->Linear(x.view().Rows(0, m), block.view, bias.view(), got.view(), Into::kStore);
        ASSERT_TRUE(SameBits(want, got)) << NameOf(isa) << " " << NameOf(dtype) << " " << m;
      }
    }
}

}  // namespace
}  // namespace sotto
