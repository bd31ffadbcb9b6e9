// transformers 5.23: generate() with a dynamic or a static cache, eager or sdpa attention.
#include <algorithm>

#include "engine/foreign/rules.h"

namespace sotto::foreign {
namespace {

constexpr Setting kSettings[] = {{"attention", "eager|sdpa"}, {"cache", "dynamic|static"}, {"prompt", "", 1, 1L << 32}};

// Their forward has no logits_to_keep: logits of the whole prompt.
constexpr std::string_view kAllLogits[] = {
    "whisper", "qwen2_audio", "qwen2_5_omni", "qwen2_5_omni_thinker", "qwen3_omni_moe", "qwen3_omni_moe_thinker"};
// Not a class of transformers: what their own code keeps beside is not known.
constexpr std::string_view kOwnCode[] = {"ultravox",   "kimi_audio", "minicpmo", "midashenglm",
                                         "miaudiollm", "gama",       "phi4mm"};

template <size_t n>
bool OneOf(const std::string_view (&list)[n], std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

struct Rules {
  const Case& c;
  bool eager, fixed;  // fixed: cache=static
  int64_t prompt;
  int64_t e = static_cast<int64_t>(c.size), window = c.sliding > 0 ? c.window : c.positions + 1;
  std::vector<ForeignTerm> terms{};

  std::string Rows() const { return Count(c.rows, "row"); }
  bool whisper() const { return c.info.cross_layers > 0; }

  // Bytes of `full` positions in each full layer and `sliding` in each sliding one, and the words for it.
  uint64_t Kept(int64_t full, int64_t sliding) const {
    return SatAdd(Times({c.rows, c.full, full, c.layer.Elements(), e}),
                  Times({c.rows, c.sliding, sliding, c.layer.Elements(), e}));
  }
  std::string Words(int64_t full, int64_t sliding) const {
    std::string layers;
    if (c.full > 0) layers = fmt::format("{} layers x {}", c.full, full);
    if (c.sliding > 0)
      layers += fmt::format("{}{} sliding layers x {}", layers.empty() ? "" : " + ", c.sliding, sliding);
    return fmt::format("{} x ({} positions) x {} x {} bytes", Rows(), layers, c.layer.Elements(), e);
  }
  void Transient(Moment moment, std::string name, uint64_t bytes, std::string rule, std::string source) {
    terms.push_back({.name = std::move(name),
                     .bytes = bytes,
                     .rule = std::move(rule),
                     .source = std::move(source),
                     .moment = moment,
                     .transient = true});
  }
  void Unknown(std::string name, std::string rule, std::string source, Moment moment = Moment::kAlways) {
    terms.push_back({.name = std::move(name), .rule = std::move(rule), .source = std::move(source), .moment = moment});
  }

  void Caches();
  void Growing();
  void Attention(Moment moment, int64_t queries, int64_t keys);
  void Logits(Moment moment, int64_t positions);
  void Audio();
};

void Rules::Caches() {
  const int64_t n = c.positions;
  if (fixed) {
    terms.push_back({.name = "KV cache",
                     .bytes = Kept(n, std::min(n, window)),
                     .rule = Words(n, std::min(n, window)) + ", allocated whole",
                     .source = "StaticLayer, StaticSlidingWindowLayer"});
  } else {
    const std::string source = c.sliding > 0 ? "DynamicSlidingWindowLayer.update" : "DynamicLayer.update";
    struct At {
      Moment moment;
      std::string_view name;
      int64_t positions, held;  // held: positions of a sliding layer behind the view
    };
    // A step leaves the window's last position behind the view; the copies that beams make don't.
    const At moments[] = {{Moment::kPrefill, "after the prompt", prompt, prompt},
                          {Moment::kStep, "at the end", n, std::min(n, c.beams > 1 ? window - 1 : window)}};
    for (const At& at : moments) {
      const int64_t seen = std::min(at.positions, window - 1);
      terms.push_back({.name = fmt::format("KV cache {}", at.name),
                       .bytes = Kept(at.positions, seen),
                       .rule = Words(at.positions, seen),
                       .source = source,
                       .moment = at.moment});
      if (c.sliding > 0 && at.held > seen)
        terms.push_back({.name = "  behind sliding views",
                         .bytes = Times({c.rows, c.sliding, at.held - seen, c.layer.Elements(), e}),
                         .rule = fmt::format("{} more in each sliding layer: the cache is a view",
                                             Count(at.held - seen, "position")),
                         .source = "transient of a sliding prefill",
                         .moment = at.moment});
    }
  }
  if (whisper())
    terms.push_back({.name = "cross-attention cache",
                     .bytes = Times({c.rows, c.info.cross_layers, c.info.audio_positions, c.layer.Elements(), e}),
                     .rule = fmt::format("{} x {} layers x {} positions x {} x {} bytes", Rows(), c.info.cross_layers,
                                         c.info.audio_positions, c.layer.Elements(), e),
                     .source = "EncoderDecoderCache"});
}

// What a step copies of the caches.
void Rules::Growing() {
  const int64_t key = c.layer.latent > 0 ? c.layer.latent : c.layer.heads * c.layer.head_dim;
  const int64_t longest = c.full > 0 ? c.positions : std::min(c.positions, window - 1);
  if (!fixed)
    Transient(Moment::kStep, "growing: the old K of a layer", Times({c.rows, longest - 1, key, e}),
              fmt::format("{} x {} positions x {} x {} bytes", Rows(), longest - 1, key, e), "transient of growing");
  if (c.beams > 1) {
    const int64_t positions = whisper() ? std::max(longest, c.info.audio_positions) : longest;
    Transient(Moment::kStep, "reordering of beams: one tensor", Times({c.rows, positions, key, e}),
              fmt::format("{} x {} positions x {} x {} bytes", Rows(), positions, key, e), "reorder_cache");
  }
}

// Of one layer, for `queries` that come at once over `keys` positions.
void Rules::Attention(Moment moment, int64_t queries, int64_t keys) {
  const KvLayer& l = c.layer;
  const int64_t heads = c.info.heads;
  const bool masked = !eager && c.sliding > 0 && queries > 1 && keys >= window;
  if (l.latent > 0) {
    Transient(moment, "expanded K and V of a layer", Times({c.rows, keys, heads, l.head_dim + l.v_dim, e}),
              fmt::format("{} x {} positions x {} heads x {} x {} bytes", Rows(), keys, heads, l.head_dim + l.v_dim, e),
              "modeling_deepseek_v3.py, expand_kv");
  } else if (l.heads < heads && (eager || (queries > 1 && (masked || l.head_dim > 256)))) {
    const int64_t seen = eager && c.full == 0 && queries == 1 ? std::min(keys, window) : keys;
    Transient(moment, "K and V repeated for all heads", Times({c.rows, seen, heads, l.head_dim + l.v_dim, e}),
              fmt::format("{} x {} positions x {} heads x {} x {} bytes", Rows(), seen, heads, l.head_dim + l.v_dim, e),
              "use_gqa_in_sdpa, repeat_kv");
  }
  if (eager) {
    const int64_t seen = whisper() ? std::max(keys, c.info.audio_positions) : keys, each = whisper() ? 2 * e : e + 4;
    Transient(moment, "attention scores of a layer", Times({c.rows, heads, queries, seen, each}),
              fmt::format("{} x {} heads x {} x {} x {} bytes, at least", Rows(), heads, queries, seen, each),
              "eager_attention_forward");
  }
  if (masked)
    terms.push_back({.name = "mask",
                     .bytes = Times({c.rows, queries, keys}),
                     .rule = fmt::format("{} x {} x {} bytes", Rows(), queries, keys),
                     .source = "_ignore_causal_mask_sdpa",
                     .moment = moment});
}

void Rules::Logits(Moment moment, int64_t positions) {
  const int64_t v = c.info.vocab_size;
  Transient(moment, "logits, and the last in fp32", SatAdd(Times({c.rows, positions, v, e}), Times({c.rows, v, 4})),
            fmt::format("{} x ({} x {} bytes + 4) x {}", Rows(), Count(positions, "position"), e, v),
            positions > 1 ? "forward hasn't it" : "_supports_logits_to_keep");
}

void Rules::Audio() {
  const ModelInfo& info = c.info;
  // What the feature extractor of Whisper makes of an audio of at most 30 s.
  if (info.encoder_heads > 0 && info.n_frames == 3000) {
    const int64_t copies = !whisper() && c.beams > 1 ? c.batch + c.rows : c.batch;
    terms.push_back({.name = "mel",
                     .bytes = Times({copies, info.n_mels, info.n_frames, 4}),
                     .rule = fmt::format("{} x {} mels x {} frames x 4 bytes{}", copies, info.n_mels, info.n_frames,
                                         copies > c.batch ? ", repeated for each beam" : ""),
                     .source = "padded to 30 s",
                     .place = Place::kHost});
    const int64_t rows = whisper() ? c.batch : c.rows, p = info.audio_positions;
    if (eager)
      Transient(Moment::kEncode, "scores of an encoder layer", Times({rows, info.encoder_heads, p, p, 2 * e}),
                fmt::format("{} x {} heads x {} x {} x {} bytes, at least", Count(rows, "row"), info.encoder_heads, p,
                            p, 2 * e),
                "Whisper's encoder has no fp32 softmax");
  } else {
    Unknown("mel", "this model's feature extractor has no published formula", "other activations");
    if (eager) Unknown("scores of an encoder layer", "this encoder has no published formula", "other activations");
  }
  Unknown("the encoder's activations",
          fmt::format("{} through the encoder; no published formula", Count(whisper() ? c.batch : c.rows, "row")),
          "the audio encoder of audio LLMs runs on batch x beams rows", Moment::kEncode);
}

}  // namespace

Result<ForeignPlan> PlanTransformers(const Case& c, const std::vector<std::string>& given) {
  const Settings settings = TRY(Settings::Of("transformers", kSettings, given));
  if (const Status floats = OnlyFloats(c, "transformers"); !floats.ok()) return floats.error();
  if (c.planned.request.tp > 1) return NoRule("transformers", "--tp");
  if (const std::string& kv = c.planned.request.kv; kv != "auto" && kv != NameOf(c.weights))
    return Usage(fmt::format("--kv {}: transformers keeps the cache in the weights' type, {}", kv, NameOf(c.weights)));
  const bool softcap = c.info.text_type == "gemma2";
  if (softcap && settings.Word("attention", "") == "sdpa")
    return Usage("--engine-option attention=sdpa: Gemma-2 has none (softcapping); leave it out");
  // All but the last token is a prompt, and one is generated; Whisper is prompted by four.
  const int64_t least = c.info.cross_layers > 0 ? std::min<int64_t>(4, c.positions) : c.positions - 1;
  Rules r{c, softcap || settings.Word("attention", "sdpa") == "eager", settings.Word("cache", "dynamic") == "static",
          settings.Int("prompt", std::max<int64_t>(1, least))};
  if (r.prompt > c.positions)
    return Usage(
        fmt::format("--engine-option prompt={} is more than the {} positions of the context", r.prompt, c.positions));

  const uint64_t parameters = c.planned.layout.anatomy->Parameters();
  r.terms.push_back({.name = "weights",
                     .bytes = SatMul(parameters, c.size),
                     .rule = fmt::format("{} parameters x {} bytes", parameters, r.e),
                     .source = "modeling_utils.py, _load_pretrained_model"});
  r.Caches();
  r.Growing();
  r.Attention(Moment::kPrefill, r.prompt, r.prompt);
  r.Attention(Moment::kStep, 1, c.positions);
  r.Logits(Moment::kPrefill, OneOf(kAllLogits, c.model_type) ? r.prompt : 1);
  r.Logits(Moment::kStep, 1);
  if (c.info.n_mels > 0) r.Audio();
  if (OneOf(kOwnCode, c.model_type))
    r.Unknown("its own code",
              fmt::format("'{}' has no class in transformers: its code keeps what it likes", c.model_type),
              "needs remote code");
  if (!r.eager) r.Unknown("workspace of sdpa's kernels", "no published formula", "workspace of each kernel: unknown");
  r.Unknown("other activations", "no published formula", "other activations");
  r.Unknown("CUDA context, rounding", "no published formula", "CUDA context, allocator's rounding");
  ForeignPlan plan;
  plan.engine = "transformers";
  plan.version = "5.23.0";
  plan.terms = std::move(r.terms);
  return plan;
}

}  // namespace sotto::foreign
