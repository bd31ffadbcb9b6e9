// A canvas for a report's pictures: rectangles, lines and text, as SVG or as PNG (stb, public domain). Units are pixels of a
// picture shown at its own size; PNG is drawn at twice that, for sharp screens.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sotto {

struct Colour {
  uint8_t r = 0, g = 0, b = 0;
};
enum class Anchor { kStart, kMiddle, kEnd };

class Canvas {
 public:
  virtual ~Canvas() = default;
  virtual void Rect(double x, double y, double w, double h, Colour fill) = 0;
  // `size`: height of a line in pixels; y: the text's vertical middle.
  virtual void Text(double x, double y, double size, std::string_view text, Colour fill,
                    Anchor anchor = Anchor::kStart) = 0;
  virtual std::string Encode() = 0;  // the file's bytes
  // Width that a text takes, pixels, in both formats at most.
  static double TextWidth(std::string_view text, double size);
};

std::unique_ptr<Canvas> MakeSvgCanvas(int width, int height);
std::unique_ptr<Canvas> MakePngCanvas(int width, int height);

}  // namespace sotto
