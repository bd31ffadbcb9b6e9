// Rules against their definition: a brute force of the least loss, the published vectors, and what the policy relies
// on: the budget is never passed, widths never rise, the same input gives the same widths.
#include "kv/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/json.h"
#include "kv/reference_rule.h"

namespace sotto {
namespace {

constexpr KvRule kRules[] = {KvRule::kUniform, KvRule::kRecency, KvRule::kHistory, KvRule::kSmart};

KvWidths Widths(std::vector<int64_t> bits) { return KvWidths::Of(bits).value(); }

int64_t Sum(std::span<const uint8_t> widths) { return std::accumulate(widths.begin(), widths.end(), int64_t{0}); }

uint64_t BytesOf(const KvAllocation& cache, std::span<const uint8_t> widths) {
  uint64_t bytes = 0;
  for (const uint8_t bits : widths) bytes += KvTokenBytes(cache.heads, cache.head_dim, bits);
  return bytes;
}

double Loss(std::span<const float> weights, std::span<const uint8_t> widths) {
  double loss = 0;
  for (size_t i = 0; i < widths.size(); ++i) loss += weights[i] * KvNoise(widths[i]);
  return loss;
}

template <class T>
std::vector<T> Random(size_t n, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<T> values(n);
  for (T& v : values) v = static_cast<T>(std::pow(static_cast<double>(rng() % 1000 + 1) / 1000, 4));
  return values;
}

TEST(KvWidths, AreASet) {
  EXPECT_EQ(KvWidths().least(), 2);
  EXPECT_EQ(KvWidths().most(), 8);
  EXPECT_EQ(KvWidths().Below(8), 4);
  EXPECT_EQ(KvWidths().Below(2), 0);
  EXPECT_EQ(KvWidths().Above(4), 8);
  EXPECT_EQ(KvWidths().Above(8), 0);
  EXPECT_EQ(Widths({8, 2}).Below(8), 2);
  EXPECT_EQ(Widths({8, 2}).Above(2), 8);
  EXPECT_EQ(Widths({3}).least(), 3);
  EXPECT_EQ(Widths({3}).most(), 3);
  for (const int64_t wrong : {-1, 0, 1, 5, 16, 64, 258}) EXPECT_FALSE(KvWidths::Of(std::array{wrong}).has_value());
  EXPECT_FALSE(KvWidths::Of({}).has_value());
}

TEST(ReferenceRule, EqualsThePublishedVectors) {
  const Json vectors = ReadJson(SOTTO_SOURCE_DIR "/tests/golden/smartkv_allocation.json", Code::kBadInput).value();
  ASSERT_EQ(vectors.size(), 21U);
  for (const Json& v : vectors) {
    const ReferenceCache cache{v["num_heads"], v["head_dim"], v["budget"], Widths(v["bits"]),
                               v["high_precision_fraction"]};
    const std::vector<uint8_t> bits = ReferenceWidths(cache, v["importance"].get<std::vector<double>>()).value();
    EXPECT_EQ(bits, v["expected_bits"].get<std::vector<uint8_t>>()) << v["name"] << " " << v["budget"];
  }
}

TEST(ReferenceRule, NamesTheSmallestBudget) {
  const std::vector<double> importance(64, 1.0);
  ReferenceCache cache{32, 128, 0.15};
  const auto refused = ReferenceWidths(cache, importance);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kOverBudget);
  const double fp16 = 64.0 * 4 * 32 * 128;
  cache.budget = static_cast<double>(refused.error().smallest_budget_bytes) / fp16;
  EXPECT_EQ(cache.budget, (4 * 8 + 60 * 2) / 64.0 / 16 + 32.0 / 16 / 128);
  EXPECT_EQ(Sum(ReferenceWidths(cache, importance).value()), 4 * 8 + 60 * 2);
  EXPECT_TRUE(ReferenceWidths(cache, {}).value().empty());
}

// All allocations of a few tokens: none that frees as much loses less than a step's worth below.
TEST(Demote, LosesLeast) {
  for (const auto& allowed : {KvWidths(), Widths({2, 4, 8}), Widths({3, 8})})
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const std::vector<float> weights = Random<float>(5, seed);
      const int64_t asked = 1 + static_cast<int64_t>(seed * 7 % 20);
      std::vector<uint8_t> widths(weights.size(), 8);
      const KvPart part{weights, widths};
      const Demoted d = Demote({&part, 1}, allowed, asked);
      ASSERT_EQ(d.bits, 40 - Sum(widths));
      ASSERT_GE(d.bits, asked);
      std::vector<uint8_t> all(weights.size(), static_cast<uint8_t>(allowed.least()));
      double least = std::numeric_limits<double>::infinity();
      for (;;) {
        if (40 - Sum(all) >= d.bits) least = std::min(least, Loss(weights, all));
        size_t i = 0;
        while (i < all.size() && allowed.Above(all[i]) == 0) all[i++] = static_cast<uint8_t>(allowed.least());
        if (i == all.size()) break;
        all[i] = static_cast<uint8_t>(allowed.Above(all[i]));
      }
      EXPECT_NEAR(Loss(weights, widths), least, 1e-6 * least) << seed;
      for (size_t i = 0; i < widths.size(); ++i)  // and one price explains it
        EXPECT_EQ(WidthAtPrice(weights[i], 8, d.price, allowed), widths[i]) << seed;
    }
}

