// libsndfile behind a virtual file: the spliced head (splice.h), then the source's bytes. FLAC, Ogg and MP3 are always
// read as streams of unknown length, so libsndfile neither seeks to the end nor trusts a length; that also makes pipes
// work. The bytes that one call may consume are bounded, so that no forged file makes it search, seek or buffer for
// ever.
#include <fmt/format.h>
#include <sndfile.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "audio/decoder.h"
#include "audio/splice.h"

namespace sotto {
namespace {

constexpr int64_t kCallBytes = 2 << 20;  // input that one call may consume before it has to give sound
constexpr int64_t kCallSeeks = 10000;

// What libsndfile sees as a file.
struct VirtualFile {
  ByteSource* source = nullptr;
  Splice splice;
  int64_t stated = -1;  // bytes that the container says it has, -1: it doesn't say
  int64_t position = 0;
  int64_t size = -1;  // -1: unknown
  int64_t budget = kCallBytes, seeks = kCallSeeks;
  bool starved = false;  // the budget ran out

  int64_t head() const { return static_cast<int64_t>(splice.head.size()); }
  // Position in the source of a position here.
  int64_t Source(int64_t at) const { return at - head() + splice.data_start; }
  void NewCall(int64_t bytes) {
    budget = std::max(kCallBytes, bytes);
    seeks = kCallSeeks;
  }
};

sf_count_t Length(void* user) {
  const auto* f = static_cast<VirtualFile*>(user);
  return f->size < 0 ? SF_COUNT_MAX : f->size;
}

sf_count_t Seek(sf_count_t offset, int whence, void* user) {
  auto* f = static_cast<VirtualFile*>(user);
  if (whence == SEEK_END && f->size < 0) return -1;
  const int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? f->position : f->size;
  int64_t to = 0;
  if (__builtin_add_overflow(from, static_cast<int64_t>(offset), &to) || to < 0) return -1;
  if (to > (f->source->seekable() ? f->source->size() + f->head() : f->source->furthest() + (int64_t{1} << 30)))
    return -1;
  if (--f->seeks < 0) return f->starved = true, -1;
  return f->position = to;
}

sf_count_t Read(void* out, sf_count_t count, void* user) {
  auto* f = static_cast<VirtualFile*>(user);
  auto* to = static_cast<std::byte*>(out);
  if (count <= 0) return 0;
  if (f->budget <= 0) return f->starved = true, 0;
  count = std::min<sf_count_t>(count, f->budget);
  int64_t done = 0;
  if (f->position < f->head()) {
    done = std::min<int64_t>(count, f->head() - f->position);
    std::memcpy(to, f->splice.head.data() + f->position, static_cast<size_t>(done));
  }
  done += f->source->ReadAt(f->Source(f->position + done), std::span(to + done, static_cast<size_t>(count - done)));
  f->position += done;
  f->budget -= done;
  return done;
}

sf_count_t Write(const void*, sf_count_t, void*) { return 0; }
sf_count_t Tell(void* user) { return static_cast<VirtualFile*>(user)->position; }

// The length that a container states for itself, bytes; -1 where it states none.
int64_t StatedBytes(ByteSource* source, Container container) {
  std::byte p[24];
  if (source->ReadAt(0, p) != 24) return -1;
  const auto number = [&](int at, int bytes, bool big) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; ++i) v |= static_cast<uint64_t>(p[at + i]) << (8 * (big ? bytes - 1 - i : i));
    return v;
  };
  uint64_t n = ~0ULL;
  if (container == Container::kAiff) n = number(4, 4, true) + 8;
  if (container == Container::kWav) n = number(4, 4, false) + 8;
  if (container == Container::kAu && number(8, 4, true) != 0xFFFFFFFF) n = number(4, 4, true) + number(8, 4, true);
  if (container == Container::kW64) n = number(16, 8, false);
  return n > INT64_MAX ? -1 : static_cast<int64_t>(n);
}

