#include "harness/timeline.h"
namespace sotto {
Status DrawTimeline(const Planned&, const std::string&) { return Failed("timeline"); }
}  // namespace sotto
