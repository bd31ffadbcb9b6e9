// sotto eval on small random models: the numbers are those of the logits, and of nothing else.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "harness/perplexity.h"
#include "harness/recall.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kTokenizer = SOTTO_SOURCE_DIR "/models/demo-asr/tokenizer.json";

class Eval : public testing::Test {
 protected:
  Eval() {
    const int64_t vocab_size = 1536;
    WriteRandomWeights(dir_ / "lm", {{"model_type", "llama"},
                                     {"vocab_size", vocab_size},
                                     {"hidden_size", 32},
                                     {"intermediate_size", 64},
                                     {"num_hidden_layers", 2},
                                     {"num_attention_heads", 2},
                                     {"max_position_embeddings", 512}});
    fs::copy(kTokenizer, dir_ / "lm/tokenizer.json");
    std::ofstream text(dir_ / "text.txt");
    for (int i = 0; i < 60; ++i) text << "Line " << i << " tells of rivers, of bread and of the sea.\n\n";
  }
  std::unique_ptr<Engine> Open(int64_t context) const {
    PlanRequest request = SmallRequest();
    request.context = context;
    return OpenEngine(dir_ / "lm", request);
  }
  Perplexity Measure(int64_t context, const PerplexityOptions& options) const {
    const auto engine = Open(context);
    return Must(MeasurePerplexity(*engine, dir_ / "text.txt", options, kGoOn, [](uint64_t, uint64_t) {}));
  }
  TempDir dir_;
};

TEST_F(Eval, PerplexityIsThatOfTheLogits) {
  const auto engine = Open(512);
  std::ifstream in(dir_ / "text.txt");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::vector<int32_t> around, ids;
  ASSERT_TRUE(engine->tokenizer().Encode("", {.add_special = true}, &around).ok());
  ASSERT_TRUE(engine->tokenizer().Encode(text, {}, &ids).ok());
  ASSERT_GT(ids.size(), 400U);
  ids.resize(400);
  std::vector<int32_t> read(around.begin(),
                            around.begin() + static_cast<ptrdiff_t>(std::min<size_t>(around.size(), 1)));
  const size_t begin = read.size();
  read.insert(read.end(), ids.begin(), ids.end());
  double nll = 0;
  size_t at = 0, counted = 0;
  TextSession session(*engine);
  ASSERT_TRUE(session
                  .Read(read, kGoOn,
                        [&](std::span<const float> logits) {
                          ++at;
                          if (at < begin || at >= read.size()) return;
                          double sum = 0;
                          for (const float x : logits) sum += std::exp(static_cast<double>(x));
                          nll += std::log(sum) - static_cast<double>(logits[static_cast<size_t>(read[at])]);
                          ++counted;
                        })
                  .ok());
  const Perplexity p = Must(MeasurePerplexity(*engine, dir_ / "text.txt", {.stride = 0, .max_tokens = 400}, kGoOn,
                                              [](uint64_t, uint64_t) {}));
  EXPECT_EQ(p.tokens, counted);
  EXPECT_NEAR(p.nll, nll, 1e-4 * nll);
  EXPECT_TRUE(p.cut);
  EXPECT_NEAR(p.value(), std::exp(nll / static_cast<double>(counted)), 1e-3 * p.value());
}

TEST_F(Eval, WindowsCountEveryTokenOnce) {
  const Perplexity whole = Measure(512, {.stride = 64, .max_tokens = 500});
  for (const int64_t stride : {16, 64, 100}) {
    const Perplexity p = Measure(128, {.stride = stride, .max_tokens = 500});
    EXPECT_EQ(p.tokens, whole.tokens) << stride;
    EXPECT_EQ(p.bytes, whole.bytes) << stride;
  }
  const Perplexity all = Measure(128, {});
  EXPECT_FALSE(all.cut);
  EXPECT_NEAR(static_cast<double>(all.bytes), static_cast<double>(fs::file_size(dir_ / "text.txt")), 16);
}

TEST_F(Eval, ARandomModelRecallsNothing) {
  const auto engine = Open(512);
  const auto rows = Must(
      MeasureRecall(*engine, {.lengths = {64, 256, 4096}, .queries = 64, .passkeys = 3}, kGoOn, [](double, double) {}));
  ASSERT_EQ(rows.size(), 2U);  // 4,096 is above the context
  for (const RecallRow& row : rows) {
    EXPECT_EQ(row.asked, 64);
    EXPECT_LT(row.right, 8);
    EXPECT_EQ(row.passkeys, 3);
    EXPECT_EQ(row.found, 0);
  }
}

TEST_F(Eval, TheCommandsSayWhatTheyMeasured) {
  const Ran text = RunSotto({"eval", "perplexity", dir_ / "lm", dir_ / "text.txt", "-n", "200"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("perplexity "));
  const Ran json = RunSotto({"eval", "recall", dir_ / "lm", "--lengths", "128", "--queries", "8", "--passkeys", "1",
                             "--json", "--memory", "64MiB"});
  EXPECT_EQ(json.code, 0) << json.err;
  const Json j = Must(ParseJson(json.out, "recall", Code::kFailed));
  EXPECT_EQ(j["lengths"][0]["asked"], 8);
  EXPECT_LE(j["ledger"]["peak_bytes"].get<uint64_t>(), j["ledger"]["planned_bytes"].get<uint64_t>());
  EXPECT_EQ(RunSotto({"eval", "wer", dir_ / "lm", dir_ / "text.txt"}).code, 3);  // no list
  std::ofstream(dir_ / "list.tsv") << "a.wav\thello\n";
  const Ran deaf = RunSotto({"eval", "wer", dir_ / "lm", dir_ / "list.tsv"});
  EXPECT_EQ(deaf.code, 2);
  EXPECT_THAT(deaf.err, HasSubstr("reads text only"));
  EXPECT_EQ(RunSotto({"eval", "perplexity", dir_ / "lm", dir_ / "nothing.txt"}).code, 3);
  EXPECT_EQ(RunSotto({"eval", "perplexity", dir_ / "lm", dir_ / "text.txt", "--stride", "9000"}).code, 2);
}

TEST(EvalSpeech, AWhisperIsMeasuredByItsTranscripts) {
  TempDir dir;
  std::ofstream(dir / "list.tsv")
      << fs::absolute(SOTTO_SOURCE_DIR "/data/samples/two-sentences.wav").string()
      << "\tI need the certificate for the holiday this evening. The capital is 75 meters from "
         "there.\n";
  const Ran ran = RunSotto({"eval", "wer", SOTTO_SOURCE_DIR "/models/demo-asr", dir / "list.tsv", "--json", "-v"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const Json j = Must(ParseJson(ran.out, "wer", Code::kFailed));
  EXPECT_EQ(j["words"], 16);
  EXPECT_EQ(j["substituted"], 1);  // "here"
  EXPECT_THAT(j["cases"][0]["heard"].get<std::string>(), HasSubstr("75 meters"));
}

}  // namespace
}  // namespace sotto
