// Rotary positions (https://arxiv.org/abs/2104.09864) as transformers scales them (modeling_rope_utils.py): plain, linear, llama3
// and yarn. A head's first 2 * inv_freq.size() elements are turned in pairs (i, i + inv_freq.size()).
//
//   Rope rope = TRY(ReadRope(config, head_dim, max_context));
//   FillAngles(rope, rows.pos, angles);        // once a step
//   ops.Rotate(q, angles, heads, head_dim);    // in every layer
#pragma once
#include <span>
#include <string>
#include <vector>

#include "models/class_config.h"
#include "plan/view.h"

namespace sotto {

struct Rope {
  std::vector<float> inv_freq;
  float attention_scale = 1;  // of cosines and sines (yarn)
  std::string unsupported;    // a scaling that is not computed here: can be planned, not run
  int64_t dim() const { return 2 * static_cast<int64_t>(inv_freq.size()); }
};

// From rope_parameters (transformers 5), or rope_theta and rope_scaling (before). kBadModel for what is malformed.
Result<Rope> ReadRope(const ClassConfig& config, int64_t head_dim, int64_t max_context);

// angles: [positions, rope.dim()], cosines and then sines, products in fp32 as the reference computes them.
void FillAngles(const Rope& rope, std::span<const int32_t> positions, View angles);

}  // namespace sotto
