// Whisper against transformers in fp32 on the small random checkpoints of tests/golden/whisper (see the README there).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "audio/stream.h"
#include "audio/window.h"
#include "base/npy.h"
#include "engine/decode.h"
#include "engine/transcribe.h"
#include "running.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/whisper/";

std::unique_ptr<Engine> Open(const std::string& name, const std::string& weights, int64_t batch = 1) {
  PlanRequest request = SmallRequest(weights, "fp32");
  request.batch = batch;
  return OpenEngine(kGolden + name + "/model", request);
}

struct Case {
  std::string name, weights;  // weights: as stored
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name << ", " << c.weights; }

class WhisperGolden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    engine_ = Open(GetParam().name, GetParam().weights);
    expected_ = Must(ReadJson(kGolden + GetParam().name + "/expected/expected.json", Code::kBadInput));
    decoder_.emplace(engine_->model(), engine_->ops(), engine_->tokens(), engine_->run(kGenerate), 1);
  }

  NpyArray Array(const std::string& file) { return Must(ReadNpy(kGolden + GetParam().name + "/expected/" + file)); }
  std::string Audio(const std::string& file) { return kGolden + "audio/" + file; }

  std::vector<float> FirstWindow() {
    std::vector<std::byte> memory(AudioStream::BufferBytes());
    AudioStream stream = Must(AudioStream::Open(Audio(expected_["audio"]), memory));
    std::vector<float> samples(static_cast<size_t>(engine_->planned().mel.n_samples));
    samples.resize(static_cast<size_t>(Must(stream.Read(samples))));
    return samples;
  }

  DecodeLane Generate(const Json& key, bool timestamps) {
    DecodeLane lane;
    lane.prompt = key["prompt"].get<std::vector<int32_t>>();
    lane.timestamps = timestamps;
    lane.sot_index = static_cast<size_t>(std::find(lane.prompt.begin(), lane.prompt.end(), engine_->tokens().sot) -
                                         lane.prompt.begin());
    DecodeLane* lanes[] = {&lane};
    EXPECT_TRUE(decoder_->Decode(lanes, key["limit"], kGoOn).ok());
    return lane;
  }

  std::unique_ptr<Engine> engine_;
  Json expected_;
  std::optional<WhisperDecoder> decoder_;
};

float MaxAbs(const std::vector<float>& x) {
  float most = 0;
  for (float v : x) most = std::max(most, std::abs(v));
  return most;
}

// 1e-5 of the largest reference value: 1e-4 would pass a wrong epsilon or a tanh GELU.
constexpr float kTolerance = 1e-5F;

TEST_P(WhisperGolden, MelEncoderAndLogits) {
  const std::vector<float> samples = FirstWindow();
  const NpyArray mel = Array("mel.npy");
  const int64_t every = expected_["mel"]["every_nth_frame"];
  const View m = engine_->ComputeMel({samples});
  for (int64_t i = 0; i < mel.shape[0]; ++i)
    for (int64_t t = 0; t < mel.shape[1]; ++t)
      ASSERT_NEAR(m.F32(t * every)[i], mel.values[static_cast<size_t>(i * mel.shape[1] + t)], 1e-4) << i << " " << t;

  const View states = Must(engine_->Hear({samples}, 0));
  const NpyArray encoder = Array("encoder.npy");
  const int64_t nth = expected_["encoder"]["every_nth_position"];
  const float bound = kTolerance * MaxAbs(encoder.values);
  float worst = 0;
  for (int64_t t = 0; t < encoder.shape[0]; ++t)
    for (int64_t i = 0; i < encoder.shape[1]; ++i)
      worst = std::max(
          worst, std::abs(states.F32(t * nth)[i] - encoder.values[static_cast<size_t>(t * encoder.shape[1] + i)]));
  EXPECT_LE(worst, bound);

  for (const char* key : {"logits", "previous"}) {
    const NpyArray want = Array(key == std::string("logits") ? "logits.npy" : "previous_logits.npy");
    const std::vector<int32_t> ids = expected_[key]["ids"];
    std::vector<int64_t> rows;
    if (expected_[key].contains("rows"))
      rows = expected_[key]["rows"].get<std::vector<int64_t>>();
    else
      for (size_t i = 0; i < ids.size(); ++i) rows.push_back(static_cast<int64_t>(i));
    std::vector<std::vector<float>> got;
    std::vector<int32_t> none;
    decoder_->Greedy(
        0, ids, 0, -1, [&](std::span<const float> row) { got.emplace_back(row.begin(), row.end()); }, &none);
    ASSERT_EQ(got.size(), ids.size());
    const float logit_bound = kTolerance * MaxAbs(want.values);
    float largest = 0;
    for (size_t r = 0; r < rows.size(); ++r)
      for (int64_t v = 0; v < want.shape[1]; ++v)
        largest =
            std::max(largest, std::abs(got[static_cast<size_t>(rows[r])][static_cast<size_t>(v)] -
                                       want.values[r * static_cast<size_t>(want.shape[1]) + static_cast<size_t>(v)]));
    EXPECT_LE(largest, logit_bound) << key;
    RecordProperty(std::string(key) + "_error_of_bound", std::to_string(largest / logit_bound));
  }
}

