// The picture of a search: every choice that fits, by memory and predicted KL, as large as it is fast; the front that nothing is better
// than, and what was taken.
#pragma once
#include <string>

#include "engine/fit/fit.h"

namespace sotto {

// Writes `path`, .svg or .png by its ending, atomically. `speeds`: they are of this machine and may be written down.
Status DrawPareto(const Fitted& fitted, const std::string& title, Bytes budget, bool speeds, const std::string& path);

}  // namespace sotto
