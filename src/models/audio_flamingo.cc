// Audio Flamingo 3 (https://arxiv.org/abs/2507.08128; transformers' AudioFlamingo3ForConditionalGeneration): Whisper's encoder with an
// average of two positions on windows of 30 s, two matrices, Qwen2. GLM-ASR (GlmAsrForConditionalGeneration): the same encoder
// with rotary positions, four of them side by side, a Llama.
#include "models/audio_llm.h"

namespace sotto {
namespace {

constexpr int64_t kFlamingoWindows = 20, kGlmWindows = 21;  // of 30 s: the longest audio that their processors take

Result<std::unique_ptr<Model>> BuildFlamingo(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const AudioEncoderConfig tower = TRY(ReadWhisperTower(TRY(j.Part("audio_config", "audioflamingo3_encoder"))));
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "qwen2"))));
  text.tied = false;
  const bool bias = TRY(j.Bool("projector_bias"));
  Hearing hearing = DeclareWhisperTower(tower, anatomy);
  const Scope projector = Scope{&anatomy, "multi_modal_projector."}.As(Component::kProjector);
  DeclareLinear(projector, "linear_1", text.d_model, tower.d_model, bias);
  DeclareLinear(projector, "linear_2", text.d_model, text.d_model, bias);
  hearing.window_tokens = PooledLength(hearing.frames);
  hearing.tokens = PooledLength(std::min(MelFrames(Samples(n.audio_seconds)), kFlamingoWindows * hearing.frames));
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Result<std::unique_ptr<Model>> BuildGlm(const Json& json, const Workload& n, Anatomy& anatomy) {
  constexpr int64_t kMerged = 4;  // positions side by side
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  AudioEncoderConfig tower = TRY(ReadWhisperTower(TRY(j.Part("audio_config", "glmasr_encoder"))));
  tower.stored_positions = false;
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "llama"))));
  text.tied = TRY(j.Bool("tie_word_embeddings"));
  Hearing hearing = DeclareWhisperTower(tower, anatomy);
  const Scope projector = Scope{&anatomy, "multi_modal_projector."}.As(Component::kProjector);
  DeclareLinear(projector, "linear_1", 2 * text.d_model, tower.ffn);
  DeclareLinear(projector, "linear_2", text.d_model, 2 * text.d_model);
  (void)Buffer(projector.During(kEncode), "hidden", hearing.positions / kMerged, 2 * text.d_model);
  const auto tokens = [](int64_t frames) {
    return std::max<int64_t>(0, ((frames - 1) / 2 + 1 - kMerged) / kMerged + 1);
  };
  hearing.window_tokens = tokens(hearing.frames);
  hearing.tokens = tokens(std::min(MelFrames(Samples(n.audio_seconds)), kGlmWindows * hearing.frames));
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Architecture g_flamingo{"audioflamingo3", BuildFlamingo}, g_glm{"glmasr", BuildGlm};
const bool kRegistered = (RegisterArchitecture(&g_flamingo), RegisterArchitecture(&g_glm), true);

}  // namespace
}  // namespace sotto
