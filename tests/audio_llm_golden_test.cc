// Audio-language models against transformers (Qwen2-Audio, Voxtral) and a PyTorch re-implementation (Ultravox) in fp32, on the small
// random checkpoints of tests/golden/audio_llms (make_audio_llms.py).
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "engine/audio_prompt.h"
#include "running.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/";

class AudioLlmGolden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    cases_ = Must(ReadJson(kGolden + "audio_llms/" + GetParam() + "/expected.json", Code::kBadInput));
    engine_ = Open("fp32", "fp32");
  }
  std::unique_ptr<Engine> Open(const std::string& weights, const std::string& kv) {
    PlanRequest request = SmallRequest(weights, kv);
    request.tokenizer = false;
    request.context = 1024;
    return OpenEngine(kGolden + "audio_llms/" + GetParam() + "/model", request);
  }
  static std::vector<std::string> Files(const Json& one) {
    std::vector<std::string> files;
    for (const Json& name : one["audio"]) files.push_back(kGolden + "whisper/audio/" + name.get<std::string>());
    return files;
  }
  int32_t Placeholder() { return AudioPlaceholder(engine_->planned().config).value(); }

  Json cases_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(AudioLlmGolden, VectorsLogitsAndGreedyIdsAreThoseOfTheReference) {
  for (const Json& one : cases_) {
    std::vector<std::vector<float>> vectors, logits;
    for (const std::string& file : Files(one)) {
      AudioWindows windows = Must(AudioWindows::Open(*engine_, file));
      for (;;) {
        const std::span<const float> samples = Must(windows.Next());
        if (samples.empty()) break;
        const View v = Must(engine_->Hear(samples, 0));
        for (int64_t r = 0; r < v.rows; ++r) vectors.emplace_back(v.F32(r), v.F32(r) + v.cols);
      }
    }
    TextSession session(*engine_);
    const auto ids = one["ids"].get<std::vector<int32_t>>();
    std::vector<std::string> warnings;
    const PromptCount count =
        Must(ReadPrompt(session, *engine_, ids, Placeholder(), Files(one), kGoOn, &warnings,
                        [&](std::span<const float> row) { logits.emplace_back(row.begin(), row.end()); }));
    EXPECT_TRUE(warnings.empty());
    ASSERT_EQ(count.text + count.audio, static_cast<int64_t>(ids.size()));
    ASSERT_EQ(count.audio, static_cast<int64_t>(vectors.size()));
    ASSERT_EQ(logits.size(), ids.size());
    const auto worst = [](const Json& rows, const Json& want, const std::vector<std::vector<float>>& got) {
      float most = 0;
      for (size_t i = 0; i < rows.size(); ++i)
        for (size_t j = 0; j < want[i].size(); ++j)
          most = std::max(most, std::fabs(got.at(rows[i].get<size_t>()).at(j) - want[i][j].get<float>()));
      return most;
    };
    const float vector_error = worst(one["vector_rows"], one["vectors"], vectors) / one["largest_vector"].get<float>();
    const float logit_error = worst(one["logit_rows"], one["logits"], logits) / one["largest_logit"].get<float>();
    std::printf("%s: largest error %.1e of the vectors, %.1e of the logits\n", GetParam().c_str(),
                static_cast<double>(vector_error), static_cast<double>(logit_error));
    EXPECT_LE(vector_error, 1e-5F);
    EXPECT_LE(logit_error, 1e-5F);
    EXPECT_EQ(GreedyIds(session, one["greedy"].size()), one["greedy"].get<std::vector<int32_t>>());
  }
}

TEST_P(AudioLlmGolden, OnePlaceStandsForAnAudio) {
  const Json& one = cases_[1];
  std::vector<int32_t> ids;
  for (const int32_t id : one["ids"].get<std::vector<int32_t>>())
    if (id != Placeholder() || ids.back() != Placeholder()) ids.push_back(id);
  TextSession session(*engine_);
  std::vector<std::string> warnings;
  const PromptCount count = Must(ReadPrompt(session, *engine_, ids, Placeholder(), Files(one), kGoOn, &warnings));
  EXPECT_EQ(count.text + count.audio, static_cast<int64_t>(one["ids"].size()));
  const auto want = one["logits"].back().get<std::vector<float>>();
  for (size_t j = 0; j < want.size(); ++j)
    EXPECT_NEAR(session.logits()[j], want[j], 1e-5F * one["largest_logit"].get<float>());
}

TEST_P(AudioLlmGolden, PlacesAndAudiosMustMatch) {
  const std::vector<std::string> file = Files(cases_[0]);
  std::vector<std::string> warnings;
  const int32_t p = Placeholder();
  const auto read = [&](std::vector<int32_t> ids, const std::vector<std::string>& audios) {
    TextSession session(*engine_);
    return ReadPrompt(session, *engine_, ids, p, audios, kGoOn, &warnings);
  };
  EXPECT_EQ(read({11, p, 12}, {}).error().code, Code::kUsage);
  EXPECT_EQ(read({11, 12}, file).error().code, Code::kUsage);
  EXPECT_EQ(read({11, p, p, p, 12}, file).error().code, Code::kUsage);
  EXPECT_EQ(read({11, p}, {"/nonexistent.wav"}).error().code, Code::kBadInput);
}

TEST_P(AudioLlmGolden, LowerPrecisionsAnswer) {
  const auto engine = Open("int8", "fp16");
  TextSession session(*engine);
  std::vector<std::string> warnings;
  const auto ids = cases_[0]["ids"].get<std::vector<int32_t>>();
  ASSERT_TRUE(ReadPrompt(session, *engine, ids, Placeholder(), Files(cases_[0]), kGoOn, &warnings).ok());
  const auto want = cases_[0]["logits"].back().get<std::vector<float>>();
  double dot = 0, a = 0, b = 0;
  for (size_t j = 0; j < want.size(); ++j) {
    dot += double{want[j]} * session.logits()[j];
    a += double{want[j]} * want[j];
    b += double{session.logits()[j]} * session.logits()[j];
  }
  EXPECT_GE(dot / std::sqrt(a * b), 0.98);
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(kGolden + "audio_llms"))
    names.push_back(e.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}
std::string Tidy(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (c == '-' || c == '.') c = '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(Checkpoints, AudioLlmGolden, testing::ValuesIn(Names()), Tidy);

}  // namespace
}  // namespace sotto
