// What a model is asked to do at once: it sizes caches and buffers.
#pragma once
#include <cstdint>

#include "kv/store.h"

namespace sotto {

// Positions when none are asked for: the maximum that many models publish (131,072) has a cache larger than the model.
inline constexpr int64_t kDefaultContext = 4096;

struct Workload {
  int64_t context = 0;    // positions of the decoder; 0: the model's own maximum, or kDefaultContext if that is less
  int64_t sequences = 1;  // heard and decoded side by side (batch)
  int64_t beams = 1;      // decoded side by side for each of them
  const KvPolicy* kv = nullptr;
  int threads = 1;
  int64_t encoder_positions = 0;  // states that cross-attention reads; 0: the encoder's whole window
  double audio_seconds = 30;      // of one sequence; an audio-language model's tokens grow with it
};

}  // namespace sotto
