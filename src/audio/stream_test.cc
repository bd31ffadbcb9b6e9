#include "audio/stream.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>

#include "audio/testing.h"

namespace sotto {
namespace {

using namespace testing;

// Amplitude of the frequency `hz` in samples [from, to) at 16 kHz, by least squares of sine and cosine (a Hann window
// against leakage); `rest` receives the RMS of what remains.
double Amplitude(const std::vector<float>& x, double hz, size_t from, size_t to, double* rest = nullptr) {
  double a = 0, b = 0, weight = 0;
  for (size_t i = from; i < to; ++i) {
    const double w = 0.5 - 0.5 * std::cos(2 * M_PI * static_cast<double>(i - from) / static_cast<double>(to - from));
    const double t = 2 * M_PI * hz * static_cast<double>(i) / kSampleRate;
    a += w * x[i] * std::cos(t);
    b += w * x[i] * std::sin(t);
    weight += w;
  }
  a *= 2 / weight;
  b *= 2 / weight;
  if (rest != nullptr) {
    double sum = 0;
    for (size_t i = from; i < to; ++i) {
      const double t = 2 * M_PI * hz * static_cast<double>(i) / kSampleRate;
      const double d = x[i] - a * std::cos(t) - b * std::sin(t);
      sum += d * d;
    }
    *rest = std::sqrt(sum / static_cast<double>(to - from));
  }
  return std::hypot(a, b);
}

TEST(AudioStream, TonesKeepFrequencyAndAmplitudeFromEveryRate) {
  for (int rate : {8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000}) {
    for (double hz : {60.0, 440.0, 1000.0, 3300.0, 5000.0, 7000.0}) {
      if (hz > 0.45 * rate) continue;
      const Heard h = HearBytes(WavFloat(Tone(hz, rate, 1.0), static_cast<uint32_t>(rate)));
      ASSERT_TRUE(h.error.empty()) << h.error;
      EXPECT_EQ(h.samples.size(), 16000u) << rate;
      double rest = 1;
      EXPECT_NEAR(Amplitude(h.samples, hz, 2000, 14000, &rest), 0.5, 0.0005) << hz << " Hz from " << rate;
      EXPECT_LT(rest, 1e-4) << hz << " Hz from "
                            << rate;  // no other frequency: -71 dB of the tone, phase and time included
    }
  }
}

TEST(AudioStream, WhatLiesAboveEightKilohertzIsGone) {
  for (int rate : {22050, 44100, 48000, 96000, 192000}) {
    for (double hz : {8800.0, 10000.0, 15000.0, 23000.0, 60000.0}) {
      if (hz > 0.49 * rate) continue;
      const Heard h = HearBytes(WavFloat(Tone(hz, rate, 1.0), static_cast<uint32_t>(rate)));
      ASSERT_EQ(h.samples.size(), 16000u);
      double sum = 0;
      for (size_t i = 2000; i < 14000; ++i) sum += double{h.samples[i]} * h.samples[i];
      const double db = 10 * std::log10(sum / 12000 / 0.125);
      EXPECT_LT(db, -80) << hz << " Hz from " << rate;
    }
  }
}

TEST(AudioStream, SixteenKilohertzPassesBitForBit) {
  const std::vector<float> x = Tone(123, 16000, 0.7);
  EXPECT_EQ(HearBytes(WavFloat(x, 16000)).samples, x);
}

TEST(AudioStream, AnImpulseStaysAtItsTime) {
  for (uint32_t rate : {8000u, 44100u, 48000u, 192000u}) {
    std::vector<float> x(rate, 0.f);
    x[rate / 2] = 1;
    const std::vector<float> y = HearBytes(WavFloat(x, rate)).samples;
    EXPECT_EQ(std::max_element(y.begin(), y.end()) - y.begin(), 8000) << rate;
  }
}

TEST(AudioStream, ChannelsAreAveraged) {
  for (int channels : {2, 3, 8, 64}) {
    std::vector<float> x;
    for (int i = 0; i < 4000; ++i)
      for (int c = 0; c < channels; ++c) x.push_back(c == 1 ? static_cast<float>(i % 7) / 8 : 0.f);
    const Heard h = HearBytes(WavFloat(x, 16000, channels));
    ASSERT_EQ(h.samples.size(), 4000u) << h.error;
    for (int i = 0; i < 4000; ++i) ASSERT_NEAR(h.samples[i], static_cast<float>(i % 7) / 8 / channels, 1e-7);
  }
}

TEST(AudioStream, EveryWavCodingGivesTheSameSamples) {
  const std::vector<float> x = Tone(300, 16000, 0.1);
  const auto encode = [&](int format) { return Encode(SF_FORMAT_WAV | format, x, 16000, 1); };
  const std::pair<int, double> cases[] = {
      {SF_FORMAT_PCM_U8, 1.0 / 127}, {SF_FORMAT_PCM_16, 1e-4}, {SF_FORMAT_PCM_24, 1e-6}, {SF_FORMAT_PCM_32, 1e-6},
      {SF_FORMAT_FLOAT, 1e-7},       {SF_FORMAT_DOUBLE, 1e-7}, {SF_FORMAT_ALAW, 0.02},   {SF_FORMAT_ULAW, 0.02}};
  for (const auto& [format, tolerance] : cases) {
    const Heard h = HearBytes(encode(format));
    ASSERT_EQ(h.samples.size(), x.size()) << format << h.error;
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(h.samples[i], x[i], tolerance) << format;
    EXPECT_TRUE(h.warnings.empty());
  }
  // Extensible and RF64 heads, as libsndfile writes them.
  for (int container : {SF_FORMAT_WAVEX, SF_FORMAT_RF64}) {
    const Heard h = HearBytes(Encode(container | SF_FORMAT_FLOAT, x, 16000, 1));
    EXPECT_EQ(h.samples, x) << h.error;
    EXPECT_EQ(h.info.container, "wav");
  }
}

struct FormatCase {
  const char* container;
  const char* codec;
  int format;
  double tolerance;  // of the RMS
  bool pipe;
};
const FormatCase kFormats[] = {
    {"flac", "flac", kFlacFormat, 0.001, true},     {"ogg", "vorbis", kVorbisFormat, 0.05, true},
    {"ogg", "opus", kOpusFormat, 0.1, true},        {"mp3", "mp3", kMp3Format, 0.05, true},
    {"aiff", "pcm_s16", kAiffFormat, 0.001, false}, {"au", "pcm_s16", kAuFormat, 0.001, true},
    {"caf", "pcm_s16", kCafFormat, 0.001, false},   {"w64", "pcm_s16", kW64Format, 0.001, false},
    {"wav", "ima_adpcm", kAdpcmFormat, 0.05, true}};

TEST(AudioStream, EveryFormatGivesTheSameSoundFromFilesMemoryAndPipes) {
  for (const FormatCase& c : kFormats) {
    const int rate = 48000;
    std::vector<float> x;
    for (float v : Tone(440, rate, 2.0, 0.3)) x.insert(x.end(), {v, v});
    const Blob blob = Encode(c.format, x, rate, 2);
    if (blob.empty()) continue;  // this libsndfile can't write it
    const std::string path = WriteTemp("format", blob);
    const Heard file = HearPath(path);
    ASSERT_TRUE(file.error.empty()) << c.codec << ": " << file.error;
    EXPECT_TRUE(file.warnings.empty()) << c.codec << ": " << file.warnings[0];
    EXPECT_EQ(file.info.container, c.container);
    EXPECT_EQ(file.info.codec, c.codec);
    EXPECT_EQ(file.info.channels, 2);
    EXPECT_NEAR(file.info.seconds(), 2.0, 0.1) << c.codec;
    EXPECT_NEAR(static_cast<double>(file.samples.size()), 32000, 1200) << c.codec;
    EXPECT_NEAR(Amplitude(file.samples, 440, 4000, 28000), 0.3, 0.3 * c.tolerance) << c.codec;
    EXPECT_EQ(HearBytes(blob).samples, file.samples) << c.codec;
    const Heard pipe = HearPipe(blob);
    if (c.pipe) {
      EXPECT_EQ(pipe.samples, file.samples) << c.codec << ": " << pipe.error;
      EXPECT_TRUE(pipe.warnings.empty()) << c.codec << ": " << pipe.warnings[0];
    } else {
      EXPECT_EQ(pipe.code, Code::kBadInput);
      EXPECT_NE(pipe.error.find("ffmpeg"), std::string::npos) << pipe.error;
    }
    ::unlink(path.c_str());
  }
}

TEST(AudioStream, CutFilesGiveWhatIsThereAndSaySo) {
  for (const FormatCase& c : kFormats) {
    if (std::string(c.container) == "caf") continue;  // libsndfile refuses a cut CAF
    std::vector<float> noise(64000);
    uint32_t seed = 1;
    for (float& v : noise) v = static_cast<float>((seed = seed * 1664525 + 1013904223) >> 8) / 67108864.f - 0.125f;
    const Blob blob = Encode(c.format, noise, 16000, 1);
    if (blob.empty()) continue;
    const Blob cut = blob.substr(0, blob.size() * 2 / 3);
    for (const Heard& h : {HearBytes(cut), c.pipe ? HearPipe(cut) : HearBytes(cut)}) {
      EXPECT_GT(h.samples.size(), 25000u) << c.codec << ": " << h.error;
      // libsndfile fills up what is missing of ADPCM with zeros.
      EXPECT_LT(h.samples.size(), c.format == kAdpcmFormat ? 65000u : 46000u) << c.codec;
      ASSERT_EQ(h.warnings.size(), 1u) << c.codec;
      EXPECT_NE(h.warnings[0].find("missing"), std::string::npos) << h.warnings[0];
      EXPECT_NE(h.warnings[0].find(h.warnings[0].starts_with("standard") ? "standard input" : "test.audio"),
                std::string::npos);
    }
  }
}

TEST(AudioStream, WavFromPipesWithUnknownLength) {
  const std::vector<float> x = Tone(200, 16000, 1.0);
  const Blob good = Wav16(x);
  const std::vector<float> expected = HearBytes(good).samples;
  ASSERT_EQ(expected.size(), x.size());
  // ffmpeg, sox, and writers that leave zeros.
  const std::pair<uint32_t, uint32_t> lengths[] = {{0xFFFFFFFF, 0xFFFFFFFF}, {0x7FFFF024, 0x7FFFF000}, {0, 0}, {36, 0}};
  for (const auto& [riff, data] : lengths) {
    Blob b = good;
    std::memcpy(b.data() + 4, &riff, 4);
    std::memcpy(b.data() + 40, &data, 4);
    const Heard h = HearPipe(b);
    EXPECT_EQ(h.samples, expected) << data << h.error;
    EXPECT_TRUE(h.warnings.empty());
    EXPECT_EQ(h.info.frames, -1);
  }
}

TEST(AudioStream, TagsAndPicturesCostNothing) {
  const std::vector<float> x = Tone(440, 16000, 1.0);
  const Blob mp3 = Encode(kMp3Format, x, 16000, 1), flac = Encode(kFlacFormat, x, 16000, 1);
  const size_t picture = 3 << 20;
  Blob tag = "ID3";
  tag += std::string("\x03\0\0", 3);
  for (int shift : {21, 14, 7, 0}) tag.push_back(static_cast<char>(picture >> shift & 0x7F));
  tag += Blob(picture, '\x55');
  if (!mp3.empty()) {
    EXPECT_EQ(HearBytes(tag + mp3).samples, HearBytes(mp3).samples);
    EXPECT_EQ(HearPipe(tag + mp3).samples, HearBytes(mp3).samples);
  }
  Blob block = std::string("\x06\x30\0\0", 4) + Blob(3 << 20, '\0');  // PICTURE of 3 MiB behind STREAMINFO
  Blob with = flac.substr(0, 42) + block + flac.substr(42);
  with[4] = 0;
  EXPECT_EQ(HearBytes(with).samples, HearBytes(flac).samples);
  EXPECT_EQ(HearPipe(with).samples, HearBytes(flac).samples);
}

TEST(AudioStream, RedirectedStandardInputIsAFile) {
  const std::string path = WriteTemp("redirect", Wav16(Tone(440, 16000, 0.5)));
  const int saved = ::dup(STDIN_FILENO);
  FILE* f = std::fopen(path.c_str(), "rb");
  ::dup2(::fileno(f), STDIN_FILENO);
  const Heard h = HearPath("-");
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
  std::fclose(f);
  EXPECT_EQ(h.samples.size(), 8000u) << h.error;
  EXPECT_EQ(h.info.frames, 8000);
  ::unlink(path.c_str());
}

TEST(AudioStream, ClosedPipes) {
  const Heard nothing = HearPipe("");
  EXPECT_EQ(nothing.code, Code::kBadInput);
  EXPECT_EQ(nothing.error, "standard input is empty; give a file with audio in it");
  const Blob wav = Wav16(Tone(440, 16000, 1.0));
  const Heard half = HearPipe(std::string_view(wav).substr(0, wav.size() / 2));
  EXPECT_NEAR(static_cast<double>(half.samples.size()), 8000, 50);
  ASSERT_EQ(half.warnings.size(), 1u);
  EXPECT_NE(half.warnings[0].find("standard input is cut short"), std::string::npos) << half.warnings[0];
}

TEST(AudioStream, ReadInAnyPiecesGivesTheSame) {
  const Blob blob = WavFloat(Tone(440, 44100, 1.0), 44100);
  const std::vector<float> whole = HearBytes(blob).samples;
  std::vector<std::byte> memory(AudioStream::BufferBytes());
  for (size_t piece : {1, 7, 4096, 16000}) {
    AudioStream s = AudioStream::OpenMemory(AsBytes(blob), "x", memory).value();
    std::vector<float> got, block(piece);
    while (int64_t n = s.Read(block).value()) got.insert(got.end(), block.begin(), block.begin() + n);
    EXPECT_EQ(got, whole);
    EXPECT_EQ(s.samples_read(), 16000);
  }
}

}  // namespace
}  // namespace sotto
