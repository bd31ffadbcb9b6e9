// What a model is asked to do at once: it sizes caches and buffers.
#pragma once
#include <cstdint>

#include "kv/store.h"

namespace sotto {

struct Workload {
  int64_t context = 0;    // positions of the decoder; 0: the model's own maximum
  int64_t sequences = 1;  // decoded side by side (batch)
  const KvPolicy* kv = nullptr;
  int threads = 1;
};

}  // namespace sotto
