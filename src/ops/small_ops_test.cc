#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "ops/cpu/kernels.h"
#include "ops/row.h"
#include "ops/testing.h"

namespace sotto {
namespace {

using testing::Cpu;
using testing::Isas;
using testing::KernelsOf;
using testing::kUnit;
using testing::Matrix;
using testing::Packed;
using testing::Rng;

TEST(LayerNorm, AgreesWithTheOracle) {
  Rng rng(1);
  for (Isa isa : Isas())
    for (int64_t cols : {1, 2, 7, 16, 33, 80, 384, 512, 1280})
      for (float size : {1e-3f, 1.0f, 1e4f}) {
        const Matrix x(rng, 9, cols, size, 3), gain(rng, 1, cols), bias(rng, 1, cols);
        Matrix got = x, want = x;
        Cpu(isa, 2)->LayerNorm(got.view(), gain.view(), bias.view(), 1e-5f, got.view());
        MakeRefBackend()->LayerNorm(x.view(), gain.view(), bias.view(), 1e-5f, want.view());
        for (int64_t r = 0; r < 9; ++r) {
          const double n = static_cast<double>(cols);
          double largest = 0, sum = 0, squares = 1e-5 * n;
          for (int64_t c = 0; c < cols; ++c) {
            largest = std::max(largest, std::fabs(double{x.at(r, c)}));
            sum += x.at(r, c);
          }
          for (int64_t c = 0; c < cols; ++c) squares += (x.at(r, c) - sum / n) * (x.at(r, c) - sum / n);
          // The mean, a sum of cols terms in 4 vectors, is off by some units of the largest value; that is divided by
          // the deviation. Normalized values are at most sqrt(cols).
          const double units = kUnit * (8 + n / 8) * (largest / std::sqrt(squares / n) + std::sqrt(n));
          for (int64_t c = 0; c < cols; ++c) {
            const double bound = units * std::fabs(gain.values[static_cast<size_t>(c)]) +
                                 kUnit * 2 * std::fabs(bias.values[static_cast<size_t>(c)]);
            ASSERT_NEAR(got.at(r, c), want.at(r, c), bound) << NameOf(isa) << " " << cols << " " << size;
          }
        }
      }
}

TEST(RmsNorm, AgreesWithTheOracle) {
  Rng rng(11);
  for (Isa isa : Isas())
    for (int64_t cols : {1, 3, 16, 33, 64, 640, 2048})
      for (float size : {1e-4f, 1.0f, 1e4f}) {
        const Matrix x(rng, 9, cols, size, 3), gain(rng, 1, cols);
        Matrix got = x, want = x;
        Cpu(isa, 2)->RmsNorm(got.view(), gain.view(), 1e-6f, got.view());
        MakeRefBackend()->RmsNorm(x.view(), gain.view(), 1e-6f, want.view());
        for (int64_t r = 0; r < 9; ++r)
          for (int64_t c = 0; c < cols;
               ++c)  // a sum of squares loses no digits: cols / 8 roundings, halved by the root
            ASSERT_NEAR(got.at(r, c), want.at(r, c),
                        std::fabs(want.at(r, c)) * kUnit * (6 + static_cast<double>(cols) / 16))
                << NameOf(isa);
      }
}

TEST(Rotate, AgreesWithTheOracleAndLeavesTheRest) {
  Rng rng(12);
  for (Isa isa : Isas())
    for (const auto& [heads, dim, turned] : {std::tuple{1, 64, 64}, {5, 80, 32}, {3, 6, 2}, {2, 128, 128}}) {
      const Matrix x(rng, 7, heads * dim, 2, 5);
      Matrix angles(rng, 7, turned), got = x, want = x;
      for (int64_t r = 0; r < 7; ++r)
        for (int64_t i = 0; i < turned / 2; ++i) {
          const double angle = static_cast<double>(r * 31 + i) * 0.37;
          angles.at(r, i) = static_cast<float>(std::cos(angle));
          angles.at(r, i + turned / 2) = static_cast<float>(std::sin(angle));
        }
      Cpu(isa, 2)->Rotate(got.view(), angles.view(), heads, dim);
      MakeRefBackend()->Rotate(want.view(), angles.view(), heads, dim);
      for (int64_t r = 0; r < 7; ++r)
        for (int64_t c = 0; c < heads * dim; ++c) {
          ASSERT_NEAR(got.at(r, c), want.at(r, c), 16 * kUnit * 8) << NameOf(isa);
          if (c % dim >= turned) {
            EXPECT_EQ(got.at(r, c), x.at(r, c));
          }
        }
    }
}

TEST(SiluMul, AgreesWithTheOracle) {
  Rng rng(13);
  for (Isa isa : Isas())
    for (float size : {0.01f, 3.0f, 40.0f}) {
      const Matrix gate(rng, 5, 333, size, 1), up(rng, 5, 333, 1, 2);
      Matrix got(rng, 5, 333), want = got;
      Cpu(isa, 2)->SiluMul(gate.view(), up.view(), got.view());
      MakeRefBackend()->SiluMul(gate.view(), up.view(), want.view());
      for (int64_t r = 0; r < 5; ++r)
        for (int64_t c = 0; c < 333; ++c)
          ASSERT_NEAR(got.at(r, c), want.at(r, c), 1e-6 * std::fabs(want.at(r, c)) + 1e-30) << gate.at(r, c);
    }
}

TEST(LayerNorm, AConstantRowGivesTheBias) {
  Rng rng(2);
  Matrix x(rng, 1, 64), gain(rng, 1, 64), bias(rng, 1, 64), out(rng, 1, 64);
  std::fill(x.values.begin(), x.values.end(), 3.0f);
  for (Isa isa : Isas()) {
    Cpu(isa, 1)->LayerNorm(x.view(), gain.view(), bias.view(), 1e-5f, out.view());
    EXPECT_EQ(out.values, bias.values);
  }
}

TEST(Gelu, IsWithinAMillionthEverywhere) {
  for (Isa isa : Isas()) {
    const cpu::Kernels& kernels = KernelsOf(isa);
    double worst = 0;
    for (int64_t i = 0; i < 400000; ++i) {
      float x[16], y[16];
      for (int j = 0; j < 16; ++j) x[j] = static_cast<float>(static_cast<double>(i * 16 + j) / 3.2e6 * 12 - 12);
      kernels.finish(x, 1, 16, nullptr, Into::kGelu, y, 16);
      for (int j = 0; j < 16; ++j)
        worst = std::max(worst, std::fabs(y[j] - double{x[j]} / 2 * std::erfc(-x[j] / std::sqrt(2.0))));
    }
    EXPECT_LE(worst, 1e-6) << NameOf(isa);
    std::printf("%s: largest error of GELU %.2e\n", std::string(NameOf(isa)).c_str(), worst);
    float x[16] = {0, -0.0f, 1e30f, -1e30f, 100, -100, 3e38f, -3e38f, 1e-40f}, y[16];
    kernels.finish(x, 1, 16, nullptr, Into::kGelu, y, 16);
    for (int j : {0, 1, 3, 5, 7}) EXPECT_EQ(y[j], 0);
    for (int j : {2, 4, 6}) EXPECT_EQ(y[j], x[j]);
  }
}

TEST(Exp, IsWithinTwoTenMillionthsOfItsValue) {
  for (Isa isa : Isas()) {
    const cpu::Kernels& kernels = KernelsOf(isa);
    double worst = 0;
    std::vector<float> x(4096), y(4096);
    for (int64_t i = 0; i < 700; ++i) {
      for (size_t j = 0; j < x.size(); ++j)
        x[j] =
            static_cast<float>(-87.3 + 175.3 * static_cast<double>(i * 4096 + static_cast<int64_t>(j)) / (700 * 4096));
      kernels.exp_shifted(x.data(), 4096, 0, y.data());
      for (size_t j = 0; j < x.size(); ++j) worst = std::max(worst, std::fabs(y[j] / std::exp(double{x[j]}) - 1));
    }
    EXPECT_LE(worst, 2e-7) << NameOf(isa);
    std::printf("%s: largest relative error of exp %.2e\n", std::string(NameOf(isa)).c_str(), worst);
    const float odd[] = {-INFINITY, -1e30f, -87.4f, 0.0f, -0.0f};
    float out[5];
    kernels.exp_shifted(odd, 5, 0, out);
    EXPECT_EQ(out[0], 0);
    EXPECT_EQ(out[1], 0);
    EXPECT_EQ(out[2], 0);
    EXPECT_EQ(out[3], 1);
    EXPECT_EQ(out[4], 1);
  }
}

TEST(Row, FirstOfTheLargestWins) {
  Rng rng(3);
  for (int64_t n : {1, 2, 7, 8, 31, 32, 33, 1000, 51865}) {
    Matrix x(rng, 1, n);
    EXPECT_EQ(ArgMax(x.values.data(), n), std::max_element(x.values.begin(), x.values.end()) - x.values.begin());
    const int64_t at = static_cast<int64_t>(rng() % static_cast<uint64_t>(n));
    for (int64_t i = at; i < n; ++i) x.values[static_cast<size_t>(i)] = 100;
    EXPECT_EQ(ArgMax(x.values.data(), n), at);
    x.values.back() = NAN;
    EXPECT_EQ(ArgMax(x.values.data(), n),
              at == n - 1 && n > 1 ? std::max_element(x.values.begin(), x.values.end() - 1) - x.values.begin() : at);
    std::fill(x.values.begin(), x.values.end(), -INFINITY);
    EXPECT_EQ(ArgMax(x.values.data(), n), 0);
  }
}

TEST(Row, LogSumExpAndSoftmax) {
  Rng rng(4);
  for (int64_t n : {1, 5, 16, 33, 1000, 51865})
    for (float size : {0.1f, 5.0f, 1000.0f}) {
      Matrix x(rng, 1, n, size);
      if (n > 5) x.values[3] = -INFINITY;
      const double peak = *std::max_element(x.values.begin(), x.values.end());
      double sum = 0;
      for (float v : x.values) sum += std::exp(v - peak);
      const double want = peak + std::log(sum);
      const float got = LogSumExp(x.values.data(), n);
      EXPECT_NEAR(got, want, 4 * kUnit * (std::fabs(want) + std::fabs(peak)) + 1e-6);
      std::vector<float> p(static_cast<size_t>(n));
      Softmax(x.values.data(), n, p.data());
      for (size_t i = 0; i < p.size(); ++i) {
        const double log = std::max(x.values[i] - want, -1e3);
        EXPECT_NEAR(p[i], std::exp(log),
                    std::exp(log) * (1e-6 + 8 * kUnit * (std::fabs(want) + std::fabs(log))) + 1.2e-38);
      }
    }
  const float none[] = {-INFINITY, -INFINITY};
  EXPECT_EQ(LogSumExp(none, 2), -INFINITY);
}

TEST(Embed, GivesTableRowsPlusPositions) {
  Rng rng(5);
  const Matrix table(rng, 37, 50), positions(rng, 10, 50);
  const int32_t ids[] = {0, 36, 17, 17}, pos[] = {9, 0, 3, 4};
  for (Isa isa : Isas())
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      const Packed packed(table, dtype, isa);
      Matrix got(rng, 4, 50), want = got;
      Cpu(isa, 1)->Embed(ids, pos, packed.view, positions.view(), got.view());
      MakeRefBackend()->Embed(ids, pos, packed.view, positions.view(), want.view());
      EXPECT_EQ(got.values, want.values);
      Cpu(isa, 1)->Embed(ids, {}, packed.view, View{}, got.view());
      std::vector<float> row(50);
      UnpackRow(packed.view, 36, row.data());
      EXPECT_EQ(std::memcmp(got.view().F32(1), row.data(), 200), 0);
    }
}

TEST(Convert, GoesToHalvesAndBackAndAddAdds) {
  Rng rng(6);
  const Matrix x(rng, 5, 70, 1, 3), y(rng, 5, 70);
  for (Isa isa : Isas())
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      std::vector<std::byte> narrow(5 * 80 * SizeOf(dtype)), expected(narrow.size());
      Matrix back(rng, 5, 70), want = back;
      const Cpu cpu(isa, 2);
      const auto ref = MakeRefBackend();
      cpu->Convert(x.view(), {narrow.data(), dtype, 5, 70, 80});
      ref->Convert(x.view(), {expected.data(), dtype, 5, 70, 80});
      EXPECT_EQ(narrow, expected);
      cpu->Convert({narrow.data(), dtype, 5, 70, 80}, back.view());
      ref->Convert({expected.data(), dtype, 5, 70, 80}, want.view());
      EXPECT_EQ(back.values, want.values);
      cpu->Add(back.view(), y.view(), back.view());
      ref->Add(want.view(), y.view(), want.view());
      EXPECT_EQ(back.values, want.values);
    }
}

}  // namespace
}  // namespace sotto
