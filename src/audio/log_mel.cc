#include "audio/log_mel.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sotto {
namespace {

constexpr int kLanes = RealFft::kLanes;
constexpr double kMaxHz = 8000;
constexpr double kFloor = 1e-10;
constexpr float kLogFloor = -10.f;  // log10 of it
constexpr uint64_t kAlign = 64;

// Slaney's mel scale: linear below 1 kHz, logarithmic above.
double HzToMel(double hz) { return hz < 1000 ? 3 * hz / 200 : 15 + std::log(hz / 1000) * (27 / std::log(6.4)); }
double MelToHz(double mel) { return mel < 15 ? 200 * mel / 3 : 1000 * std::exp(std::log(6.4) / 27 * (mel - 15)); }

// Edge i of the n_mels + 2 equally spaced edges of the filters, Hz.
double Edge(int64_t i, int64_t n_mels) {
  return MelToHz(HzToMel(kMaxHz) * static_cast<double>(i) / static_cast<double>(n_mels + 1));
}

// Doubles of all bands' weights: every bin lies in at most two bands, and each band is stored with its inner bins only.
uint64_t WeightDoubles(const MelParams& p) { return static_cast<uint64_t>(2 * (p.n_fft / 2 + 1)); }

struct Layout {
  uint64_t fft, window, weights, bands, total;
};
Layout TableLayout(const MelParams& p) {
  Layout at{};
  at.window = RoundUp(RealFft::TableDoubles(p.n_fft) * sizeof(double), kAlign);
  at.weights = at.window + RoundUp(static_cast<uint64_t>(p.n_fft) * sizeof(double), kAlign);
  at.bands = at.weights + RoundUp(WeightDoubles(p) * sizeof(double), kAlign);
  at.total = at.bands + RoundUp(static_cast<uint64_t>(p.n_mels) * 3 * sizeof(int32_t), kAlign);
  return at;
}

// For one thread: its maximum, samples [n_fft, lanes], transform scratch, power [n_fft / 2 + 1, lanes].
uint64_t ThreadDoubles(const MelParams& p) {
  return RoundUp(8 + static_cast<uint64_t>(p.n_fft) * kLanes + RealFft::ScratchDoubles(p.n_fft) +
                     static_cast<uint64_t>(p.n_fft / 2 + 1) * kLanes,
                 8);
}

}  // namespace

Status LogMel::Check(const MelParams& p) {
  if (p.sample_rate != kSampleRate)
    return BadModel(
        fmt::format("the model's feature extractor wants {} Hz, only {} is supported; use a Whisper checkpoint",
                    p.sample_rate, kSampleRate));
  if (p.n_mels < 1 || p.n_mels > 1024 || !RealFft::Supports(p.n_fft) || p.hop < 1 || p.hop > p.n_fft ||
      p.n_samples <= p.n_fft || p.n_samples > 3600 * kSampleRate || p.n_samples / p.hop < 1)
    return BadModel(fmt::format(
        "the model's feature extractor has {} mel bands, n_fft {}, hop {}, {} samples, which is not supported "
        "(usual: 80 or 128, 400, 160, 480000); check preprocessor_config.json",
        p.n_mels, p.n_fft, p.hop, p.n_samples));
  return {};
}

Bytes LogMel::TableBytes(const MelParams& p) { return {Check(p).ok() ? TableLayout(p).total : 0}; }

Bytes LogMel::ScratchBytes(const MelParams& p, int threads) {
  return {Check(p).ok() ? ThreadDoubles(p) * sizeof(double) * static_cast<uint64_t>(std::max(1, threads)) : 0};
}

Result<LogMel> LogMel::Create(const MelParams& p, std::span<std::byte> tables) {
  TRY(Check(p));
  CHECK(tables.size() >= TableBytes(p).n && reinterpret_cast<uintptr_t>(tables.data()) % kAlign == 0);
  const Layout at = TableLayout(p);
  LogMel m;
  m.params_ = p;
  m.fft_ = RealFft(p.n_fft, {reinterpret_cast<double*>(tables.data()), RealFft::TableDoubles(p.n_fft)});
  double* window = reinterpret_cast<double*>(tables.data() + at.window);
  double* weights = reinterpret_cast<double*>(tables.data() + at.weights);
  Band* bands = reinterpret_cast<Band*>(tables.data() + at.bands);
  static_assert(sizeof(Band) == 3 * sizeof(int32_t));
  for (int64_t i = 0; i < p.n_fft; ++i)
    window[i] = 0.5 - 0.5 * std::cos(2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(p.n_fft));
  const int64_t bins = p.n_fft / 2 + 1;
  int32_t used = 0;
  for (int64_t i = 0; i < p.n_mels; ++i) {
    const double left = Edge(i, p.n_mels), centre = Edge(i + 1, p.n_mels), right = Edge(i + 2, p.n_mels);
    Band band{0, 0, used};
    for (int64_t k = 0; k < bins; ++k) {
      const double hz = static_cast<double>(p.sample_rate) / 2 * static_cast<double>(k) / static_cast<double>(bins - 1);
      const double weight = std::min((hz - left) / (centre - left), (right - hz) / (right - centre));
      if (weight <= 0) continue;
      if (band.count == 0) band.first = static_cast<int32_t>(k);
      CHECK(static_cast<uint64_t>(used) < WeightDoubles(p));
      weights[used++] = weight * 2 / (right - left);
      ++band.count;
    }
    bands[i] = band;
  }
  m.window_ = window;
  m.weights_ = weights;
  m.bands_ = bands;
  return m;
}