TEST(Demote, NeverRaisesAndStopsAtTheLeast) {
  const std::vector<float> weights = Random<float>(100, 1);
  std::vector<uint8_t> widths;
  for (int i = 0; i < 100; ++i) widths.push_back(std::array<uint8_t, 4>{2, 3, 4, 8}[static_cast<size_t>(i) % 4]);
  for (const int64_t asked : {0L, 1L, 5L, 40L, 100L, 1000000L}) {
    const std::vector<uint8_t> before = widths;
    const KvPart part{weights, widths};
    const Demoted d = Demote({&part, 1}, {}, asked);
    EXPECT_EQ(d.bits, Sum(before) - Sum(widths));
    EXPECT_LE(d.bits, asked + 3);
    for (size_t i = 0; i < widths.size(); ++i) EXPECT_LE(widths[i], before[i]);
  }
  EXPECT_THAT(widths, testing::Each(2));
}

TEST(Demote, TiesGoByPartAndPosition) {
  const std::vector<float> weights(4, 0.5F);
  std::vector<uint8_t> first(4, 4), second(4, 4);
  const KvPart parts[] = {{weights, first}, {weights, second}};
  EXPECT_EQ(Demote(parts, {}, 5).bits, 5);
  EXPECT_THAT(first, testing::ElementsAre(3, 3, 3, 3));
  EXPECT_THAT(second, testing::ElementsAre(3, 4, 4, 4));
}

TEST(Demote, PartsShareOneBudgetByNeed) {
  const std::vector<float> dear(8, 1.0F), cheap(8, 0.01F);
  std::vector<uint8_t> first(8, 8), second(8, 8);
  const KvPart parts[] = {{dear, first}, {cheap, second}};
  Demote(parts, {}, 48);  // as much as taking all of the second part to two bits
  EXPECT_GT(Sum(first), Sum(second));
}

TEST(Demote, OddWeightsAreOrdered) {
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> weights = {inf, 0, 1, -1, nan, 3e38F};
  std::vector<uint8_t> widths(6, 8);
  const KvPart part{weights, widths};
  EXPECT_EQ(Demote({&part, 1}, {}, 12).bits, 12);
  EXPECT_EQ(widths[0], 8);
  EXPECT_EQ(widths[2], 8);
  EXPECT_EQ(widths[5], 8);
}

// Attention that falls with distance and looks at one token in particular.
struct Seen {
  MassByDistance by_distance;
  std::vector<float> observed;
};
Seen Look(int n, int favourite, int piece) {
  Seen seen;
  seen.observed.resize(static_cast<size_t>(n));
  for (int at = 0; at < n; at += piece) {
    std::vector<float> mass(static_cast<size_t>(at + piece));
    for (int q = at; q < at + piece; ++q)
      for (int k = 0; k <= q; ++k)
        mass[static_cast<size_t>(k)] += (k == favourite ? 10.0F : 1.0F) / static_cast<float>(q - k + 1);
    Observe(mass, piece, seen.observed, &seen.by_distance);
  }
  return seen;
}

