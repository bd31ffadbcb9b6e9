#include "audio/window.h"

#include <gtest/gtest.h>

#include <random>

#include "audio/testing.h"

namespace sotto {
namespace {

using namespace testing;

// Sample i of an endless pattern that never repeats within a test.
float Pattern(int64_t i) {
  const uint64_t h = static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15ULL;
  return static_cast<float>(static_cast<int32_t>(h >> 40) - (1 << 23)) / static_cast<float>(1 << 23);
}

class PatternStream : public SampleStream {
 public:
  explicit PatternStream(int64_t length, int64_t fail_at = -1) : length_(length), fail_at_(fail_at) {}
  Result<int64_t> Read(std::span<float> out) override {
    if (fail_at_ >= 0 && at_ + static_cast<int64_t>(out.size()) > fail_at_) return BadInput("a bad sample");
    const int64_t n = std::min<int64_t>(static_cast<int64_t>(out.size()), length_ - at_);
    for (int64_t i = 0; i < n; ++i) out[static_cast<size_t>(i)] = Pattern(at_ + i);
    at_ += n;
    return n;
  }

 private:
  int64_t length_, fail_at_, at_ = 0;
};

TEST(SlidingWindow, RandomStartsGiveSlicesBitForBit) {
  std::mt19937_64 random(1);
  for (int64_t length : {0, 1, 999, 1000, 1001, 5096, 5097, 50000, 123457}) {
    for (int64_t n : {1, 160, 1000}) {
      for (int trial = 0; trial < 5; ++trial) {
        const int64_t context = trial % 3 * 100;
        PatternStream stream(length);
        std::vector<float> memory(SlidingWindow::MemorySamples(n, context));
        SlidingWindow window(stream, memory, n, context);
        for (int64_t start = 0; start < length + 3000;) {
          const std::span<const float> got = window.At(start).value();
          ASSERT_EQ(static_cast<int64_t>(got.size()), std::clamp<int64_t>(length - start, 0, n));
          for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], Pattern(start + static_cast<int64_t>(i)));
          const bool some = !got.empty();
          ASSERT_TRUE(!some || window.before() == std::min(start, context)) << start;
          ASSERT_TRUE(!some || window.after() == std::clamp<int64_t>(length - start - n, 0, context)) << start;
          for (int64_t i = -window.before(); some && i < 0; ++i) ASSERT_EQ(got.data()[i], Pattern(start + i));
          for (int64_t i = n; some && i < n + window.after(); ++i) ASSERT_EQ(got.data()[i], Pattern(start + i));
          ASSERT_EQ(window.end_of_audio(), start + n >= length) << length << " " << start;
          if (window.end_of_audio()) {
            ASSERT_EQ(window.total_samples(), length);
          }
          ASSERT_EQ(window.position(), start);
          start += static_cast<int64_t>(random() % (trial % 2 ? 200 : 20000));
        }
      }
    }
  }
}

TEST(SlidingWindow, ErrorsOfTheStreamComeThrough) {
  PatternStream stream(100000, 50000);
  std::vector<float> memory(SlidingWindow::MemorySamples(16000));
  SlidingWindow window(stream, memory, 16000);
  EXPECT_TRUE(window.At(0).ok());
  EXPECT_EQ(window.At(40000).error().message, "a bad sample");
}

TEST(SlidingWindow, TenHoursInConstantMemory) {
  // 576,000,000 samples, generated; then as 24-bit 48 kHz WAV of two channels from a pipe, one hour (1 GB).
  const int64_t length = int64_t{36000} * kSampleRate, n = 480000;
  std::vector<float> memory(SlidingWindow::MemorySamples(n));
  PatternStream stream(length);
  SlidingWindow window(stream, memory, n);
  (void)window.At(0).value();
  const size_t before = HeapBytes();
  int64_t start = 0, heard = 0;
  for (;;) {
    const std::span<const float> got = window.At(start).value();
    heard += static_cast<int64_t>(got.size());
    ASSERT_EQ(got.front(), Pattern(start));
    ASSERT_EQ(got.back(), Pattern(start + static_cast<int64_t>(got.size()) - 1));
    ASSERT_EQ(HeapBytes(), before);
    if (window.end_of_audio()) break;
    start += n;
  }
  EXPECT_EQ(heard, length);
  EXPECT_EQ(window.total_samples(), length);
}

TEST(SlidingWindow, OneHourFromAPipeInConstantMemory) {
  const int64_t frames = int64_t{3600} * 22050;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::thread writer([&] {
    WavHead h = MakeHead(1, 1, 16, 22050, 0xFFFFFFFF);
    Blob block = WavBytes(h, "");
    for (int64_t at = 0; at < frames;) {
      for (int64_t i = 0; i < 22050; ++i, ++at) Append(&block, static_cast<int16_t>(at * at % 20011 - 10000));
      for (size_t put = 0; put < block.size();) {
        const ssize_t n = ::write(ends[1], block.data() + put, block.size() - put);
        if (n <= 0) return;
        put += static_cast<size_t>(n);
      }
      block.clear();
    }
    ::close(ends[1]);
  });
  std::vector<std::byte> buffers(AudioStream::BufferBytes());
  std::vector<float> memory(SlidingWindow::MemorySamples(480000));
  Result<AudioStream> stream = AudioStream::Open("/proc/self/fd/" + std::to_string(ends[0]), buffers);
  ASSERT_TRUE(stream.ok()) << stream.error().message;
  ::close(ends[0]);
  SlidingWindow window(*stream, memory, 480000);
  (void)window.At(0).value();
  const size_t before = HeapBytes();
  size_t most = before;
  for (int64_t start = 0; !window.end_of_audio(); start += 400000) {
    (void)window.At(start).value();
    most = std::max(most, HeapBytes());
  }
  writer.join();
  EXPECT_LE(most, before + 8192);  // the writer's block comes and goes in the same heap; soxr grows by nothing
  EXPECT_NEAR(static_cast<double>(window.total_samples()), 3600.0 * kSampleRate, 2);
}

TEST(Silence, IsBelowItsBoundEverywhere) {
  EXPECT_TRUE(IsSilent({}));
  std::vector<float> x(16000, 0.f);
  EXPECT_TRUE(IsSilent(x));
  x = Tone(440, 16000, 1.0, std::pow(10.0, -73 / 20.0) * std::sqrt(2.0));
  EXPECT_TRUE(IsSilent(x));
  x = Tone(440, 16000, 1.0, std::pow(10.0, -67 / 20.0) * std::sqrt(2.0));
  EXPECT_FALSE(IsSilent(x));
  x.assign(16000, 0.f);
  for (int i = 9000; i < 9100; ++i) x[static_cast<size_t>(i)] = 0.01f;  // a click
  EXPECT_FALSE(IsSilent(x));
}

TEST(QuietestCut, FindsThePause) {
  std::vector<float> x = Tone(440, 16000, 10.0);
  for (int64_t i = 100000; i < 104000; ++i) x[static_cast<size_t>(i)] *= 0.01f;
  EXPECT_NEAR(static_cast<double>(QuietestCut(x, 80000, 160000)), 102000, 1300);
  EXPECT_GE(QuietestCut(x, 110000, 160000), 110000);
  EXPECT_EQ(QuietestCut(x, 80000, 80100), 80100);
  EXPECT_EQ(QuietestCut(x, 1 << 30, int64_t{1} << 40), 160000);
  EXPECT_EQ(QuietestCut({}, 0, 10), 0);
}

}  // namespace
}  // namespace sotto
