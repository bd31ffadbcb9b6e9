#include "harness/word_errors.h"

#include <gtest/gtest.h>

namespace sotto {
namespace {

WordErrors Count(std::string_view said, std::string_view heard) { return CountWordErrors(said, heard).value(); }

TEST(WordErrorsTest, TextIsComparedAsWordsOfLettersAndDigits) {
  EXPECT_EQ(Normalized("  It's $4.50, Dr.  Who?\n"), "it's 4 50 dr who");
  EXPECT_EQ(Normalized("Grüße, ÉCOLE"), "grüße École");  // other scripts' letters are kept as they are
  EXPECT_EQ(Normalized(" .,;"), "");
}

TEST(WordErrorsTest, TheLeastErrorsAreCounted) {
  const auto of = [](std::string_view said, std::string_view heard) {
    const WordErrors e = Count(said, heard);
    return std::array<int64_t, 4>{e.words, e.substituted, e.deleted, e.inserted};
  };
  using A = std::array<int64_t, 4>;
  EXPECT_EQ(of("a b c d", "a b c d"), (A{4, 0, 0, 0}));
  EXPECT_EQ(of("a b c d", "a x c d"), (A{4, 1, 0, 0}));
  EXPECT_EQ(of("a b c d", "a c d"), (A{4, 0, 1, 0}));
  EXPECT_EQ(of("a b c d", "a b b c d"), (A{4, 0, 0, 1}));
  EXPECT_EQ(of("a b c d", ""), (A{4, 0, 4, 0}));
  EXPECT_EQ(of("", "a b"), (A{0, 0, 0, 2}));
  EXPECT_EQ(of("the cat sat on the mat", "cat sat in the big mat"), (A{6, 1, 1, 1}));
  EXPECT_DOUBLE_EQ(Count("the cat sat on the mat", "cat sat in the big mat").rate(), 0.5);
  EXPECT_EQ(Count("", "").rate(), 0);
  EXPECT_EQ(Count("", "a").rate(), 1);
}

TEST(WordErrorsTest, TextsAddUp) {
  WordErrors sum = Count("a b", "a");
  sum += Count("c d", "c d e");
  EXPECT_DOUBLE_EQ(sum.rate(), 0.5);
}

}  // namespace
}  // namespace sotto
