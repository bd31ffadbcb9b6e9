#include "codec/ggml_mix.h"

#include <algorithm>
#include <utility>

namespace sotto {
namespace {

using Id = GgmlMix::Id;

constexpr GgmlMix kMixes[] = {
    {Id::kQ2K, "Q2_K", "Q2_K"},    {Id::kQ3KS, "Q3_K_S", "Q3_K"}, {Id::kQ3KM, "Q3_K_M", "Q3_K"},
    {Id::kQ3KL, "Q3_K_L", "Q3_K"}, {Id::kQ40, "Q4_0", "Q4_0"},    {Id::kQ4KS, "Q4_K_S", "Q4_K"},
    {Id::kQ4KM, "Q4_K_M", "Q4_K"}, {Id::kQ50, "Q5_0", "Q5_0"},    {Id::kQ5KS, "Q5_K_S", "Q5_K"},
    {Id::kQ5KM, "Q5_K_M", "Q5_K"}, {Id::kQ6K, "Q6_K", "Q6_K"},    {Id::kQ80, "Q8_0", "Q8_0"},
};

// The mixture of eight experts (Mixtral): attention is so small a part of it that it gets more bits.
bool Eight(const MixModel& m) { return m.experts == 8; }

// Half of the layers: the first and the last eighth, and every third between.
bool MoreBits(int64_t layer, int64_t layers) {
  const int64_t eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

std::string_view Value(const GgmlMix& mix, const MixModel& m, int64_t layer) {
  if (Eight(m)) return "Q8_0";
  std::string_view type = mix.base;
  switch (mix.id) {
    case Id::kQ2K: type = m.queries_per_key >= 4 ? "Q4_K" : "Q3_K"; break;
    case Id::kQ3KM: type = layer < 2 ? "Q5_K" : "Q4_K"; break;
    case Id::kQ3KL: type = "Q5_K"; break;
    case Id::kQ4KS: type = layer < 4 ? "Q5_K" : type; break;
    case Id::kQ4KM:
    case Id::kQ5KM: type = MoreBits(layer, m.layers) ? "Q6_K" : type; break;
    default: break;
  }
  // Models of 70 billion parameters: eight heads of queries share these, so they are small, and errors count eightfold.
  const bool seventy = m.layers == 80 && m.queries_per_key > 1;
  return seventy && (type == "Q3_K" || type == "Q4_K") ? "Q5_K" : type;
}

std::string_view Down(const GgmlMix& mix, const MixModel& m, int64_t layer) {
  switch (mix.id) {
    case Id::kQ2K: return "Q3_K";
    case Id::kQ3KM: return layer < m.layers / 16 ? "Q5_K" : "Q4_K";
    case Id::kQ3KL: return "Q5_K";
    case Id::kQ4KS: return layer < m.layers / 8 ? "Q5_K" : mix.base;
    case Id::kQ4KM:
    case Id::kQ5KM: return MoreBits(layer, m.layers) ? "Q6_K" : mix.base;
    default: return mix.base;
  }
}

std::string_view AttentionOutput(const GgmlMix& mix, const MixModel& m) {
  switch (mix.id) {
    case Id::kQ2K: return Eight(m) ? "Q5_K" : "Q3_K";
    case Id::kQ3KM: return Eight(m) ? "Q5_K" : "Q4_K";
    case Id::kQ3KL: return Eight(m) ? mix.base : "Q5_K";
    case Id::kQ3KS:
    case Id::kQ4KS:
    case Id::kQ4KM: return Eight(m) ? "Q5_K" : mix.base;
    default: return mix.base;
  }
}

bool Divides(const GgmlType& type, int64_t cols) { return cols % type.block == 0; }

std::string_view Wanted(const GgmlMix& mix, const MixModel& m, const MixMatrix& w) {
  if (w.role == MatrixRole::kOutput || (w.role == MatrixRole::kEmbedding && m.tied))
    return mix.id == Id::kQ80 || !Divides(*FindGgmlType(mix.base), w.cols) ? "Q8_0" : "Q6_K";
  switch (w.role) {
    case MatrixRole::kRouter: return "F32";
    case MatrixRole::kKey: return Eight(m) ? "Q8_0" : mix.base;
    case MatrixRole::kValue: return Value(mix, m, w.layer);
    case MatrixRole::kAttentionOutput: return AttentionOutput(mix, m);
    case MatrixRole::kDown: return Down(mix, m, w.layer);
    default: return mix.base;
  }
}

// For rows that are no multiple of 256.
std::string_view InBlocksOf32(std::string_view type) {
  return type == "Q4_K" ? "Q5_0" : type == "Q5_K" ? "Q5_1" : type == "Q6_K" ? "Q8_0" : "Q4_0";
}

bool SameLetters(std::string_view a, std::string_view upper) {
  return std::equal(a.begin(), a.end(), upper.begin(), upper.end(),
                    [](char x, char y) { return (x >= 'a' && x <= 'z' ? x - 32 : x) == y; });
}

}  // namespace

const GgmlMix* FindMix(std::string_view name) {
  for (const GgmlMix& mix : kMixes)
    if (SameLetters(name, mix.name)) return &mix;
  return nullptr;
}

MatrixRole RoleOf(std::string_view name) {
  if (name == "output.weight") return MatrixRole::kOutput;
  if (name == "token_embd.weight" || name == "per_layer_token_embd.weight") return MatrixRole::kEmbedding;
  const std::pair<std::string_view, MatrixRole> parts[] = {{"attn_qkv.weight", MatrixRole::kValue},
                                                           {"attn_kv_b.weight", MatrixRole::kValue},
                                                           {"attn_v.weight", MatrixRole::kValue},
                                                           {"attn_k.weight", MatrixRole::kKey},
                                                           {"attn_output.weight", MatrixRole::kAttentionOutput},
                                                           {"ffn_gate_inp.weight", MatrixRole::kRouter},
                                                           {"ffn_down", MatrixRole::kDown}};
  for (const auto& [part, role] : parts)
    if (name.find(part) != name.npos) return role;
  return MatrixRole::kOther;
}

const GgmlType& TypeInMix(const GgmlMix& mix, const MixModel& model, const MixMatrix& matrix) {
  return FittingType(*FindGgmlType(Wanted(mix, model, matrix)), matrix.cols);
}

const GgmlType& FittingType(const GgmlType& wanted, int64_t cols) {
  const GgmlType* type = &wanted;
  if (!Divides(*type, cols) && type->block == 256) type = FindGgmlType(InBlocksOf32(type->name));
  return Divides(*type, cols) ? *type : *FindGgmlType("F16");
}

}  // namespace sotto
