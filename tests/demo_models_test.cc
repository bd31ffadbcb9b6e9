// What the shipped models/demo-lm and models/demo-audio-lm are there for: damage to weights and caches is measurable on them, and they
// answer inside the smallest budget that their plans name.
#include <gmock/gmock.h>

#include <fstream>

#include "divergence.h"
#include "harness/recall.h"
#include "harness/word_errors.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

const std::string kLm = SOTTO_SOURCE_DIR "/models/demo-lm", kAudioLm = SOTTO_SOURCE_DIR "/models/demo-audio-lm";

TEST(DemoLm, FindsPairsAgain) {
  PlanRequest request = SmallRequest();
  request.context = 1024;
  const auto engine = OpenEngine(kLm, request);
  const auto rows = Must(
      MeasureRecall(*engine, {.lengths = {256, 1024}, .queries = 256, .passkeys = 5}, kGoOn, [](double, double) {}));
  ASSERT_EQ(rows.size(), 2U);
  for (const RecallRow& r : rows) {
    EXPECT_GE(r.right, r.asked * 97 / 100) << r.length;  // 99.6 and 99.2 % when it was made
    EXPECT_GE(r.found, 3) << r.length;
  }
}

TEST(DemoLm, QuantizedWeightsStayWithinTheStatedDivergence) {
  std::ifstream license(SOTTO_SOURCE_DIR "/LICENSE");
  const std::string text((std::istreambuf_iterator<char>(license)), {});
  const auto open = [](const std::string& weights) {
    PlanRequest request = SmallRequest(weights, "fp16");
    request.context = 512;
    return OpenEngine(kLm, request);
  };
  const auto exact = open("fp16");
  std::vector<int32_t> ids;
  ASSERT_TRUE(exact->tokenizer().Encode(text, {}, &ids).ok());
  ids.resize(400);
  const auto want = LogitRows(*exact, ids, ids.size());
  for (const auto& [weights, most] : {std::pair{"q8_0", 0.003}, {"q5_k_m", 0.03}, {"q4_k_m", 0.1}, {"q4_0", 0.2}}) {
    const double kl = Divergence(want, LogitRows(*open(weights), ids, ids.size()));
    std::printf("demo-lm %s: KL %.5f nats a token from fp16\n", weights, kl);
    EXPECT_LE(kl, most) << weights;
    EXPECT_GE(kl, 0);
  }
}

TEST(DemoAudioLm, TellsWhichSoundIsHeard) {
  const Ran ran = RunSotto({"eval", "sounds", kAudioLm, SOTTO_SOURCE_DIR "/data/sounds/sounds.tsv", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(Must(ParseJson(ran.out, "sounds", Code::kFailed))["accuracy"], 1.0) << ran.out;
}

TEST(DemoAudioLm, AnswersInsideTheSmallestBudget) {
  const Ran plan = RunSotto({"plan", kAudioLm, "--json", "--threads", "2"});
  ASSERT_EQ(plan.code, 0) << plan.err;
  const Json document = Must(ParseJson(plan.out, "plan", Code::kFailed));
  const auto smallest = document["budget"]["smallest_budget_bytes"].get<uint64_t>();
  const std::vector<std::string> ask = {
      "run",       kAudioLm, "--audio",      SOTTO_SOURCE_DIR "/data/samples/two-sentences.wav",
      "--threads", "2",      "What is said?"};
  auto with = [&](uint64_t memory) {
    std::vector<std::string> arguments = ask;
    arguments.insert(arguments.end(), {"--memory", std::to_string(memory)});
    return RunSotto(arguments);
  };
  const Ran answered = with(smallest);
  EXPECT_EQ(answered.code, 0) << answered.err;
  const std::string said = "I need the certificate for the holiday this evening. The capital is 75 meters from here.";
  const WordErrors errors = Must(CountWordErrors(Normalized(said), Normalized(answered.out)));
  EXPECT_LE(errors.rate(), 0.25) << answered.out;  // 2 of 16 words when it was made
  EXPECT_EQ(with(smallest - 1).code, 5);
}

}  // namespace
}  // namespace sotto