TEST_P(WhisperGolden, GreedyContinuationOf64Tokens) {
  Must(engine_->Hear({FirstWindow()}, 0));
  const std::vector<int32_t> prompt = expected_["greedy"]["prompt"], want = expected_["greedy"]["ids"];
  std::vector<int32_t> ids;
  decoder_->Greedy(
      0, prompt, static_cast<int64_t>(want.size()), -1, [](std::span<const float>) {}, &ids);
  EXPECT_EQ(ids, want);
}

TEST_P(WhisperGolden, GenerateAsTransformersDoes) {
  Must(engine_->Hear({FirstWindow()}, 0));
  for (const char* key : {"generate", "generate_timestamps", "generate_previous", "generate_detected", "translate"}) {
    if (!expected_.contains(key)) continue;
    const Json& want = expected_[key];
    const DecodeLane lane = Generate(want, key == std::string("generate_timestamps"));
    EXPECT_EQ(lane.tokens, want["ids"].get<std::vector<int32_t>>()) << key;
    EXPECT_EQ(lane.ended, want["ended"].get<bool>()) << key;
    if (want.contains("no_speech_prob")) {
      EXPECT_NEAR(lane.no_speech, want["no_speech_prob"].get<double>(), 1e-5) << key;
    }
    if (want.contains("avg_logprob") && lane.ended) {
      EXPECT_NEAR(lane.AverageLogprob(), want["avg_logprob"].get<double>(), 1e-4) << key;
    }
  }
}

TEST_P(WhisperGolden, DetectsTheLanguage) {
  if (!expected_.contains("detect_language")) GTEST_SKIP() << "an English-only checkpoint has no language to detect";
  Must(engine_->Hear({FirstWindow()}, 0));
  const int32_t id = decoder_->DetectLanguage(0);
  EXPECT_EQ(engine_->tokens().LanguageId(expected_["detect_language"]["language"].get<std::string>()), id);
}

TEST_P(WhisperGolden, LongFormWindowsAndTokens) {
  const Json& want = expected_["long_form"];
  std::vector<std::byte> memory(AudioStream::BufferBytes());
  AudioStream stream = Must(AudioStream::Open(Audio(want["audio"]), memory));
  const int64_t n = engine_->planned().mel.n_samples;
  std::vector<float> held(SlidingWindow::MemorySamples(n));
  SlidingWindow window(stream, held, n);
  int64_t seek = 0;
  for (const Json& w : want["windows"]) {
    ASSERT_EQ(seek, w["seek"].get<int64_t>());
    const std::span<const float> samples = Must(window.At(seek * 160));
    const int64_t frames = static_cast<int64_t>(samples.size()) / 160;
    ASSERT_EQ(frames, w["frames"].get<int64_t>());
    Must(engine_->Hear({samples}, 0));
    const DecodeLane lane = Generate(w, true);
    EXPECT_EQ(lane.tokens, w["ids"].get<std::vector<int32_t>>());
    seek += CutSegments(engine_->tokens(), lane.tokens, frames).advance;
  }
  EXPECT_GE(seek, want["total_frames"].get<int64_t>());
}

TEST_P(WhisperGolden, Int8LogitsStayWithinTheirBound) {
  const std::vector<float> samples = FirstWindow();
  const NpyArray want = Array("logits.npy");
  const std::vector<int32_t> ids = expected_["logits"]["ids"];
  const std::unique_ptr<Engine> small = Open(GetParam().name, "int8");
  Must(small->Hear({samples}, 0));
  WhisperDecoder decoder(small->model(), small->ops(), small->tokens(), small->run(kGenerate), 1);
  std::vector<float> got;
  std::vector<int32_t> none;
  decoder.Greedy(
      0, ids, 0, -1, [&](std::span<const float> row) { got.insert(got.end(), row.begin(), row.end()); }, &none);
  // The bound: relative error of all logits below 6 %, cosine above 0.998 (8-bit weights and activations, random networks).
  double error = 0, norm = 0, dot = 0, own = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double g = got[i], w = want.values[i];
    error += (g - w) * (g - w);
    norm += w * w;
    dot += g * w;
    own += g * g;
  }
  EXPECT_LT(std::sqrt(error / norm), 0.06);
  EXPECT_GT(dot / std::sqrt(norm * own), 0.998);
}

