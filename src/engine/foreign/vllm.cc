// vLLM, V1 engine: weights, pages of the KV cache by request, and what a device's memory leaves for them.
#include <algorithm>
#include <cmath>

#include "engine/foreign/rules.h"

namespace sotto::foreign {
namespace {

constexpr double kLargest = 1LL << 50;
constexpr Setting kSettings[] = {{"gpu_memory_utilization", "", 0.01, 1, false},
                                 {"block_size", "", 1, 4096},
                                 {"max_num_batched_tokens", "", 1, 1 << 24},
                                 {"max_num_seqs", "", 1, 1 << 20},
                                 {"enforce_eager", "true|false"},
                                 {"kv_cache_dtype", "auto|fp8|fp8_ds_mla"},
                                 {"kv_cache_memory_bytes", "", 1, kLargest},
                                 {"disable_hybrid_kv_cache_manager", "true|false"},
                                 {"mm_encoder_tp_mode", "weights|data"},
                                 {"mm_processor_cache_gb", "", 0, 1 << 20, false}};

// Layers of one kind take blocks together; a block holds `size` layers' pages.
struct Groups {
  uint64_t full = 0, sliding = 0, size = 0;
  std::string words;
};

Groups GroupsOf(const Case& c, bool hybrid) {
  const auto full = static_cast<uint64_t>(c.full), sliding = static_cast<uint64_t>(c.sliding);
  if (full == 0) return {0, 1, sliding, fmt::format("1 group of {} sliding layers", sliding)};
  if (sliding == 0 || !hybrid) return {1, 0, full + sliding, fmt::format("1 group of {} layers", full + sliding)};
  Groups g{0, 0, std::min(full, sliding), ""};
  g.full = Blocks(full, g.size);
  g.sliding = Blocks(sliding, g.size);
  g.words = fmt::format("{} full and {} sliding groups of {} layers", g.full, g.sliding, g.size);
  return g;
}

class Rules {
 public:
  Rules(const Case& c, const Settings& settings) : c_(c), s_(settings) {}
  Result<ForeignPlan> Plan();

 private:
  void Weights();
  Result<uint64_t> Page() const;  // bytes of a block in one layer
  void Requests();
  void Device();
  void Audio();
  void Unknown(std::string name, std::string rule, std::string source, Place place = Place::kDevice) {
    plan_.terms.push_back(
        {.name = std::move(name), .rule = std::move(rule), .source = std::move(source), .place = place});
  }

