#include "engine/residence.h"

namespace sotto {

Result<Layout> LayOutToFit(const Planned& p, const PlanRequest& request, Choice choice, Bytes budget) {
  Layout all = TRY(LayOut(p, request, choice));
  if (all.plan.total <= budget) return all;
  choice.streamed = all.stack_layers;
  Layout best = TRY(LayOut(p, request, choice));
  if (best.plan.total > budget) return best;
  for (int enough = choice.streamed, few = kRingPlaces; few + 1 < enough;) {
    choice.streamed = (few + enough) / 2;
    Layout l = TRY(LayOut(p, request, choice));
    const bool fits = l.plan.total <= budget;
    (fits ? enough : few) = choice.streamed;
    if (fits) best = std::move(l);
  }
  return best;
}

}  // namespace sotto
