// Plans of directories whose weights are counted, not loaded: the headers of what transformers itself saves of every family
// (tests/golden/make_headers.py), and of quantized checkpoints. Zeros stand for the weights.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "engine/planning.h"
#include "engine/report.h"
#include "process.h"
#include "weights/checkpoint.h"

namespace sotto {
namespace {
namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

struct Tensor {
  std::string dtype;
  std::vector<int64_t> shape;
  uint64_t Elements() const {
    uint64_t n = 1;
    for (const int64_t d : shape) n *= static_cast<uint64_t>(d);
    return n;
  }
  uint64_t Bytes() const {
    const std::map<std::string, uint64_t> sizes = {{"F32", 4}, {"I32", 4}, {"BF16", 2}, {"F16", 2}, {"I64", 8}};
    const auto it = sizes.find(dtype);
    return Elements() * (it == sizes.end() ? 1 : it->second);
  }
};
using Tensors = std::map<std::string, Tensor>;

// A header, and a body that takes no disk.
void WriteSafetensors(const std::string& path, const Tensors& tensors) {
  std::string header = "{";
  uint64_t at = 0;
  for (const auto& [name, t] : tensors) {
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", at == 0 ? "" : ",", name,
                          t.dtype, fmt::join(t.shape, ","), at, at + t.Bytes());
    at += t.Bytes();
  }
  header += "}";
  const uint64_t size = header.size();
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(&size), 8) << header;
  fs::resize_file(path, 8 + size + at);
}

uint64_t BytesOf(const Tensors& tensors) {
  uint64_t sum = 0;
  for (const auto& [name, t] : tensors) sum += t.Bytes();
  return sum;
}

class HeadersPlan : public testing::Test {
 protected:
  void SetUp() override {
    setenv("HF_HOME", "/nonexistent", 1);
    all_ = ReadJson(SOTTO_SOURCE_DIR "/tests/golden/headers.json", Code::kBadInput).value();
    ASSERT_GE(all_.size(), 25U);
  }
  void TearDown() override { unsetenv("HF_HOME"); }

  static Tensors Read(const Json& shapes, const std::string& dtype = "BF16") {
    Tensors tensors;
    for (const auto& [name, shape] : shapes.items()) tensors[name] = {dtype, shape.get<std::vector<int64_t>>()};
    return tensors;
  }
  Result<Planned> PlanOf(const Json& config, const Tensors& tensors, const std::string& weights = "auto") const {
    std::ofstream(dir_ / "config.json") << config.dump();
    if (!tensors.empty()) WriteSafetensors(dir_ / "model.safetensors", tensors);
    PlanRequest request;
    request.unbounded = true;
    request.threads = 2;
    request.weights = weights;
    request.tokenizer = false;
    return PlanModel(TRY(FindModel(dir_.path(), ModelUse::kPlan)), request);
  }
  std::string Problem(const Json& config, const Tensors& tensors) const {
    const auto planned = PlanOf(config, tensors);
    if (planned.ok()) return "";
    EXPECT_EQ(planned.error().code, Code::kBadModel);
    return planned.error().message;
  }

  Json all_;
  TempDir dir_;
};

TEST_F(HeadersPlan, WhatTransformersSavesIsNeverRefused) {
  for (const auto& [entry, row] : all_.items())
    for (const char* style : {"tensors", "modules"}) {
      if (!row.contains(style)) continue;
      const auto planned = PlanOf(row["config"], Read(row[style]));
      ASSERT_TRUE(planned.ok()) << entry << ", " << style << ": " << planned.error().message;
      EXPECT_EQ(planned->layout.anatomy->Parameters(), row["counted"].get<uint64_t>()) << entry;
      EXPECT_EQ(planned->stored.parameters, row["counted"].get<uint64_t>()) << entry << ", " << style;
      EXPECT_EQ(planned->stored.Name(), "bf16");
    }
}

