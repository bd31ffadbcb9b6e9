#include "weights/gguf_names.h"

#include <algorithm>

namespace sotto {
namespace {

constexpr GgufName kFrame[] = {{"embed_tokens", "token_embd"}, {"norm", "output_norm"}, {"lm_head", "output"}};
constexpr GgufName kAttention[] = {{"layers.#.input_layernorm", "blk.#.attn_norm"},
                                   {"layers.#.self_attn.q_proj", "blk.#.attn_q"},
                                   {"layers.#.self_attn.k_proj", "blk.#.attn_k"},
                                   {"layers.#.self_attn.v_proj", "blk.#.attn_v"},
                                   {"layers.#.self_attn.o_proj", "blk.#.attn_output"}};
constexpr GgufName kHeadNorms[] = {{"layers.#.self_attn.q_norm", "blk.#.attn_q_norm"},
                                   {"layers.#.self_attn.k_norm", "blk.#.attn_k_norm"}};
constexpr GgufName kMlpNorm[] = {{"layers.#.post_attention_layernorm", "blk.#.ffn_norm"}};
constexpr GgufName kMlp[] = {{"layers.#.mlp.gate_proj", "blk.#.ffn_gate"},
                             {"layers.#.mlp.up_proj", "blk.#.ffn_up"},
                             {"layers.#.mlp.down_proj", "blk.#.ffn_down"}};
// Gemma: norms before and behind each block.
constexpr GgufName kSandwich[] = {{"layers.#.post_attention_layernorm", "blk.#.post_attention_norm"},
                                  {"layers.#.pre_feedforward_layernorm", "blk.#.ffn_norm"},
                                  {"layers.#.post_feedforward_layernorm", "blk.#.post_ffw_norm"}};
constexpr GgufName kExperts[] = {{"layers.#.mlp.gate", "blk.#.ffn_gate_inp"},
                                 {"layers.#.mlp.gate.e_score_correction_bias", "blk.#.exp_probs_b"},
                                 {"layers.#.mlp.experts.gate_up_proj", "blk.#.ffn_gate_exps"},
                                 {"layers.#.mlp.experts.gate_up_proj", "blk.#.ffn_up_exps"},
                                 {"layers.#.mlp.experts.down_proj", "blk.#.ffn_down_exps"},
                                 {"layers.#.mlp.shared_experts.gate_proj", "blk.#.ffn_gate_shexp"},
                                 {"layers.#.mlp.shared_experts.up_proj", "blk.#.ffn_up_shexp"},
                                 {"layers.#.mlp.shared_experts.down_proj", "blk.#.ffn_down_shexp"}};
// Phi-3: q, k and v in one; gate and up in one.
constexpr GgufName kFused[] = {{"layers.#.input_layernorm", "blk.#.attn_norm"},
                               {"layers.#.self_attn.qkv_proj", "blk.#.attn_qkv"},
                               {"layers.#.self_attn.o_proj", "blk.#.attn_output"},
                               {"layers.#.mlp.gate_up_proj", "blk.#.ffn_up"},
                               {"layers.#.mlp.down_proj", "blk.#.ffn_down"}};
// DeepSeek: kv_b as one tensor (older files), or its keys, transposed, and its values for themselves.
constexpr GgufName kLatent[] = {{"layers.#.self_attn.q_a_proj", "blk.#.attn_q_a"},
                                {"layers.#.self_attn.q_a_layernorm", "blk.#.attn_q_a_norm"},
                                {"layers.#.self_attn.q_b_proj", "blk.#.attn_q_b"},
                                {"layers.#.self_attn.kv_a_proj_with_mqa", "blk.#.attn_kv_a_mqa"},
                                {"layers.#.self_attn.kv_a_layernorm", "blk.#.attn_kv_a_norm"},
                                {"layers.#.self_attn.kv_b_proj", "blk.#.attn_kv_b"},
                                {"layers.#.self_attn.kv_b_proj", "blk.#.attn_k_b"},
                                {"layers.#.self_attn.kv_b_proj", "blk.#.attn_v_b"}};
constexpr GgufName kGemma3n[] = {{"embed_tokens_per_layer", "per_layer_token_embd"},
                                 {"per_layer_model_projection", "per_layer_model_proj"},
                                 {"per_layer_projection_norm", "per_layer_proj_norm"},
                                 {"altup_projections.*", "altup_proj"},
                                 {"altup_unembed_projections.*", "altup_unembd_proj"},
                                 {"layers.#.per_layer_input_gate", "blk.#.inp_gate"},
                                 {"layers.#.per_layer_projection", "blk.#.proj"},
                                 {"layers.#.post_per_layer_input_norm", "blk.#.post_norm"},
                                 {"layers.#.altup.correction_coefs", "blk.#.altup_correct_coef"},
                                 {"layers.#.altup.correct_output_scale", "blk.#.altup_correct_scale"},
                                 {"layers.#.altup.prediction_coefs", "blk.#.altup_predict_coef"},
                                 {"layers.#.altup.modality_router", "blk.#.altup_router"},
                                 {"layers.#.altup.router_norm", "blk.#.altup_router_norm"},
                                 {"layers.#.laurel.linear_left", "blk.#.laurel_l"},
                                 {"layers.#.laurel.linear_right", "blk.#.laurel_r"},
                                 {"layers.#.laurel.post_laurel_norm", "blk.#.laurel_post_norm"}};

constexpr GgufFamily kText[] = {
    {"llama", {kFrame, kAttention, kMlpNorm, kMlp}, true},
    {"granite", {kFrame, kAttention, kMlpNorm, kMlp}, true},
    {"qwen2", {kFrame, kAttention, kMlpNorm, kMlp}},
    {"qwen2vl", {kFrame, kAttention, kMlpNorm, kMlp}},  // the language model of Qwen2.5-Omni
    {"qwen3", {kFrame, kAttention, kHeadNorms, kMlpNorm, kMlp}},
    {"qwen3vl", {kFrame, kAttention, kHeadNorms, kMlpNorm, kMlp}},  // of Qwen3-ASR
    {"qwen3moe", {kFrame, kAttention, kHeadNorms, kMlpNorm, kExperts}},
    {"qwen3vlmoe", {kFrame, kAttention, kHeadNorms, kMlpNorm, kExperts}},  // of Qwen3-Omni
    {"gemma2", {kFrame, kAttention, kSandwich, kMlp}, false, true},
    {"gemma3", {kFrame, kAttention, kHeadNorms, kSandwich, kMlp}, false, true},
    {"gemma3n", {kFrame, kAttention, kHeadNorms, kSandwich, kMlp, kGemma3n}},
    {"phi3", {kFrame, kFused, kMlpNorm}},
    {"deepseek2", {kFrame, kAttention, kLatent, kMlpNorm, kMlp, kExperts}},
};

// Whisper's encoder; "a." is audio's, "mm.a." its projector's.
constexpr GgufName kTower[] = {{"audio_tower.conv#", "a.conv1d.#"},
                               {"audio_tower.embed_positions", "a.position_embd"},
                               {"audio_tower.layers.#.self_attn_layer_norm", "a.blk.#.ln1"},
                               {"audio_tower.layers.#.self_attn.q_proj", "a.blk.#.attn_q"},
                               {"audio_tower.layers.#.self_attn.k_proj", "a.blk.#.attn_k"},
                               {"audio_tower.layers.#.self_attn.v_proj", "a.blk.#.attn_v"},
                               {"audio_tower.layers.#.self_attn.out_proj", "a.blk.#.attn_out"},
                               {"audio_tower.layers.#.final_layer_norm", "a.blk.#.ln2"},
                               {"audio_tower.layers.#.fc1", "a.blk.#.ffn_up"},
                               {"audio_tower.layers.#.fc2", "a.blk.#.ffn_down"}};
constexpr GgufName kTowerNorm[] = {{"audio_tower.layer_norm", "a.post_ln"}};
constexpr GgufName kTwoMatrices[] = {{"multi_modal_projector.linear_#", "mm.a.mlp.#"}};
constexpr GgufName kUltravox[] = {{"multi_modal_projector.ln_pre", "mm.a.norm_pre"},
                                  {"multi_modal_projector.ln_mid", "mm.a.norm_mid"}};
constexpr GgufName kOneMatrix[] = {{"multi_modal_projector.linear", "mm.a.fc"}};
constexpr GgufName kOmniMatrix[] = {{"audio_tower.proj", "mm.a.fc"}};
constexpr GgufName kGlmNorm[] = {{"audio_tower.layer_norm", "mm.a.norm_pre"}};
constexpr GgufName kConvolutions[] = {
    {"audio_tower.conv2d#", "a.conv2d.#"}, {"audio_tower.conv_out", "a.conv_out"}, {"audio_tower.proj#", "mm.a.mlp.#"}};

constexpr GgufFamily kAudio[] = {
    {"ultravox", {kTower, kTowerNorm, kTwoMatrices, kUltravox}},
    {"voxtral", {kTower, kTowerNorm, kTwoMatrices}},
    {"musicflamingo", {kTower, kTowerNorm, kTwoMatrices}},
    {"glma", {kTower, kGlmNorm, kTwoMatrices}},
    {"qwen2a", {kTower, kTowerNorm, kOneMatrix}},
    {"qwen2.5o", {kTower, kTowerNorm, kOmniMatrix}},
    {"qwen3a", {kTower, kTowerNorm, kConvolutions}},
};

// Whether `name` is of this form, and the digits that stand in it for '#' (or '*').
bool Matches(std::string_view form, std::string_view name, std::string_view* digits) {
  const size_t at = form.find_first_of("#*");
  if (at == form.npos) return form == name;
  const std::string_view end = form.substr(at + 1);
  if (name.size() <= at + end.size() || !name.starts_with(form.substr(0, at)) || !name.ends_with(end)) return false;
  *digits = name.substr(at, name.size() - at - end.size());
  return std::all_of(digits->begin(), digits->end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string Numbered(std::string_view form, std::string_view digits) {
  std::string name(form);
  if (const size_t at = name.find('#'); at != name.npos) name.replace(at, 1, digits);
  return name;
}

std::string_view Suffix(std::string_view name) {
  for (const std::string_view s : {".weight", ".bias"})
    if (name.ends_with(s)) return s;
  return "";
}

std::span<const GgufFamily> Families(bool audio) {
  if (audio) return kAudio;
  return kText;
}

}  // namespace

const GgufFamily* FindGgufFamily(std::string_view id, bool audio) {
  for (const GgufFamily& f : Families(audio))
    if (f.id == id) return &f;
  return nullptr;
}

std::string KnownGgufFamilies(bool audio) {
  std::string known;
  for (const GgufFamily& f : Families(audio)) known += (known.empty() ? "" : ", ") + std::string(f.id);
  return known;
}

std::optional<std::array<GgufPlace, 2>> PlaceOf(const GgufFamily& family, std::string_view tensor) {
  const std::string_view suffix = Suffix(tensor), module = tensor.substr(0, tensor.size() - suffix.size());
  std::string_view digits;
  const GgufName* found = nullptr;
  for (const auto& names : family.names)
    for (const GgufName& n : names)
      if (found == nullptr && Matches(n.tensor, module, &digits)) found = &n;
  if (found == nullptr) return std::nullopt;
  int tensors = 0;
  for (const auto& names : family.names)
    for (const GgufName& n : names) tensors += n.slot == found->slot;
  const std::string slot = Numbered(found->slot, digits);
  return std::array<GgufPlace, 2>{GgufPlace{slot + std::string(suffix), tensors == 1}, GgufPlace{slot, tensors == 1}};
}

std::string TensorOf(const GgufFamily& family, std::string_view slot) {
  const std::string_view suffix = Suffix(slot), module = slot.substr(0, slot.size() - suffix.size());
  std::string_view digits;
  for (const auto& names : family.names)
    for (const GgufName& n : names)
      if (Matches(n.slot, module, &digits))
        return Numbered(n.tensor, digits) + std::string(suffix.empty() ? ".weight" : suffix);
  return "";
}

bool IsSpareGguf(std::string_view tensor) {
  constexpr std::string_view kSpare[] = {"rope_freqs",
                                         "rope_factors_long",
                                         "rope_factors_short",
                                         "blk.#.rope_freqs",
                                         "blk.#.attn_rot_embd",
                                         "blk.#.attn_k",
                                         "blk.#.attn_v",
                                         "blk.#.attn_k_norm",  // of layers that read an earlier one's cache (Gemma-3n)
                                         "a.position_embd",    // sinusoids written out (Qwen's audio encoders)
                                         "v.boi",
                                         "v.eoi",
                                         "a.mel_filters",
                                         "a.window"};
  if (tensor.ends_with(".weight")) tensor.remove_suffix(7);
  std::string_view digits;
  return std::any_of(std::begin(kSpare), std::end(kSpare), [&](auto form) { return Matches(form, tensor, &digits); });
}

}  // namespace sotto
