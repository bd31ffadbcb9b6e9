// Which layers stay in memory, and where the others lie while they compute: one after the other in a ring of places, each as large as
// the largest of them, so that one is read while another computes. Only matrices move; norms and biases stay.
//
//   Recipe recipe = MakeRecipe(…);
//   StreamLayers(&anatomy, &recipe, {.streamed = 20});     // the plan has 20 layers less, and a ring
#pragma once
#include <vector>

#include "plan/memory_plan.h"

namespace sotto {

inline constexpr int kRingPlaces = 2;

struct StackLayer {
  Stack stack = Stack::kNone;
  int layer = 0;
  uint64_t bytes = 0;  // that are read for a pass
  int place = 0;       // in the ring
};

// How many layers could be streamed: those of all stacks.
int CountStackLayers(const Anatomy& anatomy);

// Of these layers `streamed` are read anew in every pass, and a ring is added to the anatomy and the recipe. Encoder layers go first:
// they compute once for a window of audio, decoder layers once a token. Those of the decoder are spread evenly, so that reading never
// waits for long. In the order in which they pass. None are streamed where that would save nothing: up to kRingPlaces.
std::vector<StackLayer> StreamLayers(Anatomy* anatomy, Recipe* recipe, int streamed);

}  // namespace sotto
