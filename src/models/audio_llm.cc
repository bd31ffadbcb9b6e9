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

Result<Workload> WithRoomForAudio(const Hearing& hearing, const TextConfig& text, const Workload& workload) {
  Workload n = workload;
  if (n.context == 0) n.context = std::min(text.max_context, std::max(kDefaultContext, hearing.tokens + kRoomForText));
  if (hearing.tokens >= n.context)
    return Usage(fmt::format(
        "{:g} s of audio become {} positions, which a context of {} does not hold; pass a larger --context or fewer "
        "--audio-seconds",
        n.audio_seconds, hearing.tokens, n.context));
  return n;
}

Buffer DeclareVectors(const Hearing& hearing, const TextConfig& text, const Workload& n, Anatomy& anatomy) {
  const Scope audio = Scope{&anatomy, "audio."}.As(Component::kProjector).During(kRunning);
  return {audio, "vectors", hearing.window_tokens * n.sequences, text.d_model};
}

void DescribeHearing(const Hearing& hearing, ModelInfo* info) {
  info->type = "audio-llm";
  info->n_mels = hearing.n_mels;
  info->n_frames = hearing.frames;
  info->audio_positions = hearing.positions;
  info->audio_tokens = hearing.tokens;
  info->audio_windows = hearing.windows;
  info->encoder_kv_formula_elements = hearing.encoder_kv_elements;
  info->encoder_heads = hearing.encoder_heads;
}

Result<std::unique_ptr<Model>> FinishAudioLlm(const Hearing& hearing, const TextConfig& text, const Workload& workload,
                                              Anatomy& anatomy) {
  return FinishAudioLlm(hearing, text, workload, anatomy,
                        [&](const Scope& language, const Workload& n, ModelInfo* info) {
                          TextDecoder(language / "model", language, text, n).room().Describe(text, n, info);
                        });
}

Result<std::unique_ptr<Model>> FinishAudioLlm(const Hearing& hearing, const TextConfig& text, const Workload& workload,
                                              Anatomy& anatomy, DeclareText declare) {
  const Workload n = TRY(WithRoomForAudio(hearing, text, workload));
  ModelInfo info;
  declare(Scope{&anatomy, "language_model."}, n, &info);
  (void)DeclareVectors(hearing, text, n, anatomy);
  DescribeHearing(hearing, &info);
  info.not_run = "its audio encoder is not computed by this version";
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

std::unique_ptr<AudioEncoder> MakeWhisperTower(const AudioEncoderConfig& c, Anatomy& anatomy) {
  return std::make_unique<AudioEncoder>((Scope{&anatomy, ""} / "audio_tower").As(Component::kEncoder), c);
}

Hearing HearingOf(const AudioEncoderConfig& c) {
  Hearing h;
  h.n_mels = c.n_mels;
  h.frames = 2 * c.positions;
  h.positions = c.positions;
  h.encoder_kv_elements = 2 * c.layers * c.positions * c.d_model;
  h.encoder_heads = c.heads;
  return h;
}

Hearing DeclareWhisperTower(const AudioEncoderConfig& c, Anatomy& anatomy) {
  (void)MakeWhisperTower(c, anatomy);
  return HearingOf(c);
}

namespace {

class AudioLlm final : public Model {
 public:
  AudioLlm(std::unique_ptr<AudioEncoder> tower, std::unique_ptr<AudioSide> side, const Hearing& hearing,
           const TextConfig& text, const Workload& n, Anatomy& anatomy)
      : tower_(std::move(tower)),
        side_(std::move(side)),
        decoder_(Scope{&anatomy, "language_model.model."}, Scope{&anatomy, "language_model."}, text, n),
        vectors_(DeclareVectors(hearing, text, n, anatomy)),
        window_frames_(hearing.frames),
        window_tokens_(hearing.window_tokens) {
    decoder_.room().Describe(text, n, &info_);
    DescribeHearing(hearing, &info_);
  }
  View Mel(const Run& run, int64_t samples) const override {
    return tower_->Mel(run).Rows(0, side_->PartOf(samples, window_frames_).frames);
  }
  View Encode(Backend& ops, const Run& run, int64_t samples, int32_t sequence) override {
    const AudioSide::Part part = side_->PartOf(samples, window_frames_);
    states_ = tower_->Forward(ops, run, part.frames, part.positions);
    const int64_t tokens = side_->Tokens(states_.rows);
    CHECK(tokens <= window_tokens_);
    const View vectors = run[vectors_].Rows(sequence * window_tokens_, tokens);
    side_->Project(ops, run, states_, vectors);
    return vectors;
  }
  View States(const Run&) const override { return states_; }
  int64_t max_rows() const override { return decoder_.room().rows; }
  const KvStore* cache() const override { return decoder_.room().kv.get(); }
  void Step(Backend& ops, const Run& run, BatchRows rows, std::span<const int32_t> ids) override {
    // Rows of one sequence carry audio, or none does.
    decoder_.Step(ops, run, rows, ids, run[vectors_].Rows(rows.seq[0] * window_tokens_, window_tokens_));
  }
  View Logits(Backend& ops, const Run& run, int64_t first, int64_t count) override {
    return decoder_.Logits(ops, run, first, count);
  }

 private:
  std::unique_ptr<AudioEncoder> tower_;
  std::unique_ptr<AudioSide> side_;
  TextDecoder decoder_;
  Buffer vectors_;
  int64_t window_frames_, window_tokens_;
  View states_;
};

}  // namespace

Result<std::unique_ptr<Model>> MakeAudioLlm(std::unique_ptr<AudioEncoder> tower, std::unique_ptr<AudioSide> side,
                                            const Hearing& hearing, const TextConfig& text, const Workload& workload,
                                            Anatomy& anatomy) {
  const Workload n = TRY(WithRoomForAudio(hearing, text, workload));
  return std::unique_ptr<Model>(
      std::make_unique<AudioLlm>(std::move(tower), std::move(side), hearing, text, n, anatomy));
}

Result<Json> NamedConfig(std::string_view key, const std::string& id) {
  Result<ModelDir> dir = FindModel(id, ModelUse::kPlan);
  if (!dir.ok())
    return BadModel(
        fmt::format("config.json: '{}' names a model whose config is needed: {}", key, dir.error().message));
  return ReadConfig(*dir);
}

}  // namespace sotto
