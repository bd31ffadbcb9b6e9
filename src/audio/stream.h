// AudioStream: any audio file, or standard input, as 16 kHz mono samples, read in order in constant memory.
//
// Channels are averaged. What comes out is what was decoded: no gain, no trimming, no voice detection.
//
//   std::span<std::byte> memory = …;                       // AudioStream::BufferBytes(), planned in the arena
//   AudioStream audio = TRY(AudioStream::Open("speech.mp3", memory));
//   while (int64_t n = TRY(audio.Read(block))) Use(block.first(n));
//   for (const std::string& w : audio.warnings()) …        // complete after Read has answered 0
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "audio/decoder.h"
#include "audio/limits.h"
#include "audio/resample.h"
#include "audio/source.h"
#include "base/bytes.h"
#include "base/result.h"

namespace sotto {

// Samples at kSampleRate, in order. What windows read from (window.h); tests put generated audio behind it.
class SampleStream {
 public:
  virtual ~SampleStream() = default;
  // Fills `out` from its beginning and returns how many samples were written: fewer than asked only at the end, 0 after
  // it.
  virtual Result<int64_t> Read(std::span<float> out) = 0;
};

class AudioStream : public SampleStream {
 public:
  // Memory that Open takes: the source's window, undecoded bytes, decoded frames, mono samples.
  static constexpr uint64_t BufferBytes() {
    return ByteSource::kWindowBytes + kRawBytes + kFrameBytes + 2 * kMonoSamples * sizeof(float);
  }
  // What libsndfile, its codecs, soxr and the objects here take from the heap besides, for any input that Open accepts:
  // an upper bound (tested in fuzz_test.cc and hostile_test.cc; ordinary files take less than 0.5 MiB, forged FLAC
  // frames 4.4).
  static constexpr uint64_t LibraryBytesBound() { return 5 * kMiB; }

  // `path` or "-" for standard input. The first samples are decoded here, so whatever is no audio, or holds no samples,
  // is refused here. `memory` has BufferBytes() and outlives the stream. kBadInput.
  static Result<AudioStream> Open(const std::string& path, std::span<std::byte> memory, AudioLimits limits = {});
  // The bytes of a file (an upload); they and `memory` outlive the stream. `name` is what errors call it.
  static Result<AudioStream> OpenMemory(std::span<const std::byte> bytes, std::string name, std::span<std::byte> memory,
                                        AudioLimits limits = {});
  AudioStream(AudioStream&&) noexcept = default;
  AudioStream& operator=(AudioStream&&) noexcept = default;

  // kBadInput: NaN, infinite or absurdly loud samples, more seconds than the limits allow.
  Result<int64_t> Read(std::span<float> out) override;

  const AudioInfo& info() const { return decoder_->info(); }
  // Samples at 16 kHz that Read has given so far.
  int64_t samples_read() const { return samples_read_; }
  // One sentence for each thing that was missing or damaged.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  static constexpr uint64_t kRawBytes = 64 * kKiB, kFrameBytes = 64 * kKiB, kMonoSamples = 4096;

  AudioStream() = default;
  static Result<AudioStream> Start(std::unique_ptr<ByteSource> source, std::span<std::byte> memory, AudioLimits limits);
  // Decodes and mixes until the output buffer holds at least one sample or the audio has ended.
  Status More();
  Status Mix(int64_t frames);  // decoded frames to mono, checking every sample

  AudioLimits limits_;
  std::unique_ptr<ByteSource> source_;  // decoders point to it
  std::unique_ptr<Decoder> decoder_;
  Resampler resampler_;
  bool resampling_ = false, decoded_all_ = false, ended_ = false;
  std::span<std::byte> raw_;
  std::span<float> frames_, mono_, out_;
  std::span<const float> waiting_;  // mono samples that are not yet resampled
  std::span<const float> ready_;    // samples that Read gives next
  int64_t decoded_frames_ = 0, samples_read_ = 0;
  std::vector<std::string> warnings_;
};

}  // namespace sotto