  const Case& c_;
  const Settings& s_;
  ForeignPlan plan_;
  int64_t tp_ = 1, e_ = 0, block_ = 16, batched_ = 0, kv_heads_ = 0;
  std::string batched_words_;
  uint64_t page_ = 0, weights_ = 0, request_ = 0;  // bytes
  Groups groups_;
};

void Rules::Weights() {
  const Anatomy& rank = *c_.planned.layout.anatomy;
  uint64_t encoder = SatAdd(rank.Parameters(Component::kEncoder), rank.Parameters(Component::kVision));
  uint64_t parameters = rank.Parameters() - encoder, padding = 0;
  const auto rows = static_cast<int64_t>(Blocks(RoundUp(static_cast<uint64_t>(c_.info.vocab_size), 64), tp_));
  for (const Slot& s : rank.slots())
    if (s.form == Form::kMatrix && (s.component == Component::kEmbedding || s.component == Component::kLmHead))
      padding = SatAdd(padding, Times({std::max<int64_t>(0, rows - s.shape[0]), s.shape[1], e_}));
  if (tp_ == 1) parameters += encoder;
  weights_ = SatAdd(SatMul(parameters, c_.size), padding);
  plan_.terms.push_back({.name = tp_ == 1 ? "weights" : "weights of a rank",
                         .bytes = SatMul(parameters, c_.size),
                         .rule = fmt::format("{} parameters x {} bytes", parameters, e_),
                         .source = tp_ == 1 ? "docs configuration/conserving_memory"
                                            : "q, k, v, gate, up split by output, o and down by input"});
  plan_.terms.push_back({.name = "vocabulary padding",
                         .bytes = padding,
                         .rule = fmt::format("{} rows a rank for a vocabulary of {}", rows, c_.info.vocab_size),
                         .source = "vocab_parallel_embedding.py"});
  if (tp_ == 1 || encoder == 0) return;
  const std::string mode = s_.Word("mm_encoder_tp_mode", "");
  if (mode == "data") {  // whole on every rank
    Anatomy whole;
    Workload n{c_.positions, 1, 1, DenseKvPolicy(DType::kF16), 1};
    n.audio_seconds = c_.planned.request.audio_seconds > 0 ? c_.planned.request.audio_seconds : n.audio_seconds;
    if (BuildModel(c_.planned.config, n, whole).ok())
      encoder = SatAdd(whole.Parameters(Component::kEncoder), whole.Parameters(Component::kVision));
  }
  ForeignTerm t{.name = "weights of the encoders",
                .rule = fmt::format("{} parameters x {} bytes, mm_encoder_tp_mode={}", encoder, e_,
                                    mode.empty() ? "unknown" : mode),
                .source = "MMEncoderTPMode"};
  if (mode.empty())
    t.rule = "split (weights) or whole on every rank (data): say which by --engine-option mm_encoder_tp_mode=";
  else
    t.bytes = SatMul(encoder, c_.size), weights_ = SatAdd(weights_, *t.bytes);
  plan_.terms.push_back(std::move(t));
}

Result<uint64_t> Rules::Page() const {
  const std::string type = s_.Word("kv_cache_dtype", "auto");
  if (type == "fp8_ds_mla") {
    if (c_.layer.latent != 512 || c_.layer.rope != 64)
      return Usage("--engine-option kv_cache_dtype=fp8_ds_mla is for latent caches of 512 + 64 numbers (DeepSeek-V3)");
    return Times(block_, 656);
  }
  const int64_t each = type == "fp8" ? 1 : e_;
  if (c_.layer.latent > 0) return Times({block_, c_.layer.Elements(), each});
  return Times({block_, kv_heads_, c_.layer.head_dim + c_.layer.v_dim, each});
}

void Rules::Requests() {
  const uint64_t n = static_cast<uint64_t>(c_.positions), b = static_cast<uint64_t>(block_);
  const uint64_t full = Blocks(n, b);
  const uint64_t sliding =
      c_.sliding == 0 ? 0 : Blocks(std::min(n, static_cast<uint64_t>(c_.window - 1 + batched_)), b) + 1;
  const uint64_t blocks = SatAdd(SatMul(groups_.full, full), SatMul(groups_.sliding, sliding));
  request_ = SatMul(SatMul(blocks, groups_.size), page_);
  std::string words = Count(c_.batch, "request") + " x ";
  if (groups_.full > 0) words += fmt::format("{} blocks", full);
  if (groups_.sliding > 0) words += fmt::format("{}{} sliding", groups_.full > 0 ? " and " : "", sliding);
  plan_.terms.push_back({.name = "KV cache of the requests",
                         .bytes = SatMul(static_cast<uint64_t>(c_.batch), request_),
                         .rule = fmt::format("{} a group, {}, pages of {} bytes", words, groups_.words, page_),
                         .source = groups_.full > 0 && groups_.sliding > 0 ? "latest/design/hybrid_kv_cache_manager"
                                   : groups_.sliding > 0                   ? "same, SlidingWindowSpec"
                                                         : "FullAttentionSpec.max_memory_usage_bytes"});
  if (c_.info.cross_layers == 0) return;
  const uint64_t cross = Blocks(static_cast<uint64_t>(c_.info.audio_positions), b);
  const uint64_t bytes = SatMul(SatMul(cross, static_cast<uint64_t>(c_.info.cross_layers)), page_);
  request_ = SatAdd(request_, bytes);
  plan_.terms.push_back({.name = "cross-attention blocks",
                         .bytes = SatMul(static_cast<uint64_t>(c_.batch), bytes),
                         .rule = fmt::format("{} x {} blocks for {} positions x {} layers x {} bytes; {} "
                                             "blocks are reserved",
                                             Count(c_.batch, "request"), cross, c_.info.audio_positions,
                                             c_.info.cross_layers, page_, Blocks(static_cast<uint64_t>(batched_), b)),
                         .source = "CrossAttentionManager"});
}

// What the device has, what vLLM takes of it, and how many blocks that can hold at most.
void Rules::Device() {
  std::optional<uint64_t> pool;
  std::string words = "", source = "get_num_blocks";
  if (s_.Has("kv_cache_memory_bytes")) {
    pool = static_cast<uint64_t>(s_.Int("kv_cache_memory_bytes", 0));
    words = "as told";
    source = "kv_cache_memory_bytes replaces all of the above";
    for (ForeignTerm& t : plan_.terms)
      t.inside = t.name == "KV cache of the requests" || t.name == "cross-attention blocks";
  } else if (c_.memory) {
    const double share = s_.Share("gpu_memory_utilization", 0.92);
    const auto requested = static_cast<uint64_t>(std::ceil(static_cast<double>(c_.memory->n) * share));
    plan_.total_bytes = plan_.budget_bytes = requested;
    plan_.terms.insert(plan_.terms.begin(),
                       {.name = "requested",
                        .bytes = requested,
                        .rule = fmt::format("ceil({} x {}); all below lies in it", c_.memory->n, share),
                        .source = "ceil(total device memory x gpu_memory_utilization)",
                        .inside = true});
    pool = requested > weights_ ? requested - weights_ : 0;
    words = "an upper bound, requested - weights: the profiling run's peak goes off, too";
  }
  if (!pool) return;
  const uint64_t blocks = *pool / std::max<uint64_t>(1, SatMul(page_, groups_.size));
  std::string holds = fmt::format("{} blocks of {}", blocks, block_);
  if (groups_.full + groups_.sliding == 1 && c_.info.cross_layers == 0)
    holds += fmt::format(", {} tokens", SatMul(blocks, static_cast<uint64_t>(block_)));
  ForeignTerm t{.name = "KV cache pool",
                .rule = fmt::format("{}: {}; {:.2f} requests of {} positions", words, holds,
                                    static_cast<double>(*pool) / static_cast<double>(std::max<uint64_t>(1, request_)),
                                    c_.positions),
                .source = source};
  if (s_.Has("kv_cache_memory_bytes"))
    t.bytes = *pool;
  else
    t.at_most = *pool;
  plan_.terms.push_back(std::move(t));
}

void Rules::Audio() {
  const bool whisper = c_.info.cross_layers > 0;
  const int64_t tokens = whisper ? c_.info.audio_positions : c_.info.audio_tokens;
  const int64_t budget = std::max(batched_, tokens), held = std::min(budget, c_.batch * tokens);
  plan_.terms.push_back(
      {.name = "encoder cache",
       .bytes = Times({held, c_.info.d_model, e_}),
       .rule = fmt::format("{} vectors of at most {} x {} x {} bytes", held, budget, c_.info.d_model, e_),
       .source = "max(max_num_batched_tokens, tokens of the largest item) x hidden x e"});
  const double cache = s_.Share("mm_processor_cache_gb", 4);
  ForeignTerm t{.name = "processor cache",
                .rule = fmt::format("fills up to {} GiB as audio comes", cache),
                .source = "mm_processor_cache_gb in GiB",
                .at_most = static_cast<uint64_t>(cache * static_cast<double>(kGiB)),
                .place = Place::kHost};
  if (*t.at_most == 0) t.bytes = 0;
  plan_.terms.push_back(std::move(t));
}

Result<ForeignPlan> Rules::Plan() {
  if (const Status floats = OnlyFloats(c_, "vLLM"); !floats.ok()) return floats.error();
  if (c_.beams > 1) return NoRule("vLLM", "--beam");
  if (const std::string& kv = c_.planned.request.kv; kv != "auto" && kv != NameOf(c_.weights))
    return Usage(
        fmt::format("--kv {}: vLLM's cache has the weights' type, {}, or another --engine-option kv_cache_dtype", kv,
                    NameOf(c_.weights)));
  tp_ = c_.planned.request.tp;
  e_ = static_cast<int64_t>(c_.size);
  const int64_t heads = c_.layer.latent > 0 ? 1 : c_.layer.heads;
  if (c_.info.heads % tp_ != 0 || (heads > tp_ ? heads % tp_ : tp_ % heads) != 0)
    return Usage(
        fmt::format("--tp {}: vLLM divides heads evenly, and {} query and {} key heads can't be; choose another", tp_,
                    c_.info.heads, heads));
  kv_heads_ = std::max<int64_t>(1, heads / tp_);
  block_ = s_.Int("block_size", 16);
  const bool large = c_.memory && c_.memory->n >= 70 * kGiB;
  batched_ = s_.Int("max_num_batched_tokens", large ? 8192 : 2048);
  groups_ = GroupsOf(c_, !s_.Flag("disable_hybrid_kv_cache_manager", false));
  page_ = TRY(Page());
  plan_.engine = "vLLM";
  plan_.version = "V1, documents to v0.28.0";

  Weights();
  Requests();
  if (c_.info.n_mels > 0) Audio();
  Device();
  const int64_t seqs = s_.Int("max_num_seqs", large ? 1024 : 256);
  Unknown("profiling run",
          fmt::format("peak of {} dummy tokens, {} sequences and the sampler: no formula", batched_, seqs),
          "its size has no formula: unknown");
  if (s_.Flag("enforce_eager", false))
    plan_.terms.push_back(
        {.name = "CUDA graphs", .bytes = 0, .rule = "none: enforce_eager", .source = "off with enforce_eager"});
  else
    Unknown("CUDA graphs", "estimated at start from the first two graphs", "first graph + (n - 1) x second");
  Unknown("rotary tables", "positions x rotary dimensions of each kind of rotation; made by the model's code",
          "cos_sin_cache");
  Unknown("NCCL, CUDA context, fragmentation", "no published formula", "NCCL, CUDA context, fragmentation");
  return std::move(plan_);
}

}  // namespace

Result<ForeignPlan> PlanVllm(const Case& c, const std::vector<std::string>& given) {
  const Settings settings = TRY(Settings::Of("vLLM", kSettings, given));
  return Rules(c, settings).Plan();
}

}  // namespace sotto::foreign
