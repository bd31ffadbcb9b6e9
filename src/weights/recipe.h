// How each slot of an anatomy is stored when the weights are held as one element type.
#pragma once
#include <span>
#include <string>

#include "codec/ggml_mix.h"
#include "codec/panel.h"
#include "plan/memory_plan.h"
#include "weights/stored.h"

namespace sotto {

// How matrices are held: as an element type in panels, in the blocks of a GGUF type, each in the type that a mix gives
// it, or as the files hold them.
struct WeightKind {
  DType dtype = DType::kF32;         // kF32, kF16, kBF16 or kI8
  const GgmlType* blocks = nullptr;  // instead; a mix's base
  bool as_stored = false;            // instead: KeepStored says how many bytes
  const GgmlMix* mix = nullptr;
  friend bool operator==(const WeightKind&, const WeightKind&) = default;
};
std::string NameOf(const WeightKind& kind);  // "fp16", "int8", "q4_k", "q4_k_m"

// fp32 (also f32), fp16 (f16), bf16, int8, a GGUF type such as q8_0 or q4_K in any case, int4 (which is q4_0), a mix such as Q4_K_M; a name that
// is both (Q2_K) is the type. kUsage.
Result<WeightKind> ParseWeightKind(const std::string& name);

// Matrices as `weights`; norms and biases stay fp32; rows that are only added (positions) are fp32, bf16 or fp16 (for all
// that is smaller). Everything else is as declared. A mix is for what decodes text; the matrices of encoders and projectors are
// Q8_0 then, since audio suffers first from fewer bits.
Recipe MakeRecipe(const Anatomy& anatomy, const WeightKind& weights, Isa isa);

// What a mix asks of the model whose slots these are.
MixModel MixModelOf(const Anatomy& anatomy);
// The type of a matrix in a GGUF file of these weights. REQUIRES: they are not int8 or as stored.
const GgmlType& GgufTypeOf(const Slot& slot, const WeightKind& weights, const MixModel& model);

// Weights in the form that the files hold them in (StoredWeights::kept). What the loader can't fill takes its bytes; one rank's
// slots, their part of them.
void KeepStored(const Anatomy& anatomy, std::span<const Kept> kept, Isa isa, Recipe* recipe);
// Blocks of the plane code then lie where they are in the file, of which `slot` has these pages.
void MapPlanes(const Anatomy& anatomy, std::span<const Kept> kept, uint32_t slot, FilePages pages, Recipe* recipe);

}  // namespace sotto
