#include "plan/residency.h"

#include <algorithm>
#include <array>

namespace sotto {
namespace {

bool Moves(const Slot& s) { return s.stack != Stack::kNone && s.form == Form::kMatrix; }

int LayersOf(const Anatomy& anatomy, Stack stack) {
  int layers = 0;
  for (const Slot& s : anatomy.slots())
    if (Moves(s) && s.stack == stack) layers = std::max(layers, s.layer + 1);
  return layers;
}

}  // namespace

int CountStackLayers(const Anatomy& anatomy) {
  return LayersOf(anatomy, Stack::kEncoder) + LayersOf(anatomy, Stack::kDecoder);
}

std::vector<StackLayer> StreamLayers(Anatomy* anatomy, Recipe* recipe, int streamed) {
  std::vector<StackLayer> layers;
  if (streamed <= kRingPlaces) return layers;
  for (const Stack stack : {Stack::kEncoder, Stack::kDecoder}) {
    const int all = LayersOf(*anatomy, stack), few = std::min(all, streamed - static_cast<int>(layers.size()));
    for (int i = 0; i < few; ++i)
      layers.push_back({stack, static_cast<int>(static_cast<int64_t>(i) * all / few), 0, i % kRingPlaces});
  }
  // A layer's matrices, one behind the other.
  uint64_t largest = 0;
  std::vector<std::pair<uint32_t, std::pair<int, uint64_t>>> moved;  // slot, place, where there
  for (StackLayer& l : layers) {
    uint64_t at = 0;
    for (uint32_t id = 0; id < anatomy->slots().size(); ++id) {
      const Slot& s = anatomy->at(id);
      if (!Moves(s) || s.stack != l.stack || s.layer != l.layer) continue;
      moved.push_back({id, {l.place, at}});
      l.bytes += (*recipe)[id].bytes.n;
      at += RoundUp((*recipe)[id].bytes.n, kSlotAlign);
    }
    largest = std::max(largest, at);
  }
  const Scope ring = Scope{anatomy, "ring.", Component::kDecoder, kRunning};
  std::array<uint32_t, kRingPlaces> places{};
  for (size_t i = 0; i < places.size(); ++i) {
    places[i] = Table(ring, std::to_string(i), largest, Role::kRing).id;
    recipe->push_back({Bytes{largest}, DType::kU8});
  }
  for (const auto& [id, where] : moved) {
    (*recipe)[id].inside = places[static_cast<size_t>(where.first)];
    (*recipe)[id].from = where.second;
  }
  return layers;
}

}  // namespace sotto
