#include "weights/recipe.h"

#include <fmt/format.h>

#include <algorithm>

namespace sotto {
namespace {

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return text;
}

Stored StoredMatrix(const Slot& s, const WeightKind& weights, Isa isa) {
  const uint64_t in = SatMul(static_cast<uint64_t>(s.shape[1]), static_cast<uint64_t>(s.shape[2]));
  const PanelFormat format =
      weights.blocks != nullptr ? FormatFor(*weights.blocks, isa) : FormatFor(weights.dtype, isa);
  return {PanelBytes(format, s.shape[0], static_cast<int64_t>(std::min<uint64_t>(in, INT64_MAX))), format.dtype,
          format.group, format.blocks};
}

Stored StoredAs(const Slot& s, const WeightKind& weights, Isa isa) {
  const bool small = weights.blocks != nullptr || weights.dtype == DType::kI8;
  const DType rows = small ? DType::kF16 : weights.dtype;
  switch (s.form) {
    case Form::kMatrix: return StoredMatrix(s, weights, isa);
    case Form::kVector: return {Bytes{s.Elements()} * 4, DType::kF32, 1};
    case Form::kRows: return {Bytes{s.Elements()} * SizeOf(rows), rows, 1};
    case Form::kPlain: break;
  }
  return {Bytes{s.Elements()} * SizeOf(s.dtype), s.dtype, 1};
}

}  // namespace

std::string NameOf(const WeightKind& kind) {
  if (kind.as_stored) return "as stored";
  return kind.blocks != nullptr ? Lower(std::string(kind.blocks->name)) : std::string(NameOf(kind.dtype));
}

Result<WeightKind> ParseWeightKind(const std::string& name) {
  for (const DType t : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8})
    if (NameOf(t) == name) return WeightKind{t, nullptr};
  const std::string lower = Lower(name == "int4" ? "q4_0" : name);
  for (const GgmlType& t : kGgmlTypes)
    if (Lower(std::string(t.name)) == lower && (t.block > 1)) return WeightKind{DType::kF32, &t};
  return Usage(fmt::format(
      "--weights {} is not a precision that sotto has; choose fp32, fp16, bf16, int8, int4, a GGUF type such as q8_0, "
      "q4_0 or q4_k, or auto",
      name.substr(0, 40)));
}

Recipe MakeRecipe(const Anatomy& anatomy, const WeightKind& weights, Isa isa) {
  Recipe recipe;
  recipe.reserve(anatomy.slots().size());
  for (const Slot& s : anatomy.slots()) recipe.push_back(StoredAs(s, weights, isa));
  return recipe;
}

void KeepStored(const Anatomy& anatomy, std::span<const Kept> kept, Isa isa, Recipe* recipe) {
  size_t weight = 0;
  for (uint32_t id = 0; id < recipe->size(); ++id) {
    const Slot& slot = anatomy.at(id);
    if (slot.role != Role::kWeight) continue;
    CHECK(weight < kept.size());
    const auto [all, bytes, type] = kept[weight++];
    if (type != nullptr && DequantizerOf(*type).ok()) {
      const std::optional<DType> plain = PlainType(*type);
      const WeightKind kind = plain ? WeightKind{*plain} : WeightKind{DType::kF32, type};
      (*recipe)[id] = StoredAs(slot, kind, isa);
      continue;
    }
    const auto part = static_cast<unsigned __int128>(bytes) * std::min(slot.Elements(), all);
    (*recipe)[id] = {Bytes{all == 0 ? bytes : static_cast<uint64_t>((part + all - 1) / all)}, DType::kU8, 1};
  }
}

}  // namespace sotto
