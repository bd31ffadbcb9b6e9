// The thinkers of Qwen2.5-Omni (https://arxiv.org/abs/2503.20215) and Qwen3-Omni (https://arxiv.org/abs/2509.17765), and Qwen3-ASR: an audio
// encoder whose attention stays within short pieces, so that audio of any length is heard piece by piece; a vision tower; a
// Qwen decoder. transformers' Qwen2_5OmniThinker…, Qwen3OmniMoeThinker… and Qwen3ASRForConditionalGeneration. Talkers and
// vocoders are not part of it.
#include "models/audio_llm.h"

namespace sotto {
namespace {

struct VisionConfig {
  int64_t d, depth, heads, ffn, patch_inputs, merged, out;
};

Result<VisionConfig> ReadVision(const ClassConfig& v) {
  VisionConfig c{};
  c.d = TRY(v.Int("hidden_size", 1, kMaxWidth));
  c.depth = TRY(v.Int("depth", 1, kMaxLayers));
  c.heads = TRY(v.Int("num_heads", 1, c.d));
  c.ffn = TRY(v.Int("intermediate_size", 1, kMaxWidth));
  const int64_t patch = TRY(v.Int("patch_size", 1, 4096));
  c.patch_inputs = TRY(v.Int("in_channels", 1, 64)) * TRY(v.Int("temporal_patch_size", 1, 64)) * patch * patch;
  const int64_t merge = TRY(v.Int("spatial_merge_size", 1, 64));
  c.merged = c.d * merge * merge;
  c.out = TRY(v.Int("out_hidden_size", 1, kMaxWidth));
  return c;
}

// "vision_config": false: what a GGUF file holds for seeing has names of its own (weights/gguf_config.h).
bool Sees(const ClassConfig& j) { return !j.Has("vision_config") || j.json()["vision_config"] != false; }

// The full models' files: parts that speak.
void LeaveTalkers(Anatomy& anatomy) {
  for (const char* part : {"talker.", "token2wav.", "code2wav."}) anatomy.Unused(part);
}

void DeclareMerger(const Scope& at, const VisionConfig& c) {
  DeclareLinear(at, "mlp.0", c.merged, c.merged);
  DeclareLinear(at, "mlp.2", c.out, c.merged);
}

void DeclareVision25(const Scope& at, const VisionConfig& c) {
  DeclareLinear(at / "patch_embed", "proj", c.d, c.patch_inputs, false);
  for (int i = 0; i < c.depth; ++i) {
    const Scope block = (at / "blocks" / std::to_string(i)).Layer(i);
    DeclareRmsNorm(block, "norm1", c.d);
    DeclareAttention(block / "attn", c.d, c.d / c.heads);
    DeclareRmsNorm(block, "norm2", c.d);
    DeclareLinear(block / "mlp", "gate_proj", c.ffn, c.d, true, ByOut());
    DeclareLinear(block / "mlp", "up_proj", c.ffn, c.d, true, ByOut());
    DeclareLinear(block / "mlp", "down_proj", c.d, c.ffn, true, ByIn());
  }
  DeclareRmsNorm(at / "merger", "ln_q", c.d);
  DeclareMerger(at / "merger", c);
}

void DeclareVision3(const Scope& at, const VisionConfig& c, int64_t positions, size_t deep) {
  DeclareLinear(at / "patch_embed", "proj", c.d, c.patch_inputs);
  (void)RowTable(at, "pos_embed.weight", positions, c.d);
  DeclareTower(at, c.depth, c.d, c.heads, c.ffn);
  DeclareNorm(at / "merger", "ln_q", c.d);
  DeclareMerger(at / "merger", c);
  for (size_t i = 0; i < deep; ++i) {
    const Scope merger = at / "merger_list" / std::to_string(i);
    DeclareNorm(merger, "ln_q", c.merged);
    DeclareMerger(merger, c);
  }
}

Result<std::unique_ptr<Model>> BuildOmni25(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig whole = TRY(ClassConfig::Of(json, "config.json"));
  const ClassConfig j = whole.Has("thinker_config") ? TRY(whole.Part("thinker_config", "qwen2_5_omni_thinker")) : whole;
  const ClassConfig a = TRY(j.Part("audio_config", "qwen2_5_omni_audio_encoder"));
  AudioEncoderConfig tower = TRY(ReadWhisperTower(a));
  tower.stored_positions = false;
  tower.positions = TRY(a.Int("n_window", 1, 1 << 16));  // of one piece: 2 n_window frames
  const int64_t out = TRY(a.Int("output_dim", 1, kMaxWidth));
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "qwen2_5_omni_text"))));
  text.tied = TRY(j.Bool("tie_word_embeddings"));
  LeaveTalkers(anatomy);

  Hearing hearing = DeclareWhisperTower(tower, anatomy);
  const Scope projector = Scope{&anatomy, "audio_tower."}.As(Component::kProjector);
  DeclareLinear(projector, "proj", out, tower.d_model);
  (void)RowTable(projector, "audio_bos_eos_token.weight", 2, out);
  if (Sees(j))
    DeclareVision25(Scope{&anatomy, "visual."}.As(Component::kVision),
                    TRY(ReadVision(TRY(j.Part("vision_config", "qwen2_5_omni_vision_encoder")))));
  hearing.window_tokens = PooledLength(hearing.frames);
  hearing.tokens = PooledLength(MelFrames(Samples(n.audio_seconds)));
  return FinishAudioLlm(hearing, text, n, anatomy);
}

