#include "codec/planes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

namespace sotto {
namespace {

struct Made {
  PlanesSource source;
  std::vector<int32_t> values;  // [out][in]
};

// Values v of a Gaussian or heavy-tailed tensor of this standard deviation (in steps).
Made Make(int64_t out, int64_t in, double sigma, PlaneScheme scheme, int raw_bits, unsigned seed) {
  Made m;
  m.source.scheme = scheme, m.source.raw_bits = raw_bits, m.source.out = out, m.source.in = in;
  m.source.scales = std::vector<float>(scheme == PlaneScheme::kInt8 ? static_cast<size_t>(out) : 1, 0.5F);
  std::mt19937 rng(seed);
  std::student_t_distribution<double> draw(6);
  const int most = (128 << raw_bits) - 1;
  m.values.resize(static_cast<size_t>(out * in));
  for (int32_t& v : m.values) v = std::clamp(static_cast<int>(std::floor(draw(rng) * sigma)), -most - 1, most);
  m.source.rows = [&values = m.values, in](int64_t first, int64_t count, int32_t* to) {
    std::copy_n(values.begin() + first * in, count * in, to);
  };
  return m;
}

std::vector<std::byte> Encode(const Made& m, const PlanesLevel& level) {
  Threads threads(2);
  auto block = EncodePlanes(m.source, PlanPlanes(m.source, level, threads), threads);
  EXPECT_TRUE(block.ok());
  return std::move(block).value();
}

// The values v, exactly: scales are 0.5, and floats hold 24 bits.
std::vector<int32_t> Decode(const std::vector<std::byte>& block) {
  const Planes planes(block.data());
  const double half = planes.header().scheme == PlaneScheme::kStep ? 0.5 : 0;
  std::vector<float> row(planes.header().in);
  std::vector<int32_t> all;
  for (int64_t r = 0; r < int64_t{planes.header().out}; ++r) {
    UnpackPlaneRow(block.data(), r, row.data());
    for (const float w : row) all.push_back(static_cast<int32_t>(double{w} / 0.5 - half));
  }
  return all;
}

TEST(PlaneCode, ItsLengthsAreNearTheEntropy) {
  // The limit on escapes costs codes of two planes 0.05 bits at the first entropy, the worst spot.
  struct Case {
    double sigma;
    int planes;
    double most;
  };
  for (const auto& [sigma, planes, most] :
       {Case{4.07, 1, 0.27}, {4.07, 2, 0.18}, {4.07, 4, 0.09}, {4.07, 8, 0.06}, {5, 2, 0.15}}) {
    std::mt19937 rng(1);
    std::normal_distribution<double> draw(0, sigma);
    Magnitudes h{};
    std::array<uint64_t, 256> counts{};
    for (int i = 0; i < 1 << 18; ++i) {
      const int v = std::clamp(static_cast<int>(std::floor(draw(rng))), -128, 127);
      ++h[static_cast<size_t>(MagnitudeOf(v))];
      ++counts[static_cast<size_t>(v + 128)];
    }
    const PlaneCode code = ChooseCode(h, planes);
    EXPECT_LE(code.planes, planes);
    EXPECT_LE(CodeBits(code, h) / (1 << 18) - Entropy(counts), most) << sigma << " with " << planes;
    EXPECT_GE(CodeBits(code, h) / (1 << 18), Entropy(counts));
  }
}

TEST(PlaneCode, IsTheBestOfAll) {
  Magnitudes h{};
  for (size_t m = 0; m < 12; ++m) h[m] = 4096 >> m;
  const double best = CodeBits(ChooseCode(h, 2), h);
  for (int base = 2; base <= 8; ++base)
    for (int t0 = 0; t0 < 128; ++t0)
      for (int t1 = 0; t1 < 128; ++t1)
        for (int planes = 0; planes <= 2; ++planes) {
          const PlaneCode code{static_cast<uint8_t>(base),
                               static_cast<uint8_t>(planes),
                               {static_cast<uint8_t>(t0), static_cast<uint8_t>(t1)}};
          if (!IsValid(code)) continue;
          ASSERT_GE(CodeBits(code, h), best) << base << " " << t0 << " " << t1;
        }
}

TEST(Planes, WhatGoesInComesOut) {
  unsigned seed = 1;
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{16, 64}, {33, 250}, {7, 3}, {48, 1056}})
    for (const double sigma : {0.4, 1.5, 4.0, 20.0, 60.0})
      for (const int planes : {0, 1, 2, 4, 8})
        for (const int raw : {0, 3, 8}) {
          const Made m =
              Make(out, in, sigma * (1 << raw), raw == 0 ? PlaneScheme::kInt8 : PlaneScheme::kStep, raw, ++seed);
          const auto block = Encode(m, {planes, 3});
          const Status good = CheckPlanes(block, out, in, "w");
          ASSERT_TRUE(good.ok()) << good.error().message;
          ASSERT_TRUE(!Supports(Isa::kAvx2) || CheckPlanes(block, out, in, "w", Isa::kAvx2).ok());
          ASSERT_EQ(Decode(block), m.values) << out << " " << in << " " << sigma << " " << planes << " " << raw;
        }
}