double LogMel::Weight(int64_t mel, int64_t bin) const {
  const Band& band = bands_[mel];
  return bin < band.first || bin >= band.first + band.count ? 0 : weights_[band.offset + bin - band.first];
}

float LogMel::Frames(const MelWindow& w, View out, std::byte* scratch, int64_t begin, int64_t end) const {
  const float* samples = w.samples.data();
  const int64_t n = static_cast<int64_t>(w.samples.size()) + w.after, n_fft = params_.n_fft, half = n_fft / 2;
  // Samples, zeros behind n; what lies beyond the audio's ends is their reflection.
  const int64_t window = out.rows == params_.frames() ? params_.n_samples : out.rows * params_.hop;
  double* x = reinterpret_cast<double*>(scratch) + 8;
  double* work = x + n_fft * kLanes;
  double* power = work + RealFft::ScratchDoubles(n_fft);
  float largest = kLogFloor;
  for (int64_t f = begin; f < end; f += kLanes) {
    const int64_t lanes = std::min<int64_t>(kLanes, end - f);
    const bool mirrored =
        w.last && (f + lanes - 1) * params_.hop + half > window;  // the reflection on the right takes part
    if (f * params_.hop - half >= n && !mirrored) {               // nothing but zeros
      for (int64_t l = 0; l < lanes; ++l) std::fill_n(out.F32(f + l), params_.n_mels, kLogFloor);
      continue;
    }
    for (int64_t l = 0; l < kLanes; ++l) {
      const int64_t start = (f + std::min(l, lanes - 1)) * params_.hop - half;
      if (start >= -w.before && start + n_fft <= n) {
        for (int64_t i = 0; i < n_fft; ++i) x[i * kLanes + l] = static_cast<double>(samples[start + i]) * window_[i];
        continue;
      }
      for (int64_t i = 0; i < n_fft; ++i) {
        int64_t at = start + i < -w.before ? -(start + i) : start + i;
        if (w.last && at >= window) at = 2 * (window - 1) - at;
        x[i * kLanes + l] = at < n ? static_cast<double>(samples[at]) * window_[i] : 0;
      }
    }
    fft_.Power(x, work, power);
    for (int64_t m = 0; m < params_.n_mels; ++m) {
      const Band band = bands_[m];
      double sum[kLanes] = {};
      for (int32_t k = 0; k < band.count; ++k) {
        const double weight = weights_[band.offset + k];
        const double* p = power + (band.first + k) * kLanes;
        for (int l = 0; l < kLanes; ++l) sum[l] += weight * p[l];
      }
      for (int64_t l = 0; l < lanes; ++l) {
        const float value = std::log10(static_cast<float>(std::max(sum[l], kFloor)));
        out.F32(f + l)[m] = value;
        largest = std::max(largest, value);
      }
    }
  }
  return largest;
}

float LogMel::Compute(const MelWindow& window, View out, std::span<std::byte> scratch, Threads* threads) const {
  const int count = threads == nullptr ? 1 : threads->count();
  CHECK(static_cast<int64_t>(window.samples.size()) <= std::min(params_.n_samples, (out.rows + 1) * params_.hop - 1));
  // The first window has nothing before it, the others all that a frame reaches back to.
  CHECK(window.before == 0 || window.before >= params_.n_fft / 2);
  CHECK(out.dtype == DType::kF32 && out.rows >= 1 && out.rows <= params_.frames() && out.cols == params_.n_mels);
  CHECK(scratch.size() >= ScratchBytes(params_, count).n && reinterpret_cast<uintptr_t>(scratch.data()) % kAlign == 0);
  const uint64_t each = ThreadDoubles(params_) * sizeof(double);
  const auto largest_of = [&](int thread) {
    return reinterpret_cast<float*>(scratch.data() + static_cast<uint64_t>(thread) * each);
  };
  for (int t = 0; t < count; ++t) *largest_of(t) = kLogFloor;
  const auto transform = [&](int64_t begin, int64_t end, int thread) {
    float* largest = largest_of(thread);
    *largest =
        std::max(*largest, Frames(window, out, scratch.data() + static_cast<uint64_t>(thread) * each, begin, end));
  };
  float floor = kLogFloor;
  const auto finish = [&](int64_t begin, int64_t end, int) {
    for (int64_t f = begin; f < end; ++f) {
      float* row = out.F32(f);
      for (int64_t m = 0; m < params_.n_mels; ++m) row[m] = (std::max(row[m], floor) + 4.f) / 4.f;
    }
  };
  if (threads == nullptr) {
    transform(0, out.rows, 0);
  } else {
    threads->For(out.rows, 64, transform);
  }
  float largest = kLogFloor;
  for (int t = 0; t < count; ++t) largest = std::max(largest, *largest_of(t));
  floor = std::max(floor, std::max(largest, window.largest) - 8.f);
  if (threads == nullptr) {
    finish(0, out.rows, 0);
  } else {
    threads->For(out.rows, 256, finish);
  }
  return largest;
}

}  // namespace sotto
