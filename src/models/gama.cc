// GAMA (https://arxiv.org/abs/2406.11768; Sreyan88/GAMA): the audio half of CAV-MAE, a Q-Former on its last states, an aggregator over
// earlier blocks, two projections, LLaMA-2 with LoRA on q and v. 96 vectors stand before the text, whatever the audio's length
// (one clip of 10.24 s). It publishes no config of this kind: the catalogue's has its numbers under clear names.
#include "models/audio_llm.h"
#include "models/blocks/lora.h"
#include "models/blocks/qformer.h"

namespace sotto {
namespace {

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const ClassConfig a = TRY(j.Part("encoder_config"));
  const ClassConfig q = TRY(j.Part("qformer_config")), g = TRY(j.Part("aggregator_config")),
                    p = TRY(j.Part("projection_config"));
  const TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "llama"))));
  const int64_t d = TRY(a.Int("hidden_size", 1, kMaxWidth)), layers = TRY(a.Int("num_hidden_layers", 1, kMaxLayers));
  const int64_t heads = TRY(a.Int("num_attention_heads", 1, d)), ffn = TRY(a.Int("intermediate_size", 1, kMaxWidth));
  const int64_t patch = TRY(a.Int("patch_size", 1, 4096)), patches = TRY(a.Int("num_patches", 1, 1 << 20));
  const int64_t norms = TRY(a.Int("layer_norms_per_block", 1, 64)), times = TRY(a.Int("time_patches", 1, patches));
  const int64_t mels = TRY(j.Int("num_mel_bins", 1, 1024)), frames = TRY(j.Int("audio_frames", 1, 1 << 20));
  const int64_t queries = TRY(q.Int("num_query_tokens", 1, 1 << 16));
  if (!a.Has("output_blocks") || !a.json()["output_blocks"].is_array() || a.json()["output_blocks"].size() > 64)
    return a.Bad("output_blocks", "must list at most 64 blocks");
  QformerConfig former = TRY(ReadQformer(q)), aggregator = former;
  aggregator.d = TRY(g.Int("hidden_size", 1, kMaxWidth));
  aggregator.layers = TRY(g.Int("num_hidden_layers", 1, kMaxLayers));
  aggregator.heads = TRY(g.Int("num_attention_heads", 1, aggregator.d));
  aggregator.ffn = TRY(g.Int("intermediate_size", 1, kMaxWidth));
  aggregator.source = TRY(g.Int("encoder_hidden_size", 1, kMaxWidth));

  const Scope encoder = Scope{&anatomy, "audio_encoder."}.As(Component::kEncoder);
  DeclareLinear(encoder, "patch_embed_a.proj", d, patch * patch);
  (void)RowTable(encoder, "pos_embed_a", patches, d);
  (void)Vector(encoder, "modality_a", d);
  for (int i = 0; i < layers; ++i) {
    const Scope block = (encoder / "blocks" / std::to_string(i)).Layer(i);
    for (int64_t k = 0; k < norms; ++k) DeclareNorm(block, fmt::format("norm.{}", k), d);
    DeclareAttention(block / "attn", d, d / heads);
    DeclareMlp(block / "mlp", d, ffn);
  }
  for (size_t i = 0; i < a.json()["output_blocks"].size(); ++i) DeclareNorm(encoder, fmt::format("norm_a.{}", i), d);
  DeclareHearing(encoder, frames, mels, patches, d, ffn);

  const Scope qformer = Scope{&anatomy, "Qformer."}.As(Component::kQformer);
  DeclareNorm(qformer, "ln_audio", former.d);
  DeclareQformer(qformer, former, queries);
  const Scope aggregate = Scope{&anatomy, "audio_aggregator."}.As(Component::kAggregator);
  for (int i = 0; i < aggregator.layers; ++i) {
    const Scope layer = (aggregate / "layer" / std::to_string(i)).Layer(i);
    DeclareBertAttention(layer / "attention", aggregator, 0);
    DeclareBertAttention(layer / "crossattention", aggregator, aggregator.source);
    DeclareBertMlp(layer / "ffn", aggregator);
    DeclareBertMlp(layer / "ffn_query", aggregator);
  }
  const int64_t count = TRY(p.Int("count", 1, 16)), in = TRY(p.Int("input_size", 1, kMaxWidth));
  const int64_t hidden = TRY(p.Int("hidden_size", 1, kMaxWidth)), out = TRY(p.Int("output_size", 1, kMaxWidth));
  for (int64_t i = 0; i < count; ++i) {
    const Scope projection = Scope{&anatomy, "audio_proj."}.As(Component::kProjector) / std::to_string(i);
    DeclareLinear(projection, "0", hidden, in);
    DeclareLinear(projection, "2", out, hidden);
  }
  TRY(DeclareLora(TRY(j.Part("lora_config")), text, anatomy));
  Hearing hearing{mels, frames, patches, queries + times, queries + times, 2 * layers * patches * d};
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Architecture g_gama{"gama", Build};
const bool kRegistered = (RegisterArchitecture(&g_gama), true);

}  // namespace
}  // namespace sotto
