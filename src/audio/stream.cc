#include "audio/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "audio/splice.h"

namespace sotto {
namespace {

// The first `count` elements of `memory`, which shrinks by them. Sizes here are multiples of 64 bytes.
template <class T>
std::span<T> Take(std::span<std::byte>* memory, uint64_t count) {
  CHECK(memory->size() >= count * sizeof(T) && reinterpret_cast<uintptr_t>(memory->data()) % alignof(T) == 0);
  std::span<T> part(reinterpret_cast<T*>(memory->data()), count);
  *memory = memory->subspan(count * sizeof(T));
  return part;
}

}  // namespace

Result<AudioStream> AudioStream::Open(const std::string& path, std::span<std::byte> memory, AudioLimits limits) {
  CHECK(memory.size() >= BufferBytes());
  const std::span<std::byte> window = Take<std::byte>(&memory, ByteSource::kWindowBytes);
  return Start(std::make_unique<ByteSource>(TRY(ByteSource::Open(path, window))), memory, limits);
}

Result<AudioStream> AudioStream::OpenMemory(std::span<const std::byte> bytes, std::string name,
                                            std::span<std::byte> memory, AudioLimits limits) {
  CHECK(memory.size() >= BufferBytes());
  return Start(std::make_unique<ByteSource>(ByteSource::FromMemory(bytes, std::move(name))),
               memory.subspan(ByteSource::kWindowBytes), limits);
}

Result<AudioStream> AudioStream::Start(std::unique_ptr<ByteSource> source, std::span<std::byte> memory,
                                       AudioLimits limits) {
  AudioStream s;
  s.limits_ = limits;
  s.source_ = std::move(source);
  s.raw_ = Take<std::byte>(&memory, kRawBytes);
  s.frames_ = Take<float>(&memory, kFrameBytes / sizeof(float));
  s.mono_ = Take<float>(&memory, kMonoSamples);
  s.out_ = Take<float>(&memory, kMonoSamples);
  const Sniffed sniffed = Sniff(s.source_.get());
  if (sniffed.container == Container::kWav) s.decoder_ = TRY(OpenWav(s.source_.get(), limits));
  if (s.decoder_ == nullptr) s.decoder_ = TRY(OpenSndfile(s.source_.get(), sniffed, limits));
  const AudioInfo& info = s.info();
  if (info.seconds() > limits.max_seconds)
    return BadInput(fmt::format("{} says that it lasts {}; at most {} are allowed, so cut it into parts",
                                s.source_->name(), HumanSeconds(info.seconds()), HumanSeconds(limits.max_seconds)));
  s.resampling_ = info.sample_rate != kSampleRate;
  if (s.resampling_) s.resampler_ = TRY(Resampler::Create(info.sample_rate, kSampleRate));
  TRY(s.More());
  if (s.ready_.empty()) {
    if (!s.warnings_.empty())
      return BadInput(fmt::format("{} holds no samples that can be decoded: it is damaged or cut short; fetch it again",
                                  s.source_->name()));
    return BadInput(fmt::format("{} holds no samples; give audio that lasts longer than 0 s", s.source_->name()));
  }
  return s;
}

Status AudioStream::Mix(int64_t frames) {
  const int channels = info().channels;
  const float* in = frames_.data();
  const float limit = static_cast<float>(limits_.max_level);
  bool sound = true;
  for (int64_t i = 0; i < frames * channels; ++i) sound &= std::fabs(in[i]) <= limit;  // false for NaN
  if (!sound) {
    int64_t bad = 0;
    while (std::fabs(in[bad]) <= limit) ++bad;
    const int64_t frame = decoded_frames_ + bad / channels;
    return BadInput(fmt::format("{} has a sample of {} at {} s, which is not audio; convert it again from its source",
                                source_->name(), in[bad], static_cast<double>(frame) / info().sample_rate));
  }
  if (channels == 1) {
    std::memcpy(mono_.data(), in, static_cast<size_t>(frames) * sizeof(float));
  } else if (channels == 2) {
    for (int64_t i = 0; i < frames; ++i) mono_[i] = 0.5f * (in[2 * i] + in[2 * i + 1]);
  } else {
    for (int64_t i = 0; i < frames; ++i) {
      double sum = 0;
      for (int c = 0; c < channels; ++c) sum += in[i * channels + c];
      mono_[i] = static_cast<float>(sum / channels);
    }
  }
  decoded_frames_ += frames;
  if (static_cast<double>(decoded_frames_) > limits_.max_seconds * info().sample_rate)
    return BadInput(fmt::format("{} lasts more than {}, the most that is allowed; cut it into parts", source_->name(),
                                HumanSeconds(limits_.max_seconds)));
  return {};
}

Status AudioStream::More() {
  while (ready_.empty() && !ended_) {
    if (waiting_.empty() && !decoded_all_) {
      const int64_t most = std::min<int64_t>(kMonoSamples, static_cast<int64_t>(frames_.size()) / info().channels);
      const int64_t frames = TRY(decoder_->Read(frames_.data(), most, raw_));
      if (frames > 0) {
        TRY(Mix(frames));
        waiting_ = mono_.first(static_cast<size_t>(frames));
      } else {
        decoded_all_ = true;
        decoder_->Conclude(&warnings_);
      }
    }
    if (!resampling_) {
      ready_ = std::exchange(waiting_, {});
      ended_ = ready_.empty() && decoded_all_;
    } else if (!waiting_.empty()) {
      const Resampler::Step step = resampler_.Process(waiting_, out_);
      waiting_ = waiting_.subspan(static_cast<size_t>(step.used));
      ready_ = out_.first(static_cast<size_t>(step.made));
    } else {
      const int64_t made = decoded_frames_ == 0 ? 0 : resampler_.Flush(out_);
      ready_ = out_.first(static_cast<size_t>(made));
      ended_ = made == 0;
    }
  }
  return {};
}

Result<int64_t> AudioStream::Read(std::span<float> out) {
  size_t done = 0;
  while (done < out.size()) {
    if (ready_.empty()) TRY(More());
    if (ready_.empty()) break;
    const size_t n = std::min(ready_.size(), out.size() - done);
    std::memcpy(out.data() + done, ready_.data(), n * sizeof(float));
    ready_ = ready_.subspan(n);
    done += n;
  }
  samples_read_ += static_cast<int64_t>(done);
  return static_cast<int64_t>(done);
}

}  // namespace sotto
