#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/convert/gguf.h"

namespace sotto {
namespace {

// llama_ftype of llama.cpp's include/llama.h: what a file's name says of its types.
uint32_t FileType(const WeightKind& kind) {
  constexpr std::pair<std::string_view, uint32_t> kTypes[] = {
      {"fp32", 0},    {"fp16", 1},    {"q4_0", 2},  {"q4_1", 3},    {"q8_0", 7},    {"q5_0", 8},    {"q5_1", 9},
      {"q2_k", 10},   {"q3_k_s", 11}, {"q3_k", 11}, {"q3_k_m", 12}, {"q3_k_l", 13}, {"q4_k_s", 14}, {"q4_k", 14},
      {"q4_k_m", 15}, {"q5_k_s", 16}, {"q5_k", 16}, {"q5_k_m", 17}, {"q6_k", 18},   {"bf16", 32}};
  const std::string name = NameOf(kind);
  for (const auto& [known, number] : kTypes)
    if (known == name) return number;
  return 1024;  // LLAMA_FTYPE_GUESSED
}

// Rotary positions: kinds as transformers' configs name them (models/blocks/rope.cc reads the same keys).
Status WriteRope(const ClassConfig& j, const TextConfig& c, const std::string& arch, GgufHeader* h,
                 std::vector<float>* divisors) {
  const ClassConfig p = TRY(j.Part(j.Has("rope_parameters") ? "rope_parameters" : "rope_scaling", ""));
  const double theta = TRY(p.Number("rope_theta", TRY(j.Number("rope_theta", 10000))));
  const char* key = p.Has("rope_type") ? "rope_type" : "type";
  const std::string type = p.Has(key) ? TRY(p.String(key)) : "default";
  h->Whole(arch + ".rope.dimension_count", static_cast<uint32_t>(c.rope.dim()));
  h->Real(arch + ".rope.freq_base", static_cast<float>(theta));
  if (type == "linear" || type == "yarn") {
    const double original = TRY(p.Number("original_max_position_embeddings", static_cast<double>(c.max_context)));
    const double factor = TRY(p.Number("factor", static_cast<double>(c.max_context) / original));
    h->Text(arch + ".rope.scaling.type", type);
    h->Real(arch + ".rope.scaling.factor", static_cast<float>(factor));
    if (type == "linear") return {};
    h->Whole(arch + ".rope.scaling.original_context_length", static_cast<uint32_t>(original));
    h->Real(arch + ".rope.scaling.yarn_beta_fast", static_cast<float>(TRY(p.Number("beta_fast", 32))));
    h->Real(arch + ".rope.scaling.yarn_beta_slow", static_cast<float>(TRY(p.Number("beta_slow", 1))));
    const double usual = factor <= 1 ? 1 : 0.1 * std::log(factor) + 1;
    if (std::abs(c.rope.attention_scale - usual) > 1e-6 * usual || !TRY(p.BoolOr("truncate", true)))
      return j.Bad("rope_scaling", "asks for a form of yarn that GGUF files cannot hold");
  } else if (type != "default" && type != "dynamic") {
    for (size_t i = 0; i < c.rope.inv_freq.size(); ++i) {
      const auto plain =
          static_cast<float>(std::pow(theta, static_cast<float>(2 * i) / static_cast<float>(c.rope.dim())));
      divisors->push_back(1 / plain / c.rope.inv_freq[i]);
    }
  }
  return {};
}

}  // namespace

std::string_view ArchitectureOf(std::string_view model_type) {
  constexpr std::pair<std::string_view, std::string_view> kArchitectures[] = {
      {"llama", "llama"}, {"mistral", "llama"}, {"qwen2", "qwen2"}, {"qwen3", "qwen3"}};
  for (const auto& [type, arch] : kArchitectures)
    if (type == model_type) return arch;
  return "";
}

Status WriteSettings(const Original& original, const TextConfig& c, const WeightKind& weights, GgufHeader* h,
                     std::vector<float>* divisors, std::vector<std::string>* notes) {
  const ClassConfig j = TRY(ClassConfig::Of(original.config, "config.json"));
  const std::string arch(ArchitectureOf(c.type));
  const auto whole = [&](const char* key, int64_t n) { h->Whole(arch + key, static_cast<uint32_t>(n)); };
  int64_t context = std::min<int64_t>(c.max_context, UINT32_MAX);
  // The architectures see everything in llama.cpp: within the window that is the same.
  if (const bool slides = std::find(c.sliding.begin(), c.sliding.end(), true) != c.sliding.end();
      slides && c.window < context) {
    notes->push_back(fmt::format(
        "GGUF has no key for this model's sliding window, so the file says that its context is the window: {} of {} "
        "positions",
        c.window, context));
    context = c.window;
  }
  h->Text("general.architecture", arch);
  h->Text("general.type", "model");
  h->Text("general.name", original.dir.name);
  h->Whole("general.alignment", 32);
  h->Whole("general.quantization_version", 2);
  h->Whole("general.file_type", FileType(weights));
  whole(".block_count", c.layers);
  whole(".context_length", context);
  whole(".embedding_length", c.d_model);
  whole(".feed_forward_length", c.ffn);
  whole(".attention.head_count", c.heads);
  whole(".attention.head_count_kv", c.kv_heads);
  whole(".attention.key_length", c.head_dim);
  whole(".attention.value_length", c.head_dim);
  h->Real(arch + ".attention.layer_norm_rms_epsilon", c.rms_eps);
  whole(".vocab_size", c.vocab_size);
  return WriteRope(j, c, arch, h, divisors);
}

}  // namespace sotto
