// llama.cpp: a GGUF file with its projector beside it, cells of the KV cache allocated whole at start, and a compute buffer.
#include <algorithm>

#include "engine/foreign/ggml.h"

namespace sotto::foreign {
namespace {

constexpr std::string_view kCacheTypes = "f32|f16|bf16|q8_0|q4_0|q4_1|iq4_nl|q5_0|q5_1";
constexpr Setting kSettings[] = {
    {"n_seq_max", "", 1, 256},     {"n_ubatch", "", 1, 1 << 24},  {"n_gpu_layers", "all|0"},
    {"kv_unified", "true|false"},  {"swa_full", "true|false"},    {"flash_attn", "auto|on|off"},
    {"cache_type_k", kCacheTypes}, {"cache_type_v", kCacheTypes}, {"mmproj_type", "f32|f16|bf16|q8_0"}};

constexpr uint64_t kAlignment = 32;     // of tensors in a GGUF file
constexpr int64_t kGemma3nLayers = 20;  // that have keys and values
constexpr Component kProjectorFile[] = {Component::kEncoder, Component::kProjector, Component::kQformer,
                                        Component::kAggregator, Component::kVision};

uint64_t TensorBytes(const GgmlType& type, const Slot& s) {
  const bool vector = s.form == Form::kVector;
  return RoundUp(vector ? SatMul(s.Elements(), 4) : MatrixBytes(type, s), kAlignment);
}

class Rules {
 public:
  Rules(const Case& c, const Settings& settings) : c_(c), s_(settings) {}
  Result<ForeignPlan> Plan();

 private:
  void Weights(const GgmlType& type);
  Status Cache();
  void Buffers();
  void Known(std::string name, uint64_t bytes, std::string rule, std::string source, Place place) {
    plan_.terms.push_back({.name = std::move(name),
                           .bytes = bytes,
                           .rule = std::move(rule),
                           .source = std::move(source),
                           .place = place});
  }
  void Unknown(std::string name, std::string rule, std::string source, Place place,
               std::optional<uint64_t> at_most = std::nullopt) {
    plan_.terms.push_back({.name = std::move(name),
                           .rule = std::move(rule),
                           .source = std::move(source),
                           .at_most = at_most,
                           .place = place});
  }

