// Plans of GGUF files. The files are headers that the reference package wrote for transformers' modules, with names by its own
// map (tests/golden/make_gguf.py); zeros stand for the weights.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/planning.h"
#include "engine/report.h"
#include "process.h"
#include "weights/gguf_config.h"

namespace sotto {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/";
const std::string kAudio = kGolden + "whisper/audio/short.wav";

Result<Planned> PlanOf(const std::string& what, const std::string& mmproj = "", const std::string& weights = "auto",
                       int64_t tp = 1) {
  PlanRequest request;
  request.unbounded = true;
  request.threads = 2;
  request.weights = weights;
  request.tp = tp;
  ModelDir dir = TRY(FindModel(what, ModelUse::kPlan));
  dir.mmproj_path = mmproj;
  return PlanModel(dir, request);
}

uint64_t WeightBytes(const Planned& p) {
  uint64_t sum = 0;
  for (uint32_t id = 0; id < p.layout.plan.recipe.size(); ++id)
    if (p.layout.anatomy->at(id).role == Role::kWeight) sum += p.layout.plan.recipe[id].bytes.n;
  return sum;
}

// The file's bytes, each panel of 16 rows rounded up to 64 bytes.
void ExpectInPanels(const Planned& p, uint64_t stored) {
  EXPECT_GE(WeightBytes(p), stored) << p.dir.name;
  EXPECT_LE(WeightBytes(p), stored + stored / 100) << p.dir.name;
}

class GgufPlan : public testing::Test {
 protected:
  void SetUp() override {
    setenv("HF_HOME", "/nonexistent", 1);
    all_ = ReadJson(kGolden + "gguf.json", Code::kBadInput).value();
    ASSERT_GE(all_.size(), 21U);
  }
  void TearDown() override { unsetenv("HF_HOME"); }

