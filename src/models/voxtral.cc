// Voxtral (https://arxiv.org/abs/2507.13264; transformers' VoxtralForConditionalGeneration): Whisper's encoder on windows of 30 s, four
// positions side by side through two matrices, a Llama. Voxtral Realtime (VoxtralRealtimeForConditionalGeneration): a causal
// encoder with rotary positions and a gated MLP, whose vectors are added to the text's, so they take no positions of their own.
#include "models/audio_llm.h"

namespace sotto {
namespace {

void DeclareProjector(Anatomy& anatomy, int64_t in, int64_t out) {
  const Scope projector = Scope{&anatomy, "multi_modal_projector."}.As(Component::kProjector);
  DeclareLinear(projector, "linear_1", out, in, false);
  DeclareLinear(projector, "linear_2", out, out, false);
}

class Side final : public AudioSide {
 public:
  Side(const Scope& at, int64_t width, int64_t in, int64_t out, int64_t most)
      : width_(width),
        in_(in),
        linear1_(at, "linear_1.weight", out, in),
        linear2_(at, "linear_2.weight", out, out),
        hidden_(at.During(kEncode), "hidden", most, out) {}
  Part PartOf(int64_t, int64_t window_frames) const override { return {window_frames, window_frames / 2}; }  // padded
  int64_t Tokens(int64_t states) const override { return states * width_ / in_; }
  void Project(Backend& ops, const Run& run, View states, View vectors) const override {
    const View stacked{states.data, states.dtype, vectors.rows, in_, in_};
    const View hidden = run[hidden_].Rows(0, vectors.rows);
    ops.Linear(stacked, run[linear1_], {}, hidden, Into::kGelu);
    ops.Linear(hidden, run[linear2_], {}, vectors);
  }

 private:
  int64_t width_, in_;  // of a state; of what is projected: several states side by side
  Matrix linear1_, linear2_;
  Buffer hidden_;
};

Result<std::unique_ptr<Model>> BuildVoxtral(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const AudioEncoderConfig tower = TRY(ReadWhisperTower(TRY(j.Part("audio_config", "voxtral_encoder"))));
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "llama"))));
  text.tied = false;
  if (tower.positions * tower.d_model % tower.ffn != 0)
    text.not_run = "its window does not divide into rows as wide as its feed-forward layers";
  auto encoder = MakeWhisperTower(tower, anatomy);
  Hearing hearing = HearingOf(tower);
  hearing.window_tokens = hearing.positions * tower.d_model / tower.ffn;
  hearing.tokens = OverWindows(Samples(n.audio_seconds), [&](int64_t) { return hearing.window_tokens; });
  auto side = std::make_unique<Side>(Scope{&anatomy, "multi_modal_projector."}.As(Component::kProjector), tower.d_model,
                                     tower.ffn, text.d_model, hearing.window_tokens);
  return MakeAudioLlm(std::move(encoder), std::move(side), hearing, text, n, anatomy);
}

Result<std::unique_ptr<Model>> BuildRealtime(const Json& json, const Workload& n, Anatomy& anatomy) {
  constexpr int64_t kDelayRank = 32;  // of the two matrices a layer that take the delay in
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const ClassConfig a = TRY(j.Part("audio_config", "voxtral_realtime_encoder"));
  const ClassConfig t = TRY(j.Part("text_config", "voxtral_realtime_text"));
  const int64_t d = TRY(a.Int("hidden_size", 1, kMaxWidth)), layers = TRY(a.Int("num_hidden_layers", 1, kMaxLayers));
  const int64_t heads = TRY(a.Int("num_attention_heads", 1, kMaxWidth)), head = TRY(a.Int("head_dim", 1, kMaxWidth));
  const int64_t ffn = TRY(a.Int("intermediate_size", 1, kMaxWidth)), mels = TRY(a.Int("num_mel_bins", 1, 1024));
  const int64_t window = TRY(a.Int("sliding_window", 1, 1 << 20));
  const int64_t factor = TRY(j.Int("downsample_factor", 1, 1024));
  TextConfig text = TRY(ReadCommonText(t));
  text.tied = TRY(j.Bool("tie_word_embeddings"));
  text.window = TRY(t.Int("sliding_window", 1, kMaxContext));
  text.sliding.assign(static_cast<size_t>(text.layers), true);

  const Scope tower = Scope{&anatomy, "audio_tower."}.As(Component::kEncoder);
  DeclareConv(tower, "conv1", d, mels, 3);
  DeclareConv(tower, "conv2", d, d, 3);
  for (int i = 0; i < layers; ++i) {
    const Scope layer = (tower / "layers" / std::to_string(i)).Layer(i), attention = layer / "self_attn";
    DeclareRmsNorm(layer, "self_attn_layer_norm", d);
    DeclareLinear(attention, "q_proj", heads * head, d, true, ByOut(head));
    DeclareLinear(attention, "k_proj", heads * head, d, false, ByOut(head));
    DeclareLinear(attention, "v_proj", heads * head, d, true, ByOut(head));
    DeclareLinear(attention, "o_proj", d, heads * head, true, ByIn(head));
    DeclareRmsNorm(layer, "final_layer_norm", d);
    DeclareLinear(layer / "mlp", "gate_proj", ffn, d, false, ByOut());
    DeclareLinear(layer / "mlp", "up_proj", ffn, d, false, ByOut());
    DeclareLinear(layer / "mlp", "down_proj", d, ffn, true, ByIn());
  }
  DeclareRmsNorm(tower, "norm", d);
  DeclareProjector(anatomy, d * factor, text.d_model);
  const Scope delay = Scope{&anatomy, "language_model.delay."}.As(Component::kDecoder);
  for (int i = 0; i < text.layers; ++i) {
    const Scope layer = (delay / std::to_string(i)).Layer(i);
    DeclareLinear(layer, "linear1", kDelayRank, text.d_model, false);
    DeclareLinear(layer, "linear2", text.d_model, kDelayRank, false);
  }
  // The encoder is causal: it keeps its own keys and values over its window.
  (void)n.kv->Declare((tower / "kv").During(kRunning),
                      std::vector<KvShape>(static_cast<size_t>(layers), KvShape{heads, head, window}), n.sequences);
  Hearing hearing{mels, 2 * window, window, window / factor, 0, 2 * layers * window * heads * head};
  DeclareHearing(tower, hearing.frames, mels, window, std::max(d, heads * head), std::max(ffn, 2 * d));
  hearing.tokens = CeilDiv(MelFrames(Samples(n.audio_seconds)), 2 * factor);
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Architecture g_voxtral{"voxtral", BuildVoxtral}, g_realtime{"voxtral_realtime", BuildRealtime};
const bool kRegistered = (RegisterArchitecture(&g_voxtral), RegisterArchitecture(&g_realtime), true);

}  // namespace
}  // namespace sotto
