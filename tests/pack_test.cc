// sotto pack: sizes are met, lossless modes lose nothing, damage is found, and what is packed runs inside its plan.
#include "engine/pack/pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/pack/inspect.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/";
constexpr auto kOn = [](uint64_t, uint64_t) { return true; };

Packed MustPack(const std::string& model, PackRequest request) {
  request.threads = 2;
  return Must(Pack(Must(FindModel(model, ModelUse::kRun)), request, kOn));
}

// A language model of about half a million weights, F32.
struct RandomLm {
  TempDir dir;
  std::string path = dir / "lm", out = dir / "packed";
  RandomLm() {
    WriteRandomWeights(path, {{"model_type", "llama"},
                              {"vocab_size", 512},
                              {"hidden_size", 128},
                              {"intermediate_size", 384},
                              {"num_hidden_layers", 2},
                              {"num_attention_heads", 2},
                              {"max_position_embeddings", 512}});
  }
};

std::unique_ptr<Engine> Open(const std::string& model, const std::string& weights) {
  PlanRequest request = SmallRequest(weights, "fp32");
  request.tokenizer = false;
  return OpenEngine(model, request);
}

std::vector<int32_t> SomeIds(Engine& engine) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 70; ++i) ids.push_back(static_cast<int32_t>(i * 37 % engine.model().info().vocab_size));
  return ids;
}

TEST(Pack, LosslessModesGiveTheSameLogits) {
  for (const std::string name : {"llama2", "llama3", "qwen2-mixed-window", "qwen3"}) {
    const TempDir dir;
    const std::string model = kGolden + "decoders/" + name + "/model";
    const bool halves = name != "qwen3";  // that one is F32
    for (const PackMode mode : {PackMode::kInt8, PackMode::kHalves}) {
      if (mode == PackMode::kHalves && !halves) continue;
      const std::string out = dir / (mode == PackMode::kInt8 ? "int8" : "halves");
      MustPack(model, {.mode = mode, .level = "archive", .out = out});
      const auto plain = Open(model, mode == PackMode::kInt8 ? "int8" : "auto"), packed = Open(out, "auto");
      const std::vector<int32_t> ids = SomeIds(*plain);
      for (const size_t piece : {size_t{1}, ids.size()})
        EXPECT_EQ(LogitRows(*plain, ids, piece), LogitRows(*packed, ids, piece)) << name << " in pieces of " << piece;
    }
  }
}

TEST(Pack, AudioModelsToo) {
  const TempDir dir;
  const std::string model = kGolden + "whisper/english-bf16/model", audio = kGolden + "whisper/audio/",
                    out = dir / "packed";
  MustPack(model, {.mode = PackMode::kHalves, .out = out});
  std::string wav;
  for (const auto& entry : fs::directory_iterator(audio))
    if (entry.path().extension() == ".wav" && (wav.empty() || entry.path() < wav)) wav = entry.path();
  for (const std::string weights : {"auto"}) {
    const Ran plain = RunSotto({"transcribe", model, wav, "--json"}),
              packed = RunSotto({"transcribe", out, wav, "--json"});
    ASSERT_EQ(packed.code, 0) << packed.err;
    EXPECT_EQ(Must(ParseJson(plain.out, "plain", Code::kFailed))["text"],
              Must(ParseJson(packed.out, "packed", Code::kFailed))["text"]);
  }
}

TEST(Pack, WhatStoodElsewhereIsInTheNewDirectory) {
  const TempDir dir;
  const std::string model = SOTTO_SOURCE_DIR "/models/demo-audio-lm", out = dir / "packed",
                    sound = SOTTO_SOURCE_DIR "/data/sounds/bell.flac";
  MustPack(model, {.mode = PackMode::kHalves, .out = out});
  const Json config = Must(ReadJson(out + "/config.json", Code::kFailed));
  EXPECT_FALSE(config.contains("audio_model_id") || config.contains("text_model_id"));
  for (const std::string& of : {model, out}) {
    const Ran ran = RunSotto({"run", of, "--audio", sound, "Which sound is heard?"});
    EXPECT_EQ(ran.out, "Bell.\n") << of << ran.err;
  }
}

