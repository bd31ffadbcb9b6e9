#include "audio/log_mel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <random>

#include "audio/testing.h"

namespace sotto {
namespace {

using namespace testing;

struct Mel {
  std::vector<std::byte> tables, scratch;
  LogMel mel;
  explicit Mel(const MelParams& p, int threads = 1)
      : tables(LogMel::TableBytes(p).n + 64),
        scratch(LogMel::ScratchBytes(p, threads).n + 64),
        mel(LogMel::Create(p, Aligned(tables)).value()) {}
  static std::span<std::byte> Aligned(std::vector<std::byte>& v) {
    const size_t skip = (64 - reinterpret_cast<uintptr_t>(v.data()) % 64) % 64;
    return std::span(v).subspan(skip, v.size() - 64);
  }
  std::vector<float> operator()(std::span<const float> samples, Threads* threads = nullptr) {
    const MelParams& p = mel.params();
    std::vector<float> out(static_cast<size_t>(p.frames() * p.n_mels), 99.f);
    mel.Compute({samples}, {reinterpret_cast<std::byte*>(out.data()), DType::kF32, p.frames(), p.n_mels, p.n_mels},
                Aligned(scratch), threads);
    return out;
  }
};

TEST(RealFft, PowerEqualsTheDefinition) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  for (int64_t n : {4, 6, 10, 16, 60, 400, 512, 750}) {
    ASSERT_TRUE(RealFft::Supports(n));
    alignas(64) static double x[1024 * 4], scratch[1024 * 4], power[1024 * 4], table[2048];
    RealFft fft(n, table);
    std::vector<double> original(static_cast<size_t>(n * 4));
    for (double& v : original) v = normal(random);
    std::copy(original.begin(), original.end(), x);
    fft.Power(x, scratch, power);
    for (int64_t k = 0; k <= n / 2; ++k)
      for (int lane = 0; lane < 4; ++lane) {
        std::complex<double> sum = 0;
        for (int64_t i = 0; i < n; ++i)
          sum += original[static_cast<size_t>(i * 4 + lane)] *
                 std::polar(1.0, -2 * M_PI * static_cast<double>(k * i % n) / static_cast<double>(n));
        ASSERT_NEAR(power[k * 4 + lane], std::norm(sum), 1e-10 * static_cast<double>(n)) << n << " " << k;
      }
  }
  for (int64_t n : {0, 2, 401, 14, 1 << 20, -400}) EXPECT_FALSE(RealFft::Supports(n)) << n;
}

// The formula of feature_extraction_whisper.py, straight and slow, in double precision.
std::vector<double> Reference(const LogMel& mel, const MelParams& p, std::vector<float> samples) {
  samples.resize(static_cast<size_t>(p.n_samples), 0.f);
  const int64_t bins = p.n_fft / 2 + 1, half = p.n_fft / 2;
  std::vector<double> out(static_cast<size_t>(p.frames() * p.n_mels));
  double largest = -1e9;
  std::vector<std::complex<double>> turn(static_cast<size_t>(p.n_fft));
  for (int64_t i = 0; i < p.n_fft; ++i)
    turn[static_cast<size_t>(i)] = std::polar(1.0, -2 * M_PI * static_cast<double>(i) / static_cast<double>(p.n_fft));
  for (int64_t f = 0; f < p.frames(); ++f) {
    std::vector<double> power(static_cast<size_t>(bins)), x(static_cast<size_t>(p.n_fft));
    for (int64_t i = 0; i < p.n_fft; ++i) {
      int64_t at = f * p.hop - half + i;
      if (at < 0) at = -at;
      if (at >= p.n_samples) at = 2 * (p.n_samples - 1) - at;
      x[static_cast<size_t>(i)] = samples[static_cast<size_t>(at)] * (0.5 - 0.5 * turn[static_cast<size_t>(i)].real());
    }
    for (int64_t k = 0; k < bins; ++k) {
      std::complex<double> sum = 0;
      for (int64_t i = 0; i < p.n_fft; ++i)
        sum += x[static_cast<size_t>(i)] * turn[static_cast<size_t>(k * i % p.n_fft)];
      power[static_cast<size_t>(k)] = std::norm(sum);
    }
    for (int64_t m = 0; m < p.n_mels; ++m) {
      double sum = 0;
      for (int64_t k = 0; k < bins; ++k) sum += mel.Weight(m, k) * power[static_cast<size_t>(k)];
      double& v = out[static_cast<size_t>(f * p.n_mels + m)];
      v = std::log10(std::max(sum, 1e-10));
      largest = std::max(largest, v);
    }
  }
  for (double& v : out) v = (std::max(v, largest - 8) + 4) / 4;
  return out;
}

TEST(LogMel, EqualsTheFormulaAlsoAtBothEdges) {
  for (int64_t n_mels : {80, 128}) {
    const MelParams p{.n_mels = n_mels, .n_samples = 8000};
    Mel mel(p);
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    for (size_t n : {8000, 7999, 7810, 4001, 160, 1, 0}) {
      std::vector<float> x(n);
      for (float& v : x) v = 0.1f * normal(random);
      const std::vector<float> got = mel(x);
      const std::vector<double> expected = Reference(mel.mel, p, x);
      for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-6) << n << " samples, value " << i;
    }
  }
}

