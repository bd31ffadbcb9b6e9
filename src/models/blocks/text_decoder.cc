#include "models/blocks/text_decoder.h"

#include <algorithm>

#include "models/blocks/shards.h"

namespace sotto {
namespace {

constexpr int64_t kPrefillRows = 128;  // tokens of a prompt that pass at once

int64_t QueryDim(const TextConfig& c) {
  return c.heads * (c.mla.kv_rank > 0 ? c.mla.nope_dim + c.mla.rope_dim : c.head_dim);
}
int64_t AttendedDim(const TextConfig& c) { return c.heads * (c.mla.kv_rank > 0 ? c.mla.v_dim : c.head_dim); }

}  // namespace

TextLayer::TextLayer(const Scope& at, const TextConfig& c, bool sparse) {
  const Scope attention = at / "self_attn", mlp = at / "mlp";
  norm1 = Vector(at, "input_layernorm.weight", c.d_model);
  if (c.mla.kv_rank > 0) {
    const MlaConfig& m = c.mla;
    if (m.q_rank > 0) {
      q_down = Matrix(attention, "q_a_proj.weight", m.q_rank, c.d_model);
      if (c.qkv_bias) q_down_bias = Vector(attention, "q_a_proj.bias", m.q_rank);
      q_down_norm = Vector(attention, "q_a_layernorm.weight", m.q_rank);
      q_up = Matrix(attention, "q_b_proj.weight", QueryDim(c), m.q_rank, ByOut(m.nope_dim + m.rope_dim));
    } else {
      wq = Matrix(attention, "q_proj.weight", QueryDim(c), c.d_model, ByOut(m.nope_dim + m.rope_dim));
    }
    kv_down = Matrix(attention, "kv_a_proj_with_mqa.weight", m.kv_rank + m.rope_dim, c.d_model);
    if (c.qkv_bias) kv_down_bias = Vector(attention, "kv_a_proj_with_mqa.bias", m.kv_rank + m.rope_dim);
    kv_down_norm = Vector(attention, "kv_a_layernorm.weight", m.kv_rank);
    kv_up =
        Matrix(attention, "kv_b_proj.weight", c.heads * (m.nope_dim + m.v_dim), m.kv_rank, ByOut(m.nope_dim + m.v_dim));
    wo = Matrix(attention, "o_proj.weight", c.d_model, AttendedDim(c), ByIn(m.v_dim));
  } else {
    const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
    const Shard head = ByOut(c.head_dim);
    if (c.fused) {
      wqkv = Matrix(attention, "qkv_proj.weight", q + 2 * kv, c.d_model, head);
    } else {
      wq = Matrix(attention, "q_proj.weight", q, c.d_model, head);
      wk = Matrix(attention, "k_proj.weight", kv, c.d_model, head);
      wv = Matrix(attention, "v_proj.weight", kv, c.d_model, head);
    }
    if (c.qkv_bias) {
      bq = Vector(attention, "q_proj.bias", q, head);
      bk = Vector(attention, "k_proj.bias", kv, head);
      bv = Vector(attention, "v_proj.bias", kv, head);
    }
    wo = Matrix(attention, "o_proj.weight", c.d_model, q, ByIn(c.head_dim));
  }
  if (c.o_bias) bo = Vector(attention, "o_proj.bias", c.d_model);
  if (c.qk_norm) {
    q_norm = Vector(attention, "q_norm.weight", c.head_dim);
    k_norm = Vector(attention, "k_norm.weight", c.head_dim);
  }
  if (c.post_norms) {
    norm1_after = Vector(at, "post_attention_layernorm.weight", c.d_model);
    norm2 = Vector(at, "pre_feedforward_layernorm.weight", c.d_model);
    norm2_after = Vector(at, "post_feedforward_layernorm.weight", c.d_model);
  } else {
    norm2 = Vector(at, "post_attention_layernorm.weight", c.d_model);
  }
  const auto gated = [&](const Scope& into, int64_t ffn, bool fused) {
    if (fused) {
      gate_up = Matrix(into, "gate_up_proj.weight", 2 * ffn, c.d_model, ByOut());
    } else {
      gate = Matrix(into, "gate_proj.weight", ffn, c.d_model, ByOut());
      up = Matrix(into, "up_proj.weight", ffn, c.d_model, ByOut());
    }
    down = Matrix(into, "down_proj.weight", c.d_model, ffn, ByIn());
    if (c.mlp_bias) {
      gate_bias = Vector(into, "gate_proj.bias", ffn, ByOut());
      up_bias = Vector(into, "up_proj.bias", ffn, ByOut());
      down_bias = Vector(into, "down_proj.bias", c.d_model);
    }
  };
  if (sparse) {
    const MoeConfig& m = c.moe;
    router = Matrix(mlp, "gate.weight", m.experts, c.d_model);
    if (m.router_bias) router_bias = Vector(mlp, "gate.e_score_correction_bias", m.experts);
    // All experts stacked, one behind the other: [experts * 2 * ffn, d_model] and [experts * d_model, ffn].
    const Scope experts = (mlp / "experts").As(Component::kExperts);
    expert_gate_up = Matrix(experts, "gate_up_proj", m.experts * 2 * m.ffn, c.d_model, ByOut());
    expert_down = Matrix(experts, "down_proj", m.experts * c.d_model, m.ffn, ByIn());
    if (m.shared_ffn > 0) gated(mlp / "shared_experts", m.shared_ffn, false);
    return;
  }
  gated(mlp, c.ffn, c.fused);
}

int64_t KvCapacity(int64_t window, int64_t rows, int64_t context) {
  return window == 0 ? context : std::min(context, window + rows - 1);
}

TextRoom::TextRoom(const TextConfig& c, const Workload& n)
    : context_(n.context == 0 ? std::min(c.max_context, kDefaultContext) : n.context),
      rows_(std::max(n.sequences * n.beams, std::min(kPrefillRows, context_))) {}

void TextRoom::Declare(const Scope& decoder, const TextConfig& c, const Workload& n) {
  std::vector<KvShape> shapes;
  for (int64_t i = 0; i < c.layers - c.shared_kv_layers; ++i) {
    const int64_t window = !c.sliding.empty() && c.sliding[static_cast<size_t>(i)] ? c.window : 0;
    const int64_t capacity = KvCapacity(window, rows_, context_);
    if (c.mla.kv_rank > 0)
      shapes.push_back({1, c.mla.kv_rank, capacity, c.mla.rope_dim});
    else
      shapes.push_back({c.kv_heads, c.head_dim, capacity});
  }
  kv_ = n.kv->declare((decoder / "kv").During(kGenerate), shapes, n.sequences * n.beams);

  const Scope step = decoder.During(kGenerate);
  const auto split = [&](const char* name, int64_t rows, int64_t cols, int64_t unit) {
    return Buffer(step, name, rows, cols, DType::kF32, Role::kActivation, ByIn(unit));
  };
  const bool latent = c.mla.kv_rank > 0;
  const int64_t key = latent ? c.mla.kv_rank + c.mla.rope_dim : c.kv_heads * c.head_dim;
  const int64_t ffn = std::max({c.ffn, c.moe.ffn, c.moe.shared_ffn});
  x_ = Buffer(step, "x", rows_, c.d_model);
  h_ = Buffer(step, "h", rows_, c.d_model);
  q_ = split("q", rows_, QueryDim(c), QueryDim(c) / c.heads);
  k_ = split("k", rows_, key, latent ? key : c.head_dim);
  v_ = split("v", rows_, key, latent ? key : c.head_dim);
  attended_ = split("attended", rows_, AttendedDim(c), AttendedDim(c) / c.heads);
  gate_ = split("gate", rows_, ffn, 1);
  up_ = split("up", rows_, ffn, 1);
  logits_ = split("logits", n.sequences * n.beams, c.vocab_size, 1);
}

void TextRoom::Describe(const TextConfig& c, const Workload& n, ModelInfo* info) const {
  info->d_model = c.d_model;
  info->head_dim = c.mla.kv_rank > 0 ? c.mla.nope_dim + c.mla.rope_dim : c.head_dim;
  info->vocab_size = c.vocab_size;
  info->context = context_;
  info->max_context = c.max_context;
  const int64_t elements = c.mla.kv_rank > 0 ? c.mla.kv_rank + c.mla.rope_dim : 2 * c.kv_heads * c.head_dim;
  const int64_t caching = c.layers - c.shared_kv_layers;
  int64_t growing = 0;  // layers whose cache still grows when the windows are full
  for (int64_t i = 0; i < caching; ++i) growing += c.sliding.empty() || !c.sliding[static_cast<size_t>(i)];
  const auto size = static_cast<int64_t>(SizeOf(n.kv->dtype));
  info->kv_bytes_per_token = size * elements * caching;
  info->kv_bytes_per_token_beyond_window = size * elements * growing;
}

namespace {
bool IsSparse(const TextConfig& c, int64_t layer) { return !c.sparse.empty() && c.sparse[static_cast<size_t>(layer)]; }
Scope LayerScope(const Scope& root, int i) {
  return (root.As(Component::kDecoder) / "layers" / std::to_string(i)).Layer(i);
}
}  // namespace

void DeclareTextWeights(const Scope& root, const Scope& head, const TextConfig& c) {
  (void)Matrix(root.As(Component::kEmbedding), "embed_tokens.weight", c.vocab_size, c.d_model, ByOut());
  for (int i = 0; i < c.layers; ++i) (void)TextLayer(LayerScope(root, i), c, IsSparse(c, i));
  (void)Vector(root.As(Component::kDecoder), "norm.weight", c.d_model);
  for (int64_t i = 0; i < c.unread_layers; ++i) root.into->Unused("layers." + std::to_string(c.layers + i) + ".");
  if (!c.tied) (void)Matrix(head.As(Component::kLmHead), "lm_head.weight", c.vocab_size, c.d_model, ByOut());
}

}  // namespace sotto