TEST_F(HeadersPlan, ADifferenceIsRefusedWithBothNumbers) {
  for (const auto& [entry, row] : all_.items())
    for (const char* style : {"tensors", "modules"}) {
      if (!row.contains(style)) continue;
      const Tensors good = Read(row[style]);
      // A row more in every fifth of the matrices, which is no repeated head.
      int i = 0;
      for (const auto& [name, t] : good) {
        if (t.shape.size() < 2 || name.ends_with("lm_head.weight") || name.ends_with("proj_out.weight")) continue;
        if (i++ % 5 != 0) continue;
        Tensors changed = good;
        changed[name].shape[0] += 1;
        EXPECT_THAT(Problem(row["config"], changed), HasSubstr("config.json")) << entry << ": " << name;
      }
      Tensors without = good;
      const std::string norm =
          std::find_if(good.begin(), good.end(), [](const auto& t) { return t.first.ends_with("norm.weight"); })->first;
      without.erase(norm);
      EXPECT_THAT(Problem(row["config"], without), HasSubstr("config.json describes")) << entry << ": " << norm;
      Tensors more = good;
      more["model.layers.97.mlp.up_proj.weight"] = {"BF16", {40, 24}};
      EXPECT_THAT(Problem(row["config"], more), HasSubstr("config.json")) << entry;
    }
}

TEST_F(HeadersPlan, TheTensorIsNamedWhereNamesMatch) {
  const Json& row = all_["qwen3"];
  const Tensors good = Read(row["tensors"]);
  Tensors changed = good;
  changed["model.layers.1.mlp.down_proj.weight"].shape = {24, 41};
  EXPECT_THAT(Problem(row["config"], changed),
              AllOf(HasSubstr("'model.layers.1.mlp.down_proj.weight'"), HasSubstr("[24, 41]"), HasSubstr("[24, 40]")));
  Json fewer = row["config"];
  fewer["num_hidden_layers"] = 1;
  EXPECT_THAT(Problem(fewer, good), AllOf(HasSubstr("6612"), HasSubstr("11280"), HasSubstr("'model.layers.1.")));
  Json deeper = row["config"];
  deeper["num_hidden_layers"] = 3;
  EXPECT_THAT(Problem(deeper, good),
              AllOf(HasSubstr("11280"), HasSubstr("'model.layers.2.input_layernorm.weight' is missing")));
}

TEST_F(HeadersPlan, WhatNothingReadsMayStandInTheFiles) {
  const auto with = [&](const char* entry, const std::string& name, Json config = {}) {
    Tensors tensors = Read(all_[entry]["tensors"]);
    tensors[name] = {"BF16", {7, 9}};
    Json whole = all_[entry]["config"];
    whole.update(config.is_null() ? Json::object() : config);
    return Problem(whole, tensors);
  };
  EXPECT_EQ(with("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"), "");
  EXPECT_EQ(with("deepseek_v3", "model.layers.2.eh_proj.weight", {{"num_nextn_predict_layers", 1}}), "");
  EXPECT_NE(with("deepseek_v3", "model.layers.2.eh_proj.weight", {{"num_nextn_predict_layers", 0}}), "");
  EXPECT_EQ(with("qwen2_5_omni_thinker", "talker.model.layers.0.mlp.up_proj.weight"), "");
  EXPECT_EQ(with("gemma3n_text", "model.layers.9.self_attn.k_proj.weight"), "");
  EXPECT_NE(with("qwen3", "talker.model.layers.0.mlp.up_proj.weight"), "");
}

TEST_F(HeadersPlan, PartsThatTheConfigNamesMayBeElsewhere) {
  // Ultravox: projector and tower here, the language model by name.
  const Json config = {{"model_type", "ultravox"},
                       {"audio_config", all_["qwen2_audio"]["config"]["audio_config"]},
                       {"text_model_id", "meta-llama/Llama-3.2-1B-Instruct"},
                       {"stack_factor", 2},
                       {"hidden_size", 20},
                       {"projector_act", "swiglu"},
                       {"projector_ln_mid", true}};
  Tensors tensors;
  for (const auto& [name, t] : Read(all_["qwen2_audio"]["tensors"]))
    if (name.starts_with("audio_tower.")) tensors[name] = t;
  tensors["multi_modal_projector.ln_pre.weight"] = {"BF16", {32}};
  tensors["multi_modal_projector.linear_1.weight"] = {"BF16", {20, 32}};
  tensors["multi_modal_projector.ln_mid.weight"] = {"BF16", {10}};
  tensors["multi_modal_projector.linear_2.weight"] = {"BF16", {2048, 10}};
  EXPECT_EQ(Problem(config, tensors), "");
  tensors["multi_modal_projector.linear_2.weight"].shape[0] = 2047;
  EXPECT_THAT(Problem(config, tensors), HasSubstr("linear_2"));
}