const char* CodecName(int format) {
  switch (format & SF_FORMAT_SUBMASK) {
    case SF_FORMAT_PCM_S8: return "pcm_s8";
    case SF_FORMAT_PCM_U8: return "pcm_u8";
    case SF_FORMAT_PCM_16: return "pcm_s16";
    case SF_FORMAT_PCM_24: return "pcm_s24";
    case SF_FORMAT_PCM_32: return "pcm_s32";
    case SF_FORMAT_FLOAT: return "pcm_f32";
    case SF_FORMAT_DOUBLE: return "pcm_f64";
    case SF_FORMAT_ULAW: return "mulaw";
    case SF_FORMAT_ALAW: return "alaw";
    case SF_FORMAT_IMA_ADPCM: return "ima_adpcm";
    case SF_FORMAT_MS_ADPCM: return "ms_adpcm";
    case SF_FORMAT_GSM610: return "gsm610";
    case SF_FORMAT_VORBIS: return "vorbis";
    case SF_FORMAT_OPUS: return "opus";
    case SF_FORMAT_MPEG_LAYER_I: return "mp1";
    case SF_FORMAT_MPEG_LAYER_II: return "mp2";
    case SF_FORMAT_MPEG_LAYER_III: return "mp3";
    default: return "other";
  }
}

class SndfileDecoder : public Decoder {
 public:
  ~SndfileDecoder() override {
    if (file_ != nullptr) sf_close(file_);
  }

  Status Open(ByteSource* source, Container container, Splice splice, const AudioLimits& limits) {
    const bool coded = container == Container::kFlac || container == Container::kOgg || container == Container::kMp3;
    static constexpr const char* kNames[] = {"", "wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64"};
    container_ = container;
    virtual_.source = source;
    virtual_.splice = std::move(splice);
    virtual_.stated = coded ? -1 : StatedBytes(source, container);
    virtual_.size = coded || !source->seekable() ? -1 : source->size();
    SF_VIRTUAL_IO io{Length, Seek, sotto::Read, Write, Tell};
    SF_INFO sf{};
    file_ = sf_open_virtual(&io, SFM_READ, &sf, &virtual_);
    if (file_ == nullptr)
      return BadInput(fmt::format(
          "{} is no {} file that can be read ({}); fetch it again, or convert it with: ffmpeg -i IN out.wav",
          source->name(), kNames[static_cast<int>(container)], Reason(nullptr)));
    TRY(CheckBounds(source->name(), sf.channels, sf.samplerate, coded, limits));
    info_ = {kNames[static_cast<int>(container)], container == Container::kFlac ? "flac" : CodecName(sf.format),
             sf.samplerate, sf.channels, -1};
    const Splice& s = virtual_.splice;
    if (s.channels != 0 && s.channels != sf.channels)
      return BadInput(fmt::format("{} has a contradictory header: {} or {} channels; fetch it again", source->name(),
                                  s.channels, sf.channels));
    if (s.frames >= 0 && s.rate > 0)  // Opus counts at 48 kHz whatever it decodes to
      info_.frames = s.rate == sf.samplerate
                         ? s.frames
                         : static_cast<int64_t>(static_cast<double>(s.frames) * sf.samplerate / s.rate);
    else if (sf.frames >= 0 && sf.frames < SF_COUNT_MAX / 2 && container != Container::kOgg)
      info_.frames = sf.frames;
    return {};
  }

  Result<int64_t> Read(float* out, int64_t frames, std::span<std::byte>) override {
    if (ended_) return int64_t{0};
    virtual_.NewCall(frames * info_.channels * 16);
    const sf_count_t got = sf_readf_float(file_, out, frames);
    if (got <= 0) {
      ended_ = true;
      if (sf_error(file_) != SF_ERR_NO_ERROR) problem_ = Reason(file_);
      return int64_t{0};
    }
    decoded_ += got;
    return int64_t{got};
  }

