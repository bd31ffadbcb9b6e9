// Mixes: what the names of GGUF files mean. "Q4_K_M" is no type of blocks but a rule that gives each matrix of a language
// model one: more bits where errors do more harm. The rule is llama.cpp's (src/llama-quant.cpp, without an importance matrix),
// so that a file of a name takes the same bytes here and there. Not here: names of tensors in checkpoints.
//
//   const GgmlType& type = TypeInMix(*FindMix("q4_k_m"), {.layers = 32}, {RoleOf("blk.3.attn_v.weight"), 3, 4096});
#pragma once
#include <cstdint>
#include <string_view>

#include "codec/ggml_types.h"

namespace sotto {

struct GgmlMix {
  enum Id : uint8_t { kQ2K, kQ3KS, kQ3KM, kQ3KL, kQ40, kQ4KS, kQ4KM, kQ50, kQ5KS, kQ5KM, kQ6K, kQ80 } id;
  std::string_view name;  // "Q4_K_M"
  std::string_view base;  // the type of all matrices that no rule names
};
const GgmlMix* FindMix(std::string_view name);  // in any case of letters; null when there is none

// kValue: also the fused matrix of queries, keys and values, and the upward one of latent attention. kRouter: of experts.
enum class MatrixRole : uint8_t { kOutput, kEmbedding, kKey, kValue, kAttentionOutput, kDown, kRouter, kOther };
MatrixRole RoleOf(std::string_view gguf_name);

struct MixModel {
  int64_t layers = 0;
  int64_t queries_per_key = 1;  // heads of queries for each head of keys
  int64_t experts = 0;          // 0: no mixture
  bool tied = false;            // the embedding is the output matrix, too
};
struct MixMatrix {
  MatrixRole role = MatrixRole::kOther;
  int64_t layer = 0;
  int64_t cols = 0;  // elements of a row
};

// `wanted`, or what llama.cpp takes instead where its blocks don't divide a row: a K type's substitute has blocks of 32, and what
// doesn't fit that is F16.
const GgmlType& FittingType(const GgmlType& wanted, int64_t cols);

// A type that fits. Routers are F32.
const GgmlType& TypeInMix(const GgmlMix& mix, const MixModel& model, const MixMatrix& matrix);

}  // namespace sotto
