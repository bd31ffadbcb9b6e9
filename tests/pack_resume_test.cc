// sotto pack goes on where it was interrupted, and what it says and draws of a packed model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "engine/pack/inspect.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

const std::string kAsr = SOTTO_SOURCE_DIR "/models/demo-asr";
constexpr auto kOn = [](uint64_t, uint64_t) { return true; };

std::string Bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Resume : public testing::Test {
 protected:
  Resume() { Must(Pack(model_, Request("whole"), kOn)); }
  PackRequest Request(const std::string& out) const { return {.bits = 4, .out = dir_ / out, .threads = 2}; }
  // Interrupts when five of eight parts are done: the survey is the first four.
  void Interrupt(const std::string& out) {
    const auto stopped = Pack(model_, Request(out), [](uint64_t done, uint64_t all) { return done < all * 5 / 8; });
    ASSERT_FALSE(stopped.ok());
    EXPECT_EQ(stopped.error().code, Code::kInterrupted);
    EXPECT_THAT(stopped.error().message, HasSubstr("the same command goes on"));
    EXPECT_FALSE(fs::exists(dir_ / out));
  }
  void ExpectWhole(const std::string& out) const {
    EXPECT_FALSE(fs::exists(dir_ / (out + ".partial")));
    for (const auto& entry : fs::directory_iterator(dir_ / "whole")) {
      const std::string name = entry.path().filename();
      EXPECT_TRUE(Bytes(entry.path()) == Bytes(dir_ / (out + "/" + name))) << name;
    }
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / out), {}),
              std::distance(fs::directory_iterator(dir_ / "whole"), {}));
  }
  TempDir dir_;
  ModelDir model_ = Must(FindModel(SOTTO_SOURCE_DIR "/models/demo-lm", ModelUse::kRun));
};

TEST_F(Resume, AfterAnInterruptNothingIsCodedTwice) {
  Interrupt("a");
  int calls = 0;
  const Packed p = Must(Pack(model_, Request("a"), [&](uint64_t, uint64_t) { return ++calls > 0; }));
  EXPECT_GT(p.resumed, 4U);
  EXPECT_LT(p.resumed, 29U);
  ExpectWhole("a");
}

TEST_F(Resume, AfterBeingKilled) {
  const auto kill = [](uint64_t done, uint64_t all) { return done < all * 7 / 8 || std::raise(SIGKILL) == 0; };
  EXPECT_EXIT((void)Pack(model_, Request("b"), kill), testing::KilledBySignal(SIGKILL), "");
  ASSERT_TRUE(fs::exists(dir_ / "b.partial/packing.partial"));
  // A matrix whose line was cut, as a kill may leave it, is coded again.
  fs::resize_file(dir_ / "b.partial/packing.partial", fs::file_size(dir_ / "b.partial/packing.partial") - 3);
  const Packed p = Must(Pack(model_, Request("b"), kOn));
  EXPECT_GT(p.resumed, 4U);
  ExpectWhole("b");
}

TEST_F(Resume, WhatIsDamagedIsCodedAgain) {
  Interrupt("c");
  const Packed first = Must(Inspect(dir_ / "whole"));
  const std::string file = dir_ / "c.partial/model.safetensors.partial";
  std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
  f.seekp(static_cast<std::streamoff>(fs::file_size(file) / 2));
  f << "damage";
  f.close();
  const Packed p = Must(Pack(model_, Request("c"), kOn));
  EXPECT_GT(p.resumed, 0U);
  ExpectWhole("c");
}

TEST_F(Resume, AnotherRequestBeginsAnew) {
  Interrupt("d");
  PackRequest other = Request("d");
  other.bits = 5;
  EXPECT_EQ(Must(Pack(model_, other, kOn)).resumed, 0U);
  EXPECT_FALSE(fs::exists(dir_ / "d.partial"));
}

TEST(PackSays, LosslessGainsAndTheirBounds) {
  const TempDir dir;
  for (const auto& [flag, base] : {std::pair{"--lossless-int8", 8.0}, {"--lossless", 16.0}}) {
    const std::string out = dir / flag;
    const Ran ran = RunSotto({"pack", kAsr, flag, "-o", out});
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_THAT(ran.out, HasSubstr("x over FP16"));
    EXPECT_THAT(ran.out, HasSubstr("x over INT8"));
    const Json j = Must(ParseJson(RunSotto({"inspect", out, "--json"}).out, "inspect", Code::kFailed));
    int packed = 0;
    for (const Json& t : j["tensors"]) {
      if (t["ratio"].is_null()) continue;
      ++packed;
      EXPECT_NEAR(t["ratio"].get<double>(), base / t["bits_per_weight"].get<double>(), 1e-9);
      EXPECT_NEAR(t["bound"].get<double>(), base / t["entropy_bits"].get<double>(), 1e-9);
      EXPECT_EQ(t["gain"].get<bool>(), t["ratio"].get<double>() > 1);
      // Tables of codes for classes of rows may be below the entropy of all, by little.
      EXPECT_LT(t["ratio"].get<double>(), 1.02 * t["bound"].get<double>());
    }
    EXPECT_GT(packed, 10);
  }
}

TEST(PackSays, WhereThereIsNoGain) {
  const TempDir dir;
  const std::string model = dir / "lm", out = dir / "packed";
  WriteRandomWeights(model, {{"model_type", "llama"},
                             {"vocab_size", 64},
                             {"hidden_size", 16},
                             {"intermediate_size", 16},
                             {"num_hidden_layers", 1},
                             {"num_attention_heads", 1}});
  const Ran ran = RunSotto({"pack", model, "--lossless-int8", "-o", out});  // scales weigh more than codes save
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("no gain"));
}

TEST(PackSays, PicturesHoldEveryMatrix) {
  const TempDir dir;
  ASSERT_EQ(RunSotto({"pack", kAsr, "--bits", "4", "-o", dir / "asr"}).code, 0);
  const Ran ran = RunSotto({"inspect", dir / "asr", "--plot", dir / "p.svg"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const std::string svg = Bytes(dir / "p.svg");
  for (const char* text :
       {"bits a weight", "entropy, bits", "error, dB", "encoder_attn", "fc2", "model.decoder.layers"})
    EXPECT_THAT(svg, HasSubstr(text));
  EXPECT_THAT(svg, Not(HasSubstr("predicted")));
  ASSERT_EQ(RunSotto({"inspect", dir / "asr", "--plot", dir / "p.png"}).code, 0);
  EXPECT_TRUE(Bytes(dir / "p.png").starts_with("\x89PNG"));
  EXPECT_THAT(RunSotto({"inspect", kAsr, "--plot", dir / "q.png"}).err, HasSubstr("holds no packed matrix"));
  EXPECT_THAT(RunSotto({"inspect", kAsr, "--plot", dir / "q.gif"}).err, HasSubstr("--plot"));
}

}  // namespace
}  // namespace sotto