// Three convolutions over time and frequency, each halving both, then Whisper's layers with a bias on the keys.
Result<Hearing> DeclareConvTower(const ClassConfig& a, const Workload& n, Anatomy& anatomy) {
  AudioEncoderConfig tower = TRY(ReadWhisperTower(a));
  tower.stored_positions = tower.convolutions = false;
  tower.k_bias = true;
  const int64_t channels = TRY(a.Int("downsample_hidden_size", 1, kMaxWidth));
  const int64_t out = TRY(a.Int("output_dim", 1, kMaxWidth));
  const int64_t piece = 2 * TRY(a.Int("n_window", 1, 1 << 16)), seen = TRY(a.Int("n_window_infer", 1, 1 << 20));
  const auto tokens = [](int64_t frames) { return CeilDiv(CeilDiv(CeilDiv(frames, 2), 2), 2); };
  tower.positions = std::max<int64_t>(1, seen / piece * tokens(piece) + tokens(seen % piece));

  const Scope encoder = Scope{&anatomy, "audio_tower."}.As(Component::kEncoder);
  DeclareConv(encoder, "conv2d1", channels, 1, 9);
  DeclareConv(encoder, "conv2d2", channels, channels, 9);
  DeclareConv(encoder, "conv2d3", channels, channels, 9);
  DeclareLinear(encoder, "conv_out", tower.d_model, channels * CeilDiv(tower.n_mels, 8), false);
  Hearing hearing = DeclareWhisperTower(tower, anatomy);
  const Scope projector = Scope{&anatomy, "audio_tower."}.As(Component::kProjector);
  DeclareLinear(projector, "proj1", tower.d_model, tower.d_model);
  DeclareLinear(projector, "proj2", out, tower.d_model);
  hearing.frames = seen;
  hearing.window_tokens = tower.positions;
  const int64_t frames = MelFrames(Samples(n.audio_seconds));
  hearing.tokens = frames / piece * tokens(piece) + tokens(frames % piece);
  return hearing;
}

Result<std::unique_ptr<Model>> BuildOmni3(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig whole = TRY(ClassConfig::Of(json, "config.json"));
  const ClassConfig j =
      whole.Has("thinker_config") ? TRY(whole.Part("thinker_config", "qwen3_omni_moe_thinker")) : whole;
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "qwen3_omni_moe_text"))));
  text.tied = TRY(j.Bool("tie_word_embeddings"));
  LeaveTalkers(anatomy);
  const Hearing hearing =
      TRY(DeclareConvTower(TRY(j.Part("audio_config", "qwen3_omni_moe_audio_encoder")), n, anatomy));
  if (Sees(j)) {
    const ClassConfig v = TRY(j.Part("vision_config", "qwen3_omni_moe_vision_encoder"));
    const int64_t positions = TRY(v.Int("num_position_embeddings", 1, 1 << 20));
    if (!v.Has("deepstack_visual_indexes") || !v.json()["deepstack_visual_indexes"].is_array())
      return v.Bad("deepstack_visual_indexes", "must list layers");
    DeclareVision3(Scope{&anatomy, "visual."}.As(Component::kVision), TRY(ReadVision(v)), positions,
                   std::min<size_t>(v.json()["deepstack_visual_indexes"].size(), 4096));
  }
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Result<std::unique_ptr<Model>> BuildAsr(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig whole = TRY(ClassConfig::Of(json, "config.json"));
  const ClassConfig j = whole.Has("thinker_config") ? TRY(whole.Part("thinker_config", "qwen3_asr")) : whole;
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "qwen3"))));
  text.tied =
      j.Has("tie_word_embeddings") ? TRY(j.Bool("tie_word_embeddings")) : TRY(whole.Bool("tie_word_embeddings"));
  const Hearing hearing = TRY(DeclareConvTower(TRY(j.Part("audio_config", "qwen3_asr_encoder")), n, anatomy));
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Architecture g_omni25{"qwen2_5_omni", BuildOmni25}, g_thinker25{"qwen2_5_omni_thinker", BuildOmni25},
    g_omni3{"qwen3_omni_moe", BuildOmni3}, g_thinker3{"qwen3_omni_moe_thinker", BuildOmni3},
    g_asr{"qwen3_asr", BuildAsr};
const bool kRegistered =
    (RegisterArchitecture(&g_omni25), RegisterArchitecture(&g_thinker25), RegisterArchitecture(&g_omni3),
     RegisterArchitecture(&g_thinker3), RegisterArchitecture(&g_asr), true);

}  // namespace
}  // namespace sotto
