// WAV by our own hands: the most common input, the one that pipes bring (ffmpeg, arecord), and the one that hostile
// files imitate. RIFF and RF64 with PCM of 8 to 32 bits, 32- and 64-bit floats, A-law and mu-law. Source: Microsoft
// "Multimedia Programming Interface and Data Specifications 1.0" (RIFF), WAVEFORMATEXTENSIBLE, EBU Tech 3306 (RF64).
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "audio/decoder.h"

namespace sotto {
namespace {

static_assert(std::endian::native == std::endian::little, "sample conversion reads little-endian words in place");

template <class T>
T Little(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

enum class Coding { kU8, kS16, kS24, kS32, kF32, kF64, kALaw, kMuLaw };
struct CodingRow {
  Coding coding;
  const char* name;
  int bytes;
};
constexpr CodingRow kCodings[] = {{Coding::kU8, "pcm_u8", 1},   {Coding::kS16, "pcm_s16", 2},
                                  {Coding::kS24, "pcm_s24", 3}, {Coding::kS32, "pcm_s32", 4},
                                  {Coding::kF32, "pcm_f32", 4}, {Coding::kF64, "pcm_f64", 8},
                                  {Coding::kALaw, "alaw", 1},   {Coding::kMuLaw, "mulaw", 1}};

// ITU-T G.711, to 16-bit linear.
float FromALaw(uint8_t code) {
  code ^= 0x55;
  const int exponent = (code >> 4) & 7, mantissa = code & 15;
  const int linear = exponent == 0 ? (mantissa << 4) + 8 : ((mantissa << 4) + 0x108) << (exponent - 1);
  return static_cast<float>((code & 0x80) ? linear : -linear) / 32768.f;
}

float FromMuLaw(uint8_t code) {
  code = static_cast<uint8_t>(~code);
  const int linear = ((((code & 15) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84;
  return static_cast<float>((code & 0x80) ? -linear : linear) / 32768.f;
}

float ToFloat(Coding coding, const std::byte* p) {
  switch (coding) {
    case Coding::kU8: return static_cast<float>(static_cast<int>(static_cast<uint8_t>(*p)) - 128) / 128.f;
    case Coding::kS16: return static_cast<float>(Little<int16_t>(p)) / 32768.f;
    case Coding::kS24: {
      const uint32_t bits =
          static_cast<uint32_t>(p[0]) << 8 | static_cast<uint32_t>(p[1]) << 16 | static_cast<uint32_t>(p[2]) << 24;
      return static_cast<float>(static_cast<int32_t>(bits) >> 8) / 8388608.f;
    }
    case Coding::kS32: return static_cast<float>(Little<int32_t>(p)) / 2147483648.f;
    case Coding::kF32: return Little<float>(p);
    case Coding::kF64: return static_cast<float>(Little<double>(p));
    case Coding::kALaw: return FromALaw(static_cast<uint8_t>(*p));
    case Coding::kMuLaw: return FromMuLaw(static_cast<uint8_t>(*p));
  }
  return 0;
}

constexpr uint64_t kUnknown = ~0ULL;

class WavDecoder : public Decoder {
 public:
  WavDecoder(ByteSource* source, AudioInfo info, CodingRow coding, int64_t data_start, uint64_t data_bytes,
             bool was_zero)
      : source_(source),
        coding_(coding),
        frame_bytes_(int64_t{coding.bytes} * info.channels),
        position_(data_start),
        data_start_(data_start),
        data_bytes_(data_bytes),
        was_zero_(was_zero) {
    info_ = std::move(info);
  }

  Result<int64_t> Read(float* out, int64_t frames, std::span<std::byte> raw) override {
    const uint64_t used = static_cast<uint64_t>(position_ - data_start_);
    const uint64_t left = data_bytes_ == kUnknown ? kUnknown : data_bytes_ - std::min(data_bytes_, used);
    frames = std::min<int64_t>(frames, static_cast<int64_t>(raw.size()) / frame_bytes_);
    frames = static_cast<int64_t>(
        std::min<uint64_t>(static_cast<uint64_t>(frames), left / static_cast<uint64_t>(frame_bytes_)));
    if (frames == 0) return int64_t{0};
    const int64_t got = source_->ReadAt(position_, raw.first(static_cast<size_t>(frames * frame_bytes_)));
    position_ += got;
    const int64_t samples = got / frame_bytes_ * info_.channels;
    const std::byte* p = raw.data();
    if (coding_.coding == Coding::kS16) {
      for (int64_t i = 0; i < samples; ++i) out[i] = static_cast<float>(Little<int16_t>(p + 2 * i)) / 32768.f;
    } else {
      for (int64_t i = 0; i < samples; ++i) out[i] = ToFloat(coding_.coding, p + i * coding_.bytes);
    }
    return got / frame_bytes_;
  }

  void Conclude(std::vector<std::string>* warnings) override {
    const uint64_t used = static_cast<uint64_t>(position_ - data_start_);
    const double rate_bytes = static_cast<double>(frame_bytes_) * info_.sample_rate;
    if (!source_->error().empty())
      warnings->push_back(fmt::format("{} could not be read beyond byte {} ({}); what came before is used",
                                      source_->name(), position_, source_->error()));
    if (data_bytes_ == kUnknown) {
      if (was_zero_ && source_->seekable())
        warnings->push_back(
            fmt::format("{} says that it holds no samples, as an interrupted recording does; the {} that follow the "
                        "header are used",
                        source_->name(), HumanSeconds(static_cast<double>(used) / rate_bytes)));
      return;
    }
    const uint64_t remainder = data_bytes_ % static_cast<uint64_t>(frame_bytes_);
    if (used + remainder < data_bytes_) {
      const uint64_t missing = data_bytes_ - used;
      warnings->push_back(
          fmt::format("{} is cut short: {} of {} bytes of samples ({}) are missing; what is there is used",
                      source_->name(), missing, data_bytes_, HumanSeconds(static_cast<double>(missing) / rate_bytes)));
    } else if (remainder != 0) {
      warnings->push_back(
          fmt::format("{} ends within a sample: its data of {} bytes is no multiple of {}; the last {} bytes are "
                      "not used",
                      source_->name(), data_bytes_, frame_bytes_, remainder));
    }
  }

 private:
  ByteSource* source_;
  CodingRow coding_;
  int64_t frame_bytes_;
  int64_t position_, data_start_;
  uint64_t data_bytes_;
  bool was_zero_;
};

struct Format {
  uint16_t tag = 0, channels = 0, block = 0, bits = 0;
  uint32_t rate = 0, byte_rate = 0;
};

// The coding of a format whose fields agree with each other; kBadInput when they contradict each other; null: not ours.
Result<const CodingRow*> Agree(const std::string& name, const Format& f, const AudioLimits& limits) {
  TRY(CheckBounds(name, f.channels, f.rate, false, limits));
  if (f.tag != 1 && f.tag != 3 && f.tag != 6 && f.tag != 7) return static_cast<const CodingRow*>(nullptr);
  const CodingRow* row = nullptr;
  if (f.tag == 6 && f.bits == 8) row = &kCodings[6];
  if (f.tag == 7 && f.bits == 8) row = &kCodings[7];
  if (f.tag == 3 && (f.bits == 32 || f.bits == 64)) row = &kCodings[f.bits == 32 ? 4 : 5];
  if (f.tag == 1 && f.bits >= 1 && f.bits <= 32) row = &kCodings[(f.bits + 7) / 8 - 1];
  if (row == nullptr)
    return BadInput(
        fmt::format("{} has a contradictory header: {} bits a sample for format {}; convert it again from its source",
                    name, f.bits, f.tag));
  if (f.block != f.channels * row->bytes)
    return BadInput(
        fmt::format("{} has a contradictory header: {} channels of {} bits are {} bytes a frame, but it says {}; "
                    "convert it again from its source",
                    name, f.channels, f.bits, f.channels * row->bytes, f.block));
  if (f.byte_rate != uint64_t{f.rate} * f.block)
    return BadInput(fmt::format(
        "{} has a contradictory header: {} Hz of {} bytes are {} bytes a second, but it says {}; convert it "
        "again from its source",
        name, f.rate, f.block, uint64_t{f.rate} * f.block, f.byte_rate));
  return row;
}

// WAVEFORMATEX at `p` of `size` bytes, `size` >= 16; an extensible one is replaced by what its GUID stands for.
Result<Format> ParseFormat(const std::string& name, const std::byte* p, int64_t size) {
  Format f{Little<uint16_t>(p),      Little<uint16_t>(p + 2), Little<uint16_t>(p + 12),
           Little<uint16_t>(p + 14), Little<uint32_t>(p + 4), Little<uint32_t>(p + 8)};
  if (f.tag != 0xFFFE) return f;
  static constexpr unsigned char kTail[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71};
  if (size < 40 || std::memcmp(p + 26, kTail, sizeof kTail) != 0)
    return BadInput(
        fmt::format("{} has an extensible header without a known sub-format; convert it to plain WAV", name));
  const uint16_t valid = Little<uint16_t>(p + 18);
  if (valid > f.bits)
    return BadInput(fmt::format("{} has a contradictory header: {} valid bits of {}; convert it again from its source",
                                name, valid, f.bits));
  f.tag = Little<uint16_t>(p + 24);
  return f;
}

bool IsTrailingChunk(const std::byte* id) {
  for (const char* known :
       {"LIST", "id3 ", "ID3 ", "JUNK", "bext", "cue ", "fact", "PEAK", "smpl", "PAD ", "iXML", "_PMX", "afsp"})
    if (std::memcmp(id, known, 4) == 0) return true;
  return false;
}

}  // namespace

Result<std::unique_ptr<Decoder>> OpenWav(ByteSource* source, const AudioLimits& limits) {
  const std::string& name = source->name();
  std::byte head[64];
  if (source->ReadAt(0, std::span(head).first(12)) != 12 || std::memcmp(head + 8, "WAVE", 4) != 0)
    return BadInput(fmt::format("{} starts like a WAV file but is none; give an audio file", name));
  const bool rf64 = std::memcmp(head, "RF64", 4) == 0;
  uint64_t long_data_bytes = 0;
  bool has_format = false, has_long = false;
  Format format;
  int64_t at = 12;
  for (int chunk = 0;; ++chunk) {
    if (chunk == 1000)
      return BadInput(fmt::format("{} has 1000 chunks and no samples; it is damaged, fetch it again", name));
    if (source->ReadAt(at, std::span(head).first(8)) != 8)
      return BadInput(fmt::format("{} ends at byte {} before any samples; it is cut short, fetch it again", name, at));
    const uint32_t size = Little<uint32_t>(head + 4);
    const bool is_format = std::memcmp(head, "fmt ", 4) == 0;
    if (std::memcmp(head, "data", 4) == 0) {
      at += 8;
      if (!has_format)
        return BadInput(fmt::format("{} has samples before their format (no fmt chunk); convert it again", name));
      break;
    }
    if (is_format && (size < 16 || size > 4096))
      return BadInput(fmt::format(
          "{} has a format header of {} bytes, 16 to 4096 are allowed; it is damaged, fetch it again", name, size));
    if (is_format || (rf64 && std::memcmp(head, "ds64", 4) == 0)) {
      const int64_t take = std::min<int64_t>(size, 48);
      if (source->ReadAt(at + 8, std::span(head).first(static_cast<size_t>(take))) != take)
        return BadInput(
            fmt::format("{} ends within its header at byte {}; it is cut short, fetch it again", name, at + 8));
      if (is_format) {
        if (has_format)
          return BadInput(fmt::format("{} has two format headers; convert it again from its source", name));
        format = TRY(ParseFormat(name, head, take));
        has_format = true;
      } else if (take >= 16) {
        long_data_bytes = Little<uint64_t>(head + 8);
        has_long = true;
      }
    }
    at += 8 + int64_t{size} + (size & 1);
  }
  const CodingRow* row = TRY(Agree(name, format, limits));
  if (row == nullptr && format.channels > 2)  // libsndfile's block buffers grow with the channels
    return BadInput(fmt::format(
        "{} has {} channels of compressed samples, at most 2 are read; convert it with: ffmpeg -i IN out.wav", name,
        format.channels));
  if (row == nullptr) return std::unique_ptr<Decoder>();

  const uint32_t stated = Little<uint32_t>(head + 4);
  uint64_t data_bytes = stated == 0xFFFFFFFF ? (has_long ? long_data_bytes : kUnknown) : stated;
  // Writers that can't go back leave these lengths: ffmpeg 0xFFFFFFFF, sox 0x7FFFF000 and a little more, others 0.
  if (!source->seekable() && stated >= 0x7FFFF000) data_bytes = kUnknown;
  const bool zero = data_bytes == 0;
  if (zero && source->ReadAt(at, std::span(head).first(4)) == 4 && !IsTrailingChunk(head)) data_bytes = kUnknown;
  AudioInfo info{"wav", row->name, static_cast<int>(format.rate), format.channels, -1};
  const int64_t frame = int64_t{row->bytes} * format.channels;
  if (data_bytes != kUnknown) info.frames = static_cast<int64_t>(std::min<uint64_t>(data_bytes, INT64_MAX)) / frame;
  if (source->seekable()) {
    const int64_t present = std::max<int64_t>(0, source->size() - at) / frame;
    info.frames = info.frames < 0 ? present : std::min(info.frames, present);
  }
  return std::unique_ptr<Decoder>(std::make_unique<WavDecoder>(source, std::move(info), *row, at, data_bytes, zero));
}

}  // namespace sotto