TEST(Planes, RowsAreTheSameInAnyPieces) {
  for (const auto& [scheme, raw, sigma] :
       {std::tuple{PlaneScheme::kInt8, 0, 20.0}, {PlaneScheme::kStep, 0, 60.0}, {PlaneScheme::kStep, 2, 60.0}}) {
    const Made m = Make(50, 301, sigma, scheme, raw, 11);
    const auto block = Encode(m, {1, 2});
    const std::vector<int32_t> want = Decode(block);
    ASSERT_EQ(want, m.values);
    const float half = scheme == PlaneScheme::kStep ? 0.5F : 0;
    for (const auto& [first, count] :
         {std::pair<int64_t, int64_t>{0, 50}, {3, 1}, {15, 2}, {7, 40}, {48, 2}, {50, 0}}) {
      std::vector<float> rows(static_cast<size_t>(count) * 301);
      UnpackPlaneRows(block.data(), first, count, rows.data());
      for (size_t i = 0; i < rows.size(); ++i)
        ASSERT_EQ(rows[i], (static_cast<float>(want[static_cast<size_t>(first) * 301 + i]) + half) * 0.5F);
    }
  }
}

TEST(Planes, EntropyIsThatOfTheWeightsAlone) {
  const Made m = Make(50, 301, 3, PlaneScheme::kInt8, 0, 12);
  std::array<uint64_t, 256> counts{};
  for (const int32_t v : m.values) ++counts[static_cast<size_t>(v + 128)];
  EXPECT_DOUBLE_EQ(PlanesEntropy(Encode(m, {1, 2}).data()), Entropy(counts));
}

TEST(Planes, SizesAreThoseOfTheCode) {
  const Made m = Make(256, 1024, 4, PlaneScheme::kStep, 0, 5);
  Magnitudes h{};
  for (const int32_t v : m.values) ++h[static_cast<size_t>(MagnitudeOf(v))];
  const double one_code = CodeBits(ChooseCode(h, 2), h) / static_cast<double>(m.values.size());
  const double bits = 8.0 * static_cast<double>(Encode(m, {2, 4}).size()) / static_cast<double>(m.values.size());
  EXPECT_LT(bits, one_code + 0.03) << "header and index";
  EXPECT_GT(bits, one_code - 0.05);
  Threads threads(1);
  const PlanesPlan plan = PlanPlanes(m.source, {2, 4}, threads);
  EXPECT_NEAR(static_cast<double>(plan.bytes), static_cast<double>(Encode(m, {2, 4}).size()), 16.0 * 8);
}

