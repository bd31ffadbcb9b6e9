#include "harness/hearing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

namespace sotto {
namespace {

TEST(HearingTest, AnAnswerNamesOneSound) {
  const std::vector<std::string> sounds = {"bell", "alarm", "alarm clock", "noise"};
  EXPECT_TRUE(NamesSound("I hear a bell.", "bell", sounds));
  EXPECT_TRUE(NamesSound("Bell", "bell", sounds));
  EXPECT_FALSE(NamesSound("I hear bells.", "bell", sounds));
  EXPECT_FALSE(NamesSound("A bell, or noise.", "bell", sounds));
  EXPECT_TRUE(NamesSound("An alarm clock!", "alarm clock", sounds));  // "alarm" is a part of the right name
  EXPECT_FALSE(NamesSound("An alarm clock!", "alarm", sounds));
  EXPECT_FALSE(NamesSound("", "bell", sounds));
}

TEST(HearingTest, ListsAreLinesOfAnAudioAndItsText) {
  const std::string path = testing::TempDir() + "hearing_cases.tsv";
  std::ofstream(path) << "# name\ttext\na.wav\tHello there.\r\n\n/b/c.flac\tA\tB\n";
  const auto cases = ReadHearingCases(path);
  ASSERT_TRUE(cases.ok()) << cases.error().message;
  ASSERT_EQ(cases->size(), 2U);
  EXPECT_EQ((*cases)[0].audio, testing::TempDir() + "a.wav");
  EXPECT_EQ((*cases)[0].text, "Hello there.");
  EXPECT_EQ((*cases)[1].audio, "/b/c.flac");
  EXPECT_EQ((*cases)[1].text, "A\tB");
  std::ofstream(path) << "a.wav Hello\n";
  EXPECT_THAT(ReadHearingCases(path).error().message, testing::HasSubstr("line 1"));
  std::ofstream(path) << "\n";
  EXPECT_EQ(ReadHearingCases(path).error().code, Code::kBadInput);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace sotto
