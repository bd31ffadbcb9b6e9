// Phi-1, 1.5 and 2 (https://arxiv.org/abs/2306.11644): attention and an ungated MLP side by side behind one LayerNorm, biases
// everywhere. transformers' PhiConfig. Planned, not run.
#include "models/blocks/shards.h"
#include "models/text.h"

namespace sotto {
namespace {

struct PhiLayer {
  PhiLayer(const Scope& at, const TextConfig& c, bool norms)
      : norm(at, "input_layernorm.weight", c.d_model), norm_bias(at, "input_layernorm.bias", c.d_model) {
    const Scope attention = at / "self_attn", mlp = at / "mlp";
    const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
    const Shard head = ByOut(c.head_dim);
    wq = Matrix(attention, "q_proj.weight", q, c.d_model, head);
    wk = Matrix(attention, "k_proj.weight", kv, c.d_model, head);
    wv = Matrix(attention, "v_proj.weight", kv, c.d_model, head);
    wo = Matrix(attention, "dense.weight", c.d_model, q, ByIn(c.head_dim));
    bq = Vector(attention, "q_proj.bias", q, head);
    bk = Vector(attention, "k_proj.bias", kv, head);
    bv = Vector(attention, "v_proj.bias", kv, head);
    bo = Vector(attention, "dense.bias", c.d_model);
    for (int i = 0; norms && i < 2; ++i) {
      const std::string name = i == 0 ? "q_layernorm." : "k_layernorm.";
      head_norm[i] = Vector(attention, name + "weight", c.head_dim);
      head_norm_bias[i] = Vector(attention, name + "bias", c.head_dim);
    }
    fc1 = Matrix(mlp, "fc1.weight", c.ffn, c.d_model, ByOut());
    fc2 = Matrix(mlp, "fc2.weight", c.d_model, c.ffn, ByIn());
    fc1_bias = Vector(mlp, "fc1.bias", c.ffn, ByOut());
    fc2_bias = Vector(mlp, "fc2.bias", c.d_model);
  }
  Vector norm, norm_bias, bq, bk, bv, bo, head_norm[2], head_norm_bias[2], fc1_bias, fc2_bias;
  Matrix wq, wk, wv, wo, fc1, fc2;
};

class Phi final : public Model {
 public:
  Phi(const TextConfig& c, bool norms, const Workload& n, Anatomy& anatomy) {
    const Scope root{&anatomy, "model."}, decoder = root.As(Component::kDecoder);
    embedding_ = Matrix(root.As(Component::kEmbedding), "embed_tokens.weight", c.vocab_size, c.d_model, ByOut());
    for (int i = 0; i < c.layers; ++i)
      layers_.emplace_back((decoder / "layers" / std::to_string(i)).Layer(i), c, norms);
    norm_ = Vector(decoder, "final_layernorm.weight", c.d_model);
    norm_bias_ = Vector(decoder, "final_layernorm.bias", c.d_model);
    const Scope head = Scope{&anatomy, ""}.As(Component::kLmHead);
    if (!c.tied) head_ = Matrix(head, "lm_head.weight", c.vocab_size, c.d_model, ByOut());
    head_bias_ = Vector(head, "lm_head.bias", c.vocab_size, ByOut());
    info_.type = "decoder";
    TextRoom(decoder, c, n).Describe(c, n, &info_);
  }

 private:
  Matrix embedding_, head_;
  std::vector<PhiLayer> layers_;
  Vector norm_, norm_bias_, head_bias_;
};

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const TextConfig c = TRY(ReadCommonText(j));
  return std::unique_ptr<Model>(std::make_unique<Phi>(c, TRY(j.Bool("qk_layernorm")), n, anatomy));
}

Architecture g_phi{"phi", Build};
const bool kRegistered = (RegisterArchitecture(&g_phi), true);

}  // namespace
}  // namespace sotto
