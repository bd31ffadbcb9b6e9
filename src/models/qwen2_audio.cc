// Qwen2-Audio (https://arxiv.org/abs/2407.10759; transformers' Qwen2AudioForConditionalGeneration): Whisper's encoder with an
// average of two positions behind it, one matrix, Qwen. One window of 30 s. Published text_configs leave out widths and
// layers: the class's defaults hold.
#include "models/audio_llm.h"

namespace sotto {
namespace {

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const ClassConfig audio = TRY(j.Part("audio_config", "qwen2_audio_encoder"));
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "qwen2"))));
  text.tied = false;  // never tied, whatever the config says
  const AudioEncoderConfig tower = TRY(ReadWhisperTower(audio));
  Hearing hearing = DeclareWhisperTower(tower, anatomy);
  DeclareLinear(Scope{&anatomy, "multi_modal_projector."}.As(Component::kProjector), "linear", text.d_model,
                tower.d_model);
  hearing.window_tokens = PooledLength(hearing.frames);
  hearing.tokens = PooledLength(std::min(MelFrames(Samples(n.audio_seconds)), hearing.frames));
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Architecture g_qwen2_audio{"qwen2_audio", Build};
const bool kRegistered = (RegisterArchitecture(&g_qwen2_audio), true);

}  // namespace
}  // namespace sotto
