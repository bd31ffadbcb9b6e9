#include "audio/window.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sotto {
namespace {

constexpr int64_t kFrame = kSampleRate / 50;  // 20 ms
constexpr int64_t kQuiet = kSampleRate / 10;  // 100 ms
constexpr int64_t kStep = kSampleRate / 100;  // 10 ms

double Energy(std::span<const float> samples) {
  double sum = 0;
  for (float x : samples) sum += double{x} * x;
  return sum;
}

}  // namespace

SlidingWindow::SlidingWindow(SampleStream& stream, std::span<float> memory, int64_t n_samples, int64_t context)
    : stream_(stream), memory_(memory), n_samples_(n_samples), context_(context) {
  CHECK(n_samples > 0 && context >= 0 && memory.size() >= MemorySamples(n_samples, context));
  memory_ = memory.first(MemorySamples(n_samples, context));
}

Result<std::span<const float>> SlidingWindow::At(int64_t start) {
  CHECK(start >= position_);
  position_ = start;
  const int64_t keep = std::max(start - context_, first_);  // the first sample that stays
  const int64_t drop = std::min(keep - first_, held_);
  if (drop > 0) {
    std::memmove(memory_.data(), memory_.data() + drop, static_cast<size_t>(held_ - drop) * sizeof(float));
    first_ += drop;
    held_ -= drop;
  }
  while (!ended_ && first_ + held_ < start + n_samples_ + std::max<int64_t>(context_, 1)) {
    if (first_ < keep) {  // samples that no window hears
      const int64_t skip = std::min<int64_t>(keep - first_, static_cast<int64_t>(memory_.size()));
      const int64_t got = TRY(stream_.Read(memory_.first(static_cast<size_t>(skip))));
      first_ += got;
      ended_ = got < skip;
      continue;
    }
    const std::span<float> room = memory_.subspan(static_cast<size_t>(held_));
    const int64_t got = TRY(stream_.Read(room));
    held_ += got;
    ended_ = got < static_cast<int64_t>(room.size());
  }
  const int64_t before = start - first_;
  if (held_ <= before) return std::span<const float>();
  return std::span<const float>(
      memory_.subspan(static_cast<size_t>(before), static_cast<size_t>(std::min(held_ - before, n_samples_))));
}

bool IsSilent(std::span<const float> samples) {
  const double limit = std::pow(10.0, kSilenceDb / 10);  // of the mean square
  while (!samples.empty()) {
    const std::span<const float> frame = samples.first(std::min<size_t>(samples.size(), kFrame));
    if (Energy(frame) > limit * static_cast<double>(frame.size())) return false;
    samples = samples.subspan(frame.size());
  }
  return true;
}

int64_t QuietestCut(std::span<const float> samples, int64_t from, int64_t to) {
  const int64_t n = static_cast<int64_t>(samples.size());
  from = std::clamp<int64_t>(from, 0, n);
  to = std::clamp<int64_t>(to, from, n);
  int64_t cut = to;
  double least = INFINITY;
  for (int64_t at = from; at + kQuiet <= to; at += kStep) {
    const double energy = Energy(samples.subspan(static_cast<size_t>(at), kQuiet));
    if (energy <= least) {
      least = energy;
      cut = at + kQuiet / 2;
    }
  }
  return cut;
}

}  // namespace sotto
