// Gemma-3n (transformers' Gemma3nForConditionalGeneration): a conformer of the Universal Speech Model, a text decoder with four
// streams a layer (AltUp), a low-rank path beside attention (Laurel) and an embedding of its own for each layer. The last layers
// read the caches of earlier ones. Keys and values of those layers stand in the files too, and nothing uses them. gemma3n_text is the
// decoder alone (Gemma3nForCausalLM, and what GGUF files hold).
#include <fmt/format.h>

#include "models/audio_llm.h"

namespace sotto {
namespace {

// The vision tower is timm's mobilenetv5_300m_enc, which no config describes: the published count, with its projection.
constexpr int64_t kVisionParameters = 298'587'456;
constexpr int64_t kClipFrames = 3000;  // a clip is cut at 30 s

struct Text {
  TextConfig c;
  std::vector<int64_t> ffn;  // by layer
  int64_t own = 0;           // layers with keys and values of their own
  int64_t altup = 0, laurel = 0, per_layer = 0, per_layer_vocab = 0;
};

// A list of [first, second], such as strides.
Result<std::pair<int64_t, int64_t>> Pair(const ClassConfig& j, std::string_view key, const Json& value) {
  if (!value.is_array() || value.size() != 2 || !value[0].is_number_unsigned() || !value[1].is_number_unsigned() ||
      value[0].get<uint64_t>() < 1 || value[0].get<uint64_t>() > 4096 || value[1].get<uint64_t>() < 1 ||
      value[1].get<uint64_t>() > 4096)
    return j.Bad(key, "must hold pairs of whole numbers from 1 to 4096");
  return std::pair{value[0].get<int64_t>(), value[1].get<int64_t>()};
}

Result<Text> ReadTextOf(const ClassConfig& j) {
  Text t;
  TextConfig& c = t.c;
  c.d_model = TRY(j.Int("hidden_size", 1, kMaxWidth));
  c.layers = TRY(j.Int("num_hidden_layers", 1, kMaxLayers));
  c.heads = TRY(j.Int("num_attention_heads", 1, kMaxWidth));
  c.kv_heads = TRY(j.Int("num_key_value_heads", 1, c.heads));
  c.head_dim = TRY(j.Int("head_dim", 1, kMaxWidth));
  c.vocab_size = TRY(j.Int("vocab_size", 1, kMaxVocab));
  c.max_context = TRY(j.Int("max_position_embeddings", 1, kMaxContext));
  c.window = TRY(j.Int("sliding_window", 1, kMaxContext));
  c.sliding = TRY(ReadSliding(
      j, c.layers, [](int64_t layer, int64_t n) { return (layer + 1) % n != 0; }, 5));
  c.shared_kv_layers = TRY(j.Int("num_kv_shared_layers", 0, c.layers - 1));
  t.own = c.layers - c.shared_kv_layers;
  if (!j.Has("intermediate_size")) return j.Bad("intermediate_size", "is missing");
  const Json& ffn = j.json()["intermediate_size"];  // one number, or one a layer
  for (size_t i = 0; i < static_cast<size_t>(c.layers); ++i) {
    const Json* of = !ffn.is_array() ? &ffn : i < ffn.size() ? &ffn[i] : nullptr;
    if (of == nullptr || !of->is_number_unsigned() || of->get<uint64_t>() < 1 || of->get<uint64_t>() > kMaxWidth)
      return j.Bad("intermediate_size",
                   fmt::format("must be a whole number from 1 to {}, or one for each layer", kMaxWidth));
    t.ffn.push_back(of->get<int64_t>());
    c.ffn = std::max(c.ffn, t.ffn.back());
  }
  t.altup = TRY(j.Int("altup_num_inputs", 1, 64));
  t.laurel = TRY(j.Int("laurel_rank", 1, kMaxWidth));
  t.per_layer = TRY(j.Int("hidden_size_per_layer_input", 1, kMaxWidth));
  t.per_layer_vocab = TRY(j.Int("vocab_size_per_layer_input", 1, kMaxVocab));
  return t;
}

void DeclareText(const Scope& root, const Text& t) {
  const TextConfig& c = t.c;
  const Scope decoder = root.As(Component::kDecoder);
  (void)Matrix(root.As(Component::kEmbedding), "embed_tokens.weight", c.vocab_size, c.d_model, ByOut());
  (void)Matrix(root.As(Component::kPerLayerEmbedding), "embed_tokens_per_layer.weight", t.per_layer_vocab,
               c.layers * t.per_layer, ByOut());
  for (int i = 0; i < c.layers; ++i) {
    const Scope layer = (decoder / "layers" / std::to_string(i)).Layer(i), attention = layer / "self_attn";
    const Scope altup = layer / "altup", laurel = layer / "laurel", mlp = layer / "mlp";
    const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim, ffn = t.ffn[static_cast<size_t>(i)];
    DeclareLinear(attention, "q_proj", q, c.d_model, false, ByOut(c.head_dim));
    DeclareLinear(attention, "o_proj", c.d_model, q, false, ByIn(c.head_dim));
    DeclareRmsNorm(attention, "q_norm", c.head_dim);
    if (i >= t.own) {
      for (const char* name : {"k_proj", "v_proj", "k_norm"})
        root.into->Unused(fmt::format("layers.{}.self_attn.{}", i, name));
    } else {
      DeclareLinear(attention, "k_proj", kv, c.d_model, false, ByOut(c.head_dim));
      DeclareLinear(attention, "v_proj", kv, c.d_model, false, ByOut(c.head_dim));
      DeclareRmsNorm(attention, "k_norm", c.head_dim);
    }
    DeclareLinear(mlp, "gate_proj", ffn, c.d_model, false, ByOut());
    DeclareLinear(mlp, "up_proj", ffn, c.d_model, false, ByOut());
    DeclareLinear(mlp, "down_proj", c.d_model, ffn, false, ByIn());
    for (const char* name : {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                             "post_feedforward_layernorm", "post_per_layer_input_norm"})
      DeclareRmsNorm(layer, name, c.d_model);
    (void)Vector(altup, "correct_output_scale", c.d_model);
    DeclareLinear(altup, "correction_coefs", t.altup, t.altup, false);
    DeclareLinear(altup, "prediction_coefs", t.altup * t.altup, t.altup, false);
    DeclareLinear(altup, "modality_router", t.altup, c.d_model, false);
    DeclareRmsNorm(altup, "router_norm", c.d_model);
    DeclareLinear(laurel, "linear_left", t.laurel, c.d_model, false);
    DeclareLinear(laurel, "linear_right", c.d_model, t.laurel, false);
    DeclareRmsNorm(laurel, "post_laurel_norm", c.d_model);
    DeclareLinear(layer, "per_layer_input_gate", t.per_layer, c.d_model, false);
    DeclareLinear(layer, "per_layer_projection", c.d_model, t.per_layer, false);
  }
  DeclareLinear(decoder, "per_layer_model_projection", c.layers * t.per_layer, c.d_model, false);
  DeclareRmsNorm(decoder, "per_layer_projection_norm", t.per_layer);
  for (int i = 1; i < t.altup; ++i) {
    DeclareLinear(decoder, fmt::format("altup_projections.{}", i - 1), c.d_model, c.d_model, false);
    DeclareLinear(decoder, fmt::format("altup_unembed_projections.{}", i - 1), c.d_model, c.d_model, false);
  }
  DeclareRmsNorm(decoder, "norm", c.d_model);
}

Result<Hearing> DeclareConformer(const ClassConfig& a, Anatomy& anatomy) {
  const int64_t d = TRY(a.Int("hidden_size", 1, kMaxWidth)),
                layers = TRY(a.Int("conf_num_hidden_layers", 1, kMaxLayers));
  const int64_t heads = TRY(a.Int("conf_num_attention_heads", 1, d)),
                kernel = TRY(a.Int("conf_conv_kernel_size", 1, 1024));
  const int64_t mels = TRY(a.Int("input_feat_size", 1, 1024)), keep = TRY(a.Int("conf_reduction_factor", 1, 64));
  for (const char* key : {"sscp_conv_channel_size", "sscp_conv_kernel_size", "sscp_conv_stride_size"})
    if (!a.Has(key) || !a.json()[key].is_array() || a.json()[key].size() != 2)
      return a.Bad(key, "must hold two entries");
  const auto channels = TRY(Pair(a, "sscp_conv_channel_size", a.json()["sscp_conv_channel_size"]));
  const Scope at = Scope{&anatomy, "audio_tower."}.As(Component::kEncoder);
  int64_t bands = mels, frames = kClipFrames;
  for (size_t i = 0; i < 2; ++i) {
    const auto taps = TRY(Pair(a, "sscp_conv_kernel_size", a.json()["sscp_conv_kernel_size"][i]));
    const auto stride = TRY(Pair(a, "sscp_conv_stride_size", a.json()["sscp_conv_stride_size"][i]));
    const int64_t in = i == 0 ? 1 : channels.first, out = i == 0 ? channels.first : channels.second;
    DeclareConv(at / "subsample", fmt::format("conv_{}.conv", i), out, in, taps.first * taps.second, false);
    DeclareRmsNorm(at / "subsample", fmt::format("conv_{}.norm", i), out);
    frames = CeilDiv(frames, stride.first);
    bands = CeilDiv(bands, stride.second);
  }
  DeclareLinear(at / "subsample", "input_proj_linear", d, channels.second * bands, false);
  for (int i = 0; i < layers; ++i) {
    const Scope block = (at / "conformer" / std::to_string(i)).Layer(i), attention = block / "attention";
    for (const char* name : {"ffw_layer_start", "ffw_layer_end"}) {
      DeclareRmsNorm(block / name, "pre_layer_norm", d);
      DeclareLinear(block / name, "ffw_layer_1", 4 * d, d, false, ByOut());
      DeclareLinear(block / name, "ffw_layer_2", d, 4 * d, false, ByIn());
      DeclareRmsNorm(block / name, "post_layer_norm", d);
    }
    DeclareRmsNorm(attention, "pre_attn_norm", d);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "pos_proj"}) DeclareLinear(attention, name, d, d, false);
    (void)Vector(attention, "per_dim_scale", d / heads);
    DeclareLinear(attention, "post", d, d, false);
    DeclareRmsNorm(attention, "post_norm", d);
    const Scope conv = block / "lconv1d";
    DeclareRmsNorm(conv, "pre_layer_norm", d);
    DeclareLinear(conv, "linear_start", 2 * d, d, false);
    DeclareConv(conv, "depthwise_conv1d", d, 1, kernel, false);
    DeclareRmsNorm(conv, "conv_norm", d);
    DeclareLinear(conv, "linear_end", d, d, false);
    DeclareRmsNorm(block, "norm", d);
  }
  DeclareHearing(at, kClipFrames, mels, frames, d, std::max(4 * d, channels.first * CeilDiv(mels, 2)));
  return Hearing{mels, kClipFrames, frames, CeilDiv(frames, keep), 0, 2 * layers * frames * d};
}

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  Text text = TRY(ReadTextOf(TRY(j.Part("text_config", "gemma3n_text"))));
  text.c.tied = TRY(j.Bool("tie_word_embeddings"));
  if (!text.c.tied) return j.Bad("tie_word_embeddings", "is false, but Gemma-3n was published with a tied head only");
  const ClassConfig a = TRY(j.Part("audio_config", "gemma3n_audio"));
  const int64_t d = TRY(a.Int("hidden_size", 1, kMaxWidth)), words = TRY(a.Int("vocab_size", 1, kMaxVocab));
  const int64_t tokens = TRY(j.Int("audio_soft_tokens_per_image", 1, 1 << 20));
  Hearing hearing = TRY(DeclareConformer(a, anatomy));
  const Scope projector = Scope{&anatomy, "embed_audio."}.As(Component::kProjector);
  (void)Matrix(projector, "embedding.weight", words, d);
  DeclareRmsNorm(projector, "hard_embedding_norm", d);
  DeclareRmsNorm(projector, "soft_embedding_norm", d);
  DeclareLinear(projector, "embedding_projection", text.c.d_model, d, false);
  (void)RowTable(Scope{&anatomy, "vision_tower."}.As(Component::kVision), "published", 1, kVisionParameters);
  hearing.tokens = hearing.window_tokens = tokens;  // every clip is padded to this many
  return FinishAudioLlm(
      hearing, text.c, n, anatomy, [&](const Scope& language, const Workload& workload, ModelInfo* info) {
        DeclareText(language / "model", text);
        TextRoom((language / "model").As(Component::kDecoder), text.c, workload).Describe(text.c, workload, info);
      });
}

Result<std::unique_ptr<Model>> BuildText(const Json& json, const Workload& n, Anatomy& anatomy) {
  const Text text = TRY(ReadTextOf(TRY(ClassConfig::Of(json, "config.json"))));
  const Scope root{&anatomy, "model."};
  DeclareText(root, text);
  ModelInfo info;
  info.type = "decoder";
  TextRoom(root.As(Component::kDecoder), text.c, n).Describe(text.c, n, &info);
  info.not_run = text.c.not_run;
  return std::unique_ptr<Model>(std::make_unique<PlannedModel>(std::move(info)));
}

Architecture g_gemma3n{"gemma3n", Build}, g_text{"gemma3n_text", BuildText};
const bool kRegistered = (RegisterArchitecture(&g_gemma3n), RegisterArchitecture(&g_text), true);

}  // namespace
}  // namespace sotto
