#include "audio/splice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "audio/decoder.h"

namespace sotto {
namespace {

uint32_t U8(const std::byte* p) { return static_cast<uint32_t>(*p); }
uint32_t Little32(const std::byte* p) { return U8(p) | U8(p + 1) << 8 | U8(p + 2) << 16 | U8(p + 3) << 24; }
int64_t Little64(const std::byte* p) {
  return static_cast<int64_t>(uint64_t{Little32(p)} | uint64_t{Little32(p + 4)} << 32);
}
bool Is(const std::byte* p, const char* text) { return std::memcmp(p, text, std::strlen(text)) == 0; }

// A plausible MPEG audio frame header: sync, layer, bit rate and sample rate that exist.
bool IsMpegFrame(const std::byte* p) {
  return U8(p) == 0xFF && (U8(p + 1) & 0xE0) == 0xE0 && (U8(p + 1) & 0x18) != 0x08 && (U8(p + 1) & 0x06) != 0 &&
         (U8(p + 2) & 0xF0) != 0xF0 && (U8(p + 2) & 0xF0) != 0 && (U8(p + 2) & 0x0C) != 0x0C;
}

// --- Ogg pages (RFC 3533, section 6) ---
//  0 "OggS"  4 version  5 flags  6 granule (8)  14 serial (4)  18 page number (4)  22 crc (4)  26 n  27 n lacing
//  values, then the body
constexpr int64_t kPageHead = 27;
constexpr int64_t kMaxPage = kPageHead + 255 + 255 * 255;
constexpr uint32_t kFirst = 2, kLast = 4;

uint32_t OggCrc(const std::byte* p, size_t size) {
  uint32_t crc = 0;
  for (size_t i = 0; i < size; ++i) {
    crc ^= U8(p + i) << 24;
    for (int bit = 0; bit < 8; ++bit) crc = crc << 1 ^ ((crc >> 31) ? 0x04c11db7u : 0u);
  }
  return crc;
}

struct Page {
  uint32_t flags, serial, number, segments;
  int64_t granule;
  std::byte lacing[255];
  int64_t head, body;  // bytes
};

// The page at `at`; false when there is none.
bool ReadPage(ByteSource* source, int64_t at, Page* page) {
  std::byte h[kPageHead];
  if (source->ReadAt(at, h) != kPageHead || !Is(h, "OggS") || U8(h + 4) != 0) return false;
  page->flags = U8(h + 5);
  page->granule = Little64(h + 6);
  page->serial = Little32(h + 14);
  page->number = Little32(h + 18);
  page->segments = U8(h + 26);
  page->head = kPageHead + page->segments;
  if (source->ReadAt(at + kPageHead, std::span(page->lacing).first(page->segments)) != page->segments) return false;
  page->body = 0;
  for (uint32_t i = 0; i < page->segments; ++i) page->body += U8(page->lacing + i);
  return true;
}

void Put32(std::vector<std::byte>* out, size_t at, uint32_t v) {
  for (int i = 0; i < 4; ++i) (*out)[at + i] = static_cast<std::byte>(v >> (8 * i));
}

// Appends one page that holds `packets` whole.
void AppendPage(std::vector<std::byte>* out, uint32_t flags, uint32_t serial, uint32_t number,
                const std::vector<std::vector<std::byte>>& packets) {
  const size_t begin = out->size();
  out->resize(begin + kPageHead);
  std::memcpy(out->data() + begin, "OggS", 4);
  (*out)[begin + 5] = static_cast<std::byte>(flags);
  Put32(out, begin + 14, serial);
  Put32(out, begin + 18, number);
  size_t segments = 0;
  for (const auto& packet : packets) {
    for (size_t left = packet.size();; left -= 255, ++segments) {
      out->push_back(static_cast<std::byte>(std::min<size_t>(left, 255)));
      if (left < 255) break;
    }
    ++segments;
  }
  (*out)[begin + 26] = static_cast<std::byte>(segments);
  for (const auto& packet : packets) out->insert(out->end(), packet.begin(), packet.end());
  Put32(out, begin + 22, OggCrc(out->data() + begin, out->size() - begin));
}

constexpr int64_t kMaxSetup = 48 * 1024;  // Vorbis set-up packets of real encoders have 3 to 12 KiB
constexpr int64_t kMaxHeadPages = 4096;   // covers 256 MiB of cover pictures

// The head packets of the one logical stream, read page by page; the second (comments) is skipped over, whatever its
// size.
struct Head {
  uint32_t serial = 0, next_page = 0;  // next_page: number of the first audio page
  int64_t data_start = 0;
  std::vector<std::byte> first, setup;
};

Error BadHead(const std::string& name, const char* what) {
  return BadInput(fmt::format("{} is no usable Ogg file: {}; fetch it again or convert it to WAV", name, what));
}

Result<Head> ReadHead(ByteSource* source, int wanted_packets) {
  const std::string& name = source->name();
  Head head;
  int64_t at = 0;
  int packet = 0;
  for (int64_t pages = 0; packet < wanted_packets; ++pages) {
    Page page;
    if (pages == kMaxHeadPages) return BadHead(name, "its head never ends");
    if (!ReadPage(source, at, &page)) return BadHead(name, "it ends or is damaged within its head");
    if (pages == 0) {
      head.serial = page.serial;
      if (!(page.flags & kFirst)) return BadHead(name, "it starts in the middle of a stream");
    }
    if (page.serial != head.serial) {
      if (page.flags & kFirst) return BadHead(name, "it holds several streams at once, such as video");
      at += page.head + page.body;
      continue;
    }
    if (pages > 0 && (page.flags & kFirst)) return BadHead(name, "a second stream starts within its head");
    int64_t body = at + page.head;
    for (uint32_t i = 0; i < page.segments; ++i) {
      const int64_t n = U8(page.lacing + i);
      if (packet >= wanted_packets) return BadHead(name, "audio shares a page with its head");
      std::vector<std::byte>* keep = packet == 0 ? &head.first : packet == 2 ? &head.setup : nullptr;
      if (keep != nullptr) {
        if (static_cast<int64_t>(keep->size()) + n > (packet == 0 ? 1024 : kMaxSetup))
          return BadHead(name, "its head is too large");
        const size_t old = keep->size();
        keep->resize(old + static_cast<size_t>(n));
        if (source->ReadAt(body, std::span(*keep).subspan(old)) != n) return BadHead(name, "it ends within its head");
      }
      body += n;
      if (n < 255) ++packet;
    }
    at += page.head + page.body;
    head.next_page = page.number + 1;
  }
  head.data_start = at;
  return head;
}

}  // namespace

Sniffed Sniff(ByteSource* source) {
  std::byte p[16] = {};
  int64_t start = 0;
  for (int tags = 0; tags < 4; ++tags) {  // some writers put several ID3v2 tags
    if (source->ReadAt(start, std::span(p).first(10)) < 10 || !Is(p, "ID3")) break;
    for (int i = 6; i < 10; ++i)
      if (U8(p + i) > 0x7F) return {};
    const bool footer = U8(p + 5) & 0x10;
    start += 10 + (U8(p + 6) << 21 | U8(p + 7) << 14 | U8(p + 8) << 7 | U8(p + 9)) + (footer ? 10 : 0);
  }
  const int64_t got = source->ReadAt(start, p);
  if (got < 4) return {};
  if (Is(p, "fLaC")) return {Container::kFlac, start};
  if (start == 0) {
    if ((Is(p, "RIFF") || Is(p, "RF64")) && got >= 12 && Is(p + 8, "WAVE")) return {Container::kWav};
    if (Is(p, "OggS")) return {Container::kOgg};
    if (Is(p, "FORM") && got >= 12 && (Is(p + 8, "AIFF") || Is(p + 8, "AIFC"))) return {Container::kAiff};
    if (Is(p, ".snd")) return {Container::kAu};
    if (Is(p, "caff")) return {Container::kCaf};
    if (Is(p, "riff") && got >= 8 && U8(p + 4) == 0x2E && U8(p + 5) == 0x91) return {Container::kW64};
    return {IsMpegFrame(p) ? Container::kMp3 : Container::kUnknown};
  }
  // Behind a tag: padding of zeros may precede the first frame.
  for (int64_t skipped = 0; skipped < 8192; ++skipped) {
    if (source->ReadAt(start + skipped, std::span(p).first(4)) != 4) break;
    if (IsMpegFrame(p)) return {Container::kMp3, start + skipped};
  }
  return {};
}

Result<Splice> SpliceFlac(ByteSource* source, int64_t start, const AudioLimits& limits) {
  const std::string& name = source->name();
  Splice s;
  s.codec = "flac";
  s.head.resize(42);
  if (source->ReadAt(start, s.head) != 42 || (U8(&s.head[4]) & 0x7F) != 0 || U8(&s.head[5]) != 0 ||
      U8(&s.head[6]) != 0 || U8(&s.head[7]) != 34)
    return BadInput(fmt::format("{} has a FLAC head that is cut short or damaged; fetch it again", name));
  int64_t at = start + 42;
  bool last = U8(&s.head[4]) & 0x80;
  for (int blocks = 0; !last; ++blocks) {
    std::byte h[4];
    if (blocks == 1000 || source->ReadAt(at, h) != 4)
      return BadInput(
          fmt::format("{} ends within its FLAC head at byte {}; it is cut short, fetch it again", name, at));
    last = U8(h) & 0x80;
    at += 4 + (U8(h + 1) << 16 | U8(h + 2) << 8 | U8(h + 3));
  }
  s.head[4] = std::byte{0x80};  // the only metadata block
  s.data_start = at;
  // STREAMINFO: 16 min block, 16 max block, 24 + 24 frame sizes, 20 rate, 3 channels - 1, 5 bits - 1, 36 samples, MD5
  const std::byte* p = s.head.data() + 8;
  const int64_t max_block = U8(p + 2) << 8 | U8(p + 3);
  s.rate = static_cast<int>(U8(p + 10) << 12 | U8(p + 11) << 4 | U8(p + 12) >> 4);
  s.channels = static_cast<int>((U8(p + 12) >> 1 & 7) + 1);
  const int64_t samples = static_cast<int64_t>(uint64_t{U8(p + 13) & 15} << 32 | U8(p + 14) << 24 | U8(p + 15) << 16 |
                                               U8(p + 16) << 8 | U8(p + 17));
  s.frames = samples == 0 ? -1 : samples;
  TRY(CheckBounds(name, s.channels, s.rate, true, limits));
  if (max_block < 16 || max_block > 32768)
    return BadInput(
        fmt::format("{} has FLAC blocks of {} samples, 16 to 32768 are allowed; convert it to WAV", name, max_block));
  return s;
}

Result<Splice> SpliceOgg(ByteSource* source, const AudioLimits& limits) {
  const std::string& name = source->name();
  std::byte p[8];
  Page page;
  if (!ReadPage(source, 0, &page) || source->ReadAt(page.head, p) != 8)
    return BadHead(name, "it ends within its first page");
  const bool vorbis = Is(p, "\x01vorbis"), opus = Is(p, "OpusHead");
  if (!vorbis && !opus)
    return BadInput(
        fmt::format("{} is Ogg with neither Vorbis nor Opus in it; convert it with: ffmpeg -i IN out.wav", name));
  const Head head = TRY(ReadHead(source, vorbis ? 3 : 2));
  Splice s;
  s.codec = vorbis ? "vorbis" : "opus";
  s.data_start = head.data_start;
  const std::byte* id = head.first.data();
  if (head.first.size() < (vorbis ? 30u : 19u)) return BadHead(name, "its head is cut short");
  // Checked here because libsndfile 1.2.0 leaks 6 KB for each identification header that libvorbis refuses.
  if (vorbis && (Little32(id + 7) != 0 || (U8(id + 28) & 15) < 6 || U8(id + 28) >> 4 > 13 ||
                 (U8(id + 28) & 15) > U8(id + 28) >> 4 || !(U8(id + 29) & 1)))
    return BadHead(name, "its identification header is damaged");
  s.channels = static_cast<int>(U8(id + (vorbis ? 11 : 9)));
  const int64_t rate = vorbis ? Little32(id + 12) : 48000;
  TRY(CheckBounds(name, s.channels, rate, true, limits));
  s.rate = static_cast<int>(rate);
  if (vorbis) TRY(CheckVorbisSetup(name, head.setup.data(), static_cast<int64_t>(head.setup.size())));
  const int64_t preskip = vorbis ? 0 : U8(id + 10) | U8(id + 11) << 8;
  if (source->seekable()) {
    const int64_t granule = OggLastGranule(source, source->size());
    if (granule >= preskip) s.frames = granule - preskip;
  }
  // An empty comment: vendor string of length 0, 0 comments (and Vorbis' framing bit).
  std::vector<std::byte> comment(16);
  std::memcpy(comment.data(), vorbis ? "\x03vorbis" : "OpusTags", vorbis ? 7 : 8);
  if (vorbis) comment[15] = std::byte{1};
  std::vector<std::vector<std::byte>> second = {comment};
  if (vorbis) second.push_back(head.setup);
  AppendPage(&s.head, kFirst, head.serial, head.next_page - 2, {head.first});
  AppendPage(&s.head, 0, head.serial, head.next_page - 1, second);
  return s;
}

namespace {
// Calls visit(position, page) for each page that starts in the last 64 KiB before `end`.
template <class Visit>
void VisitLastPages(ByteSource* source, int64_t end, Visit visit) {
  std::byte p[256];
  for (int64_t at = std::max<int64_t>(0, end - kMaxPage); at + kPageHead <= end;) {
    const int64_t got = source->ReadAt(at, p);
    if (got < 4) return;
    int64_t i = 0;
    while (i + 4 <= got && !Is(p + i, "OggS")) ++i;
    Page page;
    if (i + 4 <= got && ReadPage(source, at + i, &page)) visit(at + i, page);
    at += i + (i + 4 <= got ? 4 : 0);
    if (got < 256 && i + 4 > got) return;
  }
}
}  // namespace

bool OggEndsWell(ByteSource* source, int64_t end) {
  bool well = false;
  VisitLastPages(source, end, [&](int64_t at, const Page& page) {
    well = (page.flags & kLast) && at + page.head + page.body <= end;
  });
  return well;
}

int64_t OggLastGranule(ByteSource* source, int64_t end) {
  int64_t granule = -1;
  VisitLastPages(source, end, [&](int64_t at, const Page& page) {
    if (page.granule >= 0 && at + page.head + page.body <= end) granule = page.granule;
  });
  return granule;
}

}  // namespace sotto
