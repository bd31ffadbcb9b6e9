// Whisper (https://arxiv.org/abs/2212.04356; transformers' WhisperForConditionalGeneration): tiny to large-v3, turbo, distil.
#include <cmath>
#include <numeric>

#include "models/blocks/audio_encoder.h"
#include "models/blocks/rows.h"
#include "models/blocks/shards.h"
#include "models/config.h"

namespace sotto {
namespace {

constexpr float kEpsilon = 1e-5F;
constexpr int64_t kPromptRows = 16;  // tokens of a prompt that pass the decoder at once

struct Config {
  AudioEncoderConfig encoder;
  int64_t d_model = 0, layers = 0, heads = 0, ffn = 0, context = 0, vocab_size = 0;
  int64_t head_dim() const { return d_model / heads; }
};

// Class defaults: transformers' WhisperConfig.
Result<Config> ReadConfig(const Json& j) {
  constexpr int64_t kWide = 1 << 20, kDeep = 4096;
  Config c;
  c.d_model = TRY(ConfigInt(j, "d_model", 1, kWide));
  c.layers = TRY(ConfigInt(j, "decoder_layers", 1, kDeep));
  c.heads = TRY(ConfigInt(j, "decoder_attention_heads", 1, kWide));
  c.ffn = TRY(ConfigInt(j, "decoder_ffn_dim", 1, kWide));
  c.context = TRY(ConfigInt(j, "max_target_positions", 4, kWide, 448));
  c.vocab_size = TRY(ConfigInt(j, "vocab_size", 1, 1 << 24));
  c.encoder.d_model = c.d_model;
  c.encoder.layers = TRY(ConfigInt(j, "encoder_layers", 1, kDeep));
  c.encoder.heads = TRY(ConfigInt(j, "encoder_attention_heads", 1, kWide));
  c.encoder.ffn = TRY(ConfigInt(j, "encoder_ffn_dim", 1, kWide));
  c.encoder.n_mels = TRY(ConfigInt(j, "num_mel_bins", 1, 1024, 80));
  c.encoder.positions = TRY(ConfigInt(j, "max_source_positions", 1, 1 << 16, 1500));
  for (const int64_t heads : {c.heads, c.encoder.heads})
    if (c.d_model % heads != 0)
      return BadModel(
          "config.json: 'd_model' is not a multiple of the number of attention heads; take config.json from the "
          "model's own page");
  const std::string activation = TRY(ConfigString(j, "activation_function", "gelu"));
  if (activation != "gelu")
    return BadModel("config.json: activation_function '" + activation.substr(0, 40) +
                    "' is not one that Whisper was published with (gelu)");
  if (!TRY(ConfigBool(j, "tie_word_embeddings", true)))
    return BadModel("config.json: tie_word_embeddings is false, but Whisper was published with a tied head only");
  return c;
}

struct DecoderLayer {
  Scope at;
  const Config& c;
  Vector norm1{at, "self_attn_layer_norm.weight", c.d_model}, norm1_bias{at, "self_attn_layer_norm.bias", c.d_model};
  Matrix wq{at, "self_attn.q_proj.weight", c.d_model, c.d_model, ByOut(c.head_dim())};
  Vector bq{at, "self_attn.q_proj.bias", c.d_model, ByOut(c.head_dim())};
  Matrix wk{at, "self_attn.k_proj.weight", c.d_model, c.d_model, ByOut(c.head_dim())};
  Matrix wv{at, "self_attn.v_proj.weight", c.d_model, c.d_model, ByOut(c.head_dim())};
  Vector bv{at, "self_attn.v_proj.bias", c.d_model, ByOut(c.head_dim())};
  Matrix wo{at, "self_attn.out_proj.weight", c.d_model, c.d_model, ByIn(c.head_dim())};
  Vector bo{at, "self_attn.out_proj.bias", c.d_model};

  Scope cross = at.As(Component::kCrossAttention);
  Vector norm2{cross, "encoder_attn_layer_norm.weight", c.d_model},
      norm2_bias{cross, "encoder_attn_layer_norm.bias", c.d_model};
  Matrix cross_wq{cross, "encoder_attn.q_proj.weight", c.d_model, c.d_model, ByOut(c.head_dim())};
  Vector cross_bq{cross, "encoder_attn.q_proj.bias", c.d_model, ByOut(c.head_dim())};
  Matrix cross_wk{cross, "encoder_attn.k_proj.weight", c.d_model, c.d_model, ByOut(c.head_dim())};
  Matrix cross_wv{cross, "encoder_attn.v_proj.weight", c.d_model, c.d_model, ByOut(c.head_dim())};
  Vector cross_bv{cross, "encoder_attn.v_proj.bias", c.d_model, ByOut(c.head_dim())};
  Matrix cross_wo{cross, "encoder_attn.out_proj.weight", c.d_model, c.d_model, ByIn(c.head_dim())};
  Vector cross_bo{cross, "encoder_attn.out_proj.bias", c.d_model};

