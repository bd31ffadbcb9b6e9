// Decoder: interleaved float samples out of the bytes of one container. The two kinds are our own WAV reader (wav.cc),
// which works from pipes and trusts no header, and libsndfile for everything else (sndfile_decoder.cc).
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "audio/limits.h"
#include "audio/source.h"
#include "audio/splice.h"
#include "base/result.h"

namespace sotto {

struct AudioInfo {
  std::string container;  // "wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64"
  std::string codec;      // "pcm_s16", "pcm_f32", "flac", "vorbis", "opus", "mp3" …
  int sample_rate = 0;    // Hz, of the file
  int channels = 0;       // of the file
  int64_t frames = -1;    // samples a channel as the header says; -1 when it doesn't say
  double seconds() const { return frames < 0 || sample_rate <= 0 ? -1 : static_cast<double>(frames) / sample_rate; }
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  const AudioInfo& info() const { return info_; }
  // Fills `out` [frames, channels], full scale 1, with at most `frames` frames; 0 at the end, and fewer is not yet the
  // end. `raw` is scratch for undecoded bytes. A damaged input ends where it is damaged.
  virtual Result<int64_t> Read(float* out, int64_t frames, std::span<std::byte> raw) = 0;
  // After the end: adds a sentence for whatever was missing or damaged.
  virtual void Conclude(std::vector<std::string>* warnings) = 0;

 protected:
  AudioInfo info_;
};

// Bounds of channels and rate; kBadInput names the field. `coded`: the stricter bound for codecs.
Status CheckBounds(const std::string& name, int64_t channels, int64_t rate, bool coded, const AudioLimits& limits);

// "3 h 2 min 1.5 s", for warnings.
std::string HumanSeconds(double seconds);

// REQUIRES: the source starts with RIFF or RF64. Returns null when it is a WAV whose codec libsndfile should read
// (ADPCM, GSM).
Result<std::unique_ptr<Decoder>> OpenWav(ByteSource* source, const AudioLimits& limits);
// Anything else, as Sniff found it; kBadInput for what is no known audio. `source` outlives the decoder.
Result<std::unique_ptr<Decoder>> OpenSndfile(ByteSource* source, Sniffed sniffed, const AudioLimits& limits);

}  // namespace sotto