// ---- quantized ----

bool IsMatrix(const std::string& name, const Tensor& t) {
  return t.shape.size() == 2 && name.ends_with("_proj.weight");
}

using Pack = void (*)(const std::string& module, const Tensor& t, Tensors* out);

Tensors Packed(const Tensors& good, Pack pack) {
  Tensors tensors;
  for (const auto& [name, t] : good)
    if (IsMatrix(name, t))
      pack(name.substr(0, name.size() - 7), t, &tensors);
    else
      tensors[name] = {"F16", t.shape};
  return tensors;
}

void Gptq(const std::string& m, const Tensor& t, Tensors* out) {
  const int64_t o = t.shape[0], in = t.shape[1];
  (*out)[m + ".qweight"] = {"I32", {in / 8, o}};
  (*out)[m + ".qzeros"] = {"I32", {1, o / 8}};
  (*out)[m + ".scales"] = {"F16", {1, o}};
  (*out)[m + ".g_idx"] = {"I32", {in}};
  (*out)[m + ".bias"] = {"F16", {o}};
}
void Awq(const std::string& m, const Tensor& t, Tensors* out) {
  (*out)[m + ".qweight"] = {"I32", {t.shape[1], t.shape[0] / 8}};
  (*out)[m + ".qzeros"] = {"I32", {1, t.shape[0] / 8}};
  (*out)[m + ".scales"] = {"F16", {1, t.shape[0]}};
}
void Fp8(const std::string& m, const Tensor& t, Tensors* out) {  // DeepSeek: a scale for 128 x 128
  (*out)[m + ".weight"] = {"F8_E4M3", t.shape};
  (*out)[m + ".weight_scale_inv"] = {"F32", {(t.shape[0] + 127) / 128, (t.shape[1] + 127) / 128}};
}
void Compressed(const std::string& m, const Tensor& t, Tensors* out) {
  (*out)[m + ".weight_packed"] = {"I32", {t.shape[0], (t.shape[1] + 7) / 8}};
  (*out)[m + ".weight_scale"] = {"BF16", {t.shape[0], 1}};
  (*out)[m + ".weight_shape"] = {"I64", {2}};
}
void Bits4(const std::string& m, const Tensor& t, Tensors* out) {  // bitsandbytes
  const auto half = static_cast<int64_t>(t.Elements() / 2);
  (*out)[m + ".weight"] = {"U8", {half, 1}};
  (*out)[m + ".weight.absmax"] = {"U8", {half / 32 + 1}};
  (*out)[m + ".weight.quant_map"] = {"F32", {16}};
  (*out)[m + ".weight.nested_absmax"] = {"F32", {1}};
  (*out)[m + ".weight.quant_state.bitsandbytes__nf4"] = {"U8", {90}};
}

struct Form {
  const char* name;
  Json config;
  Pack pack;
};
const std::vector<Form>& Forms() {
  static const std::vector<Form> kForms = {
      {"gptq 4-bit", {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}}, Gptq},
      {"awq 4-bit", {{"quant_method", "awq"}, {"bits", 4}, {"version", "gemm"}}, Awq},
      {"fp8", {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}, Fp8},
      {"compressed-tensors pack-quantized",
       {{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}},
       Compressed},
      {"bitsandbytes 4-bit", {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}, Bits4}};
  return kForms;
}

uint64_t WeightBytes(const Planned& p) {
  uint64_t sum = 0;
  for (uint32_t id = 0; id < p.layout.plan.recipe.size(); ++id)
    if (p.layout.anatomy->at(id).role == Role::kWeight) sum += p.layout.plan.recipe[id].bytes.n;
  return sum;
}