  Vector norm3{at, "final_layer_norm.weight", c.d_model}, norm3_bias{at, "final_layer_norm.bias", c.d_model};
  Matrix fc1{at, "fc1.weight", c.ffn, c.d_model, ByOut()};
  Vector fc1_bias{at, "fc1.bias", c.ffn, ByOut()};
  Matrix fc2{at, "fc2.weight", c.d_model, c.ffn, ByIn()};
  Vector fc2_bias{at, "fc2.bias", c.d_model};
};

class Whisper final : public Model {
 public:
  Whisper(const Config& config, const Workload& n, const Scope& root)
      : c_(config),
        rows_(std::max(n.sequences * n.beams, kPromptRows)),
        encoder_((root / "encoder").As(Component::kEncoder), c_.encoder),
        embedding_((root / "decoder").As(Component::kEmbedding), "embed_tokens.weight", c_.vocab_size, c_.d_model,
                   ByOut()),
        positions_((root / "decoder").As(Component::kDecoder), "embed_positions.weight", c_.context, c_.d_model),
        norm_((root / "decoder").As(Component::kDecoder), "layer_norm.weight", c_.d_model),
        norm_bias_((root / "decoder").As(Component::kDecoder), "layer_norm.bias", c_.d_model) {
    const Scope decoder = (root / "decoder").As(Component::kDecoder);
    layers_.reserve(static_cast<size_t>(c_.layers));
    for (int i = 0; i < c_.layers; ++i) layers_.push_back({(decoder / "layers" / std::to_string(i)).Layer(i), c_});

    const int64_t context = n.context == 0 ? c_.context : std::min(n.context, c_.context);
    const KvShape self{c_.heads, c_.d_model / c_.heads, context},
        cross{c_.heads, c_.d_model / c_.heads, c_.encoder.heard()};
    const std::vector<KvShape> self_layers(static_cast<size_t>(c_.layers), self),
        cross_layers(self_layers.size(), cross);
    self_ = n.kv->Declare((decoder / "self_kv").During(kGenerate), self_layers, n.sequences * n.beams);
    cross_ = n.kv->Declare((decoder / "cross_kv").As(Component::kCrossAttention).During(kRunning), cross_layers,
                           n.sequences);

    const Scope step = decoder.During(kGenerate);
    x_ = Buffer(step, "x", rows_, c_.d_model);
    h_ = Buffer(step, "h", rows_, c_.d_model);
    q_ = Buffer(step, "q", rows_, c_.d_model);
    k_ = Buffer(step, "k", rows_, c_.d_model);
    v_ = Buffer(step, "v", rows_, c_.d_model);
    hidden_ = Buffer(step, "hidden", rows_, c_.ffn);
    logits_ = Buffer(step, "logits", n.sequences * n.beams, c_.vocab_size);

    positions_of_window_.resize(static_cast<size_t>(c_.encoder.heard()));
    std::iota(positions_of_window_.begin(), positions_of_window_.end(), 0);
    sequence_of_window_.resize(positions_of_window_.size());
    info_ = {.type = "encoder-decoder",
             .not_run = "",
             .d_model = c_.d_model,
             .head_dim = std::max(c_.d_model / c_.heads, c_.d_model / c_.encoder.heads),
             .vocab_size = c_.vocab_size,
             .context = context,
             .n_mels = c_.encoder.n_mels,
             .n_frames = 2 * c_.encoder.heard(),
             .audio_positions = c_.encoder.heard(),
             .max_context = c_.context,
             .kv_bytes_per_token = static_cast<int64_t>(SizeOf(n.kv->dtype)) * 2 * c_.layers * c_.d_model,
             .encoder_kv_formula_elements = 2 * c_.encoder.layers * c_.encoder.heard() * c_.d_model,
             .heads = c_.heads,
             .encoder_heads = c_.encoder.heads,
             .kv_layers = std::vector<KvLayer>(self_layers.size(), {c_.heads, c_.head_dim(), c_.head_dim()}),
             .cross_layers = c_.layers};
  }

  View Mel(const Run& run, int64_t) const override { return encoder_.Mel(run); }
  int64_t max_rows() const override { return rows_; }

