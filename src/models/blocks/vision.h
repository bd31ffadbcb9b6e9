// Vision towers that stand beside audio in multimodal checkpoints: counted, since the files hold them, and never run here.
#pragma once
#include "models/blocks/plain.h"
#include "models/class_config.h"

namespace sotto {

// SigLIP (https://arxiv.org/abs/2303.15343; transformers' SiglipVisionModel).
struct SiglipConfig {
  int64_t d = 0, layers = 0, heads = 0, ffn = 0, patch_inputs = 0, positions = 0;
  bool head = false;  // attention pooling behind the tower
};

// vision_config; `head` is left to the caller.
inline Result<SiglipConfig> ReadSiglip(const ClassConfig& v) {
  SiglipConfig c;
  c.d = TRY(v.Int("hidden_size", 1, kMaxWidth));
  c.layers = TRY(v.Int("num_hidden_layers", 1, kMaxLayers));
  c.heads = TRY(v.Int("num_attention_heads", 1, c.d));
  c.ffn = TRY(v.Int("intermediate_size", 1, kMaxWidth));
  const int64_t patch = TRY(v.Int("patch_size", 1, 4096)), side = TRY(v.Int("image_size", 1, 1 << 16)) / patch;
  c.patch_inputs = TRY(v.IntOr("num_channels", 1, 64, 3)) * patch * patch;
  c.positions = side * side;
  return c;
}

inline void DeclareSiglip(const Scope& at, const SiglipConfig& c) {
  DeclareLinear(at / "embeddings", "patch_embedding", c.d, c.patch_inputs);
  (void)RowTable(at / "embeddings", "position_embedding.weight", c.positions, c.d);
  DeclareTower(at / "encoder", c.layers, c.d, c.heads, c.ffn);
  DeclareNorm(at, "post_layernorm", c.d);
  if (!c.head) return;
  const Scope head = at / "head";
  (void)RowTable(head, "probe", 1, c.d);
  DeclareLinear(head / "attention", "in_proj", 3 * c.d, c.d);
  DeclareLinear(head / "attention", "out_proj", c.d, c.d);
  DeclareNorm(head, "layernorm", c.d);
  DeclareMlp(head / "mlp", c.d, c.ffn);
}

}  // namespace sotto
