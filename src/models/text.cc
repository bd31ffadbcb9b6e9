#include "models/text.h"

#include <fmt/format.h>

namespace sotto {
namespace {

TextFamily* g_first = nullptr;

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& workload, Anatomy& anatomy) {
  const ClassConfig config = TRY(ClassConfig::Of(json, "config.json"));
  const TextConfig c = TRY(ReadText(config));
  return MakeText(Scope{&anatomy, "model."}, Scope{&anatomy, ""}, c, workload);
}

class TextModel final : public Model {
 public:
  TextModel(const Scope& root, const Scope& head, const TextConfig& c, const Workload& n) : decoder_(root, head, c, n) {
    info_.type = "decoder";
    decoder_.room().Describe(c, n, &info_);
  }
  int64_t max_rows() const override { return decoder_.room().rows; }
  const KvStore* cache() const override { return decoder_.room().kv.get(); }
  void Step(Backend& ops, const Run& run, BatchRows rows, std::span<const int32_t> ids) override {
    decoder_.Step(ops, run, rows, ids, {});
  }
  View Logits(Backend& ops, const Run& run, int64_t first, int64_t count) override {
    return decoder_.Logits(ops, run, first, count);
  }

 private:
  TextDecoder decoder_;
};

}  // namespace

std::unique_ptr<Model> MakeText(const Scope& root, const Scope& head, const TextConfig& c, const Workload& n) {
  return std::make_unique<TextModel>(root, head, c, n);
}

void RegisterTextFamily(TextFamily* family) {
  family->next = g_first;
  g_first = family;
  family->architecture = {family->model_type, Build};
  RegisterArchitecture(&family->architecture);
}

Result<TextConfig> ReadText(const ClassConfig& config) {
  std::string known;
  for (const TextFamily* f = g_first; f != nullptr; f = f->next) {
    if (f->model_type == config.type()) {
      TextConfig c = TRY(f->read(config));
      c.type = f->model_type;
      return c;
    }
    known += (known.empty() ? "" : ", ") + std::string(f->model_type);
  }
  return BadModel(fmt::format("{}: model_type '{}' is no language model that sotto knows; it knows {}", config.where(),
                              config.type().substr(0, 60), known));
}

Result<TextConfig> ReadCommonText(const ClassConfig& j) {
  TextConfig c;
  c.d_model = TRY(j.Int("hidden_size", 1, kMaxWidth));
  c.layers = TRY(j.Int("num_hidden_layers", 1, kMaxLayers));
  c.heads = TRY(j.Int("num_attention_heads", 1, kMaxWidth));
  c.kv_heads = TRY(j.IntOr("num_key_value_heads", 1, kMaxWidth, c.heads));
  c.ffn = TRY(j.Int("intermediate_size", 1, kMaxWidth));
  c.vocab_size = TRY(j.Int("vocab_size", 1, kMaxVocab));
  c.max_context = TRY(j.Int("max_position_embeddings", 1, kMaxContext));
  c.tied = TRY(j.BoolOr("tie_word_embeddings", false));  // a class that says nothing leaves it to the config around it
  c.head_dim = TRY(j.IntOr("head_dim", 1, kMaxWidth, c.d_model / c.heads));
  if (c.head_dim == 0) return j.Bad("num_attention_heads", fmt::format("is {}, more than 'hidden_size'", c.heads));
  if (c.heads % c.kv_heads != 0)
    return j.Bad("num_key_value_heads", fmt::format("is {}, of which {} heads are no multiple", c.kv_heads, c.heads));
  return c;
}

Status ReadForward(const ClassConfig& j, TextConfig* c) {
  c->rms_eps = static_cast<float>(TRY(j.Number("rms_norm_eps", 1e-6)));
  if (!(c->rms_eps >= 0)) return j.Bad("rms_norm_eps", "is negative");
  c->rope = TRY(ReadRope(j, c->head_dim, c->max_context));
  const std::string activation = j.Has("hidden_act") ? TRY(j.String("hidden_act")) : "silu";
  c->not_run = c->rope.unsupported;
  if (activation != "silu") c->not_run = "its activation is '" + activation.substr(0, 40) + "', not silu";
  return {};
}

Result<std::vector<bool>> ReadSliding(const ClassConfig& j, int64_t layers, bool (*rule)(int64_t, int64_t),
                                      int64_t pattern) {
  std::vector<bool> sliding(static_cast<size_t>(layers));
  for (int64_t i = 0; i < layers; ++i) sliding[static_cast<size_t>(i)] = rule(i, pattern);
  if (!j.Has("layer_types")) return sliding;
  const Json& types = j.json()["layer_types"];
  if (!types.is_array() || types.size() < sliding.size())
    return j.Bad("layer_types", fmt::format("must list {} layers", layers));
  for (size_t i = 0; i < sliding.size(); ++i) {
    if (types[i] != "sliding_attention" && types[i] != "full_attention" && types[i] != "chunked_attention")
      return j.Bad("layer_types", "holds something else than sliding_attention and full_attention");
    sliding[i] = types[i] != "full_attention";
  }
  return sliding;
}

}  // namespace sotto
