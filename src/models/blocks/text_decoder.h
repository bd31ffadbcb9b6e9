// The decoder of Llama (https://arxiv.org/abs/2302.13971; transformers' LlamaForCausalLM) and of those that grew from it: Mistral,
// Qwen, Gemma, Phi-3, DeepSeek. Pre-norm layers of attention and a gated MLP; what differs is data: biases, norms of queries
// and keys, norms behind a block, sliding windows, mixtures of experts, latent attention (MLA).
//
// It declares weights, caches and buffers.
#pragma once
#include <vector>

#include "models/model.h"

namespace sotto {

// A mixture of experts in some layers. Sizes of one expert's gate, up and down: [ffn, d_model], twice, and [d_model, ffn].
struct MoeConfig {
  int64_t experts = 0;
  int64_t ffn = 0;
  int64_t shared_ffn = 0;    // experts that every token passes, side by side; 0: none
  bool router_bias = false;  // a correction of the router's scores, kept beside the weights
};

// Latent attention (DeepSeek-V2, https://arxiv.org/abs/2405.04434): the cache holds kv_rank + rope_dim numbers a token.
struct MlaConfig {
  int64_t q_rank = 0;  // 0: queries straight from the hidden state
  int64_t kv_rank = 0, rope_dim = 0, nope_dim = 0, v_dim = 0;
};

struct TextConfig {
  int64_t d_model = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab_size = 0;
  int64_t max_context = 0;
  bool tied = false;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool fused = false;                 // one tensor for q, k, v and one for gate and up (Phi-3)
  bool qk_norm = false;               // of each head of queries and keys
  bool post_norms = false;            // behind attention and MLP too (Gemma 2 and 3)
  int64_t window = 0;                 // positions that a sliding layer sees
  std::vector<bool> sliding, sparse;  // by layer; empty: none
  int64_t unread_layers = 0;     // behind the last one in the files, for guessing further tokens: nothing reads them
  int64_t shared_kv_layers = 0;  // the last ones, which read an earlier layer's cache (Gemma-3n)
  MoeConfig moe;
  MlaConfig mla;
};

// What a cache of one layer holds: `window` positions and the rows that come at once, or the whole context.
int64_t KvCapacity(int64_t window, int64_t rows, int64_t context);

// One layer's tensors. Those that a family lacks stay unregistered.
struct TextLayer {
  TextLayer(const Scope& at, const TextConfig& c, bool sparse);
  Vector norm1, norm1_after, norm2, norm2_after;
  Matrix wq, wk, wv, wqkv, wo;
  Vector bq, bk, bv, bo, q_norm, k_norm;
  Matrix q_down, q_up, kv_down, kv_up;  // MLA
  Vector q_down_norm, kv_down_norm, q_down_bias, kv_down_bias;
  Matrix gate, up, gate_up, down;
  Vector gate_bias, up_bias, down_bias;
  Matrix router, expert_gate_up, expert_down;
  Vector router_bias;
};

// Caches and buffers of a decoder: what its weights don't tell. Shared by decoders whose layers differ.
class TextRoom {
 public:
  TextRoom(const TextConfig& config, const Workload& workload);
  void Declare(const Scope& decoder, const TextConfig& config, const Workload& workload);
  void Describe(const TextConfig& config, const Workload& workload, ModelInfo* info) const;
  int64_t rows() const { return rows_; }

 private:
  int64_t context_, rows_;
  std::unique_ptr<KvStore> kv_;
  Buffer x_, h_, q_, k_, v_, attended_, gate_, up_, logits_;
};

// The weights. `root` is the scope of "model.", `head` that of the language model's wrapper ("": lm_head.weight).
void DeclareTextWeights(const Scope& root, const Scope& head, const TextConfig& config);

}  // namespace sotto