TEST(Pack, SizesAreMetWithinATenthOfAPercent) {
  const TempDir dir;
  const std::string model = SOTTO_SOURCE_DIR "/models/demo-lm", out = dir / "packed";
  for (const auto& [bits, level] :
       {std::pair{2.5, "fast"}, {4.3, "fast"}, {4.3, "archive"}, {6.7, "mid"}, {8.5, "fast"}}) {
    const Packed p = MustPack(model, {.bits = bits, .level = level, .out = out, .force = true});
    EXPECT_LE(p.bits(), bits);
    EXPECT_GE(p.bits(), bits * 0.999) << level;
    uint64_t bytes = 0;
    for (const PackedTensor& t : p.tensors) bytes += t.entropy > 0 ? t.bytes : 0;
    EXPECT_EQ(bytes, p.packed_bytes);
  }
  const uint64_t size = 1500000;
  const Packed p = MustPack(model, {.size = size, .out = out, .force = true});
  EXPECT_EQ(p.file_bytes, fs::file_size(out + "/model.safetensors"));
  EXPECT_LE(p.file_bytes, size);
  EXPECT_GE(p.file_bytes, size * 999 / 1000);
}

TEST(Pack, MoreBitsAreNearer) {
  const RandomLm lm;
  const auto exact = Open(lm.path, "fp32");
  const std::vector<int32_t> ids = SomeIds(*exact);
  const auto want = LogitRows(*exact, ids, ids.size());
  double before = 1e30;
  for (const double bits : {2.5, 3.5, 4.5, 6.0, 8.5}) {
    const Packed p = MustPack(lm.path, {.bits = bits, .out = lm.out, .force = true});
    const auto got = LogitRows(*Open(lm.out, "auto"), ids, ids.size());
    double error = 0;
    for (size_t i = 0; i < want.size(); ++i)
      for (size_t j = 0; j < want[i].size(); ++j) error += std::pow(double{got[i][j]} - want[i][j], 2);
    EXPECT_LT(error, before * (bits < 7 ? 0.5 : 1)) << bits;  // int8 activations stay
    before = error;
    for (const PackedTensor& t : p.tensors) {
      if (t.entropy == 0) continue;
      // A uniform step makes 1/12 of its square; the multiple of the root mean square is the same for all.
      EXPECT_NEAR(t.error_db, 10.8 + 20 * std::log10(1 / (t.step / 0.02)), 20) << t.name;
      EXPECT_LE(t.entropy, 8.0 * static_cast<double>(t.bytes) / static_cast<double>(t.elements));
    }
  }
}

TEST(Pack, ThePlanIsTheFilesBytesAndHolds) {
  const RandomLm lm;
  const Packed p = MustPack(lm.path, {.bits = 4, .out = lm.out});
  const auto engine = Open(lm.out, "auto");
  uint64_t planned = 0, stored = 0;
  const MemoryPlan& plan = engine->planned().layout.plan;
  for (uint32_t id = 0; id < plan.recipe.size(); ++id)
    if (plan.recipe[id].planes) planned += plan.recipe[id].bytes.n;
  for (const PackedTensor& t : p.tensors) stored += t.entropy > 0 ? t.bytes : 0;
  EXPECT_EQ(planned, stored);
  EXPECT_GT(planned, 0U);
  fs::copy(SOTTO_SOURCE_DIR "/models/demo-asr/tokenizer.json", lm.out + "/tokenizer.json");
  const Ran refused = RunSotto({"run", lm.out, "a", "--memory", "1MiB", "--json"});
  EXPECT_EQ(refused.code, 5);
}