  View Encode(Backend& ops, const Run& run, int64_t /*samples*/, int32_t sequence) override {
    const View states = encoder_.Forward(ops, run);
    const View k = encoder_.Spare(run, 0), v = encoder_.Spare(run, 1);
    std::fill(sequence_of_window_.begin(), sequence_of_window_.end(), sequence);
    int layer = 0;
    for (const DecoderLayer& w : layers_) {
      ops.Linear(states, run[w.cross_wk], {}, k, Into::kStore);
      ops.Linear(states, run[w.cross_wv], run[w.cross_bv], v, Into::kStore);
      cross_->Store(ops, run, layer++, {sequence_of_window_, positions_of_window_}, k, v);
    }
    return states;
  }

  void Step(Backend& ops, const Run& run, BatchRows rows, std::span<const int32_t> ids) override {
    const int64_t n = rows.count();
    CHECK(n >= 1 && n <= rows_ && ids.size() == rows.seq.size());
    const View x = run[x_].Rows(0, n);
    ops.Embed(ids, {}, run[embedding_], {}, x);
    for (int64_t r = 0; r < n; ++r) AddRow(run[positions_].Rows(rows.pos[static_cast<size_t>(r)], 1), x.F32(r));
    for (size_t i = 0; i < layers_.size(); ++i) Layer(ops, run, static_cast<int>(i), layers_[i], rows, x);
    ops.LayerNorm(x, run[norm_], run[norm_bias_], kEpsilon, x);
  }

  View Logits(Backend& ops, const Run& run, int64_t first, int64_t count) override {
    const View logits = run[logits_].Rows(0, count);
    ops.Linear(run[x_].Rows(first, count), run[embedding_], {}, logits, Into::kStore);
    return logits;
  }

 private:
  // x += self-attention(norm(x)); x += cross-attention(norm(x)); x += mlp(norm(x))
  void Layer(Backend& ops, const Run& run, int layer, const DecoderLayer& w, BatchRows rows, View x) {
    const int64_t n = rows.count();
    const View h = run[h_].Rows(0, n), q = run[q_].Rows(0, n), k = run[k_].Rows(0, n), v = run[v_].Rows(0, n);
    const View hidden = run[hidden_].Rows(0, n);
    const int head_dim = static_cast<int>(c_.d_model / c_.heads);
    AttnSpec spec{static_cast<int>(c_.heads), head_dim, 1.0F / std::sqrt(static_cast<float>(head_dim)), 0};

    ops.LayerNorm(x, run[w.norm1], run[w.norm1_bias], kEpsilon, h);
    ops.Linear(h, run[w.wq], run[w.bq], q, Into::kStore);
    ops.Linear(h, run[w.wk], {}, k, Into::kStore);
    ops.Linear(h, run[w.wv], run[w.bv], v, Into::kStore);
    self_->Store(ops, run, layer, rows, k, v);
    self_->Attend(ops, run, layer, rows, q, spec, h);
    ops.Linear(h, run[w.wo], run[w.bo], x, Into::kAdd);

    spec.keys = c_.encoder.heard();
    ops.LayerNorm(x, run[w.norm2], run[w.norm2_bias], kEpsilon, h);
    ops.Linear(h, run[w.cross_wq], run[w.cross_bq], q, Into::kStore);
    cross_->Attend(ops, run, layer, rows, q, spec, h);
    ops.Linear(h, run[w.cross_wo], run[w.cross_bo], x, Into::kAdd);

    ops.LayerNorm(x, run[w.norm3], run[w.norm3_bias], kEpsilon, h);
    ops.Linear(h, run[w.fc1], run[w.fc1_bias], hidden, Into::kGelu);
    ops.Linear(hidden, run[w.fc2], run[w.fc2_bias], x, Into::kAdd);
  }

  const Config c_;  // before what refers to it
  int64_t rows_;
  AudioEncoder encoder_;
  Matrix embedding_;  // also the head
  RowTable positions_;
  Vector norm_, norm_bias_;
  std::vector<DecoderLayer> layers_;
  std::unique_ptr<KvStore> self_, cross_;
  Buffer x_, h_, q_, k_, v_, hidden_, logits_;
  std::vector<int32_t> positions_of_window_, sequence_of_window_;
};

Result<std::unique_ptr<Model>> Build(const Json& config, const Workload& workload, Anatomy& anatomy) {
  Config c = TRY(ReadConfig(config));
  c.encoder.window = workload.encoder_positions;
  return std::unique_ptr<Model>(std::make_unique<Whisper>(c, workload, Scope{&anatomy, "model."}));
}

Architecture g_whisper{"whisper", Build};
const bool kRegistered = (RegisterArchitecture(&g_whisper), true);

}  // namespace
}  // namespace sotto
