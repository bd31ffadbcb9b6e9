#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <vector>

#include "base/bytes.h"
#include "base/json.h"
#include "base/threads.h"

namespace sotto {
namespace {

TEST(Bytes, ParsesTheSizesThatPeopleWrite) {
  const Bytes available{1000};
  const std::pair<const char*, uint64_t> cases[] = {{"1048576", 1048576},
                                                    {"512MiB", 512 * kMiB},
                                                    {"2GiB", 2 * kGiB},
                                                    {"6GB", 6'000'000'000},
                                                    {"1.5 GiB", 3 * kGiB / 2},
                                                    {"80%", 800},
                                                    {"9007199254740993", 9007199254740993ULL},
                                                    {"64k", 64 * kKiB}};
  for (const auto& [text, bytes] : cases) EXPECT_EQ(ParseSize(text, available).value().n, bytes) << text;
  for (const char* bad :
       {"", "0", "-1", "1e9", "MiB", "12 apples", "101%", "nan", "inf", "99999999999999999999GiB", "0x10"})
    EXPECT_FALSE(ParseSize(bad, available).ok()) << bad;
}

TEST(Bytes, SaturatesInsteadOfWrapping) {
  EXPECT_EQ((Bytes{~0ULL} + Bytes{2}).n, ~0ULL);
  EXPECT_EQ((Bytes{1ULL << 40} * (1ULL << 40)).n, ~0ULL);
}

TEST(Json, RefusesDeepAndBrokenDocuments) {
  EXPECT_FALSE(ParseJson(std::string(1000, '[') + std::string(1000, ']'), "x", Code::kBadModel).ok());
  EXPECT_FALSE(ParseJson("{\"a\": ", "x", Code::kBadModel).ok());
  EXPECT_EQ(ParseJson("{\"a\": [1, 2]}", "x", Code::kBadModel).value()["a"][1], 2);
}

TEST(Threads, EveryIndexIsVisitedOnceInEveryLoop) {
  for (int count : {1, 2, 5}) {
    Threads threads(count);
    for (int64_t n : {1, 7, 64, 1000}) {
      for (int repeat = 0; repeat < 200; ++repeat) {
        std::vector<std::atomic<int>> seen(n);
        threads.For(n, 3, [&](int64_t begin, int64_t end, int thread) {
          EXPECT_LT(thread, count);
          EXPECT_TRUE(begin % 3 == 0);
          for (int64_t i = begin; i < end; ++i) seen[i].fetch_add(1);
        });
        for (auto& s : seen) ASSERT_EQ(s.load(), 1);
      }
    }
  }
}

}  // namespace
}  // namespace sotto
