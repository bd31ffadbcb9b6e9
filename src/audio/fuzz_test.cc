// Small files of every format, mutated and cut from fixed seeds: whatever they are, the answer is samples or a
// sentence, soon, and without more memory than promised. SOTTO_FUZZ_ROUNDS makes it longer, SOTTO_FUZZ_SEED moves it
// elsewhere.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "audio/testing.h"

namespace sotto {
namespace {

using namespace testing;

uint64_t Setting(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct Seed {
  const char* name;
  Blob blob;
};

std::vector<Seed> Seeds() {
  std::vector<float> mono = Tone(440, 16000, 0.3), stereo;
  for (float v : Tone(300, 44100, 0.1)) stereo.insert(stereo.end(), {v, -v / 2});
  std::vector<Seed> seeds = {{"wav s16", Wav16(mono)},
                             {"wav f32", WavFloat(stereo, 44100, 2)},
                             {"wav adpcm", Encode(kAdpcmFormat, mono, 16000, 1)},
                             {"wav ms adpcm", Encode(SF_FORMAT_WAV | SF_FORMAT_MS_ADPCM, mono, 16000, 1)},
                             {"wav gsm", Encode(SF_FORMAT_WAV | SF_FORMAT_GSM610, mono, 16000, 1)},
                             {"rf64", Encode(SF_FORMAT_RF64 | SF_FORMAT_PCM_24, mono, 16000, 1)},
                             {"flac", Encode(kFlacFormat, mono, 16000, 1)},
                             {"flac 44k", Encode(kFlacFormat, stereo, 44100, 2)},
                             {"vorbis", Encode(kVorbisFormat, mono, 16000, 1)},
                             {"opus", Encode(kOpusFormat, mono, 16000, 1)},
                             {"mp3", Encode(kMp3Format, mono, 16000, 1)},
                             {"mp3 44k", Encode(kMp3Format, stereo, 44100, 2)},
                             {"aiff", Encode(kAiffFormat, mono, 16000, 1)},
                             {"au", Encode(kAuFormat, mono, 16000, 1)},
                             {"caf", Encode(kCafFormat, mono, 16000, 1)},
                             {"alac", Encode(SF_FORMAT_CAF | SF_FORMAT_ALAC_16, mono, 16000, 1)},
                             {"w64", Encode(kW64Format, mono, 16000, 1)}};
  std::erase_if(seeds, [](const Seed& s) { return s.blob.empty(); });
  return seeds;
}

Blob Mutate(Blob b, std::mt19937_64& random) {
  const auto below = [&](uint64_t n) { return static_cast<size_t>(random() % std::max<uint64_t>(1, n)); };
  for (size_t steps = 1 + below(4); steps > 0 && !b.empty(); --steps) {
    // Heads are where decisions are made: half of all changes fall into the first 128 bytes.
    const size_t at = below(below(2) ? std::min<size_t>(b.size(), 128) : b.size());
    switch (below(8)) {
      case 0: b.resize(at); break;
      case 1: b[at] = static_cast<char>(random()); break;
      case 2: b[at] = static_cast<char>(b[at] ^ (1 << below(8))); break;
      case 3: b[at] = below(2) ? '\xff' : '\0'; break;
      case 4:
        for (size_t i = at; i < std::min(b.size(), at + 4); ++i) b[i] = static_cast<char>(below(2) ? 0xFF : random());
        break;
      case 5: b.insert(at, Blob(1 + below(40), static_cast<char>(random()))); break;
      case 6: b.erase(at, 1 + below(40)); break;
      default: b.insert(at, b.substr(below(b.size()), 1 + below(300))); break;
    }
  }
  return b;
}

TEST(FuzzAudio, MutatedFilesGiveSamplesOrASentence) {
  const std::vector<Seed> seeds = Seeds();
  const uint64_t rounds = Setting("SOTTO_FUZZ_ROUNDS", 300), first = Setting("SOTTO_FUZZ_SEED", 1);
  std::vector<std::byte> memory(AudioStream::BufferBytes());
  std::vector<float> block(4000);
  size_t accepted = 0, refused = 0, most = 0;
  for (const Seed& seed : seeds) {
    for (uint64_t round = 0; round < rounds; ++round) {
      std::mt19937_64 random(first + round * 1000003 + seed.blob.size());
      const Blob blob = Mutate(seed.blob, random);
      SCOPED_TRACE(std::string(seed.name) + ", round " + std::to_string(round));
      const auto start = std::chrono::steady_clock::now();
      const size_t before = HeapBytes();
      int64_t samples = 0;
      {
        Result<AudioStream> stream = AudioStream::OpenMemory(AsBytes(blob), seed.name, memory, {.max_seconds = 600});
        if (!stream.ok()) {
          ++refused;
          EXPECT_EQ(stream.error().code, Code::kBadInput);
          EXPECT_GT(stream.error().message.size(), 20u);
          continue;
        }
        ++accepted;
        for (;;) {
          most = std::max(most, HeapBytes() - std::min(before, HeapBytes()));
          Result<int64_t> got = stream->Read(block);
          if (!got.ok()) {
            EXPECT_EQ(got.error().code, Code::kBadInput);
            break;
          }
          for (int64_t i = 0; i < *got; ++i) ASSERT_TRUE(std::isfinite(block[static_cast<size_t>(i)]));
          if (*got == 0) break;
          samples += *got;
        }
      }
      ASSERT_LE(samples, int64_t{601} * kSampleRate);
      ASSERT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
    }
  }
  EXPECT_GT(accepted, 0u);
  EXPECT_GT(refused, 0u);
  EXPECT_LE(most, AudioStream::LibraryBytesBound());
  RecordProperty("accepted", std::to_string(accepted));
  RecordProperty("refused", std::to_string(refused));
  RecordProperty("heap_bytes", std::to_string(most));
}

TEST(FuzzAudio, EveryCutOfAHeadIsRefusedOrUsed) {
  for (const Seed& seed : Seeds()) {
    SCOPED_TRACE(seed.name);
    std::vector<std::byte> memory(AudioStream::BufferBytes());
    for (size_t n = 0; n < std::min<size_t>(seed.blob.size(), 400); ++n) {
      const Heard h = Drain(AudioStream::OpenMemory(AsBytes(seed.blob).first(n), "cut", memory));
      EXPECT_TRUE(h.error.empty() || h.code == Code::kBadInput) << n << ": " << h.error;
    }
  }
}

TEST(AudioMemory, LibrariesStayWithinTheirBound) {
  std::vector<std::byte> memory(AudioStream::BufferBytes());
  std::vector<float> block(4000);
  size_t most = 0;
  for (int rate : {8000, 44100, 48000, 96000, 192000}) {
    for (int channels : {1, 2, 8}) {
      for (int format : {SF_FORMAT_WAV | SF_FORMAT_PCM_16, kFlacFormat, kVorbisFormat, kOpusFormat, kMp3Format}) {
        const Blob blob =
            Encode(format, std::vector<float>(static_cast<size_t>(rate * channels), 0.1f), rate, channels);
        if (blob.empty()) continue;
        const size_t before = HeapBytes();
        Result<AudioStream> stream = AudioStream::OpenMemory(AsBytes(blob), "x", memory);
        ASSERT_TRUE(stream.ok()) << stream.error().message;
        do most = std::max(most, HeapBytes() - before);
        while (stream->Read(block).value() > 0);
      }
    }
  }
  EXPECT_LT(most, 700 * kKiB);  // ordinary files are far below the bound, which is for forged FLAC frames
  static_assert(AudioStream::LibraryBytesBound() >= 700 * kKiB);
  RecordProperty("heap_bytes", std::to_string(most));
}

}  // namespace
}  // namespace sotto
