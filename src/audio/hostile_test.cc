// Audio that is broken or made to break its reader, by the name of the attack.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cmath>

#include "audio/splice.h"
#include "audio/testing.h"

namespace sotto {
namespace {

using namespace testing;

// Refused with the exit code for bad input and a sentence that holds `words`.
void ExpectRefused(const Heard& h, const std::string& words) {
  EXPECT_EQ(h.code, Code::kBadInput) << words;
  EXPECT_NE(h.error.find(words), std::string::npos) << "wanted: " << words << "\n   got: " << h.error;
}

Blob Samples(int n, int bytes = 2) { return Blob(static_cast<size_t>(n * bytes), '\x11'); }

TEST(HostileAudio, WavHeadersThatContradictThemselvesOrPassTheBounds) {
  const struct {
    const char* name;
    const char* words;
    std::function<void(WavHead*)> attack;
  } cases[] = {
      {"fmt size 0", "format header of 0 bytes", [](WavHead* h) { h->fmt_size = 0; }},
      {"fmt size huge", "format header of 4294967295 bytes", [](WavHead* h) { h->fmt_size = 0xFFFFFFFF; }},
      {"0 channels", "0 channels; 1 to 64", [](WavHead* h) { h->channels = 0; }},
      {"1000 channels", "1000 channels; 1 to 64", [](WavHead* h) { *h = MakeHead(1, 1000, 16, 16000, 200); }},
      {"rate 0", "0 samples a second", [](WavHead* h) { *h = MakeHead(1, 1, 16, 0, 200); }},
      {"rate 1", "1 samples a second", [](WavHead* h) { *h = MakeHead(1, 1, 16, 1, 200); }},
      {"rate 2^31", "2147483648 samples a second", [](WavHead* h) { *h = MakeHead(1, 1, 16, 1u << 31, 200); }},
      {"block align", "contradictory header: 1 channels of 16 bits are 2 bytes a frame, but it says 4",
       [](WavHead* h) { h->block = 4; }},
      {"block align 0", "contradictory header", [](WavHead* h) { h->block = 0; }},
      {"byte rate", "contradictory header: 16000 Hz of 2 bytes", [](WavHead* h) { h->byte_rate = 12345; }},
      {"0 bits", "0 bits a sample", [](WavHead* h) { h->bits = 0; }},
      {"65535 bits", "65535 bits a sample", [](WavHead* h) { h->bits = 65535; }},
      {"16-bit float", "16 bits a sample for format 3", [](WavHead* h) { h->tag = 3; }},
      {"ADPCM without its header", "no wav file that can be read", [](WavHead* h) { h->tag = 0x11; }},
      {"unknown format", "no wav file that can be read", [](WavHead* h) { h->tag = 0x7777; }},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    WavHead h = MakeHead(1, 1, 16, 16000, 200);
    c.attack(&h);
    ExpectRefused(HearBytes(WavBytes(h, Samples(100))), c.words);
    ExpectRefused(HearPipe(WavBytes(h, Samples(100))), c.words);
  }
}

TEST(HostileAudio, WavDataSizes) {
  // 112 bytes that ask for 2 GB: what is there is used, nothing is allocated for the rest.
  const Heard two_gb = HearBytes(WavBytes(MakeHead(1, 1, 16, 16000, 0x7FFFFFF0), Samples(34)));
  EXPECT_EQ(two_gb.samples.size(), 34u) << two_gb.error;
  ASSERT_EQ(two_gb.warnings.size(), 1u);
  EXPECT_NE(two_gb.warnings[0].find("2147483564 of 2147483632 bytes"), std::string::npos) << two_gb.warnings[0];
  // A size that ends within a sample.
  WavHead odd = MakeHead(1, 2, 16, 16000, 201);
  const Heard h = HearBytes(WavBytes(odd, Samples(101)));
  EXPECT_EQ(h.samples.size(), 50u);
  ASSERT_EQ(h.warnings.size(), 1u);
  EXPECT_NE(h.warnings[0].find("ends within a sample"), std::string::npos) << h.warnings[0];
  // No samples, with and without a chunk behind them.
  ExpectRefused(HearBytes(WavBytes(MakeHead(1, 1, 16, 16000, 0), "")), "holds no samples");
  ExpectRefused(HearPipe(WavBytes(MakeHead(1, 1, 16, 16000, 0), "")), "holds no samples");
  ExpectRefused(HearBytes(WavBytes(MakeHead(1, 1, 16, 16000, 0), std::string("LIST\4\0\0\0abcd", 12))),
                "holds no samples");
  ExpectRefused(HearBytes(WavBytes(MakeHead(1, 2, 16, 16000, 4), "abc")), "holds no samples");
  // An interrupted recording.
  const Heard interrupted = HearBytes(WavBytes(MakeHead(1, 1, 16, 16000, 0), Samples(1000)));
  EXPECT_EQ(interrupted.samples.size(), 1000u);
  EXPECT_EQ(interrupted.warnings.size(), 1u);
}

TEST(HostileAudio, WavChunks) {
  const Blob head = std::string("RIFF\xff\xff\xff\xffWAVE", 12);
  ExpectRefused(HearBytes(head), "before any samples");
  ExpectRefused(HearBytes(head + std::string("data\4\0\0\0abcd", 12)), "no fmt chunk");
  Blob many = head;
  for (int i = 0; i < 5000; ++i) many += std::string("JUNK\0\0\0\0", 8);
  ExpectRefused(HearBytes(many), "1000 chunks");
  ExpectRefused(HearBytes(head + std::string("JUNK\xfe\xff\xff\xff", 8)), "ends at byte");
  ExpectRefused(HearPipe(head + std::string("JUNK\xfe\xff\xff\xff", 8)), "ends at byte");
}

TEST(HostileAudio, SamplesThatAreNumbersOnlyByName) {
  for (float bad : {NAN, INFINITY, -INFINITY, 1e30f}) {
    std::vector<float> x = Tone(440, 44100, 1.0);
    x[30000] = bad;
    const Heard h = HearBytes(WavFloat(x, 44100));
    ExpectRefused(h, "which is not audio");
    ExpectRefused(h, "at 0.68");
    ExpectRefused(HearBytes(Encode(SF_FORMAT_AIFF | SF_FORMAT_FLOAT, x, 44100, 1)), "which is not audio");
  }
}

TEST(HostileAudio, PathsThatAreNoAudio) {
  ExpectRefused(HearPath("/no/such/file.wav"), "cannot open audio /no/such/file.wav: No such file or directory");
  ExpectRefused(HearPath("/tmp"), "/tmp is a directory");
  ExpectRefused(HearPath(WriteTemp("empty.wav", "")), "is empty");
  ExpectRefused(HearPath(WriteTemp("text.wav", "This is a shopping list, not a recording.\n")),
                "is not audio that sotto reads");
  ExpectRefused(HearPath("/dev/null"), "is empty");
  ExpectRefused(HearPath("/dev/zero"), "is not audio that sotto reads");
  const std::string locked = WriteTemp("locked.wav", "RIFF");
  ::chmod(locked.c_str(), 0);
  if (::geteuid() != 0) ExpectRefused(HearPath(locked), "Permission denied");
  for (const char* name : {"empty.wav", "text.wav", "locked.wav"}) ::unlink(WriteTemp(name, "").c_str());
}

TEST(HostileAudio, AlacInCaf) {
  const Blob alac = Encode(SF_FORMAT_CAF | SF_FORMAT_ALAC_16, Tone(440, 16000, 0.5), 16000, 1);
  if (!alac.empty()) ExpectRefused(HearBytes(alac), "CAF with compressed samples");
}

TEST(HostileAudio, ChunksAndBlocksThatAskForMemory) {
  Blob caf = Encode(kCafFormat, Tone(440, 16000, 0.1), 16000, 1);
  ASSERT_GT(caf.size(), 60u);
  caf.insert(52, std::string("strg\0\0\0\0\x70\0\0\0", 12));  // 1.9 GB of strings behind "desc"
  ExpectRefused(HearBytes(caf), "CAF chunk of 1879048192 bytes");
  WavHead adpcm = MakeHead(0x11, 64, 4, 16000, 200);
  ExpectRefused(HearBytes(WavBytes(adpcm, Samples(100))), "64 channels of compressed samples");
  Blob w64 = Encode(SF_FORMAT_W64 | SF_FORMAT_IMA_ADPCM, Tone(440, 16000, 0.1), 16000, 1);
  ASSERT_GT(w64.size(), 68u);
  w64[66] = 64;
  ExpectRefused(HearBytes(w64), "W64 head");
}

// --- FLAC ---

// Bits, most significant first, with FLAC's two checksums.
struct FlacBits {
  Blob bytes;
  int free = 0;
  void Put(uint64_t v, int n) {
    for (int i = n - 1; i >= 0; --i) {
      if (free == 0) bytes.push_back(0), free = 8;
      bytes.back() = static_cast<char>(bytes.back() | ((v >> i & 1) << --free));
    }
  }
  uint32_t Crc(int width, uint32_t poly, size_t from) const {
    uint32_t crc = 0;
    for (size_t i = from; i < bytes.size(); ++i) {
      crc ^= static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])) << (width - 8);
      for (int b = 0; b < 8; ++b) crc = crc << 1 ^ ((crc >> (width - 1) & 1) ? poly : 0);
    }
    return crc & ((1u << width) - 1);
  }
};

