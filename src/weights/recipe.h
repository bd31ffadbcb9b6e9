// How each slot of an anatomy is stored when the weights are held as one element type.
#pragma once
#include "codec/panel.h"
#include "plan/memory_plan.h"

namespace sotto {

// `weights`: kF32, kF16, kBF16 or kI8. Matrices are panels of it; norms and biases stay fp32; rows that are only added
// (positions) are fp32, bf16 or fp16 (for int8). Everything else is as declared.
Recipe MakeRecipe(const Anatomy& anatomy, DType weights, Isa isa);

}  // namespace sotto
