// A plan as one HTML page that stands alone: tables, pictures, and a calculator that looks up plans made in advance. It loads
// nothing, computes no memory of its own, and reads the same without scripts.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "engine/planning.h"

namespace sotto {

// Writes `path` atomically; several models stand in a table and then one below the other. Contexts go up to `most` (0: each
// model's maximum). REQUIRES: at least one plan.
Status WritePage(const std::vector<const Planned*>& plans, int64_t most, const std::string& path);

// The page's style and script (page_assets.cc).
extern const std::string_view kPageStyle, kPageScript;

}  // namespace sotto