// A FLAC file of constant frames: `block` samples of `channels` channels in about 40 bytes each.
Blob FlacBomb(int stated_block, int block, int channels, int frames) {
  FlacBits f;
  f.bytes = "fLaC";
  f.Put(0x80, 8);
  f.Put(34, 24);
  f.Put(static_cast<uint64_t>(stated_block), 16);
  f.Put(static_cast<uint64_t>(stated_block), 16);
  f.Put(0, 48);
  f.Put(48000, 20);
  f.Put(static_cast<uint64_t>(channels - 1), 3);
  f.Put(23, 5);
  f.Put(0, 36);
  f.Put(0, 64);
  f.Put(0, 64);
  for (int i = 0; i < frames; ++i) {
    const size_t start = f.bytes.size();
    f.Put(0x3FFE, 14);
    f.Put(0, 2);
    f.Put(7, 4);   // block size in 16 bits
    f.Put(10, 4);  // 48 kHz
    f.Put(static_cast<uint64_t>(channels - 1), 4);
    f.Put(6, 3);  // 24 bits
    f.Put(0, 1);
    f.Put(static_cast<uint64_t>(i), 8);  // frame number, below 128
    f.Put(static_cast<uint64_t>(block - 1), 16);
    f.Put(f.Crc(8, 0x07, start), 8);
    for (int c = 0; c < channels; ++c) {
      f.Put(0, 8);  // constant subframe
      f.Put(static_cast<uint64_t>(1000 + i), 24);
    }
    f.Put(f.Crc(16, 0x8005, start), 16);
  }
  return f.bytes;
}

