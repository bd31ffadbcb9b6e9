// Qwen2-Audio (https://arxiv.org/abs/2407.10759; transformers' Qwen2AudioForConditionalGeneration): Whisper's encoder with an
// average of two positions behind it, one matrix, Qwen. One window of 30 s. Published text_configs leave out widths and
// layers: the class's defaults hold.
#include "models/audio_llm.h"

namespace sotto {
namespace {

class Side final : public AudioSide {
 public:
  Side(const Scope& at, int64_t in, int64_t out)
      : linear_(at, "linear.weight", out, in), bias_(at, "linear.bias", out) {}
  // Windows are padded to 30 s; positions of the padding are not attended to.
  Part PartOf(int64_t samples, int64_t window_frames) const override {
    return {window_frames, (std::max<int64_t>(MelFrames(samples), 1) - 1) / 2 + 1};
  }
  int64_t Tokens(int64_t states) const override { return states; }
  void Project(Backend& ops, const Run& run, View states, View vectors) const override {
    if (states.rows > 0) ops.Linear(states, run[linear_], run[bias_], vectors);
  }

 private:
  Matrix linear_;
  Vector bias_;
};

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const ClassConfig audio = TRY(j.Part("audio_config", "qwen2_audio_encoder"));
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "qwen2"))));
  text.tied = false;  // never tied, whatever the config says
  AudioEncoderConfig tower = TRY(ReadWhisperTower(audio));
  tower.pooled = true;
  auto encoder = MakeWhisperTower(tower, anatomy);
  auto side = std::make_unique<Side>(Scope{&anatomy, "multi_modal_projector."}.As(Component::kProjector), tower.d_model,
                                     text.d_model);
  Hearing hearing = HearingOf(tower);
  hearing.window_tokens = PooledLength(hearing.frames);
  hearing.tokens = PooledLength(std::min(MelFrames(Samples(n.audio_seconds)), hearing.frames));
  hearing.windows = 1;
  return MakeAudioLlm(std::move(encoder), std::move(side), hearing, text, n, anatomy);
}

Architecture g_qwen2_audio{"qwen2_audio", Build};
const bool kRegistered = (RegisterArchitecture(&g_qwen2_audio), true);

}  // namespace
}  // namespace sotto
