// Packed caches under a real model: what they keep of its answers, and that they keep to their bytes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "divergence.h"
#include "kv/packed.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

using ::testing::HasSubstr;

const std::string kLm = SOTTO_SOURCE_DIR "/models/demo-lm";

std::unique_ptr<Engine> OpenLm(const std::string& kv, int64_t context = 1024) {
  PlanRequest request = SmallRequest("fp16", kv);
  request.context = context;
  return OpenEngine(kLm, request);
}

std::vector<int32_t> Ids(Engine& engine, size_t count) {
  const File file = Must(File::Open(SOTTO_SOURCE_DIR "/docs/memory.md", Code::kBadInput));
  std::string text(std::min<uint64_t>(file.size(), 8 * count), ' ');
  EXPECT_TRUE(file.ReadAt(0, std::as_writable_bytes(std::span(text))).ok());
  std::vector<int32_t> ids;
  EXPECT_TRUE(engine.tokenizer().Encode(text, {.add_special = true}, &ids).ok());
  EXPECT_GE(ids.size(), count);
  ids.resize(std::min(ids.size(), count));
  return ids;
}

uint64_t CacheBytes(const Engine& engine) {
  uint64_t bytes = 0;
  for (const Slot& s : engine.layout().anatomy->slots())
    if (s.role == Role::kKv) bytes += s.Elements() * SizeOf(s.dtype);
  return bytes;
}

class PackedKvTest : public testing::Test {
 protected:
  std::unique_ptr<Engine> plain_ = OpenLm("fp16");
  std::vector<int32_t> ids_ = Ids(*plain_, 900);
  std::vector<std::vector<float>> clean_ = LogitRows(*plain_, ids_, 128);
  const uint64_t dense_ = CacheBytes(*plain_);

  double Kl(Engine& engine, size_t piece = 128) { return Divergence(clean_, LogitRows(engine, ids_, piece)); }
};

TEST_F(PackedKvTest, FewerBitsDoMoreHarmAndKeepToTheirBytes) {
  double last = 0;
  for (const auto& [kv, share] : {std::pair{"q8", 0.54}, {"q4", 0.29}, {"q3", 0.23}, {"q2", 0.17}}) {
    const auto engine = OpenLm(kv);
    const double kl = Kl(*engine);
    std::printf("%s: KL %.5f, %.3f of fp16's bytes\n", kv, kl,
                static_cast<double>(CacheBytes(*engine)) / static_cast<double>(dense_));
    EXPECT_GT(kl, last) << kv;
    EXPECT_LE(static_cast<double>(CacheBytes(*engine)), share * static_cast<double>(dense_)) << kv;
    last = kl;
  }
  EXPECT_LT(Kl(*OpenLm("q8")), 2e-3);
}

TEST_F(PackedKvTest, MoreBytesAreMoreFaithful) {
  double last = INFINITY;
  for (const double share : {0.22, 0.25, 0.3, 0.4}) {
    const auto engine = OpenLm(fmt::format("smart:budget={}", share));
    const double kl = Kl(*engine);
    std::printf("smart:budget=%.2f: KL %.5f, %.3f of fp16's bytes\n", share, kl,
                static_cast<double>(CacheBytes(*engine)) / static_cast<double>(dense_));
    EXPECT_LT(kl, last);
    EXPECT_LE(static_cast<double>(CacheBytes(*engine)), share * static_cast<double>(dense_));
    last = kl;
  }
}

TEST_F(PackedKvTest, PiecesAndSingleTokensGiveNearlyTheSame) {
  const auto engine = OpenLm("q8");
  const auto rows = LogitRows(*engine, ids_, 128);
  EXPECT_LT(Divergence(rows, LogitRows(*engine, ids_, 7)), 2e-3);
  EXPECT_LT(Divergence(rows, LogitRows(*engine, ids_, 1)), 2e-3);
}

// Lengths, budgets, rules and returns to earlier positions at random: a cache that took a page too many would end the process, a token lost
// would change what is read again.
TEST_F(PackedKvTest, AnyOrderOfReadingAndForgettingKeepsToThePages) {
  std::mt19937_64 random(3);
  for (const char* kv : {"smart:budget=0.26,recent=16", "smart:budget=0.34,rule=recency,bits=2/4/8",
                         "smart:budget=0.4,rule=history,bits=3/8", "smart:budget=0.4,rule=uniform,bits=3/4", "q3"}) {
    const auto engine = OpenLm(kv, 512);
    TextSession session(*engine);
    for (int step = 0; step < 60; ++step) {
      if (random() % 4 == 0) session.Rewind(static_cast<int64_t>(random()) & session.length() / 2);
      const size_t n =
          std::min<size_t>(static_cast<size_t>(session.room()), random() % 3 == 0 ? random() % 200 : 1 + random() % 5);
      if (n == 0) {
        session.Rewind(0);
        continue;
      }
      const size_t from = random() % (ids_.size() - n);
      ASSERT_TRUE(session.Read(std::span(ids_).subspan(from, n), kGoOn).ok());
      for (const float x : session.logits()) ASSERT_TRUE(std::isfinite(x));
    }
  }
}

