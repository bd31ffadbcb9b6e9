#include "models/blocks/text_decoder.h"

#include <algorithm>
#include <cmath>

#include "models/blocks/shards.h"

namespace sotto {
namespace {

constexpr int64_t kPrefillRows = 128;  // tokens of a prompt that pass at once

int64_t QueryDim(const TextConfig& c) {
  return c.heads * (c.mla.kv_rank > 0 ? c.mla.nope_dim + c.mla.rope_dim : c.head_dim);
}
int64_t AttendedDim(const TextConfig& c) { return c.heads * (c.mla.kv_rank > 0 ? c.mla.v_dim : c.head_dim); }

// What layer i makes of each position; nothing where it reads another layer's cache.
KvLayer Kept(const TextConfig& c, int64_t i) {
  if (i >= c.layers - c.shared_kv_layers) return {};
  const int64_t window = !c.sliding.empty() && c.sliding[static_cast<size_t>(i)] ? c.window : 0;
  if (c.mla.kv_rank > 0)
    return {c.heads, c.mla.nope_dim + c.mla.rope_dim, c.mla.v_dim, window, c.mla.kv_rank, c.mla.rope_dim};
  return {c.kv_heads, c.head_dim, c.head_dim, window};
}

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

TextRoom::TextRoom(const Scope& decoder, const TextConfig& c, const Workload& n)
    : context(n.context == 0 ? std::min(c.max_context, kDefaultContext) : n.context),
      rows(std::max(n.sequences * n.beams, std::min(kPrefillRows, context))) {
  std::vector<KvShape> shapes;
  for (int64_t i = 0; i < c.layers - c.shared_kv_layers; ++i) {
    const KvLayer kept = Kept(c, i);
    const int64_t capacity = KvCapacity(kept.window, rows, context);
    if (kept.latent > 0)
      shapes.push_back({1, kept.latent, capacity, kept.rope, kept.window});
    else
      shapes.push_back({kept.heads, kept.head_dim, capacity, 0, kept.window});
  }
  // Live while audio is heard, too: what was said before an audio stays in the cache.
  kv = n.kv->Declare((decoder / "kv").During(kRunning), shapes, n.sequences * n.beams);

  const Scope step = decoder.During(kGenerate);
  const auto split = [&](const char* name, int64_t count, int64_t cols, int64_t unit) {
    return Buffer(step, name, count, cols, DType::kF32, Role::kActivation, ByIn(unit));
  };
  const bool latent = c.mla.kv_rank > 0;
  const int64_t key = latent ? c.mla.kv_rank + c.mla.rope_dim : c.kv_heads * c.head_dim;
  const int64_t ffn = std::max({c.ffn, c.moe.ffn, c.moe.shared_ffn});
  x = Buffer(step, "x", rows, c.d_model);
  h = Buffer(step, "h", rows, c.d_model);
  q = split("q", rows, QueryDim(c), QueryDim(c) / c.heads);
  k = split("k", rows, key, latent ? key : c.head_dim);
  v = split("v", rows, key, latent ? key : c.head_dim);
  attended = split("attended", rows, AttendedDim(c), AttendedDim(c) / c.heads);
  gate = split("gate", rows, ffn, 1);
  up = split("up", rows, ffn, 1);
  logits = split("logits", n.sequences * n.beams, c.vocab_size, 1);
  angles = Buffer(step, "angles", rows, std::max<int64_t>(c.rope.dim(), 1));
}

void TextRoom::Describe(const TextConfig& c, const Workload& n, ModelInfo* info) const {
  info->d_model = c.d_model;
  info->head_dim = c.mla.kv_rank > 0 ? c.mla.nope_dim + c.mla.rope_dim : c.head_dim;
  info->vocab_size = c.vocab_size;
  info->context = context;
  info->max_context = c.max_context;
  info->not_run = c.not_run;
  info->text_type = c.type;
  info->heads = c.heads;
  for (int64_t i = 0; i < c.layers; ++i) {
    const KvLayer kept = Kept(c, i);
    const double element = n.kv->BytesPerElement({kept.heads, kept.head_dim, context});
    const auto bytes = static_cast<int64_t>(std::ceil(element * static_cast<double>(kept.Elements())));
    info->kv_bytes_per_token += bytes;
    if (kept.window == 0) info->kv_bytes_per_token_beyond_window += bytes;
    info->kv_layers.push_back(kept);
  }
}

namespace {
bool IsSparse(const TextConfig& c, int64_t layer) { return !c.sparse.empty() && c.sparse[static_cast<size_t>(layer)]; }
Scope LayerScope(const Scope& root, int i) {
  return (root.As(Component::kDecoder) / "layers" / std::to_string(i)).Layer(i, Stack::kDecoder);
}
}  // namespace

TextDecoder::TextDecoder(const Scope& root, const Scope& head, TextConfig config, const Workload& n)
    : c_(std::move(config)),
      embedding_(root.As(Component::kEmbedding), "embed_tokens.weight", c_.vocab_size, c_.d_model, ByOut()),
      layers_([&] {
        std::vector<TextLayer> layers;
        layers.reserve(static_cast<size_t>(c_.layers));
        for (int i = 0; i < c_.layers; ++i) layers.emplace_back(LayerScope(root, i), c_, IsSparse(c_, i));
        return layers;
      }()),
      norm_(root.As(Component::kDecoder), "norm.weight", c_.d_model),
      room_([&]() -> TextRoom {
        for (int64_t i = 0; i < c_.unread_layers; ++i)
          root.into->Unused("layers." + std::to_string(c_.layers + i) + ".");
        if (!c_.tied) head_ = Matrix(head.As(Component::kLmHead), "lm_head.weight", c_.vocab_size, c_.d_model, ByOut());
        return {root.As(Component::kDecoder), c_, n};
      }()) {}

void TextDecoder::Step(Backend& ops, const Run& run, BatchRows rows, std::span<const int32_t> ids, View vectors) const {
  const int64_t n = rows.count();
  CHECK(n >= 1 && n <= room_.rows && static_cast<int64_t>(ids.size()) == n && c_.not_run.empty());
  const View x = run[room_.x].Rows(0, n);
  for (int64_t r = 0; r < n; ++r) {
    const int32_t id = ids[static_cast<size_t>(r)];
    if (id >= 0)
      ops.Embed({&id, 1}, {}, run[embedding_], {}, x.Rows(r, 1));
    else
      ops.Convert(vectors.Rows(-1 - id, 1), x.Rows(r, 1));
  }
  FillAngles(c_.rope, rows.pos, run[room_.angles].Rows(0, n));
  for (int i = 0; i < c_.layers; ++i) {
    const LayerTurn turn(run, Stack::kDecoder, i);
    if (!turn) return;
    Layer(ops, run, i, rows);
  }
  ops.RmsNorm(x, run[norm_], c_.rms_eps, x);
}

// x += attention(norm(x)); x += down(silu(gate(norm(x))) * up(norm(x)))
void TextDecoder::Layer(Backend& ops, const Run& run, int index, BatchRows rows) const {
  const TextLayer& w = layers_[static_cast<size_t>(index)];
  const int64_t n = rows.count();
  const auto of = [&](const Buffer& b) { return run[b].Rows(0, n); };
  const auto bias = [&](const Vector& b) { return b.id == Member().id ? View{} : run[b]; };
  const auto heads_of = [&](View x) {
    return View{x.data, x.dtype, n * x.cols / c_.head_dim, c_.head_dim, c_.head_dim};
  };
  const View x = of(room_.x), h = of(room_.h), q = of(room_.q), k = of(room_.k), v = of(room_.v);
  const View attended = of(room_.attended), gate = of(room_.gate), up = of(room_.up), angles = of(room_.angles);
  const int heads = static_cast<int>(c_.heads), kv_heads = static_cast<int>(c_.kv_heads),
            head_dim = static_cast<int>(c_.head_dim);

  ops.RmsNorm(x, run[w.norm1], c_.rms_eps, h);
  ops.Linear(h, run[w.wq], bias(w.bq), q);
  ops.Linear(h, run[w.wk], bias(w.bk), k);
  ops.Linear(h, run[w.wv], bias(w.bv), v);
  if (c_.qk_norm) {
    ops.RmsNorm(heads_of(q), run[w.q_norm], c_.rms_eps, heads_of(q));
    ops.RmsNorm(heads_of(k), run[w.k_norm], c_.rms_eps, heads_of(k));
  }
  ops.Rotate(q, angles, heads, head_dim);
  ops.Rotate(k, angles, kv_heads, head_dim);
  room_.kv->Store(ops, run, index, rows, k, v);
  room_.kv->Attend(ops, run, index, rows, q, {heads, head_dim, 1.0F / std::sqrt(static_cast<float>(head_dim)), 0},
                   attended);
  ops.Linear(attended, run[w.wo], bias(w.bo), x, Into::kAdd);

  ops.RmsNorm(x, run[w.norm2], c_.rms_eps, h);
  ops.Linear(h, run[w.gate], bias(w.gate_bias), gate);
  ops.Linear(h, run[w.up], bias(w.up_bias), up);
  ops.SiluMul(gate, up, gate);
  ops.Linear(gate, run[w.down], bias(w.down_bias), x, Into::kAdd);
}

View TextDecoder::Logits(Backend& ops, const Run& run, int64_t first, int64_t count) const {
  const View logits = run[room_.logits].Rows(0, count);
  ops.Linear(run[room_.x].Rows(first, count), run[c_.tied ? embedding_ : head_], {}, logits);
  return logits;
}

}  // namespace sotto
