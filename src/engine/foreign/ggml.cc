#include "engine/foreign/ggml.h"

#include <algorithm>

namespace sotto::foreign {
namespace {

// llama-quant.cpp, the switch over types of 256 elements a block.
std::string_view Narrower(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kFallbacks[] = {
      {"Q4_K", "Q5_0"}, {"Q5_K", "Q5_1"},  {"Q6_K", "Q8_0"}, {"Q2_K", "Q4_0"},
      {"Q3_K", "Q4_0"}, {"TQ1_0", "Q4_0"}, {"TQ2_0", "Q4_0"}};
  for (const auto& [from, to] : kFallbacks)
    if (from == name) return to;
  return name.starts_with("IQ") && name != "IQ4_NL" ? "IQ4_NL" : "F16";
}

}  // namespace

const GgmlType* GgmlNamed(std::string_view lower) {
  std::string name(lower);
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'a' && c <= 'z' ? c - 32 : c; });
  return FindGgmlType(name);
}

Result<const GgmlType*> GgmlOf(const WeightKind& weights, std::string_view engine) {
  if (weights.blocks != nullptr) return weights.blocks;
  switch (weights.dtype) {
    case DType::kF32: return FindGgmlType("F32");
    case DType::kF16: return FindGgmlType("F16");
    case DType::kBF16: return FindGgmlType("BF16");
    default:
      return Usage(
          fmt::format("--weights {}: {} has types of GGUF files only; choose fp32, fp16, bf16, q8_0, q4_0, q4_k ...",
                      NameOf(weights), engine));
  }
}

uint64_t MatrixBytes(const GgmlType& type, const Slot& slot) {
  const uint64_t rows = static_cast<uint64_t>(slot.shape[0]), cols = Times(slot.shape[1], slot.shape[2]);
  const GgmlType* t = &type;
  if (cols % t->block != 0) t = FindGgmlType(Narrower(t->name));
  if (cols % t->block != 0) t = FindGgmlType("F16");
  return GgmlBytes(*t, rows, cols);
}

}  // namespace sotto::foreign