  static std::string Header(const std::string& name) {
    std::ifstream in(kGolden + "gguf/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string Write(const std::string& name, const std::string& header, uint64_t bytes) const {
    std::ofstream(dir_ / name, std::ios::binary) << header;
    fs::resize_file(dir_ / name, bytes);
    return dir_ / name;
  }
  std::string File(const std::string& entry) const {
    return Write(entry + ".gguf", Header(entry + ".gguf"), all_[entry]["bytes"].get<uint64_t>());
  }
  // The plan of the entry's config.json.
  Json PublishedPlan(const std::string& entry) const {
    std::ofstream(dir_ / "config.json") << all_[entry]["config"].dump();
    const auto planned = PlanOf(dir_ / "config.json", "", "bf16");
    EXPECT_TRUE(planned.ok()) << planned.error().message;
    return PlanJson(*planned);
  }
  // The error of planning a file that was changed: `from` is replaced by `to`, of the same length.
  std::string Problem(const std::string& entry, const std::string& from, const std::string& to) const {
    std::string header = Header(entry + ".gguf");
    const size_t at = header.find(from);
    EXPECT_NE(at, header.npos) << from;
    EXPECT_EQ(from.size(), to.size());
    header.replace(at, from.size(), to);
    const auto planned = PlanOf(Write("changed.gguf", header, all_[entry]["bytes"].get<uint64_t>()));
    if (planned.ok()) return "";
    EXPECT_EQ(planned.error().code, Code::kBadModel);
    return planned.error().message;
  }

  Json all_;
  TempDir dir_;
};

template <class T>
std::string Raw(T n) {
  return {reinterpret_cast<const char*>(&n), sizeof n};
}

// What stands behind a setting's key: its type (uint32) and a value.
std::string Setting(const std::string& key, uint32_t value) { return key + Raw(4U) + Raw(value); }

TEST_F(GgufPlan, TheTablesAreTheReferencePackages) {
  for (const auto& [entry, row] : all_.items()) {
    const bool audio = row.contains("text");
    std::string id = row["config"]["model_type"];
    for (const auto& [type, family] :
         std::initializer_list<std::pair<const char*, const char*>>{{"mistral", "llama"},
                                                                    {"qwen3_moe", "qwen3moe"},
                                                                    {"gemma3_text", "gemma3"},
                                                                    {"gemma3n_text", "gemma3n"},
                                                                    {"deepseek_v2", "deepseek2"},
                                                                    {"deepseek_v3", "deepseek2"}})
      if (id == type) id = family;
    if (audio) id = entry.substr(entry.find('-') + 1);
    const GgufFamily* family = FindGgufFamily(id, audio);
    ASSERT_NE(family, nullptr) << entry;
    int mapped = 0;
    for (const auto& [tensor, module] : row["names"].items()) {
      if (module == "") {
        EXPECT_TRUE(IsSpareGguf(tensor) || tensor.starts_with("v.")) << tensor;
        continue;
      }
      const auto places = PlaceOf(*family, tensor);
      ASSERT_TRUE(places.has_value()) << entry << ": " << tensor;
      std::string wanted = PlainName(module.get<std::string>());
      if (tensor.starts_with("altup_")) wanted.replace(wanted.find(".0."), 3, ".*.");
      if (audio) {  // transformers 5.23 renamed these
        for (const auto& [from, to] : std::initializer_list<std::pair<std::string, std::string>>{
                 {"ln_post", "layer_norm"},
                 {"audio_tower.norm", "audio_tower.layer_norm"},
                 {"input_layernorm", "self_attn_layer_norm"},
                 {"post_attention_layernorm", "final_layer_norm"},
                 {".mlp.fc", ".fc"},
                 {".o_proj", ".out_proj"}})
          if (const size_t at = wanted.find(from); at != wanted.npos) wanted.replace(at, from.size(), to);
        if (id == "qwen3a" && wanted.starts_with("multi_modal_projector.linear_"))
          wanted = "audio_tower.proj" + wanted.substr(29);
      }
      EXPECT_TRUE((*places)[0].slot == wanted || (*places)[1].slot == wanted)
          << entry << ": " << tensor << " is " << wanted << ", the table says " << (*places)[0].slot;
      if ((*places)[0].whole && wanted.find('*') == wanted.npos) {
        EXPECT_EQ(TensorOf(*family, (*places)[0].slot), tensor);
      }
      ++mapped;
    }
    EXPECT_GE(mapped, 15) << entry;
  }
}

TEST_F(GgufPlan, LanguageModelsAreWhatTheirConfigsSay) {
  for (const auto& [entry, row] : all_.items()) {
    if (row.contains("text") || entry == "split") continue;
    const auto planned = PlanOf(File(entry));
    ASSERT_TRUE(planned.ok()) << entry << ": " << planned.error().message;
    const Json plan = PlanJson(*planned), published = PublishedPlan(entry);
    EXPECT_EQ(plan["parameters"], published["parameters"]) << entry;
    EXPECT_EQ(plan["parameters"]["total"], row["parameters"]) << entry;
    for (const char* key : {"decoder_kv_cache_bytes", "kv_bytes_per_token", "kv_bytes_per_token_beyond_window"})
      EXPECT_EQ(plan["breakdown"][key], published["breakdown"][key]) << entry << ": " << key;
    EXPECT_EQ(plan["workload"]["context"], published["workload"]["context"]) << entry;
    EXPECT_EQ(plan["workload"]["weights"], "gguf");
    EXPECT_EQ(plan["workload"]["weights_stored"], row["by_type"]) << entry;
    uint64_t stored = 0;
    for (const auto& [type, bytes] : row["by_type"].items()) stored += bytes.get<uint64_t>();
    if (entry == "llama") stored -= 32 * 4;  // rope_freqs is no weight
    ExpectInPanels(*planned, stored);
  }
}

TEST_F(GgufPlan, AnAudioHalfJoinsItsLanguageModel) {
  for (const auto& [entry, row] : all_.items()) {
    if (!row.contains("text")) continue;
    const std::string text = row["text"];
    const auto planned = PlanOf(File(text), File(entry));
    ASSERT_TRUE(planned.ok()) << entry << ": " << planned.error().message;
    const Json plan = PlanJson(*planned), published = PublishedPlan(entry);
    for (const char* part : {"encoder", "projector", "decoder", "embedding", "lm_head"})
      EXPECT_EQ(plan["parameters"][part], published["parameters"][part]) << entry << ": " << part;
    const bool eyes =
        entry == "mmproj-qwen2.5o";  // 64 x 3 x 14 x 14 and 64; two vectors of 256 that nobody reads are left out
    EXPECT_EQ(plan["parameters"].value("vision", 0), eyes ? 37'696 : 0) << entry;
    EXPECT_EQ(plan["parameters"]["total"].get<uint64_t>(),
              row["parameters"].get<uint64_t>() + all_[text]["parameters"].get<uint64_t>() + (eyes ? 512 : 0));
    EXPECT_EQ(plan["audio"], published["audio"]) << entry;
    EXPECT_EQ(plan["breakdown"]["kv_bytes_per_token"], published["breakdown"]["kv_bytes_per_token"]) << entry;
    uint64_t stored = 0;
    for (const std::string& file : {text, entry})
      for (const auto& [type, bytes] : all_[file]["by_type"].items()) stored += bytes.get<uint64_t>();
    if (text == "llama") stored -= 32 * 4;
    if (eyes) stored -= 30 * 64 / 32 * 34;  // positions that could be computed
    ExpectInPanels(*planned, stored);
  }
}

TEST_F(GgufPlan, PartsArePlannedAsTheWhole) {
  for (int i = 0; i < 3; ++i) {
    const std::string name = fmt::format("split-{:05}-of-00003.gguf", i + 1);
    Write(name, Header(name), all_["split"]["bytes"][static_cast<size_t>(i)].get<uint64_t>());
  }
  const Planned parts = PlanOf(dir_ / "split-00001-of-00003.gguf").value(), one = PlanOf(File("qwen2")).value();
  EXPECT_EQ(parts.layout.plan.total, one.layout.plan.total);
  fs::remove(dir_ / "split-00003-of-00003.gguf");
  EXPECT_THAT(PlanOf(dir_ / "split-00001-of-00003.gguf").error().message, HasSubstr("split-00003-of-00003.gguf"));
}

TEST_F(GgufPlan, AnotherPrecisionIsPlannedFromTheSameConfig) {
  const std::string file = File("qwen2");
  const Json published = PublishedPlan("qwen2");
  const Json bf16 = PlanJson(PlanOf(file, "", "bf16").value());
  EXPECT_EQ(bf16["memory"]["weights_bytes"], published["memory"]["weights_bytes"]);
  EXPECT_EQ(bf16["workload"]["weights"], "bf16");
  const Planned whole = PlanOf(file).value(), half = PlanOf(file, "", "auto", 2).value();
  EXPECT_GT(WeightBytes(half), WeightBytes(whole) / 2);  // norms stand on both ranks
  EXPECT_LT(WeightBytes(half), WeightBytes(whole) * 6 / 10);
}

TEST_F(GgufPlan, SettingsAndTensorsMustBelongTogether) {
  EXPECT_THAT(Problem("qwen2", "blk.1.attn_q.weight", "blk.7.attn_q.weight"),
              HasSubstr("'blk.7.attn_q.weight' (65536"));
  EXPECT_THAT(Problem("qwen2", "blk.1.attn_q.weight", "blk.0.ffn_norm.bias"), HasSubstr("blk.0.ffn_norm.bias"));
  EXPECT_THAT(Problem("llama", "blk.1.attn_output.weight", "rope_factors_long.weight"),
              HasSubstr("('blk.1.attn_output.weight')"));
  const auto with = [&](const std::string& key, uint32_t from, uint32_t to) {
    return Problem("qwen2", Setting(key, from), Setting(key, to));
  };
  EXPECT_THAT(with("block_count", 2, 1), HasSubstr("'blk.1."));
  EXPECT_THAT(with("block_count", 2, 3), testing::AllOf(HasSubstr("'blk.2.attn_norm.weight'"), HasSubstr("1231104")));
  EXPECT_THAT(with("feed_forward_length", 512, 768), testing::AllOf(HasSubstr("[512, 256]"), HasSubstr("[768, 256]")));
  EXPECT_THAT(with("head_count_kv", 2, 4), HasSubstr("attn_k"));
  EXPECT_THAT(with("embedding_length", 256, 512), HasSubstr("token_embd.weight"));
  EXPECT_THAT(with("embedding_length", 256, 0), HasSubstr("hidden_size"));
  EXPECT_THAT(with("head_count", 4, 0), HasSubstr("num_attention_heads"));
  EXPECT_THAT(Problem("qwen2", "qwen2.context_length", "qwen2.c0ntext_length"), HasSubstr("'qwen2.context_length'"));
  EXPECT_THAT(Problem("qwen2", "qwen2", "qwen9"), testing::AllOf(HasSubstr("'qwen9'"), HasSubstr("deepseek2")));
  EXPECT_EQ(Problem("qwen2", "tokenizer.ggml.tokens", "tokenizer.ggml.t0kens"), "");  // the embedding's rows decide
}

TEST_F(GgufPlan, AMutatedFileIsRefusedOrPlanned) {
  const std::string header = Header("llama.gguf");
  int planned = 0;
  for (size_t i = 0; i < 600; ++i) {
    std::string bytes = header;
    bytes[(i * 7919) % header.size()] = static_cast<char>(i % 4 == 0 ? 0xff : i * 31);
    const auto plan = PlanOf(Write("m.gguf", bytes, all_["llama"]["bytes"].get<uint64_t>()));
    if (!plan.ok())
      EXPECT_EQ(plan.error().code, Code::kBadModel) << plan.error().message;
    else
      ++planned;
  }
  EXPECT_GT(planned, 0);
}

TEST_F(GgufPlan, AnAudioHalfIsNeverTakenUnasked) {
  const std::string text = File("qwen2"), audio = File("mmproj-qwen2a");
  const Ran alone = RunSotto({"plan", text});
  EXPECT_EQ(alone.code, 0) << alone.err;
  EXPECT_THAT(alone.out, testing::AllOf(HasSubstr("--mmproj " + audio), HasSubstr("decoder")));
  const Ran both = RunSotto({"plan", text, "--mmproj", audio, "--json"});
  EXPECT_EQ(both.code, 0) << both.err;
  const Json plan = ParseJson(both.out, "plan", Code::kFailed).value();
  EXPECT_EQ(plan["model_type"], "audio-llm");
  EXPECT_FALSE(plan.contains("notes"));
  EXPECT_THAT(PlanOf(audio).error().message, HasSubstr("--mmproj"));
  EXPECT_THAT(PlanOf(text, text).error().message, HasSubstr("no audio encoder"));
  EXPECT_EQ(PlanOf("openai/whisper-tiny", audio).error().code, Code::kUsage);
  std::string header = Header("mmproj-qwen2a.gguf");
  header.replace(header.find("qwen2a"), 6, "gemma9");
  EXPECT_THAT(PlanOf(text, Write("other.gguf", header, all_["mmproj-qwen2a"]["bytes"].get<uint64_t>())).error().message,
              testing::AllOf(HasSubstr("'gemma9'"), HasSubstr("ultravox")));
}

TEST_F(GgufPlan, WhatIsNotRunIsRefusedByName) {
  const Ran transcribe = RunSotto({"transcribe", File("qwen2"), kAudio});
  EXPECT_EQ(transcribe.code, 4);
  EXPECT_THAT(transcribe.err, HasSubstr("qwen2"));
  const Ran logits = RunSotto({"logits", File("gemma2"), "--ids", "1", "-o", dir_ / "x.npy"});
  EXPECT_EQ(logits.code, 4);
  EXPECT_THAT(logits.err, HasSubstr("can be planned, not run"));
}

}  // namespace
}  // namespace sotto