TEST(Planes, FastDecodersAreThePlainOne) {
  if (!Supports(Isa::kAvx2)) GTEST_SKIP() << "this CPU has no AVX2";
  std::mt19937 rng(7);
  int compared = 0;
  for (int base = 2; base <= 8; ++base)
    for (int planes = 0; planes <= kMostPlanes; ++planes)
      for (int round = 0; round < 20; ++round) {
        PlanePanel p;
        p.code = {static_cast<uint8_t>(base), static_cast<uint8_t>(planes), {}};
        for (int i = 0; i < planes; ++i) {
          const int largest = PlaneCode{p.code.base_bits, static_cast<uint8_t>(i), p.code.threshold}.cap();
          const int before = i == 0 ? largest / 4 : p.code.threshold[static_cast<size_t>(i) - 1];
          const int least = std::max(before, 2 * largest + 1 - 127);
          p.code.threshold[static_cast<size_t>(i)] = static_cast<uint8_t>(
              least + static_cast<int>(rng() % static_cast<unsigned>(std::max(1, largest - least))));
        }
        if (!IsValid(p.code)) continue;
        std::vector<uint8_t> random(1 << 16);
        for (uint8_t& b : random) b = static_cast<uint8_t>(rng());
        p.groups = 19;
        p.base = random.data() + 1;
        for (size_t i = 0; i < kMostPlanes; ++i) p.plane[i] = random.data() + 20000 + 5000 * i;
        PlaneReader fast(p, Isa::kAvx2), plain(p);
        std::vector<uint8_t> a(19 * kPlaneGroup), b(a);
        fast.Next(8, 16, a.data()), fast.Next(11, 64, a.data() + 8 * kPlaneGroup);
        plain.Next(8, 16, b.data()), plain.Next(11, 64, b.data() + 8 * kPlaneGroup);
        bool few = true;  // escapes in each group, as the format has it
        PlaneReader counted(p);
        std::vector<uint8_t> one(kPlaneGroup);
        for (int g = 0; g < 19; ++g) {
          const auto before = counted.bits;
          counted.Next(1, 0, one.data());
          for (size_t i = 0; i < kMostPlanes; ++i)
            few = few && (planes > kFewPlanes || counted.bits[i] - before[i] <= kMostEscapes);
        }
        if (!few) continue;
        ASSERT_EQ(a, b) << base << " bits, " << planes << " planes";
        ASSERT_EQ(fast.bits, plain.bits);
        ++compared;
      }
  EXPECT_GT(compared, 400);
}

TEST(Planes, PanelsOfAllEscapesHaveAPlainCode) {
  Made m = Make(32, 64, 1, PlaneScheme::kInt8, 0, 1);
  for (size_t i = 0; i < m.values.size() / 2; ++i) m.values[i] = i % 2 == 0 ? 0 : -1;
  for (size_t i = 0; i < 128; ++i) m.values[i * 8] = 5;  // groups in which all escape would be
  for (size_t i = 16 * 64 + 1; i < m.values.size(); ++i) m.values[i] = i % 3 == 0 ? 100 : -101;
  const auto block = Encode(m, {4, 1});
  ASSERT_TRUE(CheckPlanes(block, 32, 64, "w").ok());
  EXPECT_EQ(Decode(block), m.values);
}

TEST(Planes, DamageIsFoundOrHarmless) {
  const Made m = Make(40, 130, 5, PlaneScheme::kStep, 2, 9);
  const auto good = Encode(m, {3, 2});
  std::mt19937 rng(3);
  int found = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::byte> bad = good;
    for (unsigned n = 1 + rng() % 3; n > 0; --n) bad[rng() % bad.size()] = static_cast<std::byte>(rng());
    if (i % 5 == 0) bad.resize(rng() % bad.size());
    if (bad.size() > sizeof(PlanesHeader)) {  // else nothing but the checksum is tried
      const uint64_t sum = PlanesChecksum(bad);
      std::memcpy(bad.data() + offsetof(PlanesHeader, checksum), &sum, sizeof sum);
    }
    std::vector<std::byte> exact(bad);  // no room behind it for a sanitizer to miss
    exact.shrink_to_fit();
    if (!CheckPlanes(exact, 40, 130, "w").ok())
      ++found;
    else
      Decode(exact);
  }
  EXPECT_GT(found, 5000);
}

}  // namespace
}  // namespace sotto
