// MiniCPM-o 2.6 (openbmb/MiniCPM-o-2_6): Whisper-medium's encoder, two matrices and an average, SigLIP with a resampler, Qwen2 whose
// keys stand at the top of the config. The speaking decoder (TTS) is a model of its own and not counted.
#include "models/audio_llm.h"
#include "models/blocks/vision.h"

namespace sotto {
namespace {

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  TextConfig text = TRY(ReadCommonText(j));
  text.qkv_bias = true;
  const AudioEncoderConfig tower = TRY(ReadWhisperTower(TRY(j.Part("audio_config", "whisper"))));
  const int64_t step = TRY(j.Int("audio_pool_step", 1, 1024)), queries = TRY(j.Int("query_num", 1, 1 << 16));
  const SiglipConfig vision = TRY(ReadSiglip(TRY(j.Part("vision_config", "siglip_vision_model"))));

  anatomy.Unused("tts.");
  Hearing hearing = DeclareWhisperTower(tower, anatomy);
  const Scope projector = Scope{&anatomy, "audio_projection_layer."}.As(Component::kProjector);
  DeclareLinear(projector, "linear1", text.d_model, tower.ffn / 4);
  DeclareLinear(projector, "linear2", text.d_model, text.d_model);
  (void)Buffer(projector.During(kEncode), "hidden", hearing.positions, text.d_model);
  const Scope seen = Scope{&anatomy, "vpm."}.As(Component::kVision), resampler = seen / "resampler";
  DeclareSiglip(seen, vision);
  (void)RowTable(resampler, "query", queries, text.d_model);
  DeclareLinear(resampler, "kv_proj", text.d_model, vision.d, false);
  DeclareAttention(resampler / "attn", text.d_model, text.head_dim);
  for (const char* name : {"ln_q", "ln_kv", "ln_post"}) DeclareNorm(resampler, name, text.d_model);
  (void)Matrix(resampler, "proj", text.d_model, text.d_model);

  const auto tokens = [&](int64_t samples) {
    return std::max<int64_t>(0, ((MelFrames(samples) - 1) / 2 + 1 - step) / step + 1);
  };
  hearing.window_tokens = tokens(480'000);
  hearing.tokens = OverWindows(Samples(n.audio_seconds), tokens);
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Architecture g_minicpmo{"minicpmo", Build};
const bool kRegistered = (RegisterArchitecture(&g_minicpmo), true);

}  // namespace
}  // namespace sotto