TEST(ExpectedMass, IsWhatWasSeenAtADistance) {
  for (const int piece : {1, 16}) {
    const Seen seen = Look(512, -1, piece);
    const ExpectedMass expected(seen.by_distance);
    double sum = 0;
    for (int d = 1; d <= 500; ++d) {
      sum += 1.0 / d;
      if (piece == 1) {
        EXPECT_NEAR(expected.UpTo(d) / sum, 1, 0.05) << d;
      }
      if (d > 2 * piece) {
        EXPECT_NEAR(expected.At(d) * d, 1, 0.25) << d;  // a bucket's mean, at its rim
      }
    }
  }
}

TEST(ExpectedMass, StartsAsOneOverDistance) {
  const ExpectedMass expected{MassByDistance()};
  EXPECT_FLOAT_EQ(expected.At(1), 1);
  EXPECT_FLOAT_EQ(expected.At(1024), 1.0F / 1024);
  EXPECT_FLOAT_EQ(expected.At(int64_t{1} << 40), expected.At((1 << 24) - 1));
  EXPECT_EQ(expected.UpTo(0), 0);
  EXPECT_DOUBLE_EQ(expected.UpTo(2), 1.5);
}

// The known mistake: ranked by what was received, the newest tokens come last.
TEST(TokenWeights, YouthIsNoFault) {
  const Seen seen = Look(512, 100, 1);
  std::vector<float> smart(512), history(512);
  TokenWeights(KvRule::kSmart, seen.observed, seen.by_distance, 1, smart);
  TokenWeights(KvRule::kHistory, seen.observed, seen.by_distance, 1, history);
  EXPECT_LT(history[511], history[300]);
  EXPECT_GT(smart[511], smart[300]);
  EXPECT_GT(smart[100], 2 * smart[99]);  // sqrt(10) times as much
  EXPECT_LT(smart[100], 4 * smart[99]);
  std::vector<float> dear(512);
  TokenWeights(KvRule::kSmart, seen.observed, seen.by_distance, 4, dear);
  EXPECT_FLOAT_EQ(dear[300], 2 * smart[300]);
  for (int i = 200; i < 511; ++i)
    EXPECT_LE(smart[static_cast<size_t>(i)], 1.2F * smart[static_cast<size_t>(i) + 1]) << i;
}

TEST(FindSinks, ByAttentionAndBosNotByPosition) {
  const Seen seen = Look(256, 96, 1);
  std::array<int32_t, 4> sinks{};
  EXPECT_EQ(FindSinks(seen.observed, seen.by_distance, -1, sinks), 1U);
  EXPECT_EQ(sinks[0], 96);
  EXPECT_EQ(FindSinks(seen.observed, seen.by_distance, 128, sinks), 2U);  // BOS behind 128 audio vectors
  EXPECT_EQ(sinks[0], 96);
  EXPECT_EQ(sinks[1], 128);
  EXPECT_EQ(FindSinks(seen.observed, seen.by_distance, 96, sinks), 1U);
  EXPECT_EQ(FindSinks(seen.observed, seen.by_distance, 0, std::span(sinks).first(1)), 1U);
  EXPECT_EQ(sinks[0], 0);
  EXPECT_EQ(FindSinks(seen.observed, seen.by_distance, 0, {}), 0U);
  const Seen even = Look(256, -1, 1);
  EXPECT_EQ(FindSinks(even.observed, even.by_distance, -1, sinks), 0U);
}

TEST(FindSinks, TheStrongestInOrderOfPosition) {
  MassByDistance by_distance;
  std::vector<float> observed(64, 0.0F);
  const ExpectedMass expected(by_distance);
  for (const auto& [at, ratio] : {std::pair(3, 9.0), {10, 5.0}, {20, 30.0}, {30, 7.0}, {31, 7.0}, {60, 1000.0}})
    observed[static_cast<size_t>(at)] = static_cast<float>(ratio * expected.UpTo(64 - at));
  std::array<int32_t, 3> sinks{};
  EXPECT_EQ(FindSinks(observed, by_distance, -1, sinks), 3U);  // 60 is too young to tell
  EXPECT_THAT(sinks, testing::ElementsAre(3, 20, 30));
}