  void Conclude(std::vector<std::string>* warnings) override {
    ByteSource* source = virtual_.source;
    const std::string& name = source->name();
    const double rate = info_.sample_rate;
    if (!source->error().empty()) {
      warnings->push_back(fmt::format("{} could not be read beyond byte {} ({}); what came before is used", name,
                                      source->furthest(), source->error()));
      return;
    }
    // Vorbis may begin with a granule offset and MP3's length is in whole frames: a tenth of a second is no loss.
    if (info_.frames >= 0 && decoded_ + info_.sample_rate / 10 < info_.frames) {
      warnings->push_back(fmt::format("{} is cut short or damaged: {} of {} are missing; what is there is used", name,
                                      HumanSeconds(static_cast<double>(info_.frames - decoded_) / rate),
                                      HumanSeconds(info_.seconds())));
    } else if (virtual_.stated > (source->seekable() ? source->size() : source->furthest())) {
      warnings->push_back(fmt::format("{} is cut short: {} of {} bytes are missing; what is there is used", name,
                                      virtual_.stated - (source->seekable() ? source->size() : source->furthest()),
                                      virtual_.stated));
    } else if (container_ == Container::kOgg &&
               !OggEndsWell(source, source->seekable() ? source->size() : source->furthest())) {
      warnings->push_back(
          fmt::format("{} is cut short: its last page is missing, so how much is not known; the {} that are there "
                      "are used",
                      name, HumanSeconds(static_cast<double>(decoded_) / rate)));
    } else if (virtual_.starved || !problem_.empty()) {
      warnings->push_back(fmt::format("{} is damaged near byte {} ({}); the {} before it are used", name,
                                      std::max<int64_t>(0, virtual_.Source(virtual_.position)),
                                      problem_.empty() ? "no sound in 2 MiB" : problem_.c_str(),
                                      HumanSeconds(static_cast<double>(decoded_) / rate)));
    } else if (source->seekable() && virtual_.size < 0 &&
               virtual_.Source(virtual_.position) + (256 << 10) < source->size()) {
      warnings->push_back(fmt::format(
          "{} holds more than one stream or is damaged at byte {} of {}; the {} before it are used", name,
          virtual_.Source(virtual_.position), source->size(), HumanSeconds(static_cast<double>(decoded_) / rate)));
    }
  }

 private:
  static std::string Reason(SNDFILE* file) {
    std::string text = sf_strerror(file);
    while (!text.empty() && (text.back() == '.' || text.back() == '\n' || text.back() == ' ')) text.pop_back();
    return text.empty() ? "unknown error" : text;
  }

  Container container_ = Container::kUnknown;
  VirtualFile virtual_;
  SNDFILE* file_ = nullptr;
  int64_t decoded_ = 0;
  bool ended_ = false;
  std::string problem_;
};

}  // namespace

Status CheckBounds(const std::string& name, int64_t channels, int64_t rate, bool coded, const AudioLimits& limits) {
  const int most = coded ? limits.max_coded_channels : limits.max_channels;
  if (channels < 1 || channels > most)
    return BadInput(
        fmt::format("{} says that it has {} channels; 1 to {} are allowed, so mix it down or fetch it again", name,
                    channels, most));
  if (rate < limits.min_rate || rate > limits.max_rate)
    return BadInput(
        fmt::format("{} says that it has {} samples a second; {} to {} are allowed, so resample it or fetch it again",
                    name, rate, limits.min_rate, limits.max_rate));
  return {};
}

