// Ultravox (https://github.com/fixie-ai/ultravox): a Whisper encoder, a projector that stacks its states and passes them through a
// SwiGLU, and a language model that the config holds or names. Windows of 30 s.
#include <fmt/format.h>

#include <algorithm>

#include "models/audio_llm.h"

namespace sotto {
namespace {

// A part that the config holds, or the config of the model that it names.
Result<Json> PartOrNamed(const ClassConfig& j, std::string_view part, std::string_view id) {
  if (j.Has(id)) return NamedConfig(id, TRY(j.String(id)));
  if (j.Has(part)) return j.json()[std::string(part)];
  return j.Bad(part, fmt::format("is missing, and so is '{}'", id));
}

struct ProjectorConfig {
  int64_t stack, d_in, hidden, d_out;  // d_in: of one state
  bool swiglu, norm_between;           // the second norm stands between the matrices (v0.5), or behind them (v0.4)
  int64_t middle() const { return swiglu ? hidden / 2 : hidden; }
};

class Side final : public AudioSide {
 public:
  Side(const Scope& at, const ProjectorConfig& c, int64_t most)
      : c_(c),
        norm1_(at, "ln_pre.weight", c.stack * c.d_in),
        linear1_(at, "linear_1.weight", c.hidden, c.stack * c.d_in),
        norm2_(at, c.norm_between ? "ln_mid.weight" : "ln_post.weight", c.norm_between ? c.middle() : c.d_out),
        linear2_(at, "linear_2.weight", c.d_out, c.middle()),
        last_(at.During(kEncode), "last", 1, c.stack * c.d_in),
        hidden_(at.During(kEncode), "hidden", most, c.hidden) {}
  Part PartOf(int64_t samples, int64_t window_frames) const override {  // not padded
    const int64_t frames = std::clamp<int64_t>(MelFrames(samples), 1, window_frames);
    return {frames, (frames + 1) / 2};
  }
  int64_t Tokens(int64_t states) const override { return CeilDiv(states, c_.stack); }

  void Project(Backend& ops, const Run& run, View states, View vectors) const override {
    const int64_t wide = c_.stack * c_.d_in, whole = states.rows / c_.stack, rest = states.rows % c_.stack;
    const View hidden = run[hidden_].Rows(0, vectors.rows);
    const auto widen = [&](View stacked, View out) {
      ops.RmsNorm(stacked, run[norm1_], kEpsilon, stacked);
      ops.Linear(stacked, run[linear1_], {}, out);
    };
    if (whole > 0) widen({states.data, states.dtype, whole, wide, wide}, hidden.Rows(0, whole));
    if (rest > 0) {  // zeros fill the last stack
      const View last = run[last_];
      std::fill(last.F32(), last.F32() + wide, 0.0F);
      std::copy(states.F32(whole * c_.stack), states.F32(whole * c_.stack) + rest * c_.d_in, last.F32());
      widen(last, hidden.Rows(whole, 1));
    }
    const View middle = hidden.Cols(0, c_.middle());
    ops.SiluMul(hidden.Cols(c_.middle(), c_.middle()), middle, middle);  // the second half is the gate
    if (c_.norm_between) ops.RmsNorm(middle, run[norm2_], kEpsilon, middle);
    ops.Linear(middle, run[linear2_], {}, vectors);
    if (!c_.norm_between) ops.RmsNorm(vectors, run[norm2_], kEpsilon, vectors);
  }

 private:
  static constexpr float kEpsilon = 1e-6F;
  ProjectorConfig c_;
  Vector norm1_;
  Matrix linear1_;
  Vector norm2_;
  Matrix linear2_;
  Buffer last_, hidden_;
};

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const Json audio = TRY(PartOrNamed(j, "audio_config", "audio_model_id"));
  const Json named = TRY(PartOrNamed(j, "text_config", "text_model_id"));
  // Of a model that sees too (gemma-3-27b-it) the language model alone stands here.
  const bool nested = named.is_object() && named.contains("text_config");
  ClassConfig outer = TRY(ClassConfig::Of(named, "config.json: text_config", "llama"));
  TextConfig text = TRY(ReadText(nested ? TRY(outer.Part("text_config", outer.type() + "_text")) : outer));
  const AudioEncoderConfig tower =
      TRY(ReadWhisperTower(TRY(ClassConfig::Of(audio, "config.json: audio_config", "whisper"))));
  const std::string activation = j.Has("projector_act") ? TRY(j.String("projector_act")) : "swiglu";
  ProjectorConfig c{TRY(j.Int("stack_factor", 1, 1024)),
                    tower.d_model,
                    TRY(j.Int("hidden_size", 1, kMaxWidth)),
                    text.d_model,
                    activation == "swiglu",
                    j.Has("projector_ln_mid") && TRY(j.Bool("projector_ln_mid"))};
  if (!c.swiglu) text.not_run = "its projector's activation is '" + activation.substr(0, 40) + "', not swiglu";
  if (c.swiglu && c.hidden % 2 != 0) return j.Bad("hidden_size", "is odd, and the projector's activation halves it");

  // Published files hold the projector, and the parts that were trained with it.
  if (j.Has("audio_model_id")) anatomy.Elsewhere(Component::kEncoder);
  for (const Component c : {Component::kDecoder, Component::kEmbedding, Component::kLmHead})
    if (j.Has("text_model_id")) anatomy.Elsewhere(c);
  auto encoder = MakeWhisperTower(tower, anatomy);
  Hearing hearing = HearingOf(tower);
  hearing.window_tokens = CeilDiv(hearing.positions, c.stack);
  hearing.tokens =
      OverWindows(Samples(n.audio_seconds), [&](int64_t samples) { return CeilDiv(MelFrames(samples), 2 * c.stack); });
  auto side = std::make_unique<Side>(Scope{&anatomy, "multi_modal_projector."}.As(Component::kProjector), c,
                                     hearing.window_tokens);
  return MakeAudioLlm(std::move(encoder), std::move(side), hearing, text, n, anatomy);
}

Architecture g_ultravox{"ultravox", Build};
const bool kRegistered = (RegisterArchitecture(&g_ultravox), true);

}  // namespace
}  // namespace sotto
