// GGUF files run: against transformers in fp32 on the weights that the blocks decode to (tests/golden/make_gguf_models.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>

#include "base/json.h"
#include "engine/text_session.h"
#include "ops/row.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/gguf_models/";
const std::atomic<bool> kGoOn{false};

struct Case {
  std::string name, file;
};

template <class T>
T Must(Result<T> r) {
  if (!r.ok()) ADD_FAILURE() << r.error().message;
  return std::move(r).value();
}

class GgufModels : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    expected_ = Must(ReadJson(kGolden + GetParam().name + ".json", Code::kBadInput));
    ids_ = expected_["ids"].get<std::vector<int32_t>>();
    largest_ = expected_["largest"];
  }
  std::unique_ptr<Engine> Open(const std::string& weights) const {
    PlanRequest request;
    request.budget = Bytes{kGiB};
    request.weights = weights;
    request.kv = "fp32";
    request.threads = 2;
    request.tokenizer = false;
    return Must(Engine::Open(Must(PlanModel(Must(FindModel(kGolden + GetParam().file, ModelUse::kRun)), request)),
                             [](uint64_t, uint64_t) { return true; }));
  }
  std::vector<std::vector<float>> Rows(Engine& engine, size_t piece) const {
    TextSession session(engine);
    std::vector<std::vector<float>> rows;
    for (size_t at = 0; at < ids_.size(); at += piece)
      EXPECT_TRUE(session
                      .Read(std::span(ids_).subspan(at, std::min(piece, ids_.size() - at)), kGoOn,
                            [&](std::span<const float> row) { rows.emplace_back(row.begin(), row.end()); })
                      .ok());
    return rows;
  }
  // The largest difference to the reference, as a share of the largest logit.
  float Error(const std::vector<std::vector<float>>& rows) const {
    float worst = 0;
    for (size_t i = 0; i < expected_["positions"].size(); ++i) {
      const auto want = expected_["logits"][i].get<std::vector<float>>();
      const auto& got = rows[expected_["positions"][i].get<size_t>()];
      for (size_t j = 0; j < want.size(); ++j) worst = std::max(worst, std::fabs(got[j] - want[j]));
    }
    return worst / largest_;
  }

  Json expected_;
  std::vector<int32_t> ids_;
  float largest_ = 0;
};

TEST_P(GgufModels, DecodedToFp32TheyAreTheReference) {
  const auto engine = Open("fp32");
  const auto rows = Rows(*engine, ids_.size());
  ASSERT_EQ(rows.size(), ids_.size());
  EXPECT_LE(Error(rows), 1e-5F);
  TextSession session(*engine);
  ASSERT_TRUE(session.Read(ids_, kGoOn).ok());
  std::vector<int32_t> greedy;
  while (greedy.size() < expected_["greedy"].size()) {
    const auto logits = session.logits();
    greedy.push_back(static_cast<int32_t>(ArgMax(logits.data(), static_cast<int64_t>(logits.size()))));
    ASSERT_TRUE(session.Read({&greedy.back(), 1}, kGoOn).ok());
  }
  EXPECT_EQ(greedy, expected_["greedy"].get<std::vector<int32_t>>());
}

TEST_P(GgufModels, InTheirBlocksTheyTakeTheFilesBytesAndDifferByTheRoundingOfActivations) {
  const auto engine = Open("auto");
  const auto rows = Rows(*engine, ids_.size());
  ASSERT_EQ(rows.size(), ids_.size());
  const float error = Error(rows);
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
  EXPECT_EQ(rows, Rows(*engine, 7)) << "pieces of a prompt change nothing";
}

INSTANTIATE_TEST_SUITE_P(All, GgufModels,
                         testing::Values(Case{"llama", "llama-00001-of-00002.gguf"}, Case{"qwen2", "qwen2.gguf"}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace sotto