TEST(AllocateWidths, KeepsTheBudgetForAnyInput) {
  std::mt19937_64 rng(5);
  const std::vector<std::vector<int64_t>> sets = {{2, 3, 4, 8}, {4, 8}, {2, 4, 8}, {3}, {2, 8}};
  for (int round = 0; round < 400; ++round) {
    const KvRule rule = kRules[rng() % 4];
    const size_t n = rng() % 300;
    KvAllocation cache{.heads = static_cast<int64_t>(1 + rng() % 8),
                       .head_dim = static_cast<int64_t>(8 * (1 + rng() % 32)),
                       .widths = Widths(sets[rng() % sets.size()])};
    cache.recent = static_cast<int64_t>(rng() % 100);
    const uint64_t least = n * KvTokenBytes(cache.heads, cache.head_dim, cache.widths.least()),
                   most = n * KvTokenBytes(cache.heads, cache.head_dim, cache.widths.most());
    cache.budget_bytes = least + (most == least ? 0 : rng() % (most - least + 1));
    const std::vector<double> mass = Random<double>(n, rng());
    const std::vector<uint8_t> widths = AllocateWidths(rule, cache, mass).value();
    ASSERT_EQ(widths.size(), n);
    const uint64_t bytes = BytesOf(cache, widths);
    ASSERT_LE(bytes, cache.budget_bytes);
    if (cache.widths.Has(3) && cache.widths.Has(4) && n > 0) {  // and uses it, but for a step's rest
      ASSERT_GT(bytes + 4 * static_cast<uint64_t>(2 * cache.heads * cache.head_dim / 8),
                std::min(cache.budget_bytes, most));
    }
    for (const uint8_t b : widths) ASSERT_TRUE(cache.widths.Has(b));
    ASSERT_EQ(widths, AllocateWidths(rule, cache, mass).value());
    if (n == 0) continue;
    cache.budget_bytes = least - 1;
    const auto refused = AllocateWidths(rule, cache, mass);
    ASSERT_FALSE(refused.ok());
    ASSERT_EQ(refused.error().smallest_budget_bytes, least);
  }
}

TEST(AllocateWidths, AreMonotoneInTheBudget) {
  const std::vector<double> mass = Random<double>(200, 3);
  for (const KvRule rule : kRules) {
    KvAllocation cache{.heads = 2, .head_dim = 64};
    std::vector<uint8_t> before(mass.size(), 2);
    for (cache.budget_bytes = 200 * KvTokenBytes(2, 64, 2); cache.budget_bytes <= 200 * KvTokenBytes(2, 64, 8);
         cache.budget_bytes += 64) {
      const std::vector<uint8_t> widths = AllocateWidths(rule, cache, mass).value();
      for (size_t i = 0; i < widths.size(); ++i) ASSERT_GE(widths[i], before[i]);
      before = widths;
    }
    EXPECT_THAT(before, testing::Each(8));
  }
}

TEST(AllocateWidths, EachRuleFollowsWhatItKnows) {
  std::vector<double> mass(256, 1.0);
  mass[40] = 100;
  KvAllocation cache{.heads = 2, .head_dim = 64, .sinks = 0, .recent = 8};
  cache.budget_bytes = 256 * KvTokenBytes(2, 64, 3);
  const auto uniform = AllocateWidths(KvRule::kUniform, cache, mass).value();
  EXPECT_THAT(uniform, testing::Each(3));
  const auto recency = AllocateWidths(KvRule::kRecency, cache, mass).value();
  EXPECT_TRUE(std::is_sorted(recency.begin(), recency.end()));
  EXPECT_LT(recency.front(), recency.back());
  const auto history = AllocateWidths(KvRule::kHistory, cache, mass).value();
  EXPECT_GT(history[40], history[41]);
  const auto smart = AllocateWidths(KvRule::kSmart, cache, mass).value();
  EXPECT_GT(smart[40], smart[41]);
  EXPECT_GT(smart[200], smart[20]);
  EXPECT_THAT(std::vector<uint8_t>(smart.end() - 8, smart.end()), testing::Each(8));
}

}  // namespace
}  // namespace sotto
