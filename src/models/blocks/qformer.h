// Q-Former (BLIP-2, https://arxiv.org/abs/2301.12597; transformers' Blip2QFormerModel): learned queries pass BERT layers, of which
// every few look at the encoder's states. Planned, not run.
#pragma once
#include "models/blocks/plain.h"
#include "models/class_config.h"

namespace sotto {

struct QformerConfig {
  int64_t d = 0, layers = 0, heads = 0, ffn = 0, source = 0, every = 1;
};

inline Result<QformerConfig> ReadQformer(const ClassConfig& j) {
  QformerConfig c;
  c.d = TRY(j.Int("hidden_size", 1, kMaxWidth));
  c.layers = TRY(j.Int("num_hidden_layers", 1, kMaxLayers));
  c.heads = TRY(j.Int("num_attention_heads", 1, kMaxWidth));
  c.ffn = TRY(j.Int("intermediate_size", 1, kMaxWidth));
  c.source = TRY(j.Int("encoder_hidden_size", 1, kMaxWidth));
  c.every = TRY(j.Int("cross_attention_frequency", 1, kMaxLayers));
  return c;
}

// Attention and the norm behind it, as BERT has them.
inline void DeclareBertAttention(const Scope& at, const QformerConfig& c, int64_t source) {
  DeclareAttention(at, c.d, std::max<int64_t>(1, c.d / c.heads), source);
  DeclareNorm(at, "LayerNorm", c.d);
}
inline void DeclareBertMlp(const Scope& at, const QformerConfig& c) {
  DeclareMlp(at, c.d, c.ffn);
  DeclareNorm(at, "LayerNorm", c.d);
}

inline void DeclareQformer(const Scope& at, const QformerConfig& c, int64_t queries) {
  (void)RowTable(at, "query", queries, c.d);
  DeclareNorm(at, "layernorm", c.d);
  for (int i = 0; i < c.layers; ++i) {
    const Scope layer = (at / "layer" / std::to_string(i)).Layer(i);
    DeclareBertAttention(layer / "attention", c, 0);
    if (i % c.every == 0) DeclareBertAttention(layer / "crossattention", c, c.source);
    DeclareBertMlp(layer / "query", c);
  }
}

}  // namespace sotto
