// Granite Speech (https://arxiv.org/abs/2505.08699; transformers' GraniteSpeechForConditionalGeneration): a conformer on stacked mel frames,
// a Q-Former that makes a few vectors of each window of positions, a Granite decoder with LoRA for audio. Any length at once.
// Granite's text models are Llamas with multipliers that hold no memory (GraniteConfig).
#include "models/audio_llm.h"
#include "models/blocks/lora.h"
#include "models/blocks/qformer.h"

namespace sotto {
namespace {

struct Conformer {
  int64_t d, heads, head_dim, layers, ffn, conv, kernel, input, output, relative, context;
};

Result<Conformer> ReadConformer(const ClassConfig& j) {
  Conformer c{};
  c.d = TRY(j.Int("hidden_dim", 1, kMaxWidth));
  c.heads = TRY(j.Int("num_heads", 1, kMaxWidth));
  c.head_dim = TRY(j.IntOr("dim_head", 1, kMaxWidth, c.d / c.heads));
  c.layers = TRY(j.Int("num_layers", 1, kMaxLayers));
  c.ffn = c.d * TRY(j.Int("feedforward_mult", 1, 1024));
  c.conv = c.d * TRY(j.Int("conv_expansion_factor", 1, 1024));
  c.kernel = TRY(j.Int("conv_kernel_size", 1, 1024));
  c.input = TRY(j.Int("input_dim", 1, 4096));
  c.output = TRY(j.Int("output_dim", 1, kMaxWidth));
  c.relative = 2 * TRY(j.Int("max_pos_emb", 1, 1 << 20)) + 1;
  c.context = TRY(j.Int("context_size", 1, 1 << 20));
  return c;
}

void DeclareConformer(const Scope& at, const Conformer& c) {
  const int64_t inner = c.heads * c.head_dim;
  DeclareLinear(at, "input_linear", c.d, c.input);
  for (int i = 0; i < c.layers; ++i) {
    const Scope layer = (at / "layers" / std::to_string(i)).Layer(i);
    for (const char* name : {"ff1", "ff2"}) {
      DeclareNorm(layer / name, "pre_norm", c.d);
      DeclareLinear(layer / name, "up_proj", c.ffn, c.d, true, ByOut());
      DeclareLinear(layer / name, "down_proj", c.d, c.ffn, true, ByIn());
    }
    const Scope attention = layer / "attn", conv = layer / "conv";
    DeclareNorm(attention, "pre_norm", c.d);
    DeclareLinear(attention, "to_q", inner, c.d, false, ByOut(c.head_dim));
    DeclareLinear(attention, "to_kv", 2 * inner, c.d, false, ByOut(c.head_dim));
    DeclareLinear(attention, "to_out", c.d, inner, true, ByIn(c.head_dim));
    (void)RowTable(attention, "rel_pos_emb.weight", c.relative, c.head_dim);
    DeclareNorm(conv, "norm", c.d);
    DeclareConv(conv, "up_conv", 2 * c.conv, c.d, 1);
    DeclareConv(conv, "depth_conv.conv", c.conv, 1, c.kernel, false);
    DeclareNorm(conv, "batch_norm", c.conv);
    DeclareConv(conv, "down_conv", c.d, c.conv, 1);
    DeclareNorm(layer, "post_norm", c.d);
  }
  DeclareLinear(at, "out", c.output, c.d);
  DeclareLinear(at, "out_mid", c.d, c.output);
}

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  const Conformer c = TRY(ReadConformer(TRY(j.Part("encoder_config", "granite_speech_encoder"))));
  const QformerConfig q = TRY(ReadQformer(TRY(j.Part("projector_config", "blip_2_qformer"))));
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "granite"))));
  text.tied = TRY(j.Bool("tie_word_embeddings"));
  const int64_t window = TRY(j.Int("window_size", 1, 1 << 16)), rate = TRY(j.Int("downsample_rate", 1, window));
  const int64_t queries = window / rate;

  const Scope encoder = Scope{&anatomy, "encoder."}.As(Component::kEncoder);
  DeclareConformer(encoder, c);
  DeclareQformer(Scope{&anatomy, "projector.qformer."}.As(Component::kQformer), q, queries);
  DeclareLinear(Scope{&anatomy, "projector."}.As(Component::kProjector), "linear", text.d_model, q.d);
  if (j.Has("adapter_config")) TRY(DeclareLora(TRY(j.Part("adapter_config")), text, anatomy));
  // All of the audio is one window; two mel frames side by side are one position.
  const int64_t positions = (Samples(n.audio_seconds) / 160 + 1) / 2;
  Hearing hearing{c.input / 2, 2 * positions, positions, 0, 0, 2 * c.layers * positions * c.heads * c.head_dim};
  hearing.tokens = CeilDiv(positions, window) * queries;
  hearing.window_tokens = hearing.tokens;
  DeclareHearing(encoder, hearing.frames, hearing.n_mels, positions, std::max(c.d, c.heads * c.head_dim),
                 std::max(c.ffn, 2 * c.conv));
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Result<TextConfig> ReadGranite(const ClassConfig& j) {
  TextConfig c = TRY(ReadCommonText(j));
  c.qkv_bias = c.o_bias = TRY(j.Bool("attention_bias"));
  c.mlp_bias = TRY(j.Bool("mlp_bias"));
  return c;
}

Architecture g_speech{"granite_speech", Build};
TextFamily g_granite{"granite", ReadGranite};
const bool kRegistered = (RegisterArchitecture(&g_speech), RegisterTextFamily(&g_granite), true);

}  // namespace
}  // namespace sotto