// transformers 5.23 mel_filter_bank(201, n, 0, 8000, 16000, norm="slaney", mel_scale="slaney").
TEST(LogMel, FiltersAreThePublishedOnes) {
  Mel m80({.n_mels = 80});
  EXPECT_NEAR(m80.mel.Weight(0, 1), 0.02486259398417609, 1e-15);
  EXPECT_NEAR(m80.mel.Weight(5, 8), 0, 1e-15);
  EXPECT_NEAR(m80.mel.Weight(40, 43), 0.01473556574143914, 1e-15);
  EXPECT_NEAR(m80.mel.Weight(78, 186), 0.003132763185362443, 1e-15);
  EXPECT_NEAR(m80.mel.Weight(79, 199), 0.0004487590275890558, 1e-15);
  double sum80 = 0;
  for (int m = 0; m < 80; ++m)
    for (int k = 0; k < 201; ++k) sum80 += m80.mel.Weight(m, k) * (m + 1) * (k + 2);
  EXPECT_NEAR(sum80 / 7256.373050314165, 1, 1e-12);
  Mel m128({.n_mels = 128});
  EXPECT_NEAR(m128.mel.Weight(0, 1), 0.01237398633263696, 1e-15);
  EXPECT_NEAR(m128.mel.Weight(5, 8), 0, 1e-15);
  EXPECT_NEAR(m128.mel.Weight(64, 43), 0.01809151762107613, 1e-15);
  EXPECT_NEAR(m128.mel.Weight(126, 192), 0.003782647477155223, 1e-15);
  EXPECT_NEAR(m128.mel.Weight(127, 199), 0.001114280198753211, 1e-15);
  double sum128 = 0;
  for (int m = 0; m < 128; ++m)
    for (int k = 0; k < 201; ++k) sum128 += m128.mel.Weight(m, k) * (m + 1) * (k + 2);
  EXPECT_NEAR(sum128 / 18589.49676926848, 1, 1e-12);
}

TEST(LogMel, ThreadsDontChangeTheNumbers) {
  const MelParams p{.n_mels = 80, .n_samples = 80000};
  const std::vector<float> x = Tone(440, 16000, 4.0);
  Mel one(p), three(p, 3);
  Threads threads(3);
  EXPECT_EQ(one(x), three(x, &threads));
}

TEST(LogMel, SilenceIsFlat) {
  Mel mel({.n_mels = 80, .n_samples = 80000});
  for (float v : mel({})) ASSERT_EQ(v, -1.5f);  // (-10 + 4) / 4
}

TEST(LogMel, ParametersThatCannotBeAreRefused) {
  for (const MelParams& p :
       {MelParams{.n_mels = 0}, MelParams{.n_mels = -1}, MelParams{.n_fft = 401}, MelParams{.n_fft = 0},
        MelParams{.hop = 0}, MelParams{.sample_rate = 8000}, MelParams{.n_samples = 0},
        MelParams{.n_samples = int64_t{1} << 60}, MelParams{.n_mels = int64_t{1} << 40}}) {
    EXPECT_EQ(LogMel::Check(p).error().code, Code::kBadModel);
    EXPECT_EQ(LogMel::TableBytes(p).n, 0u);
  }
}

}  // namespace
}  // namespace sotto
