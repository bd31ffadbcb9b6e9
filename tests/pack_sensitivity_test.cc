// What noise in a matrix does is measured as it is, and packing by it does less harm, as much as was predicted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "divergence.h"
#include "engine/pack/inspect.h"
#include "harness/sensitivity.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kLm = SOTTO_SOURCE_DIR "/models/demo-lm", kText = SOTTO_SOURCE_DIR "/docs/questions.md",
                  kOtherText = SOTTO_SOURCE_DIR "/docs/memory.md",
                  kWhisper = SOTTO_SOURCE_DIR "/tests/golden/whisper/english-bf16/model",
                  kAudio = SOTTO_SOURCE_DIR "/data/samples/two-sentences.wav";
constexpr auto kOn = [](uint64_t, uint64_t) { return true; };

std::unique_ptr<Engine> OpenFor(const std::string& model, const Calibration& c, const PlanRequest& request) {
  return Must(Engine::Open(Must(PlanSensitivity(Must(FindModel(model, ModelUse::kRun)), request, c)), kOn));
}

Sensitivities Measured(Engine& engine, const Calibration& c) {
  return Must(MeasureSensitivity(engine, c, kGoOn, [](double, double) {}));
}

Sensitivities Measured(const std::string& model, const Calibration& c, const PlanRequest& request = SmallRequest()) {
  return Measured(*OpenFor(model, c, request), c);
}

std::vector<int32_t> OtherIds(Engine& engine) {
  std::ifstream in(kOtherText);
  std::vector<int32_t> ids;
  EXPECT_TRUE(engine.tokenizer().Encode(std::string{std::istreambuf_iterator<char>(in), {}}, {}, &ids).ok());
  ids.resize(std::min<size_t>(ids.size(), 400));
  return ids;
}

TEST(Sensitivity, TheModelIsAsItWasAndFiguresDontDependOnThreads) {
  const Calibration c{.text = kText, .tokens = 60};
  PlanRequest one = SmallRequest();
  one.threads = 1;
  const auto engine = OpenFor(kLm, c, SmallRequest());
  const std::vector<int32_t> ids = OtherIds(*engine);
  const auto before = LogitRows(*engine, ids, ids.size());
  const Sensitivities s = Measured(*engine, c);
  EXPECT_EQ(LogitRows(*engine, ids, ids.size()), before);
  EXPECT_EQ(s.tokens, 60);
  EXPECT_EQ(s.tensors.size(), 29U);  // seven of each of four layers, and the embedding
  const Sensitivities again = Measured(kLm, c, one);
  ASSERT_EQ(again.tensors.size(), s.tensors.size());
  for (size_t i = 0; i < s.tensors.size(); ++i) {
    EXPECT_GT(s.tensors[i].kl, 1e-5) << s.tensors[i].name;
    EXPECT_NEAR(again.tensors[i].value, s.tensors[i].value, 1e-3 * s.tensors[i].value) << s.tensors[i].name;
  }
}

TEST(Sensitivity, HarmIsInProportionToTheNoise) {
  const Sensitivities strong = Measured(kLm, {.text = kText, .tokens = 100}),
                      weak = Measured(kLm, {.text = kText, .tokens = 100, .noise = 0.0025});
  for (size_t i = 0; i < strong.tensors.size(); ++i) {
    EXPECT_NEAR(strong.tensors[i].value / weak.tensors[i].value, 1, 0.3) << strong.tensors[i].name;
    // The noise is drawn: its power is 20 dB below the matrix's within what some thousand numbers vary.
    EXPECT_NEAR(strong.tensors[i].kl, 0.01 * strong.tensors[i].value, 0.03 * strong.tensors[i].kl);
  }
}

TEST(Sensitivity, ModelsThatHearAreMeasuredByAudio) {
  const Sensitivities s = Measured(kWhisper, {.audios = {kAudio}, .tokens = 20});
  EXPECT_GT(s.tokens, 0);
  EXPECT_LE(s.tokens, 20);
  for (const Sensitivity& t : s.tensors) EXPECT_GT(t.value, 0) << t.name;
  const Sensitivities asked = Measured(SOTTO_SOURCE_DIR "/models/demo-audio-lm", {.audios = {kAudio}, .tokens = 12});
  EXPECT_GT(asked.tokens, 0);
  EXPECT_LE(asked.tokens, 12);
  size_t seen = 0;  // of a sure answer's few tokens, some harm is too small for fp32
  for (const Sensitivity& t : asked.tensors) seen += t.value > 0 ? 1 : 0;
  EXPECT_GT(seen, asked.tensors.size() / 2) << "of " << asked.tensors.size();
}