TEST(HostileAudio, FlacBombs) {
  const Heard fine = HearBytes(FlacBomb(32768, 32768, 8, 20));
  EXPECT_NEAR(static_cast<double>(fine.samples.size()), 20 * 32768 / 3.0, 2) << fine.error;
  ExpectRefused(HearBytes(FlacBomb(65535, 65535, 8, 20)), "FLAC blocks of 65535 samples");
  const Heard lying =
      HearBytes(FlacBomb(4096, 65535, 8, 20));  // larger than it says: decoded or cut, within the bound on memory
  EXPECT_TRUE(lying.error.empty() || lying.code == Code::kBadInput);
  // Few bytes that last long meet the limit on seconds.
  AudioLimits limits;
  limits.max_seconds = 5;
  Heard h = HearBytes(FlacBomb(32768, 32768, 1, 100), limits);
  ExpectRefused(h, "lasts more than 5 s");
}

TEST(HostileAudio, FlacHeads) {
  const Blob good = Encode(kFlacFormat, Tone(440, 16000, 0.5), 16000, 1);
  ExpectRefused(HearBytes(good.substr(0, 20)), "FLAC head that is cut short");
  Blob b = good;
  b[18] = b[19] = 0;
  b[20] = static_cast<char>(b[20] & 0x0F);
  ExpectRefused(HearBytes(b), "0 samples a second");
  b = good;
  b[21] = static_cast<char>(b[21] | 0x0F);
  b[22] = b[23] = b[24] = b[25] = '\xff';  // 2^36 samples: 49 days
  ExpectRefused(HearBytes(b), "says that it lasts");
  Blob endless = good.substr(0, 42);
  endless[4] = 0;
  for (int i = 0; i < 2000; ++i) endless += std::string("\x01\0\0\0", 4);
  ExpectRefused(HearBytes(endless), "ends within its FLAC head");
}

// --- Ogg ---

TEST(HostileAudio, OggHeads) {
  ExpectRefused(HearBytes("OggS"), "Ogg");
  const Blob vorbis = Encode(kVorbisFormat, Tone(440, 16000, 0.5), 16000, 1);
  ASSERT_GT(vorbis.size(), 3000u);
  ExpectRefused(HearBytes(vorbis.substr(0, 205)), "Ogg");  // a 205-byte Ogg
  ExpectRefused(HearPipe(vorbis.substr(0, 205)), "Ogg");
  ExpectRefused(HearBytes(vorbis.substr(100)), "is not audio");
  // One page over and over: the head never ends.
  Blob page = std::string("OggS\0\0", 6) + Blob(20, '\0') + std::string("\x02\xff\xff", 3) + Blob(510, 'x');
  Blob endless = vorbis.substr(0, 58);
  page.replace(14, 4, vorbis.substr(14, 4));
  for (int i = 0; i < 5000; ++i) endless += page;
  ExpectRefused(HearBytes(endless), "head never ends");
  ExpectRefused(
      HearBytes(std::string("OggS\0\2", 6) + Blob(20, '\0') + std::string("\x01\x1ctheora..", 10) + Blob(30, ' ')),
      "neither Vorbis nor Opus");
}

