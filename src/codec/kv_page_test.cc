#include "codec/kv_page.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "codec/half.h"

namespace sotto {
namespace {

// A group with pages of its own, full of ones: a code that is written must not depend on what was there.
struct Group {
  Group(const KvPageShape& shape, int bits, int64_t count) : shape(shape) {
    for (int width : bits == 3 ? std::vector<int>{2, 1} : std::vector<int>{bits}) {
      auto& list = width == 1 ? planes : pages;
      for (int64_t t = 0; t < count; t += KvPageTokens(width)) {
        bytes.push_back(std::make_unique<std::byte[]>(static_cast<size_t>(shape.page_bytes())));
        std::fill_n(bytes.back().get(), shape.page_bytes(), std::byte{0xFF});
        list.push_back(bytes.back().get());
      }
    }
    view = {bits, pages.data(), planes.data(), count, nullptr};
  }
  KvPageShape shape;
  std::vector<std::unique_ptr<std::byte[]>> bytes;
  std::vector<std::byte*> pages, planes;
  KvGroup view;
};

struct Rows {
  Rows(const KvPageShape& s, int64_t tokens) : k(Draw(s, tokens)), v(Draw(s, tokens)) {}
  static std::vector<float> Draw(const KvPageShape& s, int64_t tokens) {
    static std::mt19937 rng(1);
    std::normal_distribution<float> normal;
    std::vector<float> out(static_cast<size_t>(tokens * s.kv_heads * s.head_dim));
    for (float& x : out) x = 3 * normal(rng);
    return out;
  }
  std::vector<float> k, v;
};

// Tokens that were put at widths[0] and then moved on through the others; dB of keys and of values, the worse.
double Quality(const KvPageShape& s, std::vector<int> widths) {
  const int64_t tokens = 300, row = s.kv_heads * s.head_dim;
  const Rows rows(s, tokens);
  std::vector<uint16_t> scales(static_cast<size_t>(tokens * s.kv_heads * 2));
  std::vector<Group> groups;
  for (int bits : widths) groups.emplace_back(s, bits, tokens);
  const auto slot = [&](size_t group, int64_t t) { return group % 2 == 0 ? t : tokens - 1 - t; };
  const auto own = [&](int64_t t) { return scales.data() + t * s.kv_heads * 2; };
  for (int64_t t = 0; t < tokens; ++t)
    PutToken(s, rows.k.data() + t * row, rows.v.data() + t * row, groups[0].view, t, own(t));
  for (size_t g = 1; g < groups.size(); ++g)
    for (int64_t t = 0; t < tokens; ++t)
      MoveToken(s, groups[g - 1].view, slot(g - 1, t), groups[g].view, slot(g, t), own(t));
  double power[2] = {}, error[2] = {};
  std::vector<float> k(static_cast<size_t>(s.head_dim)), v = k;
  for (int64_t t = 0; t < tokens; ++t)
    for (int h = 0; h < s.kv_heads; ++h) {
      ReadToken(s, groups.back().view, slot(groups.size() - 1, t), h, own(t), k.data(), v.data());
      for (int d = 0; d < s.head_dim; ++d)
        for (int part = 0; part < 2; ++part) {
          const auto at = static_cast<size_t>(t * row + h * s.head_dim + d);
          const double want = part == 0 ? rows.k[at] : rows.v[at];
          const double got = (part == 0 ? k : v)[static_cast<size_t>(d)];
          power[part] += want * want;
          error[part] += (want - got) * (want - got);
        }
    }
  return 10 * std::log10(std::min(power[0] / error[0], power[1] / error[1]));
}

constexpr int kDims[] = {64, 80, 96, 128, 256};

TEST(KvPage, GaussianRowsReachTheQualityOfTheOptimalQuantizers) {
  for (int dim : kDims) {
    const KvPageShape s{3, dim};
    // Theory's infinite rows, plus up to half a decibel: a row's own power and scale are known.
    for (const auto& [bits, theory] : {std::pair{2, 9.25}, {3, 14.27}, {4, 19.38}}) {
      const double quality = Quality(s, {bits});
      EXPECT_GT(quality, theory - 0.1) << bits << " bits, " << dim;
      EXPECT_LT(quality, theory + 0.5) << bits << " bits, " << dim;
    }
    EXPECT_GT(Quality(s, {8}), 40.5) << dim;
  }
}

TEST(KvPage, RequantizingFrom8BitsCostsNothingAndDroppingPlanesLittle) {
  for (int dim : {64, 128}) {
    const KvPageShape s{2, dim};
    for (int bits : {2, 3, 4}) EXPECT_NEAR(Quality(s, {8, bits}), Quality(s, {bits}), 0.15) << bits;
    EXPECT_GT(Quality(s, {8, 4, 3}), Quality(s, {3}) - 0.45) << dim;
    EXPECT_GT(Quality(s, {8, 4, 2}), Quality(s, {2}) - 0.85) << dim;
    EXPECT_NEAR(Quality(s, {8, 4, 3, 2}), Quality(s, {8, 4, 2}), 0.1) << dim;
    EXPECT_GT(Quality(s, {3, 2}), Quality(s, {2}) - 0.6) << dim;
  }
}

TEST(KvPage, MovingWithinAWidthKeepsEveryBitAndDisturbsNoNeighbour) {
  for (int bits : {2, 3, 4, 8}) {
    const KvPageShape s{2, 80};
    const int64_t tokens = 70, row = 160;
    const Rows rows(s, tokens);
    Group a(s, bits, tokens), b(s, bits, tokens);
    std::vector<uint16_t> scales(static_cast<size_t>(tokens * 4));
    for (int64_t t = 0; t < tokens; ++t)
      PutToken(s, rows.k.data() + t * row, rows.v.data() + t * row, a.view, t, scales.data() + t * 4);
    const std::vector<uint16_t> before = scales;
    std::vector<float> k(80), v(80), k2(80), v2(80);
    for (int64_t t = tokens - 1; t >= 0; --t) MoveToken(s, a.view, t, b.view, (t * 37) % tokens, scales.data() + t * 4);
    EXPECT_EQ(scales, before);
    for (int64_t t = 0; t < tokens; ++t)
      for (int h = 0; h < 2; ++h) {
        ReadToken(s, a.view, t, h, scales.data() + t * 4, k.data(), v.data());
        ReadToken(s, b.view, (t * 37) % tokens, h, scales.data() + t * 4, k2.data(), v2.data());
        EXPECT_EQ(k, k2) << bits;
        EXPECT_EQ(v, v2) << bits;
      }
  }
}

TEST(KvPage, PagesOfAllWidthsHaveOneSizeAndAreFullToTheBit) {
  for (int dim : kDims) {
    const KvPageShape s{4, dim};
    for (int bits : {8, 4, 2, 1})  // a page's tokens take their bits, of keys and of values
      EXPECT_EQ(s.page_bytes() * 8, int64_t{2} * 4 * dim * bits * KvPageTokens(bits));
  }
  EXPECT_EQ(KvGroupPages(8, 9), 2);
  EXPECT_EQ(KvGroupPages(3, 1), 2);
  EXPECT_EQ(KvGroupPages(3, 33), 3);
  EXPECT_EQ(KvGroupPages(3, 64), 3);
  EXPECT_EQ(KvGroupPages(3, 65), 5);
  EXPECT_EQ(KvGroupPages(2, 0), 0);
}

TEST(KvPage, ZerosStayZerosAndWildRowsStayInsideTheirCodes) {
  const KvPageShape s{1, 64};
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (int bits : {2, 3, 4, 8})
    for (float x : {0.0f, 1e-38f, 1e30f, kInf, -kInf, std::nanf("")}) {
      Group g(s, bits, 1);
      std::vector<float> k(64, x), v(64);
      k[7] = -x;
      uint16_t scales[2];
      PutToken(s, k.data(), v.data(), g.view, 0, scales);
      EXPECT_EQ(scales[1], 0) << bits;
      ReadToken(s, g.view, 0, 0, scales, k.data(), v.data());
      for (float y : v) EXPECT_EQ(y, 0.0f);
      for (float y : k) EXPECT_TRUE(x != 0.0f || y == 0.0f);
      for (float y : k) EXPECT_TRUE(x != 1e30f || std::fabs(y) <= 127 * 65504.0f);
    }
}

}  // namespace
}  // namespace sotto
