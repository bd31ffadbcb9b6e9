// A font of strokes for pictures in pixels: printable ASCII, drawn for sotto, so that a PNG needs no font file. What is outside
// is shown as '?'.
#pragma once
#include <string_view>
#include <vector>

#include "harness/canvas.h"

namespace sotto {

using Stroke = std::vector<Canvas::Point>;

// The lines of a text whose first letter begins at 0 and whose baseline is 0, y downwards; capitals are 0.72 * size high.
std::vector<Stroke> StrokesOf(std::string_view text, double size);
double StrokeTextWidth(std::string_view text, double size);

}  // namespace sotto
