#include "plan/memory_plan.h"

#include <algorithm>
#include <numeric>

namespace sotto {
namespace {

// The lowest address at which `bytes` fit above `floor`, past every placed slot that is live together with this one.
uint64_t LowestFree(const Anatomy& anatomy, const std::vector<uint32_t>& placed, const std::vector<Placement>& at,
                    Phases live, uint64_t bytes, uint64_t floor) {
  std::vector<Placement> taken;
  for (uint32_t id : placed)
    if ((anatomy.at(id).live & live) != 0 && at[id].bytes != 0) taken.push_back(at[id]);
  std::sort(taken.begin(), taken.end(), [](const Placement& a, const Placement& b) { return a.offset < b.offset; });
  uint64_t offset = floor;
  for (const Placement& t : taken) {
    if (SatAdd(offset, bytes) <= t.offset) break;
    offset = std::max(offset, SatAdd(t.offset, t.bytes));
  }
  return offset;
}

}  // namespace

MemoryPlan Plan(const Anatomy& anatomy, Recipe recipe, Bytes runtime) {
  const auto slots = anatomy.slots();
  CHECK(recipe.size() == slots.size());
  MemoryPlan plan;
  plan.recipe = std::move(recipe);
  plan.at.resize(slots.size());
  plan.runtime = runtime;

  // What lives always lies first, in the order of declaration (layer by layer, as it is read in a step).
  std::vector<uint32_t> rest;
  uint64_t floor = 0;
  for (uint32_t id = 0; id < slots.size(); ++id) {
    if (plan.recipe[id].inside != kNoSlot) continue;
    plan.at[id].bytes = RoundUp(plan.recipe[id].bytes.n, kSlotAlign);
    for (int p = 0; p < kPhaseCount; ++p)
      if (slots[id].live & (1 << p)) plan.live[p] += Bytes{plan.at[id].bytes};
    if (slots[id].live != kAlways) {
      rest.push_back(id);
      continue;
    }
    plan.at[id].offset = floor;
    floor = SatAdd(floor, plan.at[id].bytes);
  }
  // Then the rest, those that live longest first, then by size: shorter lives fill the addresses that longer ones leave.
  std::stable_sort(rest.begin(), rest.end(), [&](uint32_t a, uint32_t b) {
    const int lives_a = __builtin_popcount(slots[a].live), lives_b = __builtin_popcount(slots[b].live);
    return lives_a != lives_b ? lives_a > lives_b : plan.at[a].bytes > plan.at[b].bytes;
  });
  uint64_t end = floor;
  std::vector<uint32_t> placed;
  for (uint32_t id : rest) {
    plan.at[id].offset = LowestFree(anatomy, placed, plan.at, slots[id].live, plan.at[id].bytes, floor);
    placed.push_back(id);
    end = std::max(end, SatAdd(plan.at[id].offset, plan.at[id].bytes));
  }
  // Nothing that lives together overlaps: checked here, for every plan, because an arena is one block to a sanitizer.
  if (end != UINT64_MAX)
    for (size_t i = 0; i < placed.size(); ++i)
      for (size_t j = 0; j < i; ++j) {
        const Placement &a = plan.at[placed[i]], &b = plan.at[placed[j]];
        const bool together = (slots[placed[i]].live & slots[placed[j]].live) != 0;
        CHECK(!together || a.offset >= b.offset + b.bytes || b.offset >= a.offset + a.bytes);
      }
  for (uint32_t id = 0; id < slots.size(); ++id) {
    const Stored& s = plan.recipe[id];
    if (s.inside == kNoSlot) continue;
    CHECK(s.from <= plan.at[s.inside].bytes && s.bytes.n <= plan.at[s.inside].bytes - s.from);
    plan.at[id].offset = plan.at[s.inside].offset + s.from;
  }
  plan.arena = Bytes{end};
  for (int p = 1; p < kPhaseCount; ++p)
    if (plan.live[p] > plan.live[plan.peak_phase]) plan.peak_phase = p;
  plan.exact = plan.arena == plan.live[plan.peak_phase];
  plan.total = plan.arena + plan.runtime;
  return plan;
}

Bytes MemoryPlan::Of(const Anatomy& anatomy, Role role) const {
  Bytes sum;
  for (uint32_t id = 0; id < at.size(); ++id)
    if (anatomy.at(id).role == role && (anatomy.at(id).live & (1 << peak_phase))) sum += Bytes{at[id].bytes};
  return sum;
}

}  // namespace sotto
