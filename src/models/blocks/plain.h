// Parts of models that are planned and not run: they register their tensors and are forgotten.
#pragma once
#include <string>

#include "models/blocks/shards.h"
#include "plan/anatomy.h"

namespace sotto {

inline void DeclareLinear(const Scope& at, const std::string& name, int64_t out, int64_t in, bool bias = true,
                          Shard shard = {}) {
  (void)Matrix(at, name + ".weight", out, in, shard);
  if (bias) (void)Vector(at, name + ".bias", out, shard.kind == Shard::kFirst ? shard : Shard{});
}

// LayerNorm and BatchNorm: weight and bias. RMSNorm: a weight alone.
inline void DeclareNorm(const Scope& at, const std::string& name, int64_t n) {
  (void)Vector(at, name + ".weight", n);
  (void)Vector(at, name + ".bias", n);
}
inline void DeclareRmsNorm(const Scope& at, const std::string& name, int64_t n) {
  (void)Vector(at, name + ".weight", n);
}

// q, k, v and o of width d with biases (k's as `k_bias` says); keys and values from `source` when it isn't 0.
inline void DeclareAttention(const Scope& at, int64_t d, int64_t head_dim, int64_t source = 0, bool k_bias = true) {
  const int64_t from = source == 0 ? d : source;
  DeclareLinear(at, "q_proj", d, d, true, ByOut(head_dim));
  DeclareLinear(at, "k_proj", d, from, k_bias, ByOut(head_dim));
  DeclareLinear(at, "v_proj", d, from, true, ByOut(head_dim));
  DeclareLinear(at, "out_proj", d, d, true, ByIn(head_dim));
}

inline void DeclareMlp(const Scope& at, int64_t d, int64_t ffn) {
  DeclareLinear(at, "fc1", ffn, d, true, ByOut());
  DeclareLinear(at, "fc2", d, ffn, true, ByIn());
}

// A convolution over one or two dimensions as the matrix [out, in * taps] that it is; depthwise: in = 1.
inline void DeclareConv(const Scope& at, const std::string& name, int64_t out, int64_t in, int64_t taps,
                        bool bias = true) {
  (void)ConvMatrix(at, name + ".weight", out, in, taps);
  if (bias) (void)Vector(at, name + ".bias", out);
}

// Pre-norm transformer blocks of a vision or audio tower: LN, attention, LN, MLP, `layers` times.
inline void DeclareTower(const Scope& at, int64_t layers, int64_t d, int64_t heads, int64_t ffn, bool k_bias = true) {
  for (int i = 0; i < layers; ++i) {
    const Scope layer = (at / "layers" / std::to_string(i)).Layer(i);
    DeclareNorm(layer, "layer_norm1", d);
    DeclareAttention(layer / "self_attn", d, d / heads, 0, k_bias);
    DeclareNorm(layer, "layer_norm2", d);
    DeclareMlp(layer / "mlp", d, ffn);
  }
}

// What an audio encoder works in while it hears one window: mel, states, keys and values of all positions, and a block of
// rows for everything wider.
inline void DeclareHearing(const Scope& at, int64_t frames, int64_t n_mels, int64_t positions, int64_t d, int64_t ffn) {
  constexpr int64_t kBlock = 384;
  const Scope encode = at.During(kEncode);
  const int64_t rows = positions < kBlock ? positions : kBlock;
  (void)Buffer(encode, "mel", frames, n_mels, DType::kF32, Role::kAudio);
  for (const char* name : {"x", "k", "v"}) (void)Buffer(encode, name, positions, d);
  for (const char* name : {"h", "q", "attended"}) (void)Buffer(encode, name, rows, d);
  (void)Buffer(encode, "wide", rows, ffn);
}

}  // namespace sotto