std::string HumanSeconds(double seconds) {
  if (seconds < 60) return fmt::format("{:.3g} s", seconds);
  const int64_t whole = static_cast<int64_t>(seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

namespace {

// Chunks are 4 bytes of type and 8 of size (big-endian); "desc" comes first. libsndfile allocates a "strg" chunk as
// large as it says, and its ALAC reader prints to the standard output.
Status CheckCaf(ByteSource* source) {
  const std::string& name = source->name();
  std::byte p[32] = {};
  source->ReadAt(0, p);
  if (std::memcmp(p + 28, "lpcm", 4) != 0 && std::memcmp(p + 28, "ulaw", 4) != 0 && std::memcmp(p + 28, "alaw", 4) != 0)
    return BadInput(fmt::format(
        "{} is CAF with compressed samples, which sotto doesn't read; convert it with: ffmpeg -i IN out.wav", name));
  int64_t at = 8;
  for (int chunk = 0; chunk < 1000 && source->ReadAt(at, std::span(p).first(12)) == 12; ++chunk) {
    uint64_t size = 0;
    for (int i = 4; i < 12; ++i) size = size << 8 | static_cast<uint64_t>(p[i]);
    const bool data = std::memcmp(p, "data", 4) == 0;
    if (data && size == ~0ULL) break;  // up to the end
    if (size > (data || std::memcmp(p, "free", 4) == 0 ? uint64_t{1} << 50 : 65536))
      return BadInput(fmt::format(
          "{} has a CAF chunk of {} bytes at byte {}, at most 65536 are allowed; it is damaged, or convert it "
          "with: ffmpeg -i IN out.wav",
          name, size, at));
    at += 12 + static_cast<int64_t>(size);
  }
  return {};
}

// The format comes first (byte 40: its GUID and size, 64: tag, 66: channels); ADPCM of many channels takes memory by
// the block.
Status CheckW64(ByteSource* source) {
  std::byte p[68] = {};
  source->ReadAt(0, p);
  const auto number = [&](int at) { return static_cast<int>(p[at]) | static_cast<int>(p[at + 1]) << 8; };
  const int tag = number(64);
  if (std::memcmp(p + 40, "fmt ", 4) != 0 ||
      (tag != 1 && tag != 3 && tag != 6 && tag != 7 && tag != 0xFFFE && number(66) > 2))
    return BadInput(fmt::format("{} has a W64 head that sotto doesn't read; convert it with: ffmpeg -i IN out.wav",
                                source->name()));
  return {};
}

}  // namespace

Result<std::unique_ptr<Decoder>> OpenSndfile(ByteSource* source, Sniffed sniffed, const AudioLimits& limits) {
  const Container container = sniffed.container;
  Splice splice;
  if (container == Container::kUnknown) {
    if (!source->error().empty())
      return BadInput(
          fmt::format("cannot read {} ({}); check the device or the pipe", source->name(), source->error()));
    if (source->furthest() == 0)
      return BadInput(fmt::format("{} is empty; give a file with audio in it", source->name()));
    return BadInput(fmt::format(
        "{} is not audio that sotto reads (wav, flac, ogg, opus, mp3, aiff, au, caf, w64); convert it with: "
        "ffmpeg -i IN out.wav",
        source->name()));
  }
  if (!source->seekable() &&
      (container == Container::kAiff || container == Container::kCaf || container == Container::kW64))
    return BadInput(
        fmt::format("{} brings AIFF, CAF or W64, which can't be read from a pipe; give the file's path, or pipe WAV: "
                    "ffmpeg -i IN -f wav -",
                    source->name()));
  if (container == Container::kCaf) TRY(CheckCaf(source));
  if (container == Container::kW64) TRY(CheckW64(source));
  if (container == Container::kFlac) splice = TRY(SpliceFlac(source, sniffed.start, limits));
  if (container == Container::kOgg) splice = TRY(SpliceOgg(source, limits));
  if (container == Container::kMp3) splice.data_start = sniffed.start;
  auto decoder = std::make_unique<SndfileDecoder>();
  TRY(decoder->Open(source, container, std::move(splice), limits));
  return std::unique_ptr<Decoder>(std::move(decoder));
}

}  // namespace sotto