// A Vorbis set-up packet whose first codebook has `entries` entries in a few bytes (ordered, all of one length).
Status CheckBook(uint32_t entries, uint32_t dim) {
  Blob bytes;
  int used = 0;
  const auto put = [&](uint64_t v, int n) {
    for (int i = 0; i < n; ++i, ++used) {
      if (used % 8 == 0) bytes.push_back(0);
      bytes.back() = static_cast<char>(bytes.back() | ((v >> i & 1) << (used % 8)));
    }
  };
  put(5, 8);
  for (char c : std::string("vorbis")) put(static_cast<uint8_t>(c), 8);
  put(0, 8);
  put(0x564342, 24);
  put(dim, 16);
  put(entries, 24);
  put(1, 1);
  put(22, 5);
  put(entries, std::bit_width(entries));
  for (int i = 0; i < 2000; ++i) put(0, 8);
  return CheckVorbisSetup("x", AsBytes(bytes).data(), static_cast<int64_t>(bytes.size()));
}

TEST(HostileAudio, VorbisCodebooksThatOverflowTheStackOfLibvorbis) {
  EXPECT_FALSE(CheckBook(1u << 22, 1).ok());
  EXPECT_FALSE(CheckBook(32768, 200).ok());
  EXPECT_FALSE(CheckBook(0, 1).ok());
}

TEST(HostileAudio, RealVorbisSetUpsPass) {
  for (int rate : {8000, 16000, 22050, 44100, 48000, 96000, 192000})
    for (int channels : {1, 2, 6, 8}) {
      const Blob b =
          Encode(kVorbisFormat, std::vector<float>(static_cast<size_t>(rate * channels), 0.1f), rate, channels);
      if (b.empty()) continue;
      const Heard h = HearBytes(b);
      EXPECT_NEAR(static_cast<double>(h.samples.size()), 16000, 3)
          << rate << " Hz, " << channels << " channels: " << h.error;
    }
}

TEST(HostileAudio, TooManyChannelsForACodec) {
  Blob opus = Encode(kOpusFormat, Tone(440, 48000, 0.5), 48000, 1);
  ASSERT_FALSE(opus.empty());
  opus[28 + 9] = '\xff';
  ExpectRefused(HearBytes(opus), "255 channels; 1 to 8");
}

TEST(HostileAudio, OggPagesThatNeverEndAPacket) {
  // A valid head, then 26 MB of valid pages of one packet without end: libogg would collect them all.
  const Blob b = Encode(kVorbisFormat, Tone(440, 16000, 0.5), 16000, 1);
  const size_t last = b.rfind("OggS");
  ASSERT_NE(last, std::string::npos);
  Blob page = b.substr(last, 27) + Blob(255, '\xff') + Blob(255 * 255, 'x');
  page[5] = 1;  // continued
  page[26] = '\xff';
  for (const bool valid : {true, false}) {
    Blob bomb = b.substr(0, last);
    uint32_t number = 0;
    std::memcpy(&number, b.data() + last + 18, 4);
    for (int i = 0; i < 400; ++i, ++number) {
      std::memcpy(page.data() + 18, &number, 4);
      std::memset(page.data() + 22, 0, 4);
      uint32_t crc = 0;
      for (size_t k = 0; valid && k < page.size(); ++k) {
        crc ^= static_cast<uint32_t>(static_cast<uint8_t>(page[k])) << 24;
        for (int bit = 0; bit < 8; ++bit) crc = crc << 1 ^ ((crc >> 31) ? 0x04c11db7u : 0u);
      }
      std::memcpy(page.data() + 22, &crc, 4);
      bomb += page;
    }
    std::vector<std::byte> memory(AudioStream::BufferBytes());
    std::vector<float> block(4000);
    const size_t before = HeapBytes();
    Result<AudioStream> stream = AudioStream::OpenMemory(AsBytes(bomb), "bomb", memory);
    size_t most = HeapBytes() - std::min(before, HeapBytes());
    for (int64_t got = 1; stream.ok() && got > 0;) {
      got = stream->Read(block).value();
      most = std::max(most, HeapBytes() - std::min(before, HeapBytes()));
    }
    EXPECT_LE(most, AudioStream::LibraryBytesBound());
    EXPECT_TRUE(!stream.ok() || stream->samples_read() <= 8100);
  }
}

// --- MP3 ---

TEST(HostileAudio, Mp3Heads) {
  ExpectRefused(HearBytes(std::string("ID3\x03\0\0\x7f\x7f\x7f\x7f", 10) + Blob(100, 'x')),
                "is not audio");  // a tag of 256 MiB
  ExpectRefused(HearBytes("\xff\xfb\x90\x64"), "mp3");
  ExpectRefused(HearBytes("\xff\xfb\x90\x64" + Blob(100000, 'x')), "damaged or cut short");
  const auto start = std::chrono::steady_clock::now();
  Blob syncs;
  for (int i = 0; i < 500000; ++i) syncs += "\xff\xfb\x00\x64";
  ExpectRefused(HearBytes(syncs), "is not audio");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace sotto