TEST_F(HeadersPlan, QuantizedFilesAreCountedByTheirHeaders) {
  for (const char* entry : {"llama", "qwen3_moe", "deepseek_v3", "qwen2_audio", "glmasr"})
    for (const Form& form : Forms()) {
      Json config = all_[entry]["config"];
      config["quantization_config"] = form.config;
      const Tensors tensors = Packed(Read(all_[entry]["tensors"]), form.pack);
      const auto planned = PlanOf(config, tensors);
      ASSERT_TRUE(planned.ok()) << entry << ", " << form.name << ": " << planned.error().message;
      EXPECT_EQ(WeightBytes(*planned), BytesOf(tensors)) << entry << ", " << form.name;
      const Json plan = PlanJson(*planned);
      EXPECT_EQ(plan["workload"]["weights"], form.name);
      EXPECT_EQ(plan["workload"]["weights_stored"], form.name);
      EXPECT_EQ(plan["parameters"]["total"], all_[entry]["counted"]);
      // Component by component: what isn't quantized has its own bytes.
      const auto embedding = static_cast<uint64_t>(24 * 80 * 2);
      EXPECT_EQ(plan["weights"]["embedding_weight_bytes"], embedding) << entry;
      // Another precision is the formula's.
      const Planned bf16 = PlanOf(config, tensors, "bf16").value();
      config.erase("quantization_config");
      EXPECT_EQ(WeightBytes(bf16), WeightBytes(PlanOf(config, Read(all_[entry]["tensors"])).value())) << entry;
      fs::remove(dir_ / "model.safetensors");
    }
}

TEST_F(HeadersPlan, QuantizedFilesMustBelongToTheirConfig) {
  for (const Form& form : Forms()) {
    Json config = all_["llama"]["config"];
    config["quantization_config"] = form.config;
    const Tensors good = Packed(Read(all_["llama"]["tensors"]), form.pack);
    Json other = config;
    other["num_hidden_layers"] = 1;
    EXPECT_THAT(Problem(other, good), HasSubstr("model.layers.1.")) << form.name;
    other["num_hidden_layers"] = 3;
    EXPECT_THAT(Problem(other, good), HasSubstr("model.layers.2.")) << form.name;
    other = config;
    other["vocab_size"] = 81;
    EXPECT_THAT(Problem(other, good), HasSubstr("[81, 24]")) << form.name;
  }
}

TEST_F(HeadersPlan, AQuantizedConfigAloneIsRefusedWithItsRemedy) {
  Json config = all_["llama"]["config"];
  config["quantization_config"] = Forms()[0].config;
  EXPECT_THAT(Problem(config, {}), AllOf(HasSubstr("gptq 4-bit"), HasSubstr("--weights")));
  EXPECT_TRUE(PlanOf(config, {}, "q4_k").ok());
  EXPECT_EQ(QuantizationOf({{"quantization_config", {{"quant_method", "gptq"}, {"bits", 99}}}}), "gptq");
  EXPECT_EQ(QuantizationOf({{"text_config", {{"quantization_config", Json::object()}}}}), "quantized");
  EXPECT_EQ(QuantizationOf({{"quantization_config", 3}}), "");
}

TEST_F(HeadersPlan, TheCatalogueAnswersForQuantizedModels) {
  PlanRequest request;
  request.unbounded = true;
  const Planned p = PlanModel(FindModel("deepseek-ai/DeepSeek-V3", ModelUse::kPlan).value(), request).value();
  EXPECT_EQ(NameOf(p.layout.choice.weights), "bf16");
  EXPECT_THAT(PlanTable(p), HasSubstr("published as fp8, planned as bf16"));
  const Json plan = PlanJson(p);
  EXPECT_EQ(plan["workload"]["weights_stored"], "fp8");
  ASSERT_EQ(plan["notes"].size(), 1U);
}

TEST_F(HeadersPlan, QuantizedWhisperIsNotRun) {
  Json config = all_["whisper"]["config"];
  config["quantization_config"] = Forms()[4].config;
  ASSERT_TRUE(PlanOf(config, Packed(Read(all_["whisper"]["tensors"]), Bits4)).ok());
  const Ran ran = RunSotto({"transcribe", dir_.path(), SOTTO_SOURCE_DIR "/tests/golden/whisper/audio/short.wav"});
  EXPECT_EQ(ran.code, 4) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("bitsandbytes 4-bit"));
}

}  // namespace
}  // namespace sotto
