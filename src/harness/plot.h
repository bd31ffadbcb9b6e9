// The picture of memory against context: areas of the parts at the plan's batch, a line for each batch's total, the budget and the contexts
// at which it is spent. All figures are plans (engine/solve.h).
#pragma once
#include <span>
#include <string>
#include <vector>

#include "engine/solve.h"

namespace sotto {

// REQUIRES: `planned` outlives it.
struct Plot {
  const Planned* planned = nullptr;
  Grid grid;
  std::vector<Answer> reach;  // by batch: the largest context in the budget
};

// Contexts up to `most` (0: the model's maximum); batches 1, 2, 4, 8 and the plan's own.
Result<Plot> MakePlot(const Planned& planned, int64_t most);

// Writes `path`, .svg or .png by its ending, atomically; several models are panels side by side. REQUIRES: from 1 to kMostPlots.
inline constexpr size_t kMostPlots = 16;
Status DrawPlots(std::span<const Plot> plots, const std::string& path);
// At least 360 wide.
std::string PlotSvg(const Plot& plot, int width);

}  // namespace sotto
