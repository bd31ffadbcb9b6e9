#include "models/audio_llm.h"

#include <fmt/format.h>

#include <cmath>

#include "weights/model_dir.h"

namespace sotto {
namespace {

constexpr int64_t kRoomForText = 1024;  // positions beside the audio when no context is asked for

}  // namespace

int64_t Samples(double seconds) { return static_cast<int64_t>(std::llround(seconds * 16000)); }

int64_t PooledLength(int64_t frames) { return std::max<int64_t>(0, ((frames - 1) / 2 + 1 - 2) / 2 + 1); }

Result<std::unique_ptr<Model>> FinishAudioLlm(const Hearing& hearing, const TextConfig& text, const Workload& workload,
                                              Anatomy& anatomy) {
  return FinishAudioLlm(hearing, text, workload, anatomy,
                        [&](const Scope& language) { DeclareTextWeights(language / "model", language, text); });
}

Result<std::unique_ptr<Model>> FinishAudioLlm(const Hearing& hearing, const TextConfig& text, const Workload& workload,
                                              Anatomy& anatomy, DeclareText weights) {
  Workload n = workload;
  if (n.context == 0) n.context = std::min(text.max_context, std::max(kDefaultContext, hearing.tokens + kRoomForText));
  if (hearing.tokens >= n.context)
    return Usage(fmt::format(
        "{:g} s of audio become {} positions, which a context of {} does not hold; pass a larger --context or fewer "
        "--audio-seconds",
        n.audio_seconds, hearing.tokens, n.context));
  const Scope language{&anatomy, "language_model."};
  weights(language);
  TextRoom room(text, n);
  room.Declare((language / "model").As(Component::kDecoder), text, n);
  const Scope audio = Scope{&anatomy, "audio."}.As(Component::kProjector).During(kRunning);
  (void)Buffer(audio, "vectors", hearing.window_tokens * n.sequences, text.d_model);
  ModelInfo info;
  info.type = "audio-llm";
  room.Describe(text, n, &info);
  info.n_mels = hearing.n_mels;
  info.n_frames = hearing.frames;
  info.audio_positions = hearing.positions;
  info.audio_tokens = hearing.tokens;
  info.encoder_kv_formula_elements = hearing.encoder_kv_elements;
  info.encoder_heads = hearing.encoder_heads;
  return std::unique_ptr<Model>(std::make_unique<PlannedModel>(std::move(info)));
}

Result<AudioEncoderConfig> ReadWhisperTower(const ClassConfig& j) {
  const bool named_like_text = ClassDefault(j.type(), "hidden_size").has_value() || j.Has("hidden_size");
  AudioEncoderConfig c;
  c.d_model = TRY(j.Int(named_like_text ? "hidden_size" : "d_model", 1, kMaxWidth));
  c.layers = TRY(j.Int(named_like_text ? "num_hidden_layers" : "encoder_layers", 1, kMaxLayers));
  c.heads = TRY(j.Int(named_like_text ? "num_attention_heads" : "encoder_attention_heads", 1, kMaxWidth));
  c.ffn = TRY(j.Int(named_like_text ? "intermediate_size" : "encoder_ffn_dim", 1, kMaxWidth));
  c.n_mels = TRY(j.Int("num_mel_bins", 1, 1024));
  c.positions = TRY(j.IntOr("max_source_positions", 1, 1 << 16, 1500));
  if (c.d_model % c.heads != 0)
    return j.Bad(named_like_text ? "num_attention_heads" : "encoder_attention_heads",
                 fmt::format("is {}, of which the width {} is no multiple", c.heads, c.d_model));
  return c;
}

Hearing DeclareWhisperTower(const AudioEncoderConfig& c, Anatomy& anatomy) {
  AudioEncoder tower((Scope{&anatomy, ""} / "audio_tower").As(Component::kEncoder), c);
  Hearing h;
  h.n_mels = c.n_mels;
  h.frames = 2 * c.positions;
  h.positions = c.positions;
  h.encoder_kv_elements = 2 * c.layers * c.positions * c.d_model;
  h.encoder_heads = c.heads;
  return h;
}

Result<Json> NamedConfig(const std::string& id) {
  Result<ModelDir> dir = FindModel(id, ModelUse::kPlan);
  if (!dir.ok())
    return BadModel(fmt::format("config.json names {} as its part, whose config is needed: {}", id.substr(0, 100),
                                dir.error().message));
  return ReadConfig(*dir);
}

}  // namespace sotto
