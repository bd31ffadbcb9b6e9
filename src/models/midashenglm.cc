// MiDashengLM (https://arxiv.org/abs/2508.03983; mispeech/midashenglm-7b): the Dasheng encoder, a ViT on patches of the whole band by four
// frames, five positions side by side through two matrices, the text model of Qwen2.5-Omni with a head of its own.
#include <cmath>

#include "models/audio_llm.h"

namespace sotto {
namespace {

Result<int64_t> Of(const ClassConfig& j, std::string_view key, size_t i) {
  const Json value = j.Has(key) ? j.json()[std::string(key)] : Json();
  const Json part = value.is_array() && value.size() == 2 ? value[i] : value;
  if (!part.is_number_unsigned() || part.get<uint64_t>() < 1 || part.get<uint64_t>() > 4096)
    return j.Bad(key, "must be one or two whole numbers from 1 to 4096");
  return part.get<int64_t>();
}

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const ClassConfig a = TRY(j.Part("audio_encoder_config", "midashenglm_dasheng_encoder"));
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "qwen2_5_omni_text"))));
  text.tied = j.Has("tie_word_embeddings") && TRY(j.Bool("tie_word_embeddings"));
  const int64_t d = TRY(a.Int("embed_dim", 1, kMaxWidth)), depth = TRY(a.Int("depth", 1, kMaxLayers));
  const int64_t heads = TRY(a.Int("num_heads", 1, d)), mels = TRY(a.Int("n_mels", 1, 1024));
  const int64_t length = TRY(a.Int("target_length", 1, 1 << 20)), channels = TRY(a.Int("input_channels", 1, 64));
  const int64_t hop = TRY(a.Int("hop_length", 1, 16000)), factor = TRY(j.Int("subsample_factor", 1, 1024));
  const int64_t patch = TRY(Of(a, "patch_size", 0)) * TRY(Of(a, "patch_size", 1)) * channels;
  const int64_t band = TRY(Of(a, "patch_stride", 0)), stride = TRY(Of(a, "patch_stride", 1));
  double ratio = 4;
  if (a.Has("mlp_ratio")) {
    if (!a.json()["mlp_ratio"].is_number()) return a.Bad("mlp_ratio", "must be a number");
    ratio = a.json()["mlp_ratio"].get<double>();
  }
  if (!(ratio > 0 && ratio <= 1024)) return a.Bad("mlp_ratio", "must be above 0 and at most 1024");
  const auto ffn = static_cast<int64_t>(static_cast<double>(d) * ratio);

  const Scope encoder = Scope{&anatomy, "audio_encoder."}.As(Component::kEncoder);
  DeclareNorm(encoder, "init_bn", mels);
  DeclareLinear(encoder, "patch_embed.proj", d, patch);
  (void)RowTable(encoder, "time_pos_embed", length / stride, d);
  (void)RowTable(encoder, "freq_pos_embed", std::max<int64_t>(1, mels / band), d);
  DeclareTower(encoder, depth, d, heads, ffn);
  DeclareNorm(encoder, "norm", d);
  const int64_t positions = length / stride;
  DeclareHearing(encoder, length, mels, positions, d, std::max(ffn, 3 * d));
  const Scope projector = Scope{&anatomy, "audio_projector."}.As(Component::kProjector);
  DeclareLinear(projector, "net.0", text.d_model, d * factor);
  DeclareLinear(projector, "net.2", text.d_model, text.d_model);
  Hearing hearing{mels, length, positions, CeilDiv(positions, factor), 0, 2 * depth * positions * d};
  hearing.tokens = (1 + Samples(n.audio_seconds) / hop) / stride / factor;
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Architecture g_midasheng{"midashenglm", Build}, g_published{"miaudiollm", Build};
const bool kRegistered = (RegisterArchitecture(&g_midasheng), RegisterArchitecture(&g_published), true);

}  // namespace
}  // namespace sotto
