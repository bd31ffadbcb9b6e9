// sotto bench lowmem: its figures agree with each other and with what other ways find, what is lossless shows no difference, and
// nothing stays behind.
#include "harness/lowmem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "divergence.h"
#include "engine/pack/pack.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kLm = SOTTO_SOURCE_DIR "/models/demo-lm", kText = SOTTO_SOURCE_DIR "/docs/memory.md";

// Runs in a folder for temporaries of its own.
class LowmemBench : public testing::Test {
 protected:
  void SetUp() override { fs::create_directory(dir_ / "tmp"); }
  void TearDown() override { EXPECT_TRUE(fs::is_empty(dir_ / "tmp")) << "something was left behind"; }

  Ran Bench(const std::string& model, std::vector<std::string> options, RunOptions how = {}) const {
    options.insert(options.begin(), {"bench", "lowmem", model});
    how.environment.emplace_back("TMPDIR", dir_ / "tmp");
    return RunSotto(options, how);
  }
  Json Figures(std::vector<std::string> options) const {
    options.insert(options.end(), {"--json", "--context", "512", "-n", "24"});
    const Ran ran = Bench(kLm, options);
    EXPECT_EQ(ran.code, 0) << ran.out << ran.err;
    return Must(ParseJson(ran.out, "bench", Code::kFailed));
  }
  std::string MustPack(const std::string& model, const std::string& name, double bits) const {
    Must(Pack(Must(FindModel(model, ModelUse::kRun)), {.bits = bits, .out = dir_ / name, .threads = 2},
              [](uint64_t, uint64_t) { return true; }));
    return dir_ / name;
  }
  TempDir dir_;
};

TEST_F(LowmemBench, FiguresAgree) {
  const Json j = Figures({"-o", dir_ / "out.json"});
  std::ifstream written(dir_ / "out.json");
  EXPECT_EQ(Json::parse(written), j);
  EXPECT_EQ(j["linear_layers"], 28);  // of 4 layers; the head is the embedding
  EXPECT_EQ(j["linear_layers_by_kind"]["q_proj"], 4);
  EXPECT_EQ(j["embeddings"], 1);
  EXPECT_NEAR(j["bits_per_weight"].get<double>(), 4.3, 0.0043);
  const double weights = j["packed_weights"], bytes = j["packed_weight_bytes"];
  EXPECT_DOUBLE_EQ(j["ratio_over_int8"].get<double>(), weights / bytes);
  EXPECT_DOUBLE_EQ(j["ratio_over_fp16"].get<double>(), 2 * weights / bytes);
  const Json &was = j["baseline"], &is = j["packed"];
  EXPECT_DOUBLE_EQ(j["reduction"].get<double>(), was["peak_bytes"].get<double>() / is["peak_bytes"].get<double>());
  EXPECT_GT(j["reduction"], 1);
  for (const Json* run : {&was, &is}) {
    EXPECT_LE((*run)["peak_bytes"], (*run)["planned_bytes"]);
    EXPECT_GT((*run)["peak_bytes"], (*run)["weight_bytes"]);
    EXPECT_EQ((*run)["ids"].size(), 24U);
    EXPECT_GT((*run)["prompt_tokens_per_second"], 0);
    EXPECT_GT((*run)["tokens_per_second"], 0);
  }
  EXPECT_EQ(was["file_bytes"], fs::file_size(kLm + "/model.safetensors"));
  EXPECT_LT(is["file_bytes"], was["file_bytes"].get<double>() / 3);
  EXPECT_EQ(j["texts_equal"], was["text"] == is["text"]);
  EXPECT_EQ(j["same_tokens"] == 24, was["ids"] == is["ids"]);
  EXPECT_GT(j["kl"], 0);
  EXPECT_GT(j["kl_tokens"], 24);
  EXPECT_NEAR(j["reconstruction_error"]["db"].get<double>(), 24, 3);  // 6 dB a bit
  EXPECT_GT(j["reconstruction_error"]["max_relative"], 0);
  EXPECT_LT(j["reconstruction_error"]["max_relative"], 0.2);
  EXPECT_EQ(j["verdict"]["ratio_over_int8"], "excellent");
  EXPECT_EQ(j["verdict"]["reduction"], NameOf(Judge(j["reduction"].get<double>(), kReductionBounds)));
  EXPECT_EQ(j["verdict"]["overall"], j["verdict"]["reduction"]);  // the lower one
}

