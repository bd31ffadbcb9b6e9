#include "weights/stored.h"

#include <algorithm>

namespace sotto {

std::string PlainName(std::string_view name) {
  constexpr std::string_view kWrappers[] = {"model", "language_model", "thinker", "vision_model", "llm"};
  std::string plain;
  while (!name.empty()) {
    const size_t dot = std::min(name.find('.'), name.size());
    const std::string_view part = name.substr(0, dot);
    if (std::find(std::begin(kWrappers), std::end(kWrappers), part) == std::end(kWrappers))
      plain.append(plain.empty() ? "" : ".").append(part);
    name.remove_prefix(std::min(dot + 1, name.size()));
  }
  return plain;
}

FilePages PagesOfPlanes(std::span<const Kept> kept) {
  uint64_t begin = UINT64_MAX, end = 0;
  for (const Kept& k : kept) {
    if (!k.planes) continue;
    begin = std::min(begin, k.offset / kPage * kPage);
    end = std::max(end, k.offset + k.bytes);
  }
  return {begin, RoundUp(end, kPage) - begin};
}

bool FitsSlot(const Slot& slot, std::span<const int64_t> shape) {
  size_t next = 0;
  for (const int64_t wanted : slot.shape) {
    uint64_t n = 1;
    while (n < static_cast<uint64_t>(wanted) && next < shape.size())
      n = SatMul(n, static_cast<uint64_t>(shape[next++]));
    if (n != static_cast<uint64_t>(wanted)) return false;
  }
  return std::all_of(shape.begin() + static_cast<ptrdiff_t>(next), shape.end(), [](int64_t d) { return d == 1; });
}

WeightNames::WeightNames(const Anatomy& anatomy) : anatomy_(anatomy) {
  const auto slots = anatomy.slots();
  for (uint32_t id = 0; id < slots.size(); ++id) {
    if (slots[id].role != Role::kWeight) continue;
    by_name_.emplace(PlainName(slots[id].name), ids_.size());
    ids_.push_back(id);
  }
}

std::optional<size_t> WeightNames::Find(const std::string& plain) const {
  const auto it = by_name_.find(plain);
  return it == by_name_.end() ? std::nullopt : std::optional(it->second);
}

}  // namespace sotto
