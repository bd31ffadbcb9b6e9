// The decoder of Llama (https://arxiv.org/abs/2302.13971; transformers' LlamaForCausalLM) and of those that grew from it: Mistral,
// Qwen, Gemma, Phi-3, DeepSeek. Pre-norm layers of attention and a gated MLP; what differs is data: biases, norms of queries
// and keys, norms behind a block, sliding windows, mixtures of experts, latent attention (MLA).
//
// It declares weights, caches and buffers, and computes those of them whose config says so (TextConfig::not_run).
#pragma once
#include <string>
#include <vector>

#include "models/blocks/rope.h"
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
  std::string_view type;  // model_type of the family that read it; static
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
  float rms_eps = 1e-6F;
  Rope rope;
  std::string not_run = "its layers are not computed by this version";  // why it can only be planned; "" when it runs
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
struct TextRoom {
  TextRoom(const Scope& decoder, const TextConfig& config, const Workload& workload);
  // Fills what a decoder tells of itself; `type` is left alone.
  void Describe(const TextConfig& config, const Workload& workload, ModelInfo* info) const;

  int64_t context, rows;  // rows: tokens of a prompt, or sequences, that pass at once
  std::unique_ptr<KvStore> kv;
  Buffer x, h, q, k, v, attended, gate, up, logits, angles;
};

class TextDecoder {
 public:
  // `root` is the scope of "model.", `head` that of the language model's wrapper ("": lm_head.weight).
  TextDecoder(const Scope& root, const Scope& head, TextConfig config, const Workload& workload);

  const TextConfig& config() const { return c_; }
  const TextRoom& room() const { return room_; }

  // One pass over rows.count() <= room().rows tokens, each of a sequence and a position. An id below 0 stands for row -1 - id of
  // `vectors` (audio) [any, d_model].
  void Step(Backend& ops, const Run& run, BatchRows rows, std::span<const int32_t> ids, View vectors) const;
  // Logits [count, vocab_size] of rows [first, first + count) of the last Step.
  View Logits(Backend& ops, const Run& run, int64_t first, int64_t count) const;

 private:
  void Layer(Backend& ops, const Run& run, int index, BatchRows rows) const;

  TextConfig c_;
  Matrix embedding_, head_;
  std::vector<TextLayer> layers_;
  Vector norm_;
  TextRoom room_;
};

}  // namespace sotto