  const Case& c_;
  const Settings& s_;
  ForeignPlan plan_;
  Place device_ = Place::kDevice;
  int64_t sequences_ = 1, ctx_ = 0, ubatch_ = 0;
};

void Rules::Weights(const GgmlType& type) {
  const Anatomy& a = *c_.planned.layout.anatomy;
  // A quantized language model stands beside a projector in F16 unless told otherwise.
  const std::string named = s_.Word("mmproj_type", "");
  const GgmlType& audio = named.empty() ? (type.block > 1 ? *FindGgmlType("F16") : type) : *GgmlNamed(named);
  const bool tied = a.Parameters(Component::kLmHead) == 0;
  uint64_t text = 0, embedding = 0, projector = 0;
  for (const Slot& s : a.slots()) {
    if (s.role != Role::kWeight || s.component == Component::kAdapters || s.component == Component::kMimo) continue;
    if (std::find(std::begin(kProjectorFile), std::end(kProjectorFile), s.component) != std::end(kProjectorFile))
      projector = SatAdd(projector, TensorBytes(audio, s));
    else if (s.component == Component::kEmbedding)
      embedding = SatAdd(embedding, TensorBytes(type, s));
    else
      text = SatAdd(text, TensorBytes(type, s));
  }
  const std::string_view mix = type.block > 1 ? ", as by llama-quantize --pure: a mix such as Q4_K_M takes more" : "";
  Known("weights", text, fmt::format("matrices {}, vectors F32{}", type.name, mix),
        type.block > 1 ? "llama-quant.cpp" : "llama-model.cpp, load_tensors", device_);
  Known("token embedding", embedding, fmt::format("{}, in host memory always", type.name), "dev_input", Place::kHost);
  if (tied && device_ == Place::kDevice)
    Known("output (tied)", embedding, "a second copy of the embedding, on the device", "TENSOR_DUPLICATED", device_);
  if (type.block > 1 && device_ == Place::kHost)
    Unknown("repacked matrices", "a second copy of those types that the CPU's kernels want in another layout",
            "ggml_backend_cpu_get_extra_buffer_types", Place::kHost, text);
  if (a.Parameters(Component::kAdapters) + a.Parameters(Component::kMimo) > 0)
    Unknown("adapters, second decoder", "files of their own, if there are any", "Otherwise **unknown**", device_);
  if (projector == 0) return;
  Known("mmproj", projector, fmt::format("encoder and projector: matrices {}, vectors F32", audio.name),
        "its tensors + a compute buffer", device_);
  Unknown("mmproj's compute buffer", "a dry run at load; a larger input reallocates", "its tensors + a compute buffer",
          device_);
  Unknown("embeddings of the audio", "no published formula", "multimodal embeddings on the host", Place::kHost);
}

Status Rules::Cache() {
  const std::string kv = c_.planned.request.kv;
  const std::string_view asked = kv == "fp32" ? "f32" : kv == "bf16" ? "bf16" : "f16";
  const GgmlType& k = *GgmlNamed(s_.Word("cache_type_k", asked));
  const GgmlType& v = *GgmlNamed(s_.Word("cache_type_v", asked));
  const KvLayer& l = c_.layer;
  const bool latent = l.latent > 0;
  const auto key = static_cast<uint64_t>(latent ? l.latent + l.rope : l.heads * l.head_dim);
  const auto value = static_cast<uint64_t>(latent ? 0 : l.heads * l.v_dim);
  if (v.block > 1 && !latent && s_.Word("flash_attn", "auto") == "off")
    return Usage(
        fmt::format("--engine-option cache_type_v={}: a quantized V needs flash attention; leave flash_attn out",
                    s_.Word("cache_type_v", "")));
  for (const auto& [type, cols] : {std::pair{&k, key}, std::pair{&v, value}})
    if (cols % type->block != 0)
      return Usage(fmt::format("a cache of {}: rows of {} numbers are not whole blocks of {}; choose f16", type->name,
                               cols, type->block));
  const uint64_t cell = SatAdd(GgmlBytes(k, 1, key), GgmlBytes(v, 1, value));

  const bool unified = s_.Flag("kv_unified", false);
  const int64_t streams = unified ? 1 : sequences_;
  const int64_t cells = unified ? ctx_ : Pad256(ctx_ / sequences_);
  // Only Gemma's windows are used, and of Gemma-3n's layers the first twenty only.
  const bool gemma3n = c_.model_type == "gemma3n", windows = gemma3n || c_.info.text_type.starts_with("gemma");
  const int64_t swa = !windows || s_.Flag("swa_full", false)
                          ? cells
                          : Pad256(std::min(cells, c_.window * (unified ? sequences_ : 1) + ubatch_));
  int64_t full = 0, sliding = 0;
  const auto layers = static_cast<int64_t>(c_.info.kv_layers.size());
  for (int64_t i = 0; i < (gemma3n ? std::min(layers, kGemma3nLayers) : layers); ++i) {
    const KvLayer& layer = c_.info.kv_layers[static_cast<size_t>(i)];
    if (layer.heads > 0 || gemma3n) (layer.window > 0 && windows ? sliding : full) += 1;
  }
  const std::string types = latent ? fmt::format("{} (K alone)", k.name) : fmt::format("{} and {}", k.name, v.name);
  const std::string each = fmt::format("{} bytes a cell, {}", cell, types);
  if (full > 0)
    Known("KV cache", SatMul(Times({full, streams, cells}), cell),
          fmt::format("{} layers x {} of {} cells x {}", full, Count(streams, "stream"), cells, each),
          latent ? "has_v = !is_mla" : "llama-kv-cache.cpp, constructor", device_);
  if (sliding > 0)
    Known("KV cache, sliding layers", SatMul(Times({sliding, streams, swa}), cell),
          fmt::format("{} layers x {} of {} cells x {}", sliding, Count(streams, "stream"), swa, each),
          "llama-kv-cache-iswa.cpp", device_);
  return {};
}

void Rules::Buffers() {
  const int64_t v = c_.info.vocab_size;
  Known("output buffer", Times({v, sequences_, 4}),
        fmt::format("{} x {} x 4 bytes, at start", v, Count(sequences_, "sequence")),
        "llama-context.cpp, output_reserve", Place::kHost);
  Known("logits in the compute buffer", Times({v, ubatch_, 4}), fmt::format("{} x {} tokens x 4 bytes", v, ubatch_),
        "n_ubatch x V x 4", device_);
  Unknown("the rest of the compute buffer", "has no published formula", "llama-context.cpp, sched_reserve", device_);
  Unknown("the server's prompt cache", "fills as prompts come; -cram 0 leaves it out", "up to 8,192 MiB", Place::kHost,
          8192 * kMiB);
}

Result<ForeignPlan> Rules::Plan() {
  if (c_.planned.request.tp > 1) return NoRule("llama.cpp", "--tp");
  if (c_.beams > 1) return NoRule("llama.cpp", "--beam");
  const GgmlType* type = TRY(GgmlOf(c_.weights, "llama.cpp"));
  if (s_.Word("n_gpu_layers", "all") == "0") device_ = Place::kHost;
  sequences_ = s_.Int("n_seq_max", c_.batch);
  const int64_t asked = c_.positions * c_.batch;  // -c: all sequences together
  ctx_ = Pad256(asked);
  ubatch_ = std::min(asked, s_.Int("n_ubatch", 512));
  plan_.engine = "llama.cpp";
  plan_.version = "as in whisper.cpp 4834a2327, 18 August 2026";
  Weights(*type);
  if (const Status cache = Cache(); !cache.ok()) return cache.error();
  Buffers();
  return std::move(plan_);
}

}  // namespace

Result<ForeignPlan> PlanLlamaCpp(const Case& c, const std::vector<std::string>& given) {
  const Settings settings = TRY(Settings::Of("llama.cpp", kSettings, given));
  return Rules(c, settings).Plan();
}

}  // namespace sotto::foreign
