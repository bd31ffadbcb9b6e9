#include "weights/gguf_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace sotto {
namespace {

// A setting of a GGUF file and the key of config.json that it becomes.
struct Setting {
  std::string_view key, config;
  bool needed = false;
};

const Json* Find(const Json& keys, const std::string& key) {
  const auto it = keys.find(key);
  return it == keys.end() ? nullptr : &*it;
}

// Copies settings below `prefix`. A list that has the same value for every layer is that value.
Status Copy(const GgufFiles& gguf, const std::string& prefix, std::span<const Setting> settings, Json* config) {
  for (const Setting& s : settings) {
    const std::string key = prefix + std::string(s.key);
    const Json* value = Find(gguf.keys(), key);
    if (value == nullptr && s.needed)
      return BadModel(fmt::format("{} has no '{}'; convert the model again", gguf.file(0).path(), key));
    if (value == nullptr) continue;
    const bool same = value->is_array() && !value->empty() &&
                      std::all_of(value->begin(), value->end(), [&](const Json& v) { return v == (*value)[0]; });
    (*config)[std::string(s.config)] = same ? (*value)[0] : *value;
  }
  return {};
}

Result<bool> Has(const GgufFiles& gguf, const std::string& tensor) { return TRY(gguf.Find(tensor)).has_value(); }

// Size of a tensor's dimension (innermost is 0); 0 when there is no such tensor.
Result<uint64_t> Dim(const GgufFiles& gguf, const std::string& tensor, size_t dim) {
  const auto found = TRY(gguf.Find(tensor));
  return found ? found->dims[dim] : uint64_t{0};
}

uint64_t Whole(const Json& config, const char* key) {
  const auto it = config.find(key);
  return it != config.end() && it->is_number_unsigned() ? it->get<uint64_t>() : 0;
}

// ---- language models ----

using Adapt = Status (*)(const GgufFiles& gguf, const std::string& prefix, Json& c);

Status AsItIs(const GgufFiles&, const std::string&, Json&) { return {}; }

// Which layers slide: a list of truth values, or every how manieth does not. Without a window none does.
Status AdaptGemma3(const GgufFiles& gguf, const std::string& prefix, Json& c) {
  const Json* pattern = Find(gguf.keys(), prefix + "attention.sliding_window_pattern");
  if (!c.contains("sliding_window"))
    c["layer_types"] = Json(std::min<uint64_t>(Whole(c, "num_hidden_layers"), kMaxGgufKeptArray), "full_attention");
  else if (pattern != nullptr && pattern->is_number_unsigned())
    c["sliding_window_pattern"] = *pattern;
  else if (pattern != nullptr && pattern->is_array())
    for (const Json& slides : *pattern)
      c["layer_types"].push_back(slides == true || slides == 1 ? "sliding_attention" : "full_attention");
  return {};
}

Status AdaptGemma3n(const GgufFiles& gguf, const std::string& prefix, Json& c) {
  TRY(AdaptGemma3(gguf, prefix, c));
  c["laurel_rank"] = TRY(Dim(gguf, "blk.0.laurel_l.weight", 1));
  c["vocab_size_per_layer_input"] = TRY(Dim(gguf, "per_layer_token_embd.weight", 1));
  return {};
}

Status AdaptPhi3(const GgufFiles&, const std::string&, Json& c) {
  if (Whole(c, "sliding_window") == 0) c.erase("sliding_window");  // 0: none
  return {};
}

// Heads' sizes stand apart from those of the latent cache since the files keep both ("_mla"); before, they were the only ones.
Status AdaptDeepseek(const GgufFiles& gguf, const std::string& prefix, Json& c) {
  Json heads = Json::object();
  constexpr Setting kHeads[] = {{"attention.key_length", "key", true},
                                {"attention.value_length", "value", true},
                                {"attention.key_length_mla", "key"},
                                {"attention.value_length_mla", "value"}};
  TRY(Copy(gguf, prefix, kHeads, &heads));
  const uint64_t key = Whole(heads, "key"), rope = Whole(c, "qk_rope_head_dim");
  if (key <= rope)
    return BadModel(fmt::format("{}: '{}attention.key_length' is {}, of which {} are rotary; convert the model again",
                                gguf.file(0).path(), prefix, key, rope));
  c["qk_nope_head_dim"] = key - rope;
  c["v_head_dim"] = heads["value"];
  if (!c.contains("q_lora_rank")) c["q_lora_rank"] = nullptr;
  c.erase("head_dim");
  const std::string sparse = std::to_string(Whole(c, "first_k_dense_replace"));
  if (TRY(Has(gguf, "blk." + sparse + ".exp_probs_b.bias"))) c["model_type"] = "deepseek_v3";
  return {};
}

constexpr Setting kCommon[] = {{"block_count", "num_hidden_layers", true},
                               {"embedding_length", "hidden_size", true},
                               {"feed_forward_length", "intermediate_size", true},
                               {"attention.head_count", "num_attention_heads", true},
                               {"context_length", "max_position_embeddings", true},
                               {"attention.head_count_kv", "num_key_value_heads"},
                               {"attention.key_length", "head_dim"},
                               {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
                               {"rope.freq_base", "rope_theta"}};
constexpr Setting kWindow[] = {{"attention.sliding_window", "sliding_window"}};
constexpr Setting kExperts[] = {{"expert_count", "num_experts", true},
                                {"expert_feed_forward_length", "moe_intermediate_size", true}};
constexpr Setting kGemma3n[] = {{"attention.sliding_window", "sliding_window"},
                                {"attention.shared_kv_layers", "num_kv_shared_layers", true},
                                {"altup.num_inputs", "altup_num_inputs", true},
                                {"embedding_length_per_layer_input", "hidden_size_per_layer_input", true}};
constexpr Setting kDeepseek[] = {{"attention.kv_lora_rank", "kv_lora_rank", true},
                                 {"attention.q_lora_rank", "q_lora_rank"},
                                 {"rope.dimension_count", "qk_rope_head_dim", true},
                                 {"leading_dense_block_count", "first_k_dense_replace", true},
                                 {"expert_count", "n_routed_experts", true},
                                 {"expert_shared_count", "n_shared_experts", true},
                                 {"expert_feed_forward_length", "moe_intermediate_size", true}};

// Rotary positions: which part of a head turns, and how frequencies are scaled.
Status CopyRotary(const GgufFiles& gguf, const std::string& prefix, Json* c) {
  constexpr Setting kScaling[] = {{"type", "rope_type"},
                                  {"factor", "factor"},
                                  {"original_context_length", "original_max_position_embeddings"},
                                  {"yarn_beta_fast", "beta_fast"},
                                  {"yarn_beta_slow", "beta_slow"}};
  Json scaling = Json::object();
  TRY(Copy(gguf, prefix + "rope.scaling.", kScaling, &scaling));
  if (scaling.contains("rope_type") && scaling["rope_type"] != "none") (*c)["rope_scaling"] = std::move(scaling);
  const Json* turned = Find(gguf.keys(), prefix + "rope.dimension_count");
  const uint64_t head_dim = Whole(*c, "head_dim");
  if (turned != nullptr && turned->is_number_unsigned() && head_dim > 0 && turned->get<uint64_t>() < head_dim)
    (*c)["partial_rotary_factor"] = turned->get<double>() / static_cast<double>(head_dim);

  const auto found = TRY(gguf.Find("rope_freqs.weight"));
  if (!found) return {};
  if (found->type->name != "F32" || found->Elements() > kMaxGgufKeptArray)
    return BadModel(fmt::format("{}: 'rope_freqs.weight' is not a short list of F32 numbers; convert the model again",
                                gguf.file(found->file).path()));
  std::vector<float> divisors(found->Elements());
  TRY(gguf.file(found->file).ReadAt(found->offset, std::as_writable_bytes(std::span(divisors))));
  (*c)["rope_scaling"] = {{"rope_type", "divided"}, {"divisors", divisors}};
  return {};
}

struct TextSettings {
  std::string_view architecture, model_type;
  std::span<const Setting> more;
  Adapt adapt = AsItIs;
};
constexpr TextSettings kText[] = {
    {"llama", "llama", {}},
    {"granite", "granite", {}},
    {"qwen2", "qwen2", {}},
    {"qwen2vl", "qwen2", {}},
    {"qwen3", "qwen3", {}},
    {"qwen3vl", "qwen3", {}},
    {"qwen3moe", "qwen3_moe", kExperts},
    {"qwen3vlmoe", "qwen3_moe", kExperts},
    {"gemma2", "gemma2", kWindow},
    {"gemma3", "gemma3_text", kWindow, AdaptGemma3},
    {"gemma3n", "gemma3n_text", kGemma3n, AdaptGemma3n},
    {"phi3", "phi3", kWindow, AdaptPhi3},
    {"deepseek2", "deepseek_v2", kDeepseek, AdaptDeepseek},
};

Result<Json> TextConfigOf(const GgufFiles& gguf, const TextSettings& s, uint64_t vocabulary) {
  const std::string prefix = std::string(s.architecture) + ".";
  Json c = {{"model_type", s.model_type}, {"vocab_size", vocabulary}};
  TRY(Copy(gguf, prefix, kCommon, &c));
  TRY(Copy(gguf, prefix, s.more, &c));
  if (!c.contains("num_key_value_heads")) c["num_key_value_heads"] = c["num_attention_heads"];
  if (const uint64_t heads = Whole(c, "num_attention_heads"); !c.contains("head_dim") && heads > 0)
    c["head_dim"] = Whole(c, "hidden_size") / heads;
  // What a config says and a GGUF file shows.
  c["tie_word_embeddings"] = !TRY(Has(gguf, "output.weight"));
  c["attention_bias"] = TRY(Has(gguf, "blk.0.attn_q.bias"));
  c["mlp_bias"] = TRY(Has(gguf, "blk.0.ffn_gate.bias"));
  TRY(CopyRotary(gguf, prefix, &c));
  for (const char* end : {"eos", "eot", "eom"})
    if (const Json* id = Find(gguf.keys(), fmt::format("tokenizer.ggml.{}_token_id", end)); id != nullptr)
      c["eos_token_id"].push_back(*id);
  TRY(s.adapt(gguf, prefix, c));
  return c;
}

// ---- audio halves ----

constexpr Setting kTower[] = {{"embedding_length", "hidden_size", true},
                              {"block_count", "num_hidden_layers", true},
                              {"attention.head_count", "num_attention_heads", true},
                              {"feed_forward_length", "intermediate_size", true},
                              {"num_mel_bins", "num_mel_bins", true}};

struct AudioSettings {
  std::string_view projector, model_type;
};
constexpr AudioSettings kAudio[] = {
    {"ultravox", "ultravox"}, {"voxtral", "voxtral"},    {"musicflamingo", "audioflamingo3"},
    {"glma", "glmasr"},       {"qwen2a", "qwen2_audio"}, {"qwen2.5o", "qwen2_5_omni_thinker"},
    {"qwen3a", "qwen3_asr"}};

// The config of both halves together.
Result<Json> WholeConfig(const GgufFiles& audio, const AudioSettings& s, Json text) {
  const std::string_view projector = s.projector;
  Json tower = Json::object();
  Json c = {{"model_type", s.model_type}, {"tie_word_embeddings", text["tie_word_embeddings"]}};
  TRY(Copy(audio, "clip.audio.", kTower, &tower));
  if (const uint64_t positions = TRY(Dim(audio, "a.position_embd.weight", 1)); positions > 0)
    tower["max_source_positions"] = positions;
  const uint64_t first = TRY(Dim(audio, "mm.a.mlp.1.weight", 1)), second = TRY(Dim(audio, "mm.a.mlp.2.weight", 0));
  if (projector == "ultravox") {
    constexpr Setting kStack[] = {{"stack_factor", "stack_factor", true}};
    TRY(Copy(audio, "clip.audio.projector.", kStack, &c));
    c["hidden_size"] = first;
    c["projector_act"] = second == first ? "gelu" : "swiglu";
    c["projector_ln_mid"] = TRY(Has(audio, "mm.a.norm_mid.weight"));
  }
  if (projector == "musicflamingo") c["projector_bias"] = TRY(Has(audio, "mm.a.mlp.1.bias"));
  if (projector == "qwen2.5o") tower["output_dim"] = TRY(Dim(audio, "mm.a.fc.weight", 1));
  if (projector == "qwen3a") {
    if (text["model_type"] == "qwen3_moe") c["model_type"] = "qwen3_omni_moe_thinker";
    tower["downsample_hidden_size"] = TRY(Dim(audio, "a.conv2d.1.weight", 3));
    tower["output_dim"] = TRY(Dim(audio, "mm.a.mlp.2.weight", 1));
  }
  c["vision_config"] = false;  // AddVision
  c["audio_config"] = std::move(tower);
  c["text_config"] = std::move(text);
  return c;
}

Result<std::string> Text(const GgufFiles& gguf, const std::string& key, const std::string& otherwise) {
  for (const std::string& k : {key, otherwise})
    if (const Json* value = Find(gguf.keys(), k); value != nullptr && value->is_string())
      return value->get<std::string>();
  return BadModel(fmt::format("{} has no '{}'; convert the model again", gguf.file(0).path(), key));
}

bool IsVision(std::string_view name) {
  return name.starts_with("v.") || (name.starts_with("mm.") && !name.starts_with("mm.a."));
}

// Outermost first, as slots have it.
std::vector<int64_t> ShapeOf(const GgufTensor& t) {
  std::vector<int64_t> shape;
  for (int i = t.rank; i > 0; --i) shape.push_back(static_cast<int64_t>(t.dims[static_cast<size_t>(i - 1)]));
  return shape;
}

// Tensors counted into the weight slots of an anatomy.
class Tally {
 public:
  explicit Tally(const Anatomy& anatomy) : parameters_(anatomy.Parameters()), names_(anatomy) {
    stored_.format = "gguf";
    stored_.kept.resize(names_.count());
  }

  Status Add(const GgufFiles& files, const GgufFamily& family, const GgufTensor& t) {
    std::string type(t.type->name);
    std::transform(type.begin(), type.end(), type.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    stored_.by_type[type] = SatAdd(stored_.by_type[type], t.bytes);
    const std::string& path = files.file(t.file).path();
    if (const auto places = PlaceOf(family, t.name))
      for (const GgufPlace& place : *places) {
        if (AddStack(place.slot, t)) return {};
        const auto weight = names_.Find(place.slot);
        if (!weight) continue;
        const Slot& slot = names_.slot(*weight);
        if (place.whole && !FitsSlot(slot, ShapeOf(t)))
          return BadModel(
              fmt::format("{}: the tensor '{}' is [{}], but the file's settings make it [{}]; convert it again", path,
                          t.name, fmt::join(ShapeOf(t), ", "),
                          fmt::join(std::span(slot.shape).first(static_cast<size_t>(slot.dims)), ", ")));
        Count(*weight, t.Elements(), t.bytes);
        stored_.kept[*weight].type = place.whole ? t.type : nullptr;
        return {};
      }
    if (const auto weight = names_.Find(PlainName(t.name)); weight && IsVision(t.name)) {
      Count(*weight, t.Elements(), t.bytes);
      return {};
    }
    if (IsSpareGguf(t.name)) return {};
    return BadModel(fmt::format(
        "{} holds the tensor '{}' ({} elements), which a model of its settings does not have; convert it again", path,
        t.name, t.Elements()));
  }

  Result<StoredWeights> Finish(const std::string& path, std::initializer_list<const GgufFamily*> families) {
    for (size_t i = 0; i < names_.count(); ++i) {
      const uint64_t wanted = names_.slot(i).Elements(), given = stored_.kept[i].elements;
      // Left out by converters, since nothing reads it.
      const bool unread = given == 0 && names_.slot(i).name == "audio_tower.audio_bos_eos_token.weight";
      if (given == wanted || unread) continue;
      const std::string slot = PlainName(names_.slot(i).name);
      std::string tensor;
      for (const GgufFamily* f : families)
        if (f != nullptr && tensor.empty()) tensor = TensorOf(*f, slot);
      return BadModel(
          fmt::format("{} holds {} of the {} elements of {} ('{}'): its settings describe {} parameters, its tensors "
                      "hold {}; fetch "
                      "it again",
                      path, given, wanted, slot, tensor, parameters_, stored_.parameters));
    }
    return std::move(stored_);
  }

 private:
  void Count(size_t weight, uint64_t elements, uint64_t bytes) {
    stored_.kept[weight].elements = SatAdd(stored_.kept[weight].elements, elements);
    stored_.kept[weight].bytes = SatAdd(stored_.kept[weight].bytes, bytes);
    stored_.parameters = SatAdd(stored_.parameters, elements);
  }

  // A tensor that is all slots of a form with '*'. False when it is none, or there are no such slots.
  bool AddStack(const std::string& form, const GgufTensor& t) {
    const size_t star = form.find('*');
    if (star == form.npos) return false;
    std::vector<size_t> stack;
    const auto next = [&] { return names_.Find(std::string(form).replace(star, 1, std::to_string(stack.size()))); };
    while (const auto weight = next()) stack.push_back(*weight);
    for (const size_t weight : stack) Count(weight, t.Elements() / stack.size(), t.bytes / stack.size());
    return !stack.empty();
  }

  uint64_t parameters_;
  WeightNames names_;
  StoredWeights stored_;
};

// Of q and k in files with paired heads: by what rows are put back.
bool HasHeads(std::string_view slot) {
  for (const std::string_view module : {".self_attn.q_proj.", ".self_attn.k_proj."})
    if (slot.find(module) != slot.npos) return true;
  return false;
}

}  // namespace

Result<GgufModel> GgufModel::Open(const std::string& path, const std::string& mmproj) {
  GgufModel m;
  m.text_ = TRY(GgufFiles::Open(path));
  const std::string architecture = TRY(Text(m.text_, "general.architecture", ""));
  if (architecture == "clip")
    return BadModel(
        path +
        " is the part of a model that hears or sees; give the language model's file, and this one with --mmproj");
  const auto* settings =
      std::find_if(std::begin(kText), std::end(kText), [&](const auto& s) { return s.architecture == architecture; });
  m.text_names_ = FindGgufFamily(architecture, false);
  if (settings == std::end(kText) || m.text_names_ == nullptr)
    return BadModel(fmt::format("{} has the architecture '{}', which sotto does not know in GGUF; it knows {}", path,
                                architecture.substr(0, 60), KnownGgufFamilies(false)));
  const Json* tokens = Find(m.text_.keys(), "tokenizer.ggml.tokens");
  const bool listed = tokens != nullptr && tokens->is_object();
  m.vocabulary_ = listed ? Whole(*tokens, "count") : TRY(Dim(m.text_, "token_embd.weight", 1));
  m.config_ = TRY(TextConfigOf(m.text_, *settings, m.vocabulary_));
  if (!mmproj.empty()) TRY(m.OpenAudio(mmproj));
  return m;
}

Status GgufModel::OpenAudio(const std::string& path) {
  audio_ = TRY(GgufFiles::Open(path));
  const Json* hears = Find(audio_->keys(), "clip.has_audio_encoder");
  if (hears == nullptr || *hears != true)
    return BadModel(path +
                    " has no audio encoder (clip.has_audio_encoder); give the mmproj file of a model that hears");
  const std::string projector = TRY(Text(*audio_, "clip.audio.projector_type", "clip.projector_type"));
  const auto* settings =
      std::find_if(std::begin(kAudio), std::end(kAudio), [&](const auto& s) { return s.projector == projector; });
  audio_names_ = FindGgufFamily(projector, true);
  if (settings == std::end(kAudio) || audio_names_ == nullptr)
    return BadModel(fmt::format("{} has the projector '{}', which sotto does not know in GGUF; it knows {}", path,
                                projector.substr(0, 60), KnownGgufFamilies(true)));
  config_ = TRY(WholeConfig(*audio_, *settings, std::move(config_)));
  return {};
}

Status GgufModel::AddVision(Anatomy* anatomy) const {
  if (!audio_) return {};
  return audio_->ForEachTensor([&](const GgufTensor& t) -> Status {
    if (!IsVision(t.name) || IsSpareGguf(t.name)) return {};
    const auto rows = static_cast<int64_t>(t.Elements() / t.dims[0]), cols = static_cast<int64_t>(t.dims[0]);
    const Scope at = Scope{anatomy, ""}.As(Component::kVision);
    if (rows == 1)
      (void)Vector(at, t.name, cols);
    else
      (void)Matrix(at, t.name, rows, cols);
    return {};
  });
}

Result<StoredWeights> GgufModel::Match(const Anatomy& anatomy) const {
  Tally tally(anatomy);
  TRY(text_.ForEachTensor([&](const GgufTensor& t) { return tally.Add(text_, *text_names_, t); }));
  if (audio_) TRY(audio_->ForEachTensor([&](const GgufTensor& t) { return tally.Add(*audio_, *audio_names_, t); }));
  return tally.Finish(path(), {text_names_, audio_names_});
}

Status GgufModel::ForEachWeight(const Anatomy& anatomy,
                                FunctionRef<Status(uint32_t, const WeightOrigin&)> visit) const {
  const WeightNames names(anatomy);
  const Json& text = config_.contains("text_config") ? config_["text_config"] : config_;
  const auto half = static_cast<int64_t>(Whole(text, "head_dim") / 2);
  const auto walk = [&](const GgufFiles& files, const GgufFamily& family) {
    return files.ForEachTensor([&](const GgufTensor& t) -> Status {
      const auto places = PlaceOf(family, t.name);
      if (!places) return {};
      for (const GgufPlace& place : *places) {
        const auto weight = names.Find(place.slot);
        if (!weight) continue;
        const int64_t paired = family.paired_heads && HasHeads(place.slot) ? half : 0;
        return visit(names.id(*weight), {&files.file(t.file), t.offset, t.bytes, t.type, paired});
      }
      return {};
    });
  };
  TRY(walk(text_, *text_names_));
  return audio_ ? walk(*audio_, *audio_names_) : Status{};
}

}  // namespace sotto
