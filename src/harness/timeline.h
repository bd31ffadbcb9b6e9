// The picture of a plan: which tensors live when, phase by phase, at which addresses of the arena.
#pragma once
#include <string>

#include "engine/planning.h"

namespace sotto {

// Writes `path`, .svg or .png by its ending (kUsage for others), atomically.
Status DrawTimeline(const Planned& planned, const std::string& path);
std::string TimelineSvg(const Planned& planned);

}  // namespace sotto
