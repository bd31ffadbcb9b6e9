// For tests of this folder: WAV bytes by hand, other formats through libsndfile, pipes.
#pragma once
#include <malloc.h>
#include <sndfile.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "audio/stream.h"

namespace sotto::testing {

using Blob = std::string;  // bytes of a file

inline std::span<const std::byte> AsBytes(std::string_view s) { return std::as_bytes(std::span(s.data(), s.size())); }

template <class T>
void Append(Blob* b, T v) {
  b->append(reinterpret_cast<const char*>(&v), sizeof v);
}

struct WavHead {
  uint16_t tag = 1, channels = 1, block = 2, bits = 16;
  uint32_t rate = 16000, byte_rate = 32000, data = 0, riff = 0, fmt_size = 16;
};

// A head with consistent fields for `data` bytes of samples; tests then break one of them.
inline WavHead MakeHead(int tag, int channels, int bits, uint32_t rate, uint32_t data) {
  WavHead h;
  h.tag = static_cast<uint16_t>(tag);
  h.channels = static_cast<uint16_t>(channels);
  h.bits = static_cast<uint16_t>(bits);
  h.block = static_cast<uint16_t>(channels * ((bits + 7) / 8));
  h.rate = rate;
  h.byte_rate = rate * h.block;
  h.data = data;
  h.riff = data + 36;
  return h;
}

inline Blob WavBytes(const WavHead& h, std::string_view samples) {
  Blob b = "RIFF";
  Append(&b, h.riff);
  b += "WAVEfmt ";
  Append(&b, h.fmt_size);
  Append(&b, h.tag);
  Append(&b, h.channels);
  Append(&b, h.rate);
  Append(&b, h.byte_rate);
  Append(&b, h.block);
  Append(&b, h.bits);
  b += "data";
  Append(&b, h.data);
  b += samples;
  return b;
}

inline Blob Wav16(const std::vector<float>& x, uint32_t rate = 16000, int channels = 1) {
  Blob samples;
  for (float v : x) Append(&samples, static_cast<int16_t>(std::lround(v * 32767)));
  return WavBytes(MakeHead(1, channels, 16, rate, static_cast<uint32_t>(samples.size())), samples);
}

inline Blob WavFloat(const std::vector<float>& x, uint32_t rate, int channels = 1) {
  const Blob samples(reinterpret_cast<const char*>(x.data()), x.size() * 4);
  return WavBytes(MakeHead(3, channels, 32, rate, static_cast<uint32_t>(samples.size())), samples);
}

inline std::vector<float> Tone(double hz, double rate, double seconds, double level = 0.5) {
  std::vector<float> x(static_cast<size_t>(rate * seconds));
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(level * std::sin(2 * M_PI * hz * static_cast<double>(i) / rate));
  return x;
}

// Interleaved `x` in a format of libsndfile; empty when this build of it can't write that.
inline Blob Encode(int format, const std::vector<float>& x, int rate, int channels) {
  struct Memory {
    Blob data;
    int64_t at = 0;
  } m;
  SF_VIRTUAL_IO io;
  io.get_filelen = [](void* u) -> sf_count_t { return static_cast<sf_count_t>(static_cast<Memory*>(u)->data.size()); };
  io.seek = [](sf_count_t o, int w, void* u) -> sf_count_t {
    auto* f = static_cast<Memory*>(u);
    return f->at = o + (w == SEEK_SET ? 0 : w == SEEK_CUR ? f->at : static_cast<int64_t>(f->data.size()));
  };
  io.read = [](void* p, sf_count_t n, void* u) -> sf_count_t {
    auto* f = static_cast<Memory*>(u);
    n = std::max<sf_count_t>(0, std::min<sf_count_t>(n, static_cast<sf_count_t>(f->data.size()) - f->at));
    std::memcpy(p, f->data.data() + f->at, static_cast<size_t>(n));
    f->at += n;
    return n;
  };
  io.write = [](const void* p, sf_count_t n, void* u) -> sf_count_t {
    auto* f = static_cast<Memory*>(u);
    if (static_cast<int64_t>(f->data.size()) < f->at + n) f->data.resize(static_cast<size_t>(f->at + n));
    std::memcpy(f->data.data() + f->at, p, static_cast<size_t>(n));
    f->at += n;
    return n;
  };
  io.tell = [](void* u) -> sf_count_t { return static_cast<Memory*>(u)->at; };
  SF_INFO info{};
  info.samplerate = rate;
  info.channels = channels;
  info.format = format;
#ifdef __SANITIZE_ADDRESS__
  const __lsan::ScopedDisabler encoder_leaks;  // libvorbisenc leaks when it refuses a combination of rate and channels
#endif
  SNDFILE* f = sf_open_virtual(&io, SFM_WRITE, &info, &m);
  if (f == nullptr) return {};
  sf_writef_float(f, x.data(), static_cast<sf_count_t>(x.size()) / channels);
  sf_close(f);
  return m.data;
}

inline constexpr int kFlacFormat = SF_FORMAT_FLAC | SF_FORMAT_PCM_16, kVorbisFormat = SF_FORMAT_OGG | SF_FORMAT_VORBIS,
                     kOpusFormat = SF_FORMAT_OGG | SF_FORMAT_OPUS,
                     kMp3Format = SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III,
                     kAiffFormat = SF_FORMAT_AIFF | SF_FORMAT_PCM_16, kAuFormat = SF_FORMAT_AU | SF_FORMAT_PCM_16,
                     kCafFormat = SF_FORMAT_CAF | SF_FORMAT_PCM_16, kW64Format = SF_FORMAT_W64 | SF_FORMAT_PCM_16,
                     kAdpcmFormat = SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM;

// What became of some audio: samples, or an error; and the warnings.
struct Heard {
  std::vector<float> samples;
  std::vector<std::string> warnings;
  std::string error;  // empty: none
  Code code = Code::kFailed;
  AudioInfo info;
};

inline Heard Drain(Result<AudioStream> stream) {
  Heard h;
  const auto fail = [&h](const Error& e) {
    h.error = e.message;
    h.code = e.code;
    return h;
  };
  if (!stream.ok()) return fail(stream.error());
  h.info = stream->info();
  std::vector<float> block(5000);
  for (;;) {
    Result<int64_t> got = stream->Read(block);
    if (!got.ok()) return fail(got.error());
    if (*got == 0) break;
    h.samples.insert(h.samples.end(), block.begin(), block.begin() + *got);
  }
  h.warnings = stream->warnings();
  return h;
}

inline Heard HearBytes(std::string_view blob, AudioLimits limits = {}) {
  std::vector<std::byte> memory(AudioStream::BufferBytes());
  return Drain(AudioStream::OpenMemory(AsBytes(blob), "test.audio", memory, limits));
}

inline Heard HearPath(const std::string& path, AudioLimits limits = {}) {
  std::vector<std::byte> memory(AudioStream::BufferBytes());
  return Drain(AudioStream::Open(path, memory, limits));
}

// The same bytes as standard input, from a pipe that a thread feeds in small pieces.
inline Heard HearPipe(std::string_view blob) {
  int ends[2];
  CHECK(::pipe(ends) == 0);
  std::thread writer([&] {
    for (size_t at = 0; at < blob.size();) {
      const ssize_t put = ::write(ends[1], blob.data() + at, std::min<size_t>(777, blob.size() - at));
      if (put <= 0) break;
      at += static_cast<size_t>(put);
    }
    ::close(ends[1]);
  });
  const int saved = ::dup(STDIN_FILENO);
  ::dup2(ends[0], STDIN_FILENO);
  ::close(ends[0]);
  Heard h = HearPath("-");
  char rest[4096];
  while (::read(STDIN_FILENO, rest, sizeof rest) > 0) {}
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
  writer.join();
  return h;
}

// A file in the test's temporary folder.
inline std::string WriteTemp(const std::string& name, std::string_view blob) {
  const std::string path = "/tmp/sotto_audio_" + std::to_string(::getpid()) + "_" + name;
  FILE* f = std::fopen(path.c_str(), "wb");
  CHECK(f != nullptr && std::fwrite(blob.data(), 1, blob.size(), f) == blob.size());
  std::fclose(f);
  return path;
}

// The bytes that the process has from malloc; 0 under sanitizers, which have their own.
inline size_t HeapBytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

}  // namespace sotto::testing
