// AudioLimits: what audio may be, in one place, so that bytes, seconds and channels are bounded together: a forged
// header can defeat any one of them alone.
#pragma once
#include <cstdint>

namespace sotto {

// All audio leaves this folder at this rate, samples a second.
inline constexpr int kSampleRate = 16000;

struct AudioLimits {
  int max_channels = 64;        // WAV, AIFF, AU, CAF
  int max_coded_channels = 8;   // FLAC, Vorbis, Opus: decoders take memory by the channel
  int min_rate = 1000;          // Hz
  int max_rate = 768000;        // Hz
  double max_seconds = 360000;  // 100 hours
  double max_level = 1e10;      // |sample|, full scale is 1; larger floats are not audio
};

}  // namespace sotto