TEST_P(WhisperGolden, BatchesEqualSingles) {
  const std::vector<float> samples = FirstWindow();
  const std::unique_ptr<Engine> batch = Open(GetParam().name, GetParam().weights, 3);
  WhisperDecoder decoder(batch->model(), batch->ops(), batch->tokens(), batch->run(kGenerate), 3);
  const Json& want = expected_["generate"];
  std::vector<DecodeLane> lanes(3);
  std::vector<DecodeLane*> pointers;
  for (int32_t i = 0; i < 3; ++i) {
    // Each hears another part of the audio, the last one the whole of it.
    Must(batch->Hear({std::span(samples).subspan(i == 2 ? 0 : static_cast<size_t>(i) * 8000)}, i));
    lanes[static_cast<size_t>(i)].sequence = i;
    lanes[static_cast<size_t>(i)].prompt = want["prompt"].get<std::vector<int32_t>>();
    lanes[static_cast<size_t>(i)].timestamps = false;
    pointers.push_back(&lanes[static_cast<size_t>(i)]);
  }
  ASSERT_TRUE(decoder.Decode(pointers, want["limit"], kGoOn).ok());
  EXPECT_EQ(lanes[2].tokens, want["ids"].get<std::vector<int32_t>>());
  for (int32_t i = 0; i < 3; ++i) {
    Must(engine_->Hear({std::span(samples).subspan(i == 2 ? 0 : static_cast<size_t>(i) * 8000)}, 0));
    EXPECT_EQ(Generate(want, false).tokens, lanes[static_cast<size_t>(i)].tokens) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, WhisperGolden,
                         testing::Values(Case{"multilingual-f32", "fp32"}, Case{"english-bf16", "bf16"},
                                         Case{"odd-f16", "fp16"}),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(WhisperRules, CutsLikeThePublishedProgram) {
  const Json cases = Must(ReadJson(kGolden + "cut_cases.json", Code::kBadInput));
  ASSERT_GE(cases.size(), 14U);
  for (const Json& c : cases) {
    WhisperTokens tokens;
    tokens.timestamp_begin = c["timestamp_begin"];
    const std::vector<int32_t> ids = c["ids"];
    const WhisperCut cut = CutSegments(tokens, ids, c["frames"]);
    EXPECT_EQ(cut.advance, c["advance"].get<int64_t>()) << c["name"];
    ASSERT_EQ(cut.segments.size(), c["segments"].size()) << c["name"];
    for (size_t i = 0; i < cut.segments.size(); ++i) {
      const double offset = c["seek"].get<double>() * 0.01;
      EXPECT_NEAR(cut.segments[i].start + offset, c["segments"][i]["start"].get<double>(), 1e-9) << c["name"];
      EXPECT_NEAR(cut.segments[i].end + offset, c["segments"][i]["end"].get<double>(), 1e-9) << c["name"];
      EXPECT_EQ(
          std::vector<int32_t>(ids.begin() + static_cast<ptrdiff_t>(cut.segments[i].first),
                               ids.begin() + static_cast<ptrdiff_t>(cut.segments[i].first + cut.segments[i].count)),
          c["segments"][i]["ids"].get<std::vector<int32_t>>())
          << c["name"];
    }
  }
}

TEST(Catalogue, EveryEntryHasTheParametersOfTransformersModules) {
  const Json want = Must(ReadJson(SOTTO_SOURCE_DIR "/tests/golden/catalog_parameters.json", Code::kBadInput));
  ASSERT_GE(want.size(), 17U);
  for (const auto& [name, counts] : want.items()) {
    Result<ModelDir> dir = FindModel(name, ModelUse::kPlan);
    ASSERT_TRUE(dir.ok()) << name;
    PlanRequest request;
    request.budget = Bytes{64 * kGiB};
    const Planned planned = Must(PlanModel(*dir, request));
    const Anatomy& a = *planned.layout.anatomy;
    EXPECT_EQ(a.Parameters(), counts["total"].get<uint64_t>()) << name;
    EXPECT_EQ(a.Parameters(Component::kEncoder), counts["encoder"].get<uint64_t>()) << name;
    uint64_t parts = 0;
    for (int c = 0; c < kComponents; ++c) parts += a.Parameters(static_cast<Component>(c));
    EXPECT_EQ(parts, a.Parameters()) << name;
    EXPECT_TRUE(planned.layout.plan.exact) << name;
  }
}

}  // namespace
}  // namespace sotto
