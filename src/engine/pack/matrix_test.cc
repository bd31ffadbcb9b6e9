#include "engine/pack/matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

namespace sotto {
namespace {

std::vector<float> Weights(int64_t rows, int64_t cols) {
  std::mt19937 rng(1);
  std::student_t_distribution<float> draw(6);
  std::vector<float> w(static_cast<size_t>(rows * cols));
  for (float& x : w) x = 0.02F * draw(rng);
  return w;
}

MatrixInMemory Of(const std::vector<float>& w, int64_t cols) {
  return {reinterpret_cast<const std::byte*>(w.data()), FindGgmlType("F32"), static_cast<int64_t>(w.size()) / cols,
          cols};
}

TEST(PackMatrix, MeetsAnyRateAndSaysWhatItCost) {
  const std::vector<float> w = Weights(256, 512);
  Threads threads(2);
  double before = 0;
  for (const double bits : {2.2, 3.0, 4.3, 5.7, 8.0, 11.0}) {
    const Result<PackedBlock> b = PackMatrix(Of(w, 512), {.bits = bits}, threads);
    ASSERT_TRUE(b.ok()) << b.error().message;
    ASSERT_TRUE(CheckPlanes(b->bytes, 256, 512, "w").ok());
    const double got = 8.0 * static_cast<double>(b->bytes.size()) / static_cast<double>(w.size());
    EXPECT_LE(got, bits);
    EXPECT_GE(got, bits * 0.985);  // near 8 bits whole panels change their code at once
    std::vector<float> decoded(w.size());
    UnpackPlaneRows(b->bytes.data(), 0, 256, decoded.data());
    double power = 0, squares = 0, most = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      const double e = double{w[i]} - double{decoded[i]};
      power += double{w[i]} * w[i], squares += e * e, most = std::max(most, std::fabs(e));
    }
    EXPECT_NEAR(b->error_db, 10 * std::log10(power / squares), 1e-6);
    EXPECT_EQ(b->max_error, most);
    EXPECT_GT(b->error_db, before);
    before = b->error_db;
  }
}

TEST(PackMatrix, RefusesWhatItCannotCode) {
  std::vector<float> w = Weights(20, 30);
  Threads threads(1);
  const auto refused = [&](const MatrixInMemory& m, const PackRequest& request) {
    const Result<PackedBlock> b = PackMatrix(m, request, threads);
    return !b.ok() && b.error().code == Code::kUsage;
  };
  for (const double bits : {0.0, 1.9, 12.1, std::nan("")}) EXPECT_TRUE(refused(Of(w, 30), {.bits = bits}));
  EXPECT_TRUE(refused(Of(w, 30), {.mode = PackMode::kHalves}));
  EXPECT_TRUE(refused(Of(w, 30), {.bits = 4, .level = "best"}));
  EXPECT_TRUE(refused({nullptr, FindGgmlType("F32"), 0, 30}, {.bits = 4}));
  EXPECT_FALSE(refused(Of(w, 30), {.bits = 4}));
  w[77] = INFINITY;
  for (const PackMode mode : {PackMode::kRate, PackMode::kInt8})
    EXPECT_TRUE(refused(Of(w, 30), {.mode = mode, .bits = 4}));
}

TEST(PackMatrix, ZerosStayZeros) {
  const std::vector<float> w(40 * 24);
  Threads threads(1);
  const Result<PackedBlock> b = PackMatrix(Of(w, 24), {.bits = 4}, threads);
  ASSERT_TRUE(b.ok());
  std::vector<float> decoded(w.size(), 1);
  UnpackPlaneRows(b->bytes.data(), 0, 40, decoded.data());
  EXPECT_EQ(decoded, w);
}

}  // namespace
}  // namespace sotto
