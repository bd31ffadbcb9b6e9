// The audio encoder of Whisper (https://arxiv.org/abs/2212.04356; transformers' WhisperEncoder): two convolutions, sinusoidal
// positions kept in the checkpoint, pre-norm transformer layers. Qwen2-Audio, Ultravox and Voxtral use the same one.
//
// It is computed in blocks of rows: only x, k and v are held for all positions, everything wider (the feed-forward layer, the
// first convolution at twice the rate) for one block at a time, so the largest buffer does not depend on the audio.
#pragma once
#include <algorithm>
#include <vector>

#include "models/blocks/shards.h"
#include "models/model.h"

namespace sotto {

struct AudioEncoderConfig {
  int64_t d_model = 0, layers = 0, heads = 0, ffn = 0, n_mels = 0, positions = 0;
  int64_t window = 0;            // positions that are heard; 0: all
  bool stored_positions = true;  // else computed (sinusoids) or rotary
  bool k_bias = false;           // Qwen3-Omni's
  bool pooled = false;           // states are averaged in pairs before the last norm (Qwen2-Audio)
  bool convolutions = true;      // else what stands before the layers is the model's own
  int64_t head_dim() const { return d_model / heads; }
  int64_t heard() const { return window == 0 ? positions : std::min(window, positions); }
};

struct AudioEncoderLayer {
  Scope at;
  const AudioEncoderConfig& c;
  Vector norm1{at, "self_attn_layer_norm.weight", c.d_model}, norm1_bias{at, "self_attn_layer_norm.bias", c.d_model};
  Matrix wq{at, "self_attn.q_proj.weight", c.d_model, c.d_model, ByOut(c.head_dim())};
  Vector bq{at, "self_attn.q_proj.bias", c.d_model, ByOut(c.head_dim())};
  Matrix wk{at, "self_attn.k_proj.weight", c.d_model, c.d_model, ByOut(c.head_dim())};
  Vector bk = c.k_bias ? Vector(at, "self_attn.k_proj.bias", c.d_model, ByOut(c.head_dim())) : Vector();
  Matrix wv{at, "self_attn.v_proj.weight", c.d_model, c.d_model, ByOut(c.head_dim())};
  Vector bv{at, "self_attn.v_proj.bias", c.d_model, ByOut(c.head_dim())};
  Matrix wo{at, "self_attn.out_proj.weight", c.d_model, c.d_model, ByIn(c.head_dim())};
  Vector bo{at, "self_attn.out_proj.bias", c.d_model};
  Vector norm2{at, "final_layer_norm.weight", c.d_model}, norm2_bias{at, "final_layer_norm.bias", c.d_model};
  Matrix fc1{at, "fc1.weight", c.ffn, c.d_model, ByOut()};
  Vector fc1_bias{at, "fc1.bias", c.ffn, ByOut()};
  Matrix fc2{at, "fc2.weight", c.d_model, c.ffn, ByIn()};
  Vector fc2_bias{at, "fc2.bias", c.d_model};
};

class AudioEncoder {
 public:
  // `at` carries the prefix ("model.encoder."); weights live in all phases, buffers in kEncode.
  AudioEncoder(const Scope& at, const AudioEncoderConfig& config);
  AudioEncoder(const AudioEncoder&) = delete;  // its layers refer to its config

  View Mel(const Run& run) const;  // [2 * heard, n_mels]
  // The states [heard, d_model], or half as many when pooled; valid until the next Forward.
  View Forward(Backend& ops, const Run& run) const { return Forward(ops, run, 2 * c_.heard(), c_.heard()); }
  // Of the first `positions` only, which attend to each other alone. The mel ends behind `frames`: zeros follow.
  View Forward(Backend& ops, const Run& run, int64_t frames, int64_t positions) const;
  // Two [heard, d_model] buffers that are free once Forward is done.
  View Spare(const Run& run, int which) const { return run[which == 0 ? k_ : v_]; }

 private:
  void Convolve(Backend& ops, const Run& run, int64_t frames, View x) const;
  View Pool(View x) const;

  AudioEncoderConfig c_;
  int64_t block_;  // rows computed at a time
  ConvMatrix conv1_, conv2_;
  Vector conv1_bias_, conv2_bias_;
  RowTable positions_;
  std::vector<AudioEncoderLayer> layers_;
  Vector norm_, norm_bias_;
  Buffer mel_, x_, k_, v_, h_, q_, attended_, wide_;
};

}  // namespace sotto