// At the same bytes, on a text that the calibration has not seen, less harm than without; and harm in the order that was predicted.
TEST(Sensitivity, PackingByItHelpsAndIsPredicted) {
  const TempDir dir;
  const ModelDir model = Must(FindModel(kLm, ModelUse::kRun));
  PlanRequest request = SmallRequest("fp32", "fp32");
  const auto clean = OpenEngine(kLm, request);
  const std::vector<int32_t> ids = OtherIds(*clean);
  const auto want = LogitRows(*clean, ids, ids.size());
  const Sensitivities s = Measured(kLm, {.text = kText, .tokens = 300});
  request.weights = "auto";
  const auto harm = [&](double bits, bool measured, double* predicted) {
    const Packed p = Must(Pack(model,
                               {.bits = bits,
                                .sensitivities = measured ? s : Sensitivities{},
                                .out = dir / "out",
                                .force = true,
                                .threads = 2},
                               kOn));
    EXPECT_LE(p.bits(), bits);
    EXPECT_GE(p.bits(), bits * 0.999);
    *predicted = p.predicted_kl;
    return Divergence(want, LogitRows(*OpenEngine(dir / "out", request), ids, ids.size()));
  };
  double predicted = 0, before = 1e9, predicted_before = 1e9;
  for (const double bits : {2.75, 3.5, 4.5, 6.0}) {
    const double kl = harm(bits, true, &predicted);
    EXPECT_LT(kl, before);
    EXPECT_LT(predicted, predicted_before);
    EXPECT_LT(std::fabs(std::log2(kl / predicted)), 1.5) << bits << " bits: " << predicted << " predicted, " << kl;
    before = kl;
    predicted_before = predicted;
    if (bits != 3.5) continue;
    EXPECT_LT(kl, 0.9 * harm(bits, false, &predicted));
    EXPECT_LT(predicted, 0);
    harm(bits, true, &predicted);
  }
  // What was predicted stands in the file.
  const Packed seen = Must(Inspect(dir / "out"));
  EXPECT_NEAR(seen.predicted_kl, predicted, 0.01 * predicted);
  for (const PackedTensor& t : seen.tensors) {
    if (t.packed()) {
      EXPECT_NEAR(t.sensitivity, s.Find(t.name)->value, 1e-3 * t.sensitivity) << t.name;
    }
  }
  EXPECT_THAT(RunSotto({"inspect", dir / "out"}).out, HasSubstr("predicted KL"));
}

TEST(Sensitivity, CommandsWriteAndReadIt) {
  const TempDir dir;
  const std::string file = dir / "s.json", out = dir / "out";
  const Ran ran =
      RunSotto({"eval", "sensitivity", kLm, "--text", kText, "-n", "40", "-o", file, "--json", "--memory", "200MiB"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json j = Must(ParseJson(ran.out, "stdout", Code::kFailed));
  EXPECT_EQ(j["schema"], "sotto.sensitivity/1");
  EXPECT_EQ(j["tensors"].size(), 29U);
  EXPECT_GE(j["ledger"]["planned_bytes"].get<uint64_t>(), j["ledger"]["peak_bytes"].get<uint64_t>());
  EXPECT_EQ(Must(ReadSensitivities(file)).tensors.size(), 29U);
  ASSERT_EQ(RunSotto({"pack", kLm, "--bits", "4", "--sensitivity", file, "-o", out}).code, 0);
  const Ran calibrated = RunSotto({"pack", kLm, "--bits", "4", "--calibration", kText, "-o", dir / "other"});
  EXPECT_EQ(calibrated.code, 0) << calibrated.err;
  EXPECT_THAT(calibrated.out, HasSubstr("predicted KL"));

  const auto said = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"pack", kWhisper, "-o", dir / "new"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ran refused = RunSotto(arguments);
    return std::to_string(refused.code) + " " + refused.err;
  };
  EXPECT_THAT(said({"--bits", "4", "--sensitivity", file}), HasSubstr("3 sotto: the sensitivities lack '"));
  EXPECT_THAT(said({"--lossless", "--sensitivity", file}), HasSubstr("2 sotto: sensitivities have no effect"));
  EXPECT_THAT(said({"--bits", "4", "--sensitivity", kText}), HasSubstr("3 sotto: "));
  std::ofstream(file) << R"({"schema": "sotto.sensitivity/1", "tensors": [{"name": "a", "sensitivity": -1}]})";
  EXPECT_THAT(said({"--bits", "4", "--sensitivity", file}), HasSubstr("tensor 1 has no name or no sensitivity"));
  const auto refused = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"eval", "sensitivity"});
    return RunSotto(more).err;
  };
  EXPECT_THAT(refused({kLm}), HasSubstr("give a text"));
  EXPECT_THAT(refused({kLm, "--audio", kAudio}), HasSubstr("reads text only"));
  EXPECT_THAT(refused({kWhisper, "--text", kText}), HasSubstr("give audio"));
  EXPECT_THAT(refused({kLm, "--text", kText, "-n", "0"}), HasSubstr("--tokens 0 is not from 1"));
  EXPECT_THAT(refused({kLm, "--text", kText, "--weights", "int8"}), HasSubstr("measured in fp32, fp16 or bf16"));
  EXPECT_THAT(refused({kLm, "--text", dir / "none"}), HasSubstr("none"));
  EXPECT_EQ(RunSotto({"eval", "sensitivity", kLm, "--text", kText, "--memory", "10MiB"}).code, 5);
}

}  // namespace
}  // namespace sotto
