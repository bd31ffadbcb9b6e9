// Ultravox (https://github.com/fixie-ai/ultravox): a Whisper encoder, a projector that stacks its states and passes them through a
// SwiGLU, and a language model that the config holds or names. Windows of 30 s.
#include <fmt/format.h>

#include "models/audio_llm.h"

namespace sotto {
namespace {

// A part that the config holds, or the config of the model that it names.
Result<Json> PartOrNamed(const ClassConfig& j, std::string_view part, std::string_view id) {
  if (j.Has(id)) return NamedConfig(TRY(j.String(id)));
  if (j.Has(part)) return j.json()[std::string(part)];
  return j.Bad(part, fmt::format("is missing, and so is '{}'", id));
}

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const Json audio = TRY(PartOrNamed(j, "audio_config", "audio_model_id"));
  const Json named = TRY(PartOrNamed(j, "text_config", "text_model_id"));
  // Of a model that sees too (gemma-3-27b-it) the language model alone stands here.
  const bool nested = named.is_object() && named.contains("text_config");
  ClassConfig outer = TRY(ClassConfig::Of(named, "config.json: the language model", "llama"));
  const TextConfig text = TRY(ReadText(nested ? TRY(outer.Part("text_config", outer.type() + "_text")) : outer));
  const AudioEncoderConfig tower =
      TRY(ReadWhisperTower(TRY(ClassConfig::Of(audio, "config.json: the encoder", "whisper"))));
  const int64_t stack = TRY(j.Int("stack_factor", 1, 1024));
  const int64_t hidden = TRY(j.Int("hidden_size", 1, kMaxWidth));
  const std::string activation = j.Has("projector_act") ? TRY(j.String("projector_act")) : "swiglu";
  const bool norm_between = j.Has("projector_ln_mid") && TRY(j.Bool("projector_ln_mid"));
  const int64_t middle = activation == "swiglu" ? hidden / 2 : hidden;

  // Published files hold the projector, and the parts that were trained with it.
  if (j.Has("audio_model_id")) anatomy.Elsewhere(Component::kEncoder);
  for (const Component c : {Component::kDecoder, Component::kEmbedding, Component::kLmHead})
    if (j.Has("text_model_id")) anatomy.Elsewhere(c);
  Hearing hearing = DeclareWhisperTower(tower, anatomy);
  const Scope projector = Scope{&anatomy, "multi_modal_projector."}.As(Component::kProjector);
  DeclareRmsNorm(projector, "ln_pre", stack * tower.d_model);
  DeclareLinear(projector, "linear_1", hidden, stack * tower.d_model, false);
  if (norm_between) DeclareRmsNorm(projector, "ln_mid", middle);
  DeclareLinear(projector, "linear_2", text.d_model, middle, false);
  if (!norm_between) DeclareRmsNorm(projector, "ln_post", text.d_model);
  (void)Buffer(projector.During(kEncode), "hidden", CeilDiv(hearing.positions, stack), hidden);

  const auto tokens = [&](int64_t samples) { return CeilDiv(MelFrames(samples), 2 * stack); };
  hearing.window_tokens = CeilDiv(hearing.positions, stack);
  hearing.tokens = OverWindows(Samples(n.audio_seconds), tokens);
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Architecture g_ultravox{"ultravox", Build};
const bool kRegistered = (RegisterArchitecture(&g_ultravox), true);

}  // namespace
}  // namespace sotto