TEST_F(PackedKvTest, ReadingTheSameTwiceGivesTheSame) {
  const auto engine = OpenLm("smart:budget=0.25");
  const auto first = LogitRows(*engine, ids_, 128);
  EXPECT_EQ(first, LogitRows(*engine, ids_, 128));
}

TEST(PackedKv, SizesKeepToTheBudget) {
  std::mt19937_64 random(5);
  for (int trial = 0; trial < 2000; ++trial) {
    const auto of = [&](int64_t from, int64_t to) {
      return from + static_cast<int64_t>(random() % static_cast<uint64_t>(to - from + 1));
    };
    PackedKvOptions o;
    const std::vector<int64_t> sets[] = {{2, 3, 4, 8}, {2, 4, 8}, {3, 8}, {4, 8}, {2, 3}};
    o.widths = *KvWidths::Of(sets[random() % 5]);
    o.sinks = of(0, 8);
    o.recent = of(0, 128);
    o.rule = KvRule{static_cast<int>(random() % 4)};
    o.budget_share = 0.1 + static_cast<double>(random() % 1000) / 1200;
    const KvShape shape{of(1, 16), 8 * of(1, 32), of(1, 20000)};
    const PackedKvSizes s = SizePackedKv(shape, of(1, 8), 1, o);
    const auto budget = static_cast<uint64_t>(o.budget_share * static_cast<double>(s.DenseBytes()));
    PackedKvSizes more = s;
    ++more.pages;
    if (s.pages > s.LeastPages(o)) {
      EXPECT_LE(s.Bytes(o), budget);
    }
    if (s.Bytes(o) <= budget && s.pages < s.layers * KvGroupPages(o.widths.most(), shape.capacity)) {
      EXPECT_GT(more.Bytes(o), budget);
    }
  }
}

TEST(PackedKv, ThreeBitsAreAFifth) {
  // 3 bits on average against fp16, scales, pages that are not full, positions and all else counted: the issue asks for 4.8 and 5.0.
  for (const auto& [dim, heads] : {std::pair<int64_t, int64_t>{64, 8}, {128, 8}}) {
    PackedKvOptions o;
    o.rule = KvRule::kUniform;
    const int64_t three[] = {3};
    o.widths = *KvWidths::Of(three);
    o.budget_share = 0;
    const PackedKvSizes s = SizePackedKv({heads, dim, 8192}, 1, 1, o);
    const double ratio = 4.0 * static_cast<double>(heads * dim * 8192) / static_cast<double>(s.Bytes(o));
    std::printf("head_dim %d: %.2f times smaller than fp16\n", static_cast<int>(dim), ratio);
    EXPECT_GE(ratio, dim == 64 ? 4.8 : 5.0);
  }
}

TEST(PackedKv, RefusesInOneSentence) {
  const auto error = [](const std::string& kv, const std::string& model = kLm) {
    const Ran o = RunSotto({"plan", model, "--kv", kv, "--memory", "1GiB"});
    EXPECT_NE(o.code, 0) << kv;
    return o.err;
  };
  EXPECT_THAT(error("q5"), HasSubstr("choose fp32, fp16, bf16, q8"));
  EXPECT_THAT(error("smart:budget=2"), HasSubstr("a share of fp16's bytes"));
  EXPECT_THAT(error("smart:bits=5"), HasSubstr("some of 2, 3, 4 and 8"));
  EXPECT_THAT(error("smart:rule=best"), HasSubstr("uniform, recency, history and smart"));
  EXPECT_THAT(error("smart:tokens=5"), HasSubstr("keys are budget, bits, sinks, recent and rule"));
  EXPECT_THAT(error("smart:recent=-1"), HasSubstr("0 to 4096"));
  EXPECT_THAT(error("q4", SOTTO_SOURCE_DIR "/models/demo-asr"), HasSubstr("language models"));
  const Ran small = RunSotto({"plan", kLm, "--kv", "smart:budget=0.1", "--memory", "1GiB"});
  EXPECT_EQ(small.code, 5);
  EXPECT_THAT(small.err, HasSubstr("pass budget="));
}

}  // namespace
}  // namespace sotto
