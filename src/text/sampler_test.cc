#include "text/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>

namespace sotto {
namespace {

struct Drawn {
  Drawn(const SamplerSettings& settings, std::vector<float> logits)
      : logits(std::move(logits)),
        memory(new uint64_t[Sampler::MemoryBytes(static_cast<int64_t>(this->logits.size())) / 8 + 1]),
        sampler(settings, static_cast<int64_t>(this->logits.size()),
                {reinterpret_cast<std::byte*>(memory.get()),
                 Sampler::MemoryBytes(static_cast<int64_t>(this->logits.size()))}) {}
  int32_t Next() {
    std::vector<float> copy = logits;
    return sampler.Next(copy);
  }
  std::map<int32_t, double> Shares(int n) {
    std::map<int32_t, double> shares;
    for (int i = 0; i < n; ++i) shares[Next()] += 1.0 / n;
    return shares;
  }
  std::vector<float> logits;
  std::unique_ptr<uint64_t[]> memory;
  Sampler sampler;
};

const std::vector<float> kLogits = {std::log(0.1F), std::log(0.4F), std::log(0.05F), std::log(0.3F), std::log(0.15F)};

TEST(Sampler, WithoutTemperatureTakesTheFirstOfTheLikeliest) {
  EXPECT_EQ(Drawn({}, kLogits).Next(), 1);
  EXPECT_EQ(Drawn({}, {1, 3, 3, 2}).Next(), 1);
  EXPECT_EQ(Drawn({}, {NAN, -1, NAN, 0}).Next(), 3);
}

TEST(Sampler, DrawsByProbability) {
  const auto shares = Drawn({.temperature = 1, .seed = 7}, kLogits).Shares(40000);
  for (size_t i = 0; i < kLogits.size(); ++i)
    EXPECT_NEAR(shares.at(static_cast<int32_t>(i)), std::exp(kLogits[i]), 0.01);
  // At temperature 1/2 probabilities are squared: 0.16 of 0.285.
  EXPECT_NEAR(Drawn({.temperature = 0.5F}, kLogits).Shares(40000).at(1), 0.16 / 0.285, 0.01);
}

TEST(Sampler, KeepsWhatTheLimitsLeave) {
  const auto ids = [](const SamplerSettings& s) {
    std::vector<int32_t> out;
    for (const auto& [id, share] : Drawn(s, kLogits).Shares(5000)) out.push_back(id);
    return out;
  };
  EXPECT_EQ(ids({.temperature = 1, .top_k = 2}), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(ids({.temperature = 1, .top_p = 0.6F}), (std::vector<int32_t>{1, 3}));  // 0.4, then 0.7 is past 0.6
  EXPECT_EQ(ids({.temperature = 1, .top_p = 0.71F}), (std::vector<int32_t>{1, 3, 4}));
  EXPECT_EQ(ids({.temperature = 1, .top_p = 0}), (std::vector<int32_t>{1}));           // never nothing
  EXPECT_EQ(ids({.temperature = 1, .min_p = 0.3F}), (std::vector<int32_t>{1, 3, 4}));  // at least 0.12
  EXPECT_EQ(ids({.temperature = 1, .min_p = 1}), (std::vector<int32_t>{1}));
  EXPECT_EQ(ids({.temperature = 1, .top_k = 100}).size(), 5U);
}

TEST(Sampler, PenalizesWhatItSaw) {
  Drawn repetition({.repetition_penalty = 2}, {1.5F, 2, -1});
  repetition.sampler.Saw(1);
  EXPECT_EQ(repetition.Next(), 0);  // 2 / 2 is below 1.5
  repetition.sampler.Forget();
  EXPECT_EQ(repetition.Next(), 1);
  Drawn frequency({.frequency_penalty = 0.2F}, {1.5F, 2, -1});
  frequency.sampler.Saw(1);
  frequency.sampler.Saw(1);
  EXPECT_EQ(frequency.Next(), 1);  // 2 - 0.4
  frequency.sampler.Saw(1);
  EXPECT_EQ(frequency.Next(), 0);  // 2 - 0.6
  Drawn presence({.presence_penalty = 0.7F}, {1.5F, 2, -1});
  presence.sampler.Saw(1);
  EXPECT_EQ(presence.Next(), 0);
}

TEST(Sampler, ASeedRepeatsItself) {
  const auto draw = [](uint64_t seed) {
    Drawn d({.temperature = 1, .seed = seed}, kLogits);
    std::vector<int32_t> out(50);
    for (int32_t& id : out) id = d.Next();
    return out;
  };
  EXPECT_EQ(draw(3), draw(3));
  EXPECT_NE(draw(3), draw(4));
}

TEST(Sampler, TellsTheLikeliest) {
  Drawn d({}, kLogits);
  std::vector<TokenLogprob> best;
  EXPECT_NEAR(d.sampler.Likeliest(kLogits, 2, 3, &best), kLogits[2], 1e-6);
  ASSERT_EQ(best.size(), 3U);
  for (const auto& [i, id] : {std::pair{0, 1}, {1, 3}, {2, 4}}) {
    EXPECT_EQ(best[static_cast<size_t>(i)].id, id);
    EXPECT_NEAR(best[static_cast<size_t>(i)].logprob, kLogits[static_cast<size_t>(id)], 1e-6);
  }
  d.sampler.Likeliest(kLogits, 2, 0, &best);
  EXPECT_TRUE(best.empty());
}

TEST(Sampler, SettingsOutOfBoundsAreNamed) {
  EXPECT_TRUE(CheckSampler({}).ok());
  for (const SamplerSettings& s : {SamplerSettings{.temperature = -1},
                                   {.temperature = NAN},
                                   {.top_k = -1},
                                   {.top_p = 1.5F},
                                   {.min_p = -0.1F},
                                   {.repetition_penalty = 0},
                                   {.presence_penalty = INFINITY},
                                   {.frequency_penalty = NAN}}) {
    const Status checked = CheckSampler(s);
    ASSERT_FALSE(checked.ok());
    EXPECT_EQ(checked.error().code, Code::kUsage);
  }
}

}  // namespace
}  // namespace sotto
