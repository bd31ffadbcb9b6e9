#include "base/json_stream.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

namespace sotto {
namespace {

// Writes every event as a word, so that a whole parse is one string to compare.
struct Trace : SaxHandler {
  std::string seen;
  std::string stop_at = "-";
  Status Add(std::string_view word) {
    seen.append(word).append(" ");
    if (word == stop_at) return BadModel("stopped");
    return {};
  }
  Status StartObject() override { return Add("{"); }
  Status EndObject() override { return Add("}"); }
  Status StartArray() override { return Add("["); }
  Status EndArray() override { return Add("]"); }
  Status Key(std::string_view k) override { return Add(std::string(k) + ":"); }
  Status String(std::string_view s) override { return Add(s); }
  Status Unsigned(uint64_t n) override { return Add("u" + std::to_string(n)); }
  Status Negative(int64_t n) override { return Add("i" + std::to_string(n)); }
  Status Float(double) override { return Add("f"); }
  Status Bool(bool b) override { return Add(b ? "true" : "false"); }
  Status Null() override { return Add("null"); }
};

class JsonStream : public ::testing::Test {
 protected:
  std::string path_ = ::testing::TempDir() + "sotto_json_stream_" + std::to_string(::getpid());
  ~JsonStream() override { std::remove(path_.c_str()); }

  File Write(std::string_view text) {
    std::FILE* f = std::fopen(path_.c_str(), "wb");
    std::fwrite(text.data(), 1, text.size(), f);
    std::fclose(f);
    return File::Open(path_, Code::kBadModel).value();
  }
  Status Parse(std::string_view text, SaxHandler& handler, const SaxLimits& limits = {}) {
    const File file = Write(text);
    return SaxParse(file, 0, file.size(), handler, Code::kBadModel, limits);
  }
};

TEST_F(JsonStream, GivesEveryEventInOrder) {
  Trace t;
  ASSERT_TRUE(Parse(R"({"a": [1, -2, 2.5, "x\u00e9", true, false, null], "b": {}} )", t).ok());
  EXPECT_EQ(t.seen, "{ a: [ u1 i-2 f x\xC3\xA9 true false null ] b: { } } ");
}

TEST_F(JsonStream, ReadsARangeOfAFileOfManyBuffers) {
  std::string text = "????????[0";
  for (int i = 1; i < 20000; ++i) text += "," + std::to_string(i);
  text += "]";
  const uint64_t end = text.size();
  const File file = Write(text + "tensor data");
  Trace t;
  ASSERT_TRUE(SaxParse(file, 8, end, t, Code::kBadModel).ok());
  EXPECT_NE(t.seen.find("u19999 ] "), std::string::npos);
  EXPECT_FALSE(SaxParse(file, 8, end - 1, t, Code::kBadModel).ok());
  EXPECT_FALSE(SaxParse(file, 8, end + 1, t, Code::kBadModel).ok());
  EXPECT_FALSE(SaxParse(file, 9, 8, t, Code::kBadModel).ok());
  EXPECT_FALSE(SaxParse(file, 8, file.size() + 1, t, Code::kBadModel).ok());
}

TEST_F(JsonStream, TheHandlersErrorStopsAndIsReturned) {
  Trace t;
  t.stop_at = "u2";
  EXPECT_EQ(Parse("[1, 2, 3, broken", t).error().message, "stopped");
  EXPECT_EQ(t.seen, "[ u1 u2 ");
}

TEST_F(JsonStream, RefusesWhatIsNotJson) {
  const std::string bad[] = {"",
                             " ",
                             "{",
                             "[1",
                             "[1,]",
                             "{\"a\"}",
                             "nul",
                             "[1] 2",
                             "\"\xFF\"",
                             "\"\xED\xA0\x80\"",
                             "\"\\ud800\"",
                             "[1e999]",
                             std::string("[1]\0 ", 5),
                             std::string("\"a\0\"", 4),
                             "\xEF\xBB",
                             "'a'"};
  for (const std::string& text : bad) {
    Trace t;
    const Status status = Parse(text, t);
    ASSERT_FALSE(status.ok()) << text;
    EXPECT_EQ(status.error().code, Code::kBadModel);
  }
}

TEST_F(JsonStream, TakesNumbersOfEverySize) {
  Trace t;
  ASSERT_TRUE(
      Parse("[0, -0, 4294967296, 18446744073709551615, -9223372036854775808, 18446744073709551616, 1e3]", t).ok());
  EXPECT_EQ(t.seen, "[ u0 u0 u4294967296 u18446744073709551615 i-9223372036854775808 f f ] ");
}

TEST_F(JsonStream, AByteOrderMarkIsSkipped) {
  Trace t;
  ASSERT_TRUE(Parse("\xEF\xBB\xBF[1]", t).ok());
  EXPECT_EQ(t.seen, "[ u1 ] ");
}

TEST_F(JsonStream, WhiteSpaceAndLongStringsAreNotCollected) {
  Trace t;
  const auto heap = [] { return ::mallinfo2().uordblks + ::mallinfo2().hblkhd; };
  struct Peak : SaxHandler {
    size_t most = 0;
    decltype(heap)* now;
    Status Bool(bool) override { return most = std::max(most, (*now)()), Status(); }
  } peak;
  auto now = heap;
  peak.now = &now;
  const File file = Write("[true" + std::string(4 << 20, ' ') + ",true,\"" + std::string(4 << 20, 'a'));
  const size_t before = heap();
  EXPECT_FALSE(SaxParse(file, 0, file.size(), peak, Code::kBadModel).ok());
  EXPECT_LT(peak.most, before + 64 * kKiB);
}

TEST_F(JsonStream, BoundsAreKeptBeforeTheBytesAreTaken) {
  Trace t;
  EXPECT_FALSE(Parse(std::string(65, '[') + std::string(65, ']'), t).ok());
  EXPECT_TRUE(Parse(std::string(64, '[') + std::string(64, ']'), t).ok());
  EXPECT_FALSE(Parse("\"" + std::string(9000, 'a') + "\"", t).ok());
  EXPECT_FALSE(Parse("{\"" + std::string(9000, 'a') + "\": 1}", t).ok());
  EXPECT_FALSE(Parse("[" + std::string(9000, '1') + "]", t).ok());
  EXPECT_TRUE(Parse("\"" + std::string(8000, 'a') + "\"", t).ok());
  EXPECT_FALSE(Parse("\"" + std::string(1 << 20, 'a'), t).ok());
  EXPECT_TRUE(Parse(std::string(9000, ' ') + "1", t).ok());
  EXPECT_FALSE(Parse("[1, 2, 3]", t, {.bytes = 8}).ok());
}

}  // namespace
}  // namespace sotto
