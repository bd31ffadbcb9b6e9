// The tokens of one sequence in a packed cache: which are in which pages at which width. Views on planned memory; the few numbers
// that arrays don't tell are PackedKvState. Moves tokens, decides nothing but when; what goes down is the rule's.
#pragma once
#include <vector>

#include "base/function_ref.h"
#include "kv/packed.h"

namespace sotto {

// Of one layer.
struct PackedKvLayer {
  int64_t tokens = 0;  // positions stored
  int64_t count[std::size(kKvWidths)] = {};
  double value_energy = 0;  // sum of squares of all values that came by
  int64_t values = 0;       // of how many tokens
  std::vector<int32_t> sinks;
  size_t found = 0;  // of them
  bool looked = false;
};
struct PackedKvState {
  std::vector<PackedKvLayer> layers;
  int64_t free = 0;           // pages
  std::vector<KvPart> parts;  // scratch, reserved
  bool cleared = false;       // once
};

class PackedTokens {
 public:
  struct Memory {
    std::byte* pages = nullptr;
    std::byte** free = nullptr;
    FunctionRef<std::byte*(size_t)> index;  // of a layer
    FunctionRef<uint16_t*(size_t)> scales;  // of a layer, [capacity][kv_heads][2]
    float* weights = nullptr;               // scratch, [layers][capacity]
  };
  PackedTokens(const PackedKvSizes& sizes, const PackedKvIndex& index, const PackedKvOptions& options,
               const Memory& memory, PackedKvState* state)
      : sizes_(sizes), index_(index), options_(options), memory_(memory), state_(*state) {}

  // All pages free, no token in any layer.
  void Clear();
  // Keeps positions [0, length) of a layer.
  void Forget(size_t layer, int64_t length);
  // `views`: room for a group of each width. Those that hold tokens.
  std::span<const KvGroup> Groups(size_t layer, KvGroup* views) const;
  // What the last `queries` tokens paid to each position, theirs included.
  void Observe(size_t layer, std::span<const float> mass, int64_t queries);
  // The layer's next position, from a slot of 8 bits.
  void Append(size_t layer, const KvGroup& from, int64_t slot);

 private:
  struct Group {
    int bits = 0;
    std::byte **pages = nullptr, **planes = nullptr;
    int32_t* positions = nullptr;
    int64_t* count = nullptr;
    KvGroup view() const { return {bits, pages, planes, *count, positions}; }
  };
  Group GroupOf(size_t layer, int bits) const;
  uint8_t* WidthsOf(size_t layer) const { return reinterpret_cast<uint8_t*>(memory_.index(layer) + index_.widths); }
  float* ObservedOf(size_t layer) const { return reinterpret_cast<float*>(memory_.index(layer) + index_.observed); }
  MassByDistance* ByDistanceOf(size_t layer) const {
    return reinterpret_cast<MassByDistance*>(memory_.index(layer) + index_.by_distance);
  }
  void Put(size_t layer, const KvGroup& from, int64_t slot, int32_t position, Group to);
  void Remove(size_t layer, Group group, int64_t slot);
  void MakeRoom();
  void Weigh(size_t layer, std::span<float> weights);
  void Lower(size_t layer);
  // Pages that a layer's tokens take: as they are, or at the widths that they are to have.
  int64_t PagesNow(size_t layer) const;
  int64_t PagesThen(size_t layer) const;

  const PackedKvSizes& sizes_;
  const PackedKvIndex& index_;
  const PackedKvOptions& options_;
  Memory memory_;
  PackedKvState& state_;
};

}  // namespace sotto