TEST_F(LowmemBench, WhatIsLosslessShowsNoDifference) {
  const Json j = Figures({"--lossless"});
  EXPECT_EQ(j["baseline"]["ids"], j["packed"]["ids"]);
  EXPECT_EQ(j["texts_equal"], true);
  EXPECT_EQ(j["kl"], 0);
  EXPECT_TRUE(j["reconstruction_error"]["db"].is_null());
  EXPECT_EQ(j["reconstruction_error"]["max_relative"], 0);
  EXPECT_LT(j["ratio_over_int8"], 1);
  EXPECT_EQ(j["verdict"]["overall"], "below minimum");
}

TEST_F(LowmemBench, DivergenceIsThatOfTheTwoModels) {
  const std::string packed = MustPack(kLm, "packed", 3);
  const Json j = Figures({"--packed", packed, "--text", kText});
  const auto rows = [](const std::string& model) {
    PlanRequest request = SmallRequest("auto", "fp16");
    request.context = 512;
    const auto engine = OpenEngine(model, request);
    std::ifstream text(kText);
    std::vector<int32_t> ids;
    EXPECT_TRUE(engine->tokenizer()
                    .Encode(std::string(std::istreambuf_iterator<char>(text), {}), {.add_special = true}, &ids)
                    .ok());
    ids.resize(512);
    return LogitRows(*engine, ids, ids.size());
  };
  EXPECT_EQ(j["kl_tokens"], 512);
  const double kl = Divergence(rows(kLm), rows(packed));
  EXPECT_NEAR(j["kl"].get<double>(), kl, 1e-3 * kl);
  EXPECT_GT(kl, 0.01);
}

TEST_F(LowmemBench, PeopleReadIt) {
  const Ran ran = Bench(kLm, {"--lossless-int8", "-n", "4", "--context", "256", "--prompt", "What is 3 plus 4?"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");
  for (const char* line : {"28 Linear layers packed", "4 q_proj", "as it is", "planned peak, bytes", "ratio over INT8",
                           "nats a token", "verdict"})
    EXPECT_THAT(ran.out, HasSubstr(line));
}

TEST_F(LowmemBench, RefusalsSayWhy) {
  const auto refused = [&](const std::string& model, const std::vector<std::string>& options, int code,
                           const std::string& why) {
    const Ran ran = Bench(model, options);
    EXPECT_EQ(ran.code, code) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr(why));
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
    EXPECT_EQ(ran.out, "");
  };
  refused(dir_ / "nothing", {}, 4, "nothing");
  refused(SOTTO_SOURCE_DIR "/models/demo-asr", {}, 2, "takes no prompt");
  refused(kLm, {"--packed", kLm}, 2, "holds nothing that sotto pack has made");
  refused(kLm, {"--bits", "1"}, 2, "bits a weight");
  refused(kLm, {"--text", dir_ / "nothing", "-n", "1", "--context", "256"}, 3, "nothing");
  WriteRandomWeights(dir_ / "other", {{"model_type", "llama"},
                                      {"vocab_size", 512},
                                      {"hidden_size", 128},
                                      {"intermediate_size", 384},
                                      {"num_hidden_layers", 5},
                                      {"num_attention_heads", 2},
                                      {"max_position_embeddings", 512}});
  const std::string other = MustPack(dir_ / "other", "other-packed", 4);
  const Ran mixed = Bench(kLm, {"--packed", other, "--json"});
  EXPECT_NE(mixed.code, 0);
  EXPECT_THAT(mixed.out, HasSubstr("\"error\""));
}

TEST_F(LowmemBench, InterruptedItLeavesNothing) {
  for (const int after : {150, 1500}) {
    const Ran ran = Bench(kLm, {"-n", "2000"}, {.interrupt_after_ms = after});
    EXPECT_EQ(ran.code, 130) << ran.out;
    EXPECT_THAT(ran.err, HasSubstr("interrupted"));
  }
  RunOptions nowhere;
  nowhere.environment.emplace_back("TMPDIR", dir_ / "tmp/none");
  const Ran ran = RunSotto({"bench", "lowmem", kLm}, nowhere);
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr("TMPDIR"));
}

TEST(Lowmem, BoundsBelongToTheBetterVerdict) {
  EXPECT_STREQ(NameOf(Judge(1.19, kRatioBounds)), "below minimum");
  EXPECT_STREQ(NameOf(Judge(1.2, kRatioBounds)), "minimum");
  EXPECT_STREQ(NameOf(Judge(1.33, kRatioBounds)), "good");
  EXPECT_STREQ(NameOf(Judge(1.4, kRatioBounds)), "excellent");
  EXPECT_STREQ(NameOf(Judge(2.9, kReductionBounds)), "good");
  EXPECT_STREQ(NameOf(Judge(3, kReductionBounds)), "excellent");
}

}  // namespace
}  // namespace sotto
