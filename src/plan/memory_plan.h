// MemoryPlan: an address for every slot. Plan() is arithmetic; an Arena of exactly plan.arena bytes is then the only memory that
// a model's weights, caches, buffers and tables live in. total = arena + runtime.
#pragma once
#include <array>
#include <vector>

#include "base/bytes.h"
#include "plan/anatomy.h"

namespace sotto {

struct GgmlType;  // codec/ggml_types.h

inline constexpr uint64_t kSlotAlign = 64;  // a cache line, and the widest vector

inline constexpr uint32_t kNoSlot = UINT32_MAX;

// How each slot is stored: the recipe's choice for weights, the slot's own type for everything else.
struct Stored {
  Bytes bytes;
  DType dtype = DType::kF32;
  int group = 1;                     // panels (codec/panel.h); 1 elsewhere
  const GgmlType* blocks = nullptr;  // panels of such blocks; dtype is kU8 then
  bool planes = false;               // a block of codec/planes.h; dtype is kU8 then
  uint32_t inside = kNoSlot;         // the slot whose bytes from `from` on it borrows (plan/residency.h, or pages
  uint64_t from = 0;                 // of a file: kMapped); it has none of its own
};
using Recipe = std::vector<Stored>;  // by slot id
inline bool IsMapped(const Anatomy& anatomy, const Stored& s) {
  return s.inside != kNoSlot && anatomy.at(s.inside).role == Role::kMapped;
}

struct Placement {
  uint64_t offset = 0;  // in the arena
  uint64_t bytes = 0;   // a multiple of kSlotAlign; 0 of a slot inside another
};

struct MemoryPlan {
  std::vector<Placement> at;  // by slot id
  Recipe recipe;
  Bytes arena;    // one block
  Bytes runtime;  // measured bound: the binary, its libraries, stacks, small heap (plan/machine.h)
  Bytes total;    // what the process takes
  std::array<Bytes, kPhaseCount> live{};  // bytes of the slots that live in each phase
  int peak_phase = 0;
  bool exact = true;  // arena == live[peak_phase]: addresses are shared without a gap

  // Bytes of the slots with this role that are live in the peak phase.
  Bytes Of(const Anatomy& anatomy, Role role) const;
};

// REQUIRES: recipe.size() == anatomy.slots().size(). Never fails: sizes saturate, and what is larger than a budget is refused
// by whoever knows the budget (engine/admit.h).
MemoryPlan Plan(const Anatomy& anatomy, Recipe recipe, Bytes runtime);

}  // namespace sotto
