// Audio-language models against transformers (Qwen2-Audio, Voxtral) and a PyTorch re-implementation (Ultravox) in fp32, on the small
// random checkpoints of tests/golden/audio_llms (make_audio_llms.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "audio/testing.h"
#include "engine/audio_prompt.h"
#include "running.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/";

class AudioLlmGolden : public ::testing::TestWithParam<std::string> {
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
    for (const Json& name : one["audio"])
      files.push_back(name == "joined" ? Joined(one["joined"]) : kGolden + "whisper/audio/" + name.get<std::string>());
    return files;
  }
  // [[file, factor], …] one behind the other, as a file of fp32 samples.
  static std::string Joined(const Json& parts) {
    std::vector<float> all;
    std::vector<std::byte> memory(AudioStream::BufferBytes());
    for (const Json& part : parts) {
      AudioStream stream = Must(AudioStream::Open(kGolden + "whisper/audio/" + part[0].get<std::string>(), memory));
      std::vector<float> samples(20 * kSampleRate);
      samples.resize(static_cast<size_t>(Must(stream.Read(samples))));
      for (const float x : samples) all.push_back(x * part[1].get<float>());
    }
    const std::string path = ::testing::TempDir() + "joined.wav";
    std::ofstream(path, std::ios::binary) << sotto::testing::WavFloat(all, kSampleRate);
    return path;
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
        const MelWindow window = Must(windows.Next());
        if (window.samples.empty()) break;
        const View v = Must(engine_->Hear(window, 0));
        for (int64_t r = 0; r < v.rows; ++r) vectors.emplace_back(v.F32(r), v.F32(r) + v.cols);
      }
    }
    TextSession session(*engine_);
    const auto ids = one["ids"].get<std::vector<int32_t>>();
    std::vector<std::string> warnings;
    const PromptCount count =
        Must(ReadPrompt(session, *engine_, ids, Placeholder(), Files(one), kGoOn, &warnings,
                        [&](std::span<const float> row) { logits.emplace_back(row.begin(), row.end()); }));
    // Qwen2-Audio hears one window.
    EXPECT_EQ(warnings.size(), engine_->model().info().audio_windows == 1 && one.contains("joined") ? 1U : 0U);
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

TEST_P(AudioLlmGolden, APipeIsHeardWindowByWindowAndSaysSo) {
  std::ifstream file(Joined(cases_[2]["joined"]), std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::thread writer([&] {
    for (size_t put = 0; put < bytes.size();) {
      const ssize_t n = ::write(ends[1], bytes.data() + put, bytes.size() - put);
      if (n <= 0) break;
      put += static_cast<size_t>(n);
    }
    ::close(ends[1]);
  });
  TextSession session(*engine_);
  std::vector<std::string> warnings;
  const std::vector<std::string> audio = {"/proc/self/fd/" + std::to_string(ends[0])};
  const Result<PromptCount> count = ReadPrompt(session, *engine_, std::vector<int32_t>{11, Placeholder(), 12},
                                               Placeholder(), audio, kGoOn, &warnings);
  ::close(ends[0]);
  writer.join();
  ASSERT_TRUE(count.ok()) << count.error().message;
  EXPECT_EQ(count->text + count->audio + 3 + 4, static_cast<int64_t>(cases_[2]["ids"].size()));  // 5 + 4 words there
  ASSERT_EQ(warnings.size(), 1U);
  const bool one_window = engine_->model().info().audio_windows == 1;
  EXPECT_THAT(warnings[0], ::testing::HasSubstr(one_window ? "was not heard" : "a pipe is read once"));
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
std::string Tidy(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (c == '-' || c == '.') c = '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(Checkpoints, AudioLlmGolden, ::testing::ValuesIn(Names()), Tidy);

}  // namespace
}  // namespace sotto
