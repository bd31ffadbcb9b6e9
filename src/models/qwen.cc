// Qwen2 and Qwen2.5 (https://arxiv.org/abs/2412.15115), Qwen3 dense and mixture of experts (https://arxiv.org/abs/2505.09388).
// transformers' Qwen2Config, Qwen3Config, Qwen3MoeConfig.
#include <fmt/format.h>

#include <algorithm>

#include "models/text.h"

namespace sotto {
namespace {

// With use_sliding_window the first max_window_layers see everything, the others a window.
bool Above(int64_t layer, int64_t first) { return layer >= first; }

Result<TextConfig> ReadQwen2(const ClassConfig& j) {
  TextConfig c = TRY(ReadCommonText(j));
  c.qkv_bias = true;
  TRY(ReadForward(j, &c));
  if (TRY(j.BoolOr("use_sliding_window", false))) {
    c.window = TRY(j.Int("sliding_window", 1, kMaxContext));
    c.sliding = TRY(ReadSliding(j, c.layers, Above, TRY(j.Int("max_window_layers", 0, kMaxLayers))));
  }
  return c;
}

Result<TextConfig> ReadQwen3(const ClassConfig& j) {
  TextConfig c = TRY(ReadQwen2(j));
  c.qkv_bias = c.o_bias = TRY(j.Bool("attention_bias"));
  c.qk_norm = true;
  return c;
}

Result<TextConfig> ReadQwen3Moe(const ClassConfig& j) {
  TextConfig c = TRY(ReadQwen3(j));
  std::fill(c.sliding.begin(), c.sliding.end(), true);  // its class ignores max_window_layers
  c.not_run = "its mixture of experts is not computed by this version";
  const bool renamed = j.Has("num_local_experts") && !j.Has("num_experts");  // transformers 5 writes it so
  c.moe.experts = TRY(j.Int(renamed ? "num_local_experts" : "num_experts", 1, 1 << 16));
  c.moe.ffn = TRY(j.Int("moe_intermediate_size", 1, kMaxWidth));
  const int64_t step = TRY(j.Int("decoder_sparse_step", 1, kMaxLayers));
  c.sparse.resize(static_cast<size_t>(c.layers));
  for (int64_t i = 0; i < c.layers; ++i) c.sparse[static_cast<size_t>(i)] = (i + 1) % step == 0;
  if (j.Has("mlp_only_layers")) {
    const Json& dense = j.json()["mlp_only_layers"];
    if (!dense.is_array()) return j.Bad("mlp_only_layers", "must be a list of layers");
    for (const Json& layer : dense) {
      if (!layer.is_number_unsigned() || layer.get<uint64_t>() >= c.sparse.size())
        return j.Bad("mlp_only_layers", fmt::format("holds something else than layers from 0 to {}", c.layers - 1));
      c.sparse[layer.get<size_t>()] = false;
    }
  }
  return c;
}

TextFamily g_qwen2{"qwen2", ReadQwen2}, g_qwen3{"qwen3", ReadQwen3}, g_qwen3_moe{"qwen3_moe", ReadQwen3Moe},
    g_omni25{"qwen2_5_omni_text", ReadQwen2}, g_omni3{"qwen3_omni_moe_text", ReadQwen3Moe};
const bool kRegistered = (RegisterTextFamily(&g_qwen2), RegisterTextFamily(&g_qwen3), RegisterTextFamily(&g_qwen3_moe),
                          RegisterTextFamily(&g_omni25), RegisterTextFamily(&g_omni3), true);

}  // namespace
}  // namespace sotto
