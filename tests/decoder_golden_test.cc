// Language models against transformers in fp32 on the small random checkpoints of tests/golden/decoders (make_decoders.py): plain,
// linear, llama3 and yarn rotary positions, grouped heads, biases, norms of queries and keys, sliding windows, F32, BF16, F16.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "running.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/decoders/";

std::unique_ptr<Engine> Open(const std::string& name, const std::string& weights, const std::string& kv,
                             int64_t batch = 1) {
  PlanRequest request = SmallRequest(weights, kv);
  request.batch = batch;
  request.tokenizer = false;
  return OpenEngine(kGolden + name + "/model", request);
}

class DecoderGolden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    expected_ = Must(ReadJson(kGolden + GetParam() + "/expected.json", Code::kBadInput));
    ids_ = expected_["ids"].get<std::vector<int32_t>>();
    stored_ = Must(PlanModel(Must(FindModel(kGolden + GetParam() + "/model", ModelUse::kRun)), {})).stored.Name();
  }
  // The logits of all prompt positions, read in pieces of `piece` tokens.
  std::vector<std::vector<float>> Rows(Engine& engine, size_t piece) { return LogitRows(engine, ids_, piece); }

  void ExpectNear(std::span<const float> got, std::span<const float> want) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5F * expected_["largest"].get<float>());
  }

  Json expected_;
  std::vector<int32_t> ids_;
  std::string stored_;
};

TEST_P(DecoderGolden, LogitsAndGreedyIdsAreThoseOfTheReference) {
  const auto engine = Open(GetParam(), stored_, "fp32");
  const auto rows = Rows(*engine, ids_.size());
  ASSERT_EQ(rows.size(), ids_.size());
  const float worst = LargestError(expected_, rows);
  EXPECT_LE(worst, 1e-5F);
  std::printf("%s: largest error %.2e of the largest logit\n", GetParam().c_str(), static_cast<double>(worst));
  const auto want = expected_["greedy"].get<std::vector<int32_t>>();
  TextSession session(*engine);
  ASSERT_TRUE(session.Read(ids_, kGoOn).ok());
  EXPECT_EQ(GreedyIds(session, want.size()), want);
}

TEST_P(DecoderGolden, PiecesOfAPromptChangeNothing) {
  const auto engine = Open(GetParam(), stored_, "fp32");
  const auto whole = Rows(*engine, ids_.size());
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{64}}) {
    const auto rows = Rows(*engine, piece);
    ASSERT_EQ(rows.size(), whole.size());
    for (size_t i = 0; i < rows.size(); ++i)
      if (piece == 1)
        ExpectNear(rows[i], whole[i]);  // a step adds in another order
      else
        ASSERT_EQ(rows[i], whole[i]) << "position " << i << ", pieces of " << piece;
  }
}

TEST_P(DecoderGolden, SequencesSideBySideDoNotMix) {
  const auto engine = Open(GetParam(), stored_, "fp32", 3);
  TextSession one(*engine, 0), two(*engine, 1), three(*engine, 2);
  const std::span<const int32_t> ids = ids_;
  ASSERT_TRUE(one.Read(ids.first(40), kGoOn).ok());
  ASSERT_TRUE(two.Read(ids.subspan(50, 30), kGoOn).ok());
  ASSERT_TRUE(three.Read(ids.first(90), kGoOn).ok());
  ASSERT_TRUE(one.Read(ids.subspan(40, 1), kGoOn).ok());
  const std::vector<float> mixed(one.logits().begin(), one.logits().end());
  ExpectNear(mixed, Rows(*engine, ids_.size())[40]);
}

TEST_P(DecoderGolden, LowerPrecisionsStayNear) {
  const auto exact = Open(GetParam(), stored_, "fp32");
  const auto want = Rows(*exact, ids_.size());
  for (const auto& [weights, kv, least] : {std::tuple{"fp32", "fp16", 0.9999}, {"int8", "fp16", 0.99}}) {
    const auto engine = Open(GetParam(), weights, kv);
    const auto got = Rows(*engine, ids_.size());
    double mean = 0;  // of the cosines: one of a hundred random rows may be far off at a width of 48
    for (size_t i = 0; i < want.size(); ++i) {
      double dot = 0, a = 0, b = 0;
      for (size_t j = 0; j < want[i].size(); ++j) {
        dot += double{want[i][j]} * got[i][j];
        a += double{want[i][j]} * want[i][j];
        b += double{got[i][j]} * got[i][j];
      }
      mean += dot / std::sqrt(a * b) / static_cast<double>(want.size());
    }
    EXPECT_GE(mean, least) << weights;
  }
}

TEST_P(DecoderGolden, AContextThatIsFullRefuses) {
  const auto engine = Open(GetParam(), stored_, "fp32");
  TextSession session(*engine);
  const std::vector<int32_t> many(static_cast<size_t>(session.room()) + 1, 5);
  EXPECT_EQ(session.Read(many, kGoOn).error().code, Code::kUsage);
  EXPECT_EQ(session.length(), 0);
  ASSERT_TRUE(session.Read(std::span(many).first(many.size() - 1), kGoOn).ok());
  EXPECT_EQ(session.room(), 0);
  EXPECT_EQ(session.Read({many.data(), 1}, kGoOn).error().code, Code::kUsage);
}

TEST_P(DecoderGolden, GoesBackToWhatItStillHolds) {
  const auto engine = Open(GetParam(), stored_, "fp32");
  const auto whole = Rows(*engine, ids_.size());
  TextSession session(*engine);
  ASSERT_TRUE(session.Read(ids_, kGoOn).ok());
  const int64_t left = session.Rewind(30);
  EXPECT_TRUE(left == 30 || left == 0);
  ASSERT_TRUE(
      session.Read(std::span(ids_).subspan(static_cast<size_t>(left), static_cast<size_t>(41 - left)), kGoOn).ok());
  ExpectNear(session.logits(), whole[40]);
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(kGolden)) names.push_back(e.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}
std::string Tidy(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Checkpoints, DecoderGolden, testing::ValuesIn(Names()), Tidy);

}  // namespace
}  // namespace sotto
