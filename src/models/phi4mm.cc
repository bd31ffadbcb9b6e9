// Phi-4-multimodal (https://arxiv.org/abs/2503.01743; microsoft/Phi-4-multimodal-instruct as published, transformers'
// Phi4MultimodalForCausalLM): a conformer, a projector for speech alone and one for speech with vision, SigLIP, and Phi-4-mini
// with a LoRA for each modality, which stay apart because one or the other is active.
#include "models/audio_llm.h"
#include "models/blocks/lora.h"
#include "models/blocks/vision.h"

namespace sotto {
namespace {

constexpr int64_t kPieceFrames = 4000;  // 40 s: longer audio passes the encoder in pieces

// SigLIP-so400m/14 at 448 pixels: the config doesn't describe it.
constexpr SiglipConfig kVision{1152, 27, 16, 4304, 3 * 14 * 14, 1024, true};

struct Audio {
  int64_t d, heads, ffn, layers, mels, channels, kernel, out, last, reduction, distance;
};

Result<Audio> ReadAudio(const ClassConfig& j) {
  Audio a{};
  a.d = TRY(j.Int("attention_dim", 1, kMaxWidth));
  a.heads = TRY(j.Int("attention_heads", 1, a.d));
  a.ffn = TRY(j.Int("linear_units", 1, kMaxWidth));
  a.layers = TRY(j.Int("num_blocks", 1, kMaxLayers));
  a.mels = TRY(j.Int("input_size", 1, 1024));
  a.kernel = TRY(j.Int("kernel_size", 1, 1024));
  a.out = TRY(j.Int("ext_pw_out_channel", 1, kMaxWidth));
  a.last = TRY(j.Int("depthwise_seperable_out_channel", 1, kMaxWidth));
  a.reduction = TRY(j.Int("time_reduction", 2, 64));
  a.channels = TRY(TRY(j.Part("nemo_conv_settings")).Int("conv_channels", 1, kMaxWidth));
  a.distance = TRY(TRY(j.Part("relative_attention_bias_args")).Int("t5_bias_max_distance", 1, 1 << 20));
  if ((a.reduction & (a.reduction - 1)) != 0) return j.Bad("time_reduction", "must be a power of two");
  return a;
}

Hearing DeclareAudio(const Scope& at, const Audio& a) {
  const Scope embed = at / "embed";
  DeclareConv(embed, "conv.0", a.channels, 1, 9);
  int64_t bands = CeilDiv(a.mels, 2);
  for (int64_t i = 2, r = 2; r < a.reduction; r *= 2, i += 3, bands = CeilDiv(bands, 2)) {
    DeclareConv(embed, fmt::format("conv.{}", i), a.channels, 1, 9);
    DeclareConv(embed, fmt::format("conv.{}", i + 1), a.channels, a.channels, 1);
  }
  DeclareLinear(embed, "out", a.d, a.channels * bands);
  (void)RowTable(at, "relative_attention_bias_layer.bias_values.weight", 2 * a.distance, a.heads);
  for (int i = 0; i < a.layers; ++i) {
    const Scope block = (at / "encoders" / std::to_string(i)).Layer(i), conv = block / "conv";
    for (const char* name : {"feed_forward_in", "feed_forward_out"}) {
      DeclareNorm(block / name, "layer_norm", a.d);
      DeclareLinear(block / name, "gate_up_proj", 2 * a.ffn, a.d, true, ByOut());
      DeclareLinear(block / name, "down_proj", a.d, a.ffn, true, ByIn());
    }
    DeclareNorm(block, "layer_norm_att", a.d);
    DeclareAttention(block / "self_attn", a.d, a.d / a.heads);
    DeclareNorm(conv, "layer_norm", a.d);
    DeclareLinear(conv / "glu", "ext_pw_conv_1d", 2 * a.out, a.d);
    (void)Vector(conv / "glu", "b1", a.out);
    (void)Vector(conv / "glu", "b2", a.out);
    DeclareConv(conv, "dw_sep_conv_1d.dw_conv", a.d, 1, a.kernel);
    DeclareLinear(conv, "dw_sep_conv_1d.pw_conv", a.last, a.d);
    DeclareLinear(conv, "ext_pw_conv_1d", a.out, a.d);
    DeclareNorm(block, "layer_norm", a.d);
  }
  const int64_t positions = kPieceFrames / a.reduction;
  DeclareHearing(at, kPieceFrames, a.mels, positions, a.d, std::max(2 * a.ffn, 2 * a.out));
  return {a.mels, kPieceFrames, positions, positions, 0, 2 * a.layers * positions * a.d};
}

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  TextConfig text = TRY(ReadCommonText(j));
  text.fused = true;
  if (j.Has("sliding_window")) {  // as Phi-3's; the published one is wider than the context
    text.window = TRY(j.Int("sliding_window", 1, kMaxContext));
    text.sliding.assign(static_cast<size_t>(text.layers), true);
  }
  const ClassConfig processor = TRY(j.Part("audio_processor"));
  const Audio a = TRY(ReadAudio(TRY(processor.Part("config"))));
  const ClassConfig layer = TRY(TRY(j.Part("embd_layer")).Part("audio_embd_layer"));
  const int64_t rate = TRY(layer.Int("compression_rate", 1, 1024)) * TRY(layer.Int("downsample_rate", 1, 1024));

  anatomy.Unused("embed_tokens_extend.audio_embed.encoder.encoder_embedding.");  // constants of the mel normalisation
  Hearing hearing = DeclareAudio(Scope{&anatomy, "audio_embed.encoder."}.As(Component::kEncoder), a);
  for (const char* mode : {"speech", "vision"}) {
    const Scope projector = Scope{&anatomy, "audio_embed.projection."}.As(Component::kProjector) / mode;
    DeclareLinear(projector, "up", text.d_model, a.d);
    DeclareLinear(projector, "down", text.d_model, text.d_model);
  }
  const Scope vision = Scope{&anatomy, "image_embed."}.As(Component::kVision);
  DeclareSiglip(vision / "img_processor", kVision);
  (void)Vector(vision, "glb_GN", kVision.d);
  (void)Vector(vision, "sub_GN", kVision.d);
  DeclareLinear(vision, "img_projection_up", text.d_model, kVision.d);
  DeclareLinear(vision, "img_projection_down", text.d_model, text.d_model);
  const int64_t qkv = (text.heads + 2 * text.kv_heads) * text.head_dim, q = text.heads * text.head_dim;
  for (const char* mode : {"speech_lora", "vision_lora"}) {
    const int64_t rank = TRY(TRY(j.Part(mode)).Int("r", 1, kMaxWidth));
    for (int i = 0; i < text.layers; ++i) {
      const Scope at = (Scope{&anatomy, std::string(mode) + "."}.As(Component::kAdapters) / std::to_string(i)).Layer(i);
      DeclareLora(at, "qkv_proj", rank, qkv, text.d_model);
      DeclareLora(at, "o_proj", rank, text.d_model, q);
      DeclareLora(at, "gate_up_proj", rank, 2 * text.ffn, text.d_model);
      DeclareLora(at, "down_proj", rank, text.d_model, text.ffn);
    }
  }
  const int64_t samples = Samples(n.audio_seconds);
  hearing.tokens = samples < 400 ? 0 : CeilDiv((samples - 400) / 160 + 1, rate);
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Architecture g_phi4mm{"phi4mm", Build};
const bool kRegistered = (RegisterArchitecture(&g_phi4mm), true);

}  // namespace
}  // namespace sotto
