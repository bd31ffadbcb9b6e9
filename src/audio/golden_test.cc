// Audio against the fixtures of tests/golden/whisper (see its README): mel of the reference extractor, and a mix-down
// and resampling whose ideal result is known.
#include <gtest/gtest.h>

#include <cstdlib>

#include "audio/log_mel.h"
#include "audio/testing.h"
#include "base/file.h"
#include "base/json.h"

namespace sotto {
namespace {

using namespace testing;

const std::string kFolder = SOTTO_SOURCE_DIR "/tests/golden/whisper/";

// The values of a float32 .npy; its shape is known from expected.json.
std::vector<float> ReadNpy(const std::string& path) {
  const std::string b = ReadSmallFile(path, 64 * kMiB, Code::kFailed).value();
  const size_t head = 10 + static_cast<uint8_t>(b[8]) + 256 * static_cast<size_t>(static_cast<uint8_t>(b[9]));
  std::vector<float> x((b.size() - head) / 4);
  std::memcpy(x.data(), b.data() + head, x.size() * 4);
  return x;
}

TEST(GoldenAudio, MelEqualsTransformers) {
  for (const char* name : {"multilingual-f32", "english-bf16", "odd-f16"}) {
    const Json expected = ReadJson(kFolder + name + "/expected/expected.json", Code::kFailed).value();
    const Json config = ReadJson(kFolder + name + "/model/preprocessor_config.json", Code::kFailed).value();
    const MelParams p{.n_mels = config["feature_size"],
                      .n_fft = config["n_fft"],
                      .hop = config["hop_length"],
                      .sample_rate = config["sampling_rate"],
                      .n_samples = config["n_samples"]};
    const Heard heard = HearPath(kFolder + "audio/" + expected["audio"].get<std::string>());
    ASSERT_TRUE(heard.error.empty()) << heard.error;
    ASSERT_TRUE(heard.warnings.empty());
    auto* tables = static_cast<std::byte*>(std::aligned_alloc(64, LogMel::TableBytes(p).n));
    auto* scratch = static_cast<std::byte*>(std::aligned_alloc(64, RoundUp(LogMel::ScratchBytes(p, 1).n, 64)));
    const LogMel mel = LogMel::Create(p, {tables, LogMel::TableBytes(p).n}).value();
    std::vector<float> got(static_cast<size_t>(p.frames() * p.n_mels));
    mel.Compute({heard.samples},
                {reinterpret_cast<std::byte*>(got.data()), DType::kF32, p.frames(), p.n_mels, p.n_mels},
                {scratch, LogMel::ScratchBytes(p, 1).n}, nullptr);
    std::free(tables);
    std::free(scratch);
    const std::vector<float> want = ReadNpy(kFolder + name + "/expected/mel.npy");
    const int64_t every = expected["mel"]["every_nth_frame"];
    const int64_t kept = (p.frames() + every - 1) / every;
    ASSERT_EQ(static_cast<int64_t>(want.size()), p.n_mels * kept);
    // The fixture is the fp32 path of the extractor; "fp32_error" is its own distance from double precision.
    const double tolerance = 1e-4 + 2 * expected["mel"]["fp32_error"].get<double>();
    double worst = 0;
    for (int64_t m = 0; m < p.n_mels; ++m)
      for (int64_t f = 0; f < kept; ++f)
        worst = std::max(worst, std::fabs(double{got[static_cast<size_t>(f * every * p.n_mels + m)]} -
                                          want[static_cast<size_t>(m * kept + f)]));
    EXPECT_LT(worst, tolerance) << name;
    RecordProperty(std::string("mel_max_error_") + name, std::to_string(worst));
  }
}

TEST(GoldenAudio, MixingDownAndResamplingIsWhatTheSignalSays) {
  const Heard got = HearPath(kFolder + "audio/tones_44k_stereo.wav"),
              want = HearPath(kFolder + "audio/tones_16k_mono.wav");
  ASSERT_TRUE(got.error.empty()) << got.error;
  ASSERT_EQ(got.info.channels, 2);
  ASSERT_EQ(want.info.sample_rate, 16000);
  ASSERT_NEAR(static_cast<double>(got.samples.size()), static_cast<double>(want.samples.size()), 1);
  double worst = 0;
  const size_t n = std::min(got.samples.size(), want.samples.size());
  for (size_t i = 800; i + 800 < n; ++i) worst = std::max(worst, std::fabs(double{got.samples[i]} - want.samples[i]));
  EXPECT_LT(worst, 1e-4);  // both files are rounded to 16 bits: 2 x 1.5e-5
}

}  // namespace
}  // namespace sotto
