// A canvas for a report's pictures: rectangles, polygons, lines and text, as SVG or as PNG (stb, public domain). Units are pixels
// of a picture shown at its own size; PNG is drawn at twice that, for sharp screens.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sotto {

struct Colour {
  uint8_t r = 0, g = 0, b = 0;
};
enum class Anchor { kStart, kMiddle, kEnd };

// The palette of all pictures; lightness differs too, for those who cannot tell the colours apart. On a dark screen page.cc
// exchanges the first five.
namespace palette {
inline constexpr Colour kInk{34, 40, 49}, kFaint{104, 112, 122}, kEmpty{240, 242, 245}, kPaper{255, 255, 255},
    kAlarm{200, 30, 30};
inline constexpr Colour kWeights{88, 127, 191}, kCache{236, 166, 84}, kActivations{86, 160, 104}, kAudio{148, 108, 178},
    kProcess{196, 200, 206};
inline constexpr Colour kOnDark{254, 254, 254}, kOnLight{24, 28, 34};  // text upon a colour
}  // namespace palette
constexpr Colour TextOn(Colour c) {
  return 299 * c.r + 587 * c.g + 114 * c.b > 140'000 ? palette::kOnLight : palette::kOnDark;
}

class Canvas {
 public:
  struct Point {
    double x, y;
  };
  virtual ~Canvas() = default;
  virtual void Rect(double x, double y, double w, double h, Colour fill) = 0;
  virtual void Polygon(std::span<const Point> corners, Colour fill) = 0;              // even-odd
  virtual void Line(std::span<const Point> points, double width, Colour colour) = 0;  // through all of them
  // `size`: height of a line in pixels; y: the text's vertical middle.
  virtual void Text(double x, double y, double size, std::string_view text, Colour fill,
                    Anchor anchor = Anchor::kStart) = 0;
  virtual std::string Encode() = 0;  // the file's bytes
  // Width that a text takes, pixels, in both formats at most.
  static double TextWidth(std::string_view text, double size);
};

// Text for SVG and HTML: & < > " ' are escaped, control characters left out, broken UTF-8 is replaced.
std::string EscapeMarkup(std::string_view text);

std::unique_ptr<Canvas> MakeSvgCanvas(int width, int height);
std::unique_ptr<Canvas> MakePngCanvas(int width, int height);
// By the ending of `path`, .svg or .png; kUsage names `option` for others.
Status CheckPicturePath(const std::string& path, std::string_view option);
std::unique_ptr<Canvas> MakeCanvasFor(const std::string& path, int width, int height);  // REQUIRES: it was checked

}  // namespace sotto
