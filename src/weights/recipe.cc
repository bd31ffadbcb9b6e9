#include "weights/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace sotto {
namespace {

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return text;
}

// What a mix is for.
bool DecodesText(Component c) {
  return c == Component::kDecoder || c == Component::kCrossAttention || c == Component::kExperts ||
         c == Component::kEmbedding || c == Component::kPerLayerEmbedding || c == Component::kLmHead;
}

MatrixRole RoleOf(const Slot& s) {
  if (s.component == Component::kLmHead) return MatrixRole::kOutput;
  if (s.component == Component::kEmbedding || s.component == Component::kPerLayerEmbedding)
    return MatrixRole::kEmbedding;
  const std::pair<std::string_view, MatrixRole> ends[] = {{"v_proj.weight", MatrixRole::kValue},  // also qkv_proj
                                                          {"kv_b_proj.weight", MatrixRole::kValue},
                                                          {"k_proj.weight", MatrixRole::kKey},
                                                          {"o_proj.weight", MatrixRole::kAttentionOutput},
                                                          {"out_proj.weight", MatrixRole::kAttentionOutput},
                                                          {"attn.dense.weight", MatrixRole::kAttentionOutput},
                                                          {"down_proj.weight", MatrixRole::kDown},
                                                          {"experts.down_proj", MatrixRole::kDown},
                                                          {"fc2.weight", MatrixRole::kDown},
                                                          {"mlp.gate.weight", MatrixRole::kRouter}};
  for (const auto& [end, role] : ends)
    if (s.name.ends_with(end)) return role;
  return MatrixRole::kOther;
}

Stored StoredMatrix(const Slot& s, const WeightKind& weights, const MixModel& model, Isa isa) {
  const uint64_t in = SatMul(static_cast<uint64_t>(s.shape[1]), static_cast<uint64_t>(s.shape[2]));
  PanelFormat format = FormatFor(weights.dtype, isa);
  if (weights.blocks != nullptr) {
    const GgmlType& type = GgufTypeOf(s, weights, model);
    const std::optional<DType> plain = PlainType(type);
    format = plain ? FormatFor(*plain, isa) : FormatFor(type, isa);
  }
  return {PanelBytes(format, s.shape[0], static_cast<int64_t>(std::min<uint64_t>(in, INT64_MAX))), format.dtype,
          format.group, format.blocks};
}

Stored StoredAs(const Slot& s, const WeightKind& weights, const MixModel& model, Isa isa) {
  const bool small = weights.blocks != nullptr || weights.dtype == DType::kI8;
  const DType rows = small ? DType::kF16 : weights.dtype;
  switch (s.form) {
    case Form::kMatrix: return StoredMatrix(s, weights, model, isa);
    case Form::kVector: return {Bytes{s.Elements()} * 4, DType::kF32, 1};
    case Form::kRows: return {Bytes{s.Elements()} * SizeOf(rows), rows, 1};
    case Form::kPlain: break;
  }
  return {Bytes{s.Elements()} * SizeOf(s.dtype), s.dtype, 1};
}

}  // namespace

std::string NameOf(const WeightKind& kind) {
  if (kind.as_stored) return "as stored";
  if (kind.mix != nullptr) return Lower(std::string(kind.mix->name));
  return kind.blocks != nullptr ? Lower(std::string(kind.blocks->name)) : std::string(NameOf(kind.dtype));
}

Result<WeightKind> ParseWeightKind(const std::string& name) {
  const std::string plain = name == "f32" ? "fp32" : name == "f16" ? "fp16" : name;
  for (const DType t : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8})
    if (NameOf(t) == plain) return WeightKind{t, nullptr};
  const std::string lower = Lower(name == "int4" ? "q4_0" : name);
  for (const GgmlType& t : kGgmlTypes)
    if (Lower(std::string(t.name)) == lower && (t.block > 1)) return WeightKind{DType::kF32, &t};
  if (const GgmlMix* mix = FindMix(name)) return WeightKind{DType::kF32, FindGgmlType(mix->base), false, mix};
  return Usage(fmt::format(
      "--weights {} is not a precision that sotto has; choose fp32, fp16, bf16, int8, int4, a GGUF type such as q8_0, "
      "q4_0 or q4_k, a mix such as q4_k_m, or auto",
      name.substr(0, 40)));
}

