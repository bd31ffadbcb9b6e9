// LogMel: Whisper's log-mel spectrogram of one window, as transformers' WhisperFeatureExtractor computes it (numpy
// path, double precision), with time-major output because the encoder's first convolution reads it that way.
//
// Per window: zeros up to n_samples, reflect padding by n_fft / 2, periodic Hann, power spectrum, mel filters (Slaney
// scale and norm, 0 to 8000 Hz), log10 with floor 1e-10, the last frame dropped, floor at maximum - 8, (x + 4) / 4.
// Sources: transformers 5 audio_utils.py (mel_filter_bank, spectrogram), feature_extraction_whisper.py.
//
//   LogMel mel = TRY(LogMel::Create({.n_mels = 80, .n_samples = 480000}, tables));
//   mel.Compute(samples, out, scratch, &threads);
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "audio/fft.h"
#include "audio/limits.h"
#include "base/bytes.h"
#include "base/result.h"
#include "base/threads.h"
#include "plan/view.h"

namespace sotto {

struct MelParams {
  int64_t n_mels = 80;                   // feature_size: 80, or 128 from large-v3 on
  int64_t n_fft = 400;                   // samples
  int64_t hop = 160;                     // samples
  int64_t sample_rate = kSampleRate;     // Hz; nothing else is supported
  int64_t n_samples = 30 * kSampleRate;  // chunk_length * sample_rate
  int64_t frames() const { return n_samples / hop; }
};

// One window of an audio. Alone, it is the whole audio: reflected at its ends. A part of a longer one is heard as it is cut from
// the spectrogram of the whole (transformers' VoxtralProcessor): frames at its edges see the samples beside it, and the floor is
// the whole's.
struct MelWindow {
  std::span<const float> samples;
  int64_t before = 0,
          after = 0;    // samples of the audio in memory right before and behind these: n_fft / 2, fewer at its ends
  bool last = true;     // the audio ends in this window
  float largest = -10;  // log10 of the largest mel power of the audio, if it is in another window
};

class LogMel {
 public:
  // kBadModel: parameters that can't be (or that no Whisper has): the sizes below are 0 for them.
  static Status Check(const MelParams& params);
  // Memory for Create and for Compute with `threads` threads (1 without any).
  static Bytes TableBytes(const MelParams& params);
  static Bytes ScratchBytes(const MelParams& params, int threads);

  // `tables` has TableBytes(params), aligned to 64 bytes, and outlives this.
  static Result<LogMel> Create(const MelParams& params, std::span<std::byte> tables);

  // The window (at most n_samples, the rest counts as zeros) to `out` [frames, n_mels] fp32: all
  // frames(), or fewer of a shorter window of frames * hop samples. `scratch` has
  // ScratchBytes(params, threads->count()), aligned to 64 bytes. Allocates nothing. `threads` may be null. The numbers
  // don't depend on the threads. Returns log10 of the window's own largest mel power.
  float Compute(const MelWindow& window, View out, std::span<std::byte> scratch, Threads* threads) const;

  const MelParams& params() const { return params_; }
  // Filter weight of a frequency bin, for tests.
  double Weight(int64_t mel, int64_t bin) const;

 private:
  struct Band {
    int32_t first, count, offset;  // bins [first, first + count), weights from `offset` on
  };
  LogMel() = default;
  // Frames [begin, end) as log10 into `out`; returns the largest value.
  float Frames(const MelWindow& w, View out, std::byte* scratch, int64_t begin, int64_t end) const;

  MelParams params_;
  RealFft fft_;
  const double* window_ = nullptr;   // [n_fft]
  const double* weights_ = nullptr;  // all bands
  const Band* bands_ = nullptr;      // [n_mels]
};

}  // namespace sotto
