#include "weights/recipe.h"

namespace sotto {

Recipe MakeRecipe(const Anatomy& anatomy, DType weights, Isa isa) {
  Recipe recipe;
  recipe.reserve(anatomy.slots().size());
  const DType rows = weights == DType::kI8 ? DType::kF16 : weights;
  for (const Slot& s : anatomy.slots()) {
    switch (s.form) {
      case Form::kMatrix: {
        const PanelFormat format = FormatFor(weights, isa);
        const auto in = static_cast<int64_t>(std::min<uint64_t>(
            SatMul(static_cast<uint64_t>(s.shape[1]), static_cast<uint64_t>(s.shape[2])), INT64_MAX));
        recipe.push_back({PanelBytes(format, s.shape[0], in), format.dtype, format.group});
        break;
      }
      case Form::kVector: recipe.push_back({Bytes{s.Elements()} * 4, DType::kF32, 1}); break;
      case Form::kRows: recipe.push_back({Bytes{s.Elements()} * SizeOf(rows), rows, 1}); break;
      case Form::kPlain: recipe.push_back({Bytes{s.Elements()} * SizeOf(s.dtype), s.dtype, 1}); break;
    }
  }
  return recipe;
}

}  // namespace sotto