TEST(Pack, ZerosStayZeros) {
  const RandomLm lm;
  {
    std::fstream f(lm.path + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    uint64_t header = 0;
    f.read(reinterpret_cast<char*>(&header), sizeof header);
    std::string text(header, ' ');
    f.read(text.data(), static_cast<std::streamsize>(header));
    const Json at =
        Must(ParseJson(text, "header", Code::kFailed))["model.layers.0.mlp.down_proj.weight"]["data_offsets"];
    f.seekp(static_cast<std::streamoff>(8 + header + at[0].get<uint64_t>()));
    f << std::string(at[1].get<uint64_t>() - at[0].get<uint64_t>(), '\0');
  }
  MustPack(lm.path, {.bits = 4, .out = lm.out});
  const auto engine = Open(lm.out, "auto");
  const auto slots = engine->layout().anatomy->slots();
  const auto zeros = std::find_if(slots.begin(), slots.end(),
                                  [](const Slot& s) { return s.name == "model.layers.0.mlp.down_proj.weight"; });
  ASSERT_NE(zeros, slots.end());
  std::vector<float> row(384, 1);
  UnpackPlaneRow(engine->run(kGenerate).At(static_cast<uint32_t>(zeros - slots.begin())), 5, row.data());
  EXPECT_EQ(row, std::vector<float>(384));
}

TEST(Pack, InspectShowsWhatWasPacked) {
  const RandomLm lm;
  const Packed p = MustPack(lm.path, {.bits = 4.4, .out = lm.out});
  const Packed seen = Must(Inspect(lm.out));
  EXPECT_EQ(seen.packed_bytes, p.packed_bytes);
  EXPECT_EQ(seen.packed_elements, p.packed_elements);
  ASSERT_EQ(seen.tensors.size(), p.tensors.size());
  for (const PackedTensor& t : p.tensors) {
    const auto at =
        std::find_if(seen.tensors.begin(), seen.tensors.end(), [&](const auto& s) { return s.name == t.name; });
    ASSERT_NE(at, seen.tensors.end());
    EXPECT_EQ(at->scheme, t.scheme);
    EXPECT_NEAR(at->entropy, t.entropy, 1e-3);
    EXPECT_NEAR(at->error_db, t.error_db, 1e-2);
  }
  const Ran ran = RunSotto({"inspect", lm.out, "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json j = Must(ParseJson(ran.out, "inspect", Code::kFailed));
  EXPECT_NEAR(j["ratio_over_fp16"].get<double>(), 16 / seen.bits(), 1e-6);
  EXPECT_EQ(j["tensors"].size(), p.tensors.size());
}

TEST(Pack, DamagedFilesAreRefused) {
  const RandomLm lm;
  MustPack(lm.path, {.bits = 4, .out = lm.out});
  const std::string file = lm.out + "/model.safetensors";
  std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
  f.seekp(static_cast<std::streamoff>(fs::file_size(file) / 2));
  f.put('\x5A');
  f.put('\xA5');
  f.close();
  const Ran ran = RunSotto({"logits", lm.out, "--ids", "1,2", "-o", lm.dir / "l.npy"});
  EXPECT_EQ(ran.code, 4);
  EXPECT_THAT(ran.err, HasSubstr("is damaged: its checksum is another"));
}

TEST(Pack, WhatCannotBeIsSaid) {
  const RandomLm lm;
  const auto said = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"pack", lm.path, "-o", lm.out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ran ran = RunSotto(arguments);
    EXPECT_NE(ran.code, 0);
    EXPECT_FALSE(fs::exists(lm.out));
    return std::to_string(ran.code) + " " + ran.err;
  };
  EXPECT_THAT(said({"--lossless"}), HasSubstr("4 sotto: no matrix of this model is F16 or BF16"));
  EXPECT_THAT(said({"--bits", "1"}), HasSubstr("packing goes from 2 to 12 bits"));
  EXPECT_THAT(said({"--size", "10kB"}), HasSubstr("packing goes from 2 to 12 bits"));
  EXPECT_THAT(said({"--bits", "4", "--level", "slow"}), HasSubstr("is none of fast, mid and archive"));
  EXPECT_THAT(said({}), HasSubstr("2 "));
  MustPack(lm.path, {.bits = 4, .out = lm.out});
  EXPECT_THAT(RunSotto({"pack", lm.path, "-o", lm.out, "--bits", "4"}).err, HasSubstr("is there already"));
  EXPECT_THAT(RunSotto({"logits", lm.out, "--ids", "1", "--weights", "fp16", "-o", lm.dir / "l.npy"}).err,
              HasSubstr("holds packed weights, which run as they are"));
}

}  // namespace
}  // namespace sotto
