// How many layers must come from the disk for a choice to fit: the fewest, by bisection over plans.
#pragma once
#include "engine/planning.h"

namespace sotto {

// LayOut() with the fewest layers from the disk with which the choice fits `budget`; with all of them when it doesn't fit even so.
Result<Layout> LayOutToFit(const Planned& planned, const PlanRequest& request, Choice choice, Bytes budget);

}  // namespace sotto
