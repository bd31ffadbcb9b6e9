// The published table at each of its boundaries, and the default profile against plans: it never refuses what it
// recommends.
#include "engine/admission_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <random>

#include "engine/admission.h"

namespace sotto {
namespace {

using testing::HasSubstr;

constexpr uint64_t kNeedQ40 = 4080218932, kNeedQ4KM = 4509715661,
                   kNeedQ5KM = 5153960756;  // 3.8, 4.2, 4.8 GiB, rounded up

SystemMemory Machine(uint64_t total, uint64_t available) { return {{total}, {available}, std::nullopt}; }

PlanRequest TwoThreads() {
  PlanRequest request;
  request.threads = 2;
  return request;
}

const AdmissionRules& Planned() {
  static const AdmissionRules rules = MakeRules("default", "", TwoThreads()).value();
  return rules;
}

std::string RecommendedName(const AdmissionRules& rules, const SystemMemory& memory) {
  const Rung* rung = Recommended(rules, memory);
  return rung == nullptr ? "" : rung->name;
}

// Total and available that people may have, and the neighbours of every limit that the rules have.
std::vector<SystemMemory> Machines(const AdmissionRules& rules, int count) {
  std::mt19937_64 rng(11);
  std::vector<SystemMemory> machines;
  for (int i = 0; i < count; ++i) {
    const uint64_t total = rng() % (std::array<uint64_t, 4>{4, 16, 80, 2048}[rng() % 4] * kGiB) + 1;
    machines.push_back(Machine(total, rng() % (total + 1)));
    const Rung& rung = rules.rungs[rng() % rules.rungs.size()];
    machines.push_back(Machine(total, std::min(total, RoomFor(rules, rung, {total}).n + rng() % 3 - 1)));
  }
  return machines;
}

TEST(Legacy, RecommendsByItsTable) {
  const AdmissionRules rules = LegacyRules();
  constexpr uint64_t g = kGiB;
  const std::tuple<uint64_t, uint64_t, const char*> cases[] = {{32 * g, 8 * g, "Q5_K_M"},
                                                               {32 * g - 1, 8 * g, "Q4_K_M"},
                                                               {32 * g, 8 * g - 1, "Q4_K_M"},
                                                               {64 * g, 64 * g, "Q5_K_M"},
                                                               {8 * g, 8 * g, "Q4_0"},
                                                               {8 * g + 1, 8 * g, "Q4_K_M"},
                                                               {8 * g + 1, 5 * g, "Q4_0"},
                                                               {8 * g + 1, 5 * g + 1, "Q4_K_M"},
                                                               {8 * g, 5 * g + 1, "Q4_0"},
                                                               {32 * g, 5 * g, "Q4_0"},
                                                               {32 * g, 5 * g + 1, "Q4_K_M"},
                                                               {16 * g, 0, "Q4_0"},
                                                               {8 * g, 4 * g, "Q4_0"},
                                                               {1, 1, "Q4_0"},
                                                               {UINT64_MAX, UINT64_MAX, "Q5_K_M"}};
  for (const auto& [total, available, name] : cases)
    EXPECT_EQ(RecommendedName(rules, Machine(total, available)), name) << total << ' ' << available;
}

TEST(Legacy, LoadsWithTheSizeTheBufferAndAQuarterFreeBefore) {
  const AdmissionRules rules = LegacyRules();
  const std::tuple<const char*, uint64_t> least[] = {
      {"Q4_0", kNeedQ40 + 512 * kMiB}, {"Q4_K_M", kNeedQ4KM + 512 * kMiB}, {"Q5_K_M", kNeedQ5KM + 768 * kMiB}};
  for (const auto& [name, room] : least) {
    const Rung rung = FindRung(rules, name).value();
    EXPECT_TRUE(MayLoad(rules, rung, Machine(16 * kGiB, room))) << name;
    EXPECT_FALSE(MayLoad(rules, rung, Machine(16 * kGiB, room - 1))) << name;
    EXPECT_TRUE(MayLoad(rules, rung, Machine(64 * kGiB, 16 * kGiB))) << name;
    EXPECT_FALSE(MayLoad(rules, rung, Machine(64 * kGiB, 16 * kGiB - 1))) << name;
    EXPECT_FALSE(MayLoad(rules, rung, Machine(64 * kGiB + 1, 16 * kGiB))) << name;  // a share is kept to the byte
  }
  EXPECT_EQ(FindRung(rules, "").value().name, "Q4_K_M");
  EXPECT_EQ(FindRung(rules, "q4_0").value().name, "Q4_0");
  EXPECT_EQ(FindRung(rules, "Q8_0").error().code, Code::kUsage);
}

TEST(Legacy, HasItsPublishedFlaws) {
  const AdmissionRules rules = LegacyRules();
  const SystemMemory small = Machine(8 * kGiB, 4 * kGiB), large = Machine(64 * kGiB, 15 * kGiB);
  EXPECT_EQ(RecommendedName(rules, small), "Q4_0");
  EXPECT_EQ(LargestThatFits(rules, small), nullptr);
  EXPECT_EQ(RecommendedName(rules, large), "Q5_K_M");
  EXPECT_EQ(LargestThatFits(rules, large), nullptr);  // 23 % are free
  int refused = 0;
  for (const SystemMemory& m : Machines(rules, 3000)) refused += !MayLoad(rules, *Recommended(rules, m), m);
  EXPECT_GT(refused, 100);
}

TEST(Legacy, StatesAreStrict) {
  for (const Rung& rung : LegacyRules().rungs) {
    const Thresholds t = ThresholdsOf(LegacyRules(), rung.buffer);
    EXPECT_EQ(StateOf(t, {rung.buffer.n - 1}), MemoryState::kCritical);
    EXPECT_EQ(StateOf(t, rung.buffer), MemoryState::kWarning);  // 512 MiB exactly, for Q4_K_M
    EXPECT_EQ(StateOf(t, {rung.buffer.n * 2 - 1}), MemoryState::kWarning);
    EXPECT_EQ(StateOf(t, rung.buffer * 2), MemoryState::kOk);
  }
}

TEST(Legacy, SaysThePublishedSentence) {
  const AdmissionRules rules = LegacyRules();
  const Error e = LoadRefusal(rules, FindRung(rules, "Q4_0").value(), Machine(8 * kGiB, 4 * kGiB), {});
  EXPECT_THAT(e.message, HasSubstr("Insufficient memory to load model with Q4_0 quantization"));
  EXPECT_THAT(e.message, HasSubstr("322122548 bytes"));
}

TEST(Admission, ARungTakesWhatItsPlanSays) {
  const ModelDir dir = FindModel(kPublishedModel, ModelUse::kPlan).value();
  ASSERT_EQ(Planned().rungs.size(), 3u);
  for (const Rung& rung : Planned().rungs) {
    PlanRequest request = TwoThreads();
    request.weights = rung.name;
    request.unbounded = true;
    EXPECT_EQ(rung.need, PlanModel(dir, request).value().layout.plan.total) << rung.name;
    EXPECT_GT(rung.need, Bytes{FindRung(LegacyRules(), rung.name).value().need.n / 4 * 5}) << "weights alone are more";
    EXPECT_EQ(rung.buffer.n, rung.name == "Q5_K_M" ? 768 * kMiB : 512 * kMiB);
  }
}

TEST(Admission, WhatIsRecommendedIsNeverRefused) {
  AdmissionRules rules = Planned();
  int none = 0, some = 0;
  for (const ShareTest when : {ShareTest::kBefore, ShareTest::kAfter, ShareTest::kAuto})
    for (const double keep_free : {0.25, 0.0, 0.1, 0.9})
      for (const uint64_t overhead : {uint64_t{0}, 300 * kMiB + 1}) {
        rules.when = when;
        rules.keep_free = keep_free;
        rules.audio_overhead = {overhead};
        for (const SystemMemory& m : Machines(rules, 500)) {
          const Rung* const best = Recommended(rules, m);
          MemoryManager manager(rules, [&m] { return m; });
          for (const Rung& rung : rules.rungs) {  // from the largest down
            if (&rung == best) break;
            ASSERT_FALSE(manager.Reserve("model", rung).ok()) << rung.name;
          }
          ++(best == nullptr ? none : some);
          if (best == nullptr) continue;
          ASSERT_TRUE(MayLoad(rules, *best, m));
          ASSERT_TRUE(manager.CanLoad(*best).ok());
          ASSERT_TRUE(manager.Reserve("model", *best).ok());
        }
      }
  EXPECT_GT(none, 1000);
  EXPECT_GT(some, 1000);
}

TEST(Admission, TheRoomThatARefusalNamesIsTheLeastThatWorks) {
  for (const AdmissionRules& rules : {Planned(), LegacyRules()})
    for (const SystemMemory& m : Machines(rules, 1000))
      for (const Rung& rung : rules.rungs) {
        if (MayLoad(rules, rung, m)) continue;
        const Error e = LoadRefusal(rules, rung, m, {});
        ASSERT_EQ(e.code, Code::kOverBudget);
        ASSERT_EQ(e.budget_bytes, m.available.n);
        ASSERT_TRUE(MayLoad(rules, rung, Machine(m.total.n, e.smallest_budget_bytes)));
        ASSERT_FALSE(MayLoad(rules, rung, Machine(m.total.n, e.smallest_budget_bytes - 1)));
        ASSERT_THAT(e.message, HasSubstr(std::to_string(e.smallest_budget_bytes - m.available.n) + " bytes"));
        const Rung* const fits = LargestThatFits(rules, m);
        if (fits != nullptr) {
          ASSERT_THAT(e.message, HasSubstr("the largest that fits is " + fits->name));
        }
      }
}

TEST(Admission, TheShareIsTestedBeforeOrAfterOrLeftToTheBuffer) {
  AdmissionRules rules;
  rules.rungs = {{"x", {10 * kGiB}, {kGiB}, ""}};
  const Rung& rung = rules.rungs[0];
  const auto room = [&](ShareTest when, uint64_t total_gib) {
    rules.when = when;
    return RoomFor(rules, rung, {total_gib * kGiB}).n / kGiB;
  };
  EXPECT_EQ(room(ShareTest::kBefore, 32), 11u);
  EXPECT_EQ(room(ShareTest::kBefore, 64), 16u);
  EXPECT_EQ(room(ShareTest::kAfter, 32), 18u);
  EXPECT_EQ(room(ShareTest::kAfter, 64), 26u);
  EXPECT_EQ(room(ShareTest::kAuto, 4), 11u);
  EXPECT_EQ(room(ShareTest::kAuto, 6) * 2, 22u);  // 11.5
  EXPECT_EQ(room(ShareTest::kAuto, 8), 12u);
  EXPECT_EQ(room(ShareTest::kAuto, 64), 12u);
  rules.keep_free = 0;
  EXPECT_EQ(room(ShareTest::kAfter, 64), 11u);
  rules.audio_overhead = {2 * kGiB};
  EXPECT_EQ(room(ShareTest::kAfter, 64), 13u);
}

TEST(Admission, AnyModelHasTheRungsThatAPlanTries) {
  const auto names = [](const char* model, const std::vector<std::string>& also = {}) {
    std::vector<std::string> names;
    const AdmissionRules rules = MakeRules("default", model, TwoThreads(), also).value();
    for (const Rung& r : rules.rungs) names.push_back(r.name);
    return names;
  };
  EXPECT_THAT(names("openai/whisper-tiny"), testing::ElementsAre("fp32", "fp16", "int8"));
  EXPECT_THAT(names("Qwen/Qwen2.5-7B"), testing::ElementsAre("bf16", "int8", "Q5_K_M", "Q4_K_M", "Q4_0"));
  EXPECT_THAT(names("Qwen/Qwen2.5-7B", {"", "INT8", "q8_0"}),
              testing::ElementsAre("bf16", "q8_0", "int8", "Q5_K_M", "Q4_K_M", "Q4_0"));
  EXPECT_THAT(names(SOTTO_SOURCE_DIR "/tests/golden/gguf_models/qwen2.gguf"), testing::ElementsAre("gguf"));
}

TEST(Admission, WhatCannotBeReadIsUsage) {
  EXPECT_EQ(MakeRules("mine", "", TwoThreads()).error().code, Code::kUsage);
  EXPECT_EQ(MakeRules("legacy", "openai/whisper-tiny", TwoThreads()).error().code, Code::kUsage);
  EXPECT_EQ(MakeRules("default", "", TwoThreads(), {"q9"}).error().code, Code::kUsage);
  EXPECT_EQ(MakeRules("default", "no/such", TwoThreads()).error().code, Code::kBadModel);
  for (const char* bad : {"", "25", "101%", "-1%", "nan%", "25%%", "1e1%", "x"})
    EXPECT_FALSE(ParseShare(bad).ok()) << bad;
  EXPECT_EQ(ParseShare("25%").value(), 0.25);
  EXPECT_EQ(ParseShare("0").value(), 0);
  EXPECT_EQ(ParseShare("0%").value(), 0);
  EXPECT_FALSE(ParseShareTest("now").ok());
}

}  // namespace
}  // namespace sotto
