// GGUF files run: against transformers in fp32 on the weights that the blocks decode to (tests/golden/make_gguf_models.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "running.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/gguf_models/";

struct Case {
  std::string name, file;
};

class GgufModels : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    expected_ = Must(ReadJson(kGolden + GetParam().name + ".json", Code::kBadInput));
    ids_ = expected_["ids"].get<std::vector<int32_t>>();
  }
  std::unique_ptr<Engine> Open(const std::string& weights) const {
    PlanRequest request = SmallRequest(weights, "fp32");
    request.tokenizer = false;
    return OpenEngine(kGolden + GetParam().file, request);
  }

  Json expected_;
  std::vector<int32_t> ids_;
};

TEST_P(GgufModels, DecodedToFp32TheyAreTheReference) {
  const auto engine = Open("fp32");
  const auto rows = LogitRows(*engine, ids_, ids_.size());
  ASSERT_EQ(rows.size(), ids_.size());
  EXPECT_LE(LargestError(expected_, rows), 1e-5F);
  TextSession session(*engine);
  ASSERT_TRUE(session.Read(ids_, kGoOn).ok());
  const auto greedy = expected_["greedy"].get<std::vector<int32_t>>();
  EXPECT_EQ(GreedyIds(session, greedy.size()), greedy);
}

TEST_P(GgufModels, InTheirBlocksTheyTakeTheFilesBytesAndDifferByTheRoundingOfActivations) {
  const auto engine = Open("auto");
  const auto rows = LogitRows(*engine, ids_, ids_.size());
  ASSERT_EQ(rows.size(), ids_.size());
  const float error = LargestError(expected_, rows);
  EXPECT_LE(error, 0.03F);
  std::printf("%s: largest error %.2e of the largest logit with int8 activations\n", GetParam().name.c_str(),
              static_cast<double>(error));
  const Planned& p = engine->planned();
  uint64_t planned = 0, stored = 0;
  for (uint32_t id = 0; id < p.layout.plan.recipe.size(); ++id)
    if (p.layout.anatomy->at(id).role == Role::kWeight) planned += p.layout.plan.recipe[id].bytes.n;
  for (const Kept& k : p.stored.kept) stored += k.bytes;
  EXPECT_GE(planned, stored);
  EXPECT_LE(planned, stored + stored / 20);  // panels of 16 rows: 83 tokens are 96
  EXPECT_EQ(rows, LogitRows(*engine, ids_, 7)) << "pieces of a prompt change nothing";
}

INSTANTIATE_TEST_SUITE_P(All, GgufModels,
                         testing::Values(Case{"llama", "llama-00001-of-00002.gguf"}, Case{"qwen2", "qwen2.gguf"}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace sotto