Recipe MakeRecipe(const Anatomy& anatomy, const WeightKind& weights, Isa isa) {
  Recipe recipe;
  recipe.reserve(anatomy.slots().size());
  const MixModel model = weights.mix != nullptr ? MixModelOf(anatomy) : MixModel{};
  for (const Slot& s : anatomy.slots()) recipe.push_back(StoredAs(s, weights, model, isa));
  return recipe;
}

MixModel MixModelOf(const Anatomy& anatomy) {
  MixModel m{.tied = true};
  int64_t queries = 0, keys = 0;
  for (const Slot& s : anatomy.slots()) {
    if (s.form != Form::kMatrix || !DecodesText(s.component)) continue;
    const MatrixRole role = RoleOf(s);
    m.layers = std::max<int64_t>(m.layers, s.layer + 1);
    if (role == MatrixRole::kOutput) m.tied = false;
    if (role == MatrixRole::kRouter) m.experts = s.shape[0];
    if (role == MatrixRole::kKey) keys = s.shape[0];
    if (s.name.ends_with("q_proj.weight")) queries = s.shape[0];
  }
  if (keys > 0) m.queries_per_key = queries / keys;
  return m;
}

const GgmlType& GgufTypeOf(const Slot& s, const WeightKind& weights, const MixModel& model) {
  CHECK(!weights.as_stored && (weights.blocks != nullptr || weights.dtype != DType::kI8));
  const uint64_t in = SatMul(static_cast<uint64_t>(s.shape[1]), static_cast<uint64_t>(s.shape[2]));
  const auto cols = static_cast<int64_t>(std::min<uint64_t>(in, INT64_MAX));
  if (weights.mix != nullptr)
    return TypeInMix(DecodesText(s.component) ? *weights.mix : *FindMix("Q8_0"), model, {RoleOf(s), s.layer, cols});
  if (weights.blocks != nullptr) return FittingType(*weights.blocks, cols);
  return *FindGgmlType(weights.dtype == DType::kF32 ? "F32" : weights.dtype == DType::kF16 ? "F16" : "BF16");
}

void KeepStored(const Anatomy& anatomy, std::span<const Kept> kept, Isa isa, Recipe* recipe) {
  size_t weight = 0;
  for (uint32_t id = 0; id < recipe->size(); ++id) {
    const Slot& slot = anatomy.at(id);
    if (slot.role != Role::kWeight) continue;
    CHECK(weight < kept.size());
    const auto [all, bytes, type, planes, offset] = kept[weight++];
    if (planes) {
      (*recipe)[id] = {Bytes{bytes}, DType::kU8, 1, nullptr, true};
      continue;
    }
    if (type != nullptr && DequantizerOf(*type).ok()) {
      const std::optional<DType> plain = PlainType(*type);
      const WeightKind kind = plain ? WeightKind{*plain} : WeightKind{DType::kF32, type};
      (*recipe)[id] = StoredAs(slot, kind, {}, isa);
      continue;
    }
    const auto part = static_cast<unsigned __int128>(bytes) * std::min(slot.Elements(), all);
    (*recipe)[id] = {Bytes{all == 0 ? bytes : static_cast<uint64_t>((part + all - 1) / all)}, DType::kU8, 1};
  }
}

void MapPlanes(const Anatomy& anatomy, std::span<const Kept> kept, uint32_t slot, FilePages pages, Recipe* recipe) {
  auto weight = kept.begin();
  for (uint32_t id = 0; id < recipe->size(); ++id) {
    if (anatomy.at(id).role != Role::kWeight) continue;
    if (weight->planes) (*recipe)[id].inside = slot, (*recipe)[id].from = weight->offset - pages.begin;
    ++weight;
  }
}

}  // namespace sotto
