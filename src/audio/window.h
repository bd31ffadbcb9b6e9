// SlidingWindow: the part of a long stream that one window of a model hears, held in memory given by the caller. Starts
// only move forwards; what lies before one is dropped, so memory doesn't depend on the audio's length.
//
//   SlidingWindow window(audio, memory, 480000);        // memory: SlidingWindow::MemorySamples(480000) floats
//   for (int64_t start = 0;;) {
//     std::span<const float> samples = TRY(window.At(start));   // shorter than 480000 only at the end of the audio
//     if (samples.empty()) break;
//     start += Hear(samples);
//   }
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>

#include "audio/limits.h"
#include "audio/stream.h"
#include "base/bytes.h"
#include "base/result.h"

namespace sotto {

class SlidingWindow {
 public:
  // Samples read beyond a window, so that the end of the audio is known when a window reaches it exactly.
  static constexpr int64_t kBlock = 4096;
  static constexpr uint64_t MemorySamples(int64_t n_samples, int64_t context = 0) {
    return static_cast<uint64_t>(n_samples + 2 * context + kBlock);
  }

  // `memory` has MemorySamples(n_samples, context) floats; it and `stream` outlive the window. `context`: samples that stay
  // in memory on either side of a window, before its first and behind its last one.
  SlidingWindow(SampleStream& stream, std::span<float> memory, int64_t n_samples, int64_t context = 0);

  // Samples [start, start + n_samples) of the stream, fewer at its end, none behind it. Valid until the next call.
  // REQUIRES start >= every earlier start. Errors are the stream's.
  Result<std::span<const float>> At(int64_t start);

  // Samples of the audio that lie in memory right before and behind the last window: `context`, fewer at the audio's ends.
  int64_t before() const { return std::min(context_, position_ - first_); }
  int64_t after() const { return std::clamp<int64_t>(total_samples() - position_ - n_samples_, 0, context_); }

  // The last window reaches the end of the audio: no sample follows it.
  bool end_of_audio() const { return ended_ && position_ + n_samples_ >= total_samples(); }
  // Start of the last window.
  int64_t position() const { return position_; }
  // Samples that the stream has given so far: all there are once end_of_audio().
  int64_t total_samples() const { return first_ + held_; }

 private:
  SampleStream& stream_;
  std::span<float> memory_;
  int64_t n_samples_, context_;
  int64_t first_ = 0, held_ = 0;  // memory holds samples [first_, first_ + held_) of the stream
  int64_t position_ = 0;
  bool ended_ = false;
};

// The root mean square of a 20 ms frame below which it is silence, dB of full scale. Room tone of a quiet recording is
// near -60, 16-bit dither near -96; a faint voice is above -55.
inline constexpr double kSilenceDb = -70;

// No 20 ms frame (the last one may be shorter) is louder than kSilenceDb. Nothing at all is silent.
bool IsSilent(std::span<const float> samples);

// Where to cut between `from` and `to` (sample indices into `samples`, clamped to it): the middle of the quietest 100
// ms in there, the latest among equals. When they are closer than 100 ms, `to`.
int64_t QuietestCut(std::span<const float> samples, int64_t from, int64_t to);

}  // namespace sotto
