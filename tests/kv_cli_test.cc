// `sotto kv allocate` as scripts meet it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/file.h"
#include "base/json.h"
#include "process.h"

namespace sotto {
namespace {

using testing::HasSubstr;

Ran Allocate(const std::string& input, const std::vector<std::string>& arguments) {
  const TempDir dir;
  std::ofstream(dir / "input") << input;
  std::vector<std::string> all = {"kv", "allocate"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return RunSotto(all, {.stdin_path = dir / "input"});
}

Json Asked(const Json& input, const std::string& rule) {
  const Ran ran = Allocate(input.dump(), {"--rule", rule, "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err << ran.out;
  return ParseJson(ran.out, "kv", Code::kFailed).value();
}

Json Vectors() { return ReadJson(SOTTO_SOURCE_DIR "/tests/golden/smartkv_allocation.json", Code::kBadInput).value(); }

TEST(KvAllocate, ReferenceIsThePublishedAllocation) {
  const Json vectors = Vectors();
  EXPECT_EQ(Asked(vectors[2], "reference")["bits"], vectors[2]["expected_bits"]);
  const Json all = Asked(vectors, "reference")["allocations"];
  ASSERT_EQ(all.size(), vectors.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i]["bits"], vectors[i]["expected_bits"]);
    EXPECT_EQ(all[i]["counts"], vectors[i]["counts"]);
    EXPECT_DOUBLE_EQ(all[i]["avg_bits"], vectors[i]["avg_bits"]);
    EXPECT_DOUBLE_EQ(all[i]["ratio"], vectors[i]["ratio_with_fp32_scales"]);
    EXPECT_EQ(all[i]["name"], vectors[i]["name"]);
  }
}

TEST(KvAllocate, EachRuleKeepsTheBudget) {
  for (const char* rule : {"uniform", "recency", "history", "smart"})
    for (const Json& v : Vectors()) {
      const Json j = Asked(v, rule);
      EXPECT_EQ(j["bits"].size(), v["n"]);
      EXPECT_LE(j["ratio"], v["budget"]) << rule;
      if (j["counts"].size() > 1) {  // not everything at the highest width
        EXPECT_GT(j["ratio"].get<double>() + 0.005, v["budget"]) << rule;
      }
    }
}

TEST(KvAllocate, PrintsForPeople) {
  const Ran ran = Allocate(R"({"name": "x", "budget": 1, "num_heads": 1, "head_dim": 64, "importance": [1, 2]})",
                           {"--rule", "smart"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.out, "x                8.0000 bits, 0.5156 of FP16: 8 8\n");
}

TEST(KvAllocate, RefusesABudgetThatIsTooSmallAndNamesTheSmallest) {
  Json v = Vectors()[0];
  for (const char* rule : {"smart", "reference"}) {
    v["budget"] = 0.1;
    const Ran ran = Allocate(v.dump(), {"--rule", rule, "--json"});
    EXPECT_EQ(ran.code, 5);
    const Json error = ParseJson(ran.out, "kv", Code::kFailed).value()["error"];
    EXPECT_EQ(error["code"], "over_budget");
    const double fp16 = 4.0 * 64 * 32 * 128;
    v["budget"] = error["smallest_budget_bytes"].get<double>() / fp16;
    EXPECT_EQ(Asked(v, rule)["bits"].size(), 64U);
    v["budget"] = error["smallest_budget_bytes"].get<double>() / fp16 - 1e-4;
    EXPECT_EQ(Allocate(v.dump(), {"--rule", rule}).code, 5);
  }
}

TEST(KvAllocate, BadInputIsOneSentence) {
  const std::string good = R"("budget": 0.5, "num_heads": 2, "head_dim": 64, "importance": [1])";
  for (const auto& [input, says] : std::vector<std::pair<std::string, std::string>>{
           {"", "not valid JSON"},
           {"7", "not a JSON object"},
           {"[7]", "vector 1 of standard input is not a JSON object"},
           {"{}", "budget of standard input"},
           {R"({"budget": 2, "num_heads": 2, "head_dim": 64, "importance": [1]})", "budget"},
           {R"({"budget": "1", "num_heads": 2, "head_dim": 64, "importance": [1]})", "budget"},
           {R"({"budget": 0.5, "num_heads": 0, "head_dim": 64, "importance": [1]})", "num_heads"},
           {R"({"budget": 0.5, "num_heads": 1.5, "head_dim": 64, "importance": [1]})", "whole number"},
           {R"({"budget": 0.5, "num_heads": 2, "head_dim": 60, "importance": [1]})", "multiple of 8"},
           {R"({"budget": 0.5, "num_heads": 2, "head_dim": 1e12, "importance": [1]})", "head_dim"},
           {R"({"budget": 0.5, "num_heads": 2, "head_dim": 64, "importance": [-1]})", "importance"},
           {R"({"budget": 0.5, "num_heads": 2, "head_dim": 64, "importance": [null]})", "importance"},
           {R"({"budget": 0.5, "num_heads": 2, "head_dim": 64})", "importance"},
           {"{" + good + R"(, "n": 2})", "n of standard input"},
           {"{" + good + R"(, "bits": []})", "bits"},
           {"{" + good + R"(, "bits": [2, 5]})", "bits"},
           {"{" + good + R"(, "bits": 4})", "bits"},
           {"{" + good + R"(, "high_precision_fraction": 0.9})", "high_precision_fraction"}}) {
    const Ran ran = Allocate(input, {"--rule", "smart"});
    EXPECT_EQ(ran.code, 3) << input;
    EXPECT_THAT(ran.err, HasSubstr(says)) << input;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
    EXPECT_EQ(ran.out, "");
  }
}

TEST(KvAllocate, UsageErrors) {
  const std::string input = Vectors()[0].dump();
  EXPECT_EQ(Allocate(input, {}).code, 2);
  EXPECT_EQ(Allocate(input, {"--rule", "oracle"}).code, 2);
  EXPECT_EQ(Allocate(input, {"--rule", "smart", "--recent", "-1"}).code, 2);
  EXPECT_EQ(Allocate(input, {"--rule", "reference", "--recent", "3"}).code, 2);
  EXPECT_EQ(Allocate(input, {"--rule", "smart", "--recent", "3", "--sinks", "0"}).code, 0);
}

}  // namespace
}  // namespace sotto
