#include "text/pretokenize.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace sotto {
namespace {

using Words = std::vector<std::string>;

Words Cut(Splitting splitting, std::string_view text) {
  Words words;
  for (size_t at = 0; at < text.size(); at += words.back().size())
    words.emplace_back(text.substr(at, WordLength(splitting, text, at)));
  return words;
}

TEST(Pretokenize, Gpt2) {
  const auto cut = [](std::string_view text) { return Cut(Splitting::kGpt2, text); };
  EXPECT_EQ(cut("I'll say it's 12 o'clock!!"),
            (Words{"I", "'ll", " say", " it", "'s", " 12", " o", "'", "clock", "!!"}));
  EXPECT_EQ(cut("  a\n\n b  "), (Words{" ", " a", "\n\n", " b", "  "}));
  EXPECT_EQ(cut("'sing 'S 'l '"), (Words{"'s", "ing", " '", "S", " '", "l", " '"}));
  EXPECT_EQ(cut("a\xC2\xA0\xC2\xA0z"), (Words{"a", "\xC2\xA0", "\xC2\xA0", "z"}));  // no-break spaces
  EXPECT_EQ(cut("x\xE1\xA0\x8Ey"), (Words{"x", "\xE1\xA0\x8E", "y"}));              // U+180E is not white space
  EXPECT_EQ(cut("\xC2\xBD\xD9\xA3 \xE2\x85\xA7"), (Words{"\xC2\xBD\xD9\xA3", " \xE2\x85\xA7"}));  // numbers: ½٣ Ⅷ
  EXPECT_EQ(cut("e\xCC\x81t"), (Words{"e", "\xCC\x81", "t"}));  // a combining mark is no letter
}

TEST(Pretokenize, Llama3AndQwen2) {
  EXPECT_EQ(Cut(Splitting::kLlama3, "It'S 12345 (yes)\r\n\n  no  \n x"),
            (Words{"It", "'S", " ", "123", "45", " (", "yes", ")\r\n\n", " ", " no", "  \n", " x"}));
  EXPECT_EQ(Cut(Splitting::kQwen2, "a123"), (Words{"a", "1", "2", "3"}));
}

TEST(Pretokenize, OnlyKnownExpressions) {
  EXPECT_EQ(SplittingOf(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"),
            Splitting::kGpt2);
  EXPECT_EQ(SplittingOf("(a+)+$"), std::nullopt);
}

TEST(ByteAlphabet, IsABijection) {
  std::set<int> bytes;
  for (uint32_t c = 0; c < 0x400; ++c)
    if (const int byte = ByteOf(c); byte >= 0) {
      EXPECT_TRUE(bytes.insert(byte).second) << c;
    }
  EXPECT_EQ(bytes.size(), 256u);
  EXPECT_EQ(ByteOf(0x120), ' ');
  EXPECT_EQ(ByteOf(0x10A), '\n');
  EXPECT_EQ(FromAlphabet("a b", nullptr), std::nullopt);
}

TEST(Utf8, BrokenSequencesBecomeReplacementsAsInPython) {
  // python3: bytes.decode("utf-8", "replace")
  const std::pair<std::string, std::string> cases[] = {{"a\xFFz", "a?z"},
                                                       {"\xE2\x82", "?"},
                                                       {"\xE2\x82z", "?z"},
                                                       {"\xF0\x9F\x98z", "?z"},
                                                       {"\xC0\xAF", "??"},
                                                       {"\xE0\x80\xAF", "???"},
                                                       {"\xED\xA0\x80", "???"},
                                                       {"\xF4\x90\x80\x80", "????"},
                                                       {"\xF0\x80\x80\x80", "????"},
                                                       {"\x80\xBF", "??"},
                                                       {"\xE2\xE2\x82\xAC", "?\xE2\x82\xAC"},
                                                       {"\xF5\x80", "??"},
                                                       {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
                                                       {"\xE1\x80\xC3\xA9", "?\xC3\xA9"}};
  for (const auto& [bytes, shown] : cases) {
    std::string got, expected;
    Utf8Repair repair;
    repair.Add(bytes, &got);
    repair.Finish(&got);
    for (char c : shown) c == '?' ? expected.append("\xEF\xBF\xBD") : expected.append(1, c);
    EXPECT_EQ(got, expected);
    EXPECT_EQ(IsUtf8(bytes), got == bytes);
    EXPECT_TRUE(IsUtf8(got));
  }
}

}  // namespace
}  // namespace sotto
