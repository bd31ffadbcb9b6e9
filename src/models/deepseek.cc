// DeepSeek-V2 and V3 (https://arxiv.org/abs/2405.04434, https://arxiv.org/abs/2412.19437): latent attention, routed and shared
// experts behind the first dense layers. transformers' DeepseekV2Config and DeepseekV3Config. The layer that predicts
// further tokens (num_nextn_predict_layers) is not part of the class, and not counted, though the files hold it.
#include "models/text.h"

namespace sotto {
namespace {

Result<TextConfig> ReadDeepseek(const ClassConfig& j) {
  TextConfig c = TRY(ReadCommonText(j));
  c.qkv_bias = c.o_bias = TRY(j.Bool("attention_bias"));
  if (j.type() == "deepseek_v2") c.mlp_bias = TRY(j.Bool("mlp_bias"));
  c.mla.q_rank = TRY(j.IntOr("q_lora_rank", 1, kMaxWidth, 0));
  if (j.json().contains("q_lora_rank") && !j.Has("q_lora_rank")) c.mla.q_rank = 0;  // null: no factorisation
  c.mla.kv_rank = TRY(j.Int("kv_lora_rank", 1, kMaxWidth));
  c.mla.rope_dim = TRY(j.Int("qk_rope_head_dim", 1, kMaxWidth));
  c.mla.nope_dim = TRY(j.Int("qk_nope_head_dim", 1, kMaxWidth));
  c.mla.v_dim = TRY(j.Int("v_head_dim", 1, kMaxWidth));
  c.moe.experts = TRY(j.Int("n_routed_experts", 1, 1 << 16));
  c.moe.ffn = TRY(j.Int("moe_intermediate_size", 1, kMaxWidth));
  c.moe.shared_ffn = c.moe.ffn * TRY(j.Int("n_shared_experts", 0, 1024));
  c.moe.router_bias = j.type() == "deepseek_v3";
  c.unread_layers = TRY(j.IntOr("num_nextn_predict_layers", 0, 64, 0));
  const int64_t dense = TRY(j.Int("first_k_dense_replace", 0, kMaxLayers));
  c.sparse.resize(static_cast<size_t>(c.layers));
  for (int64_t i = 0; i < c.layers; ++i) c.sparse[static_cast<size_t>(i)] = i >= dense;
  return c;
}

TextFamily g_v2{"deepseek_v2", ReadDeepseek}, g_v3{"deepseek_v3", ReadDeepseek};
const bool kRegistered = (RegisterTextFamily(&g_v2), RegisterTextFamily(&g_v3), true);

}  // namespace
}  // namespace sotto
