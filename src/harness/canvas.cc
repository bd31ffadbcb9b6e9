#include "harness/canvas.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "harness/stroke_font.h"
#include "text/utf8.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

namespace sotto {
namespace {

constexpr double kBaseline = 0.36;  // below a line's middle, of its size: half of a capital

class SvgCanvas final : public Canvas {
 public:
  SvgCanvas(int width, int height) {
    out_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
        "font-family=\"Helvetica, Arial, sans-serif\">\n",
        width, height);
  }
  void Rect(double x, double y, double w, double h, Colour c) override {
    out_ += fmt::format(
        "<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"#{:02x}{:02x}{:02x}\"/>\n", x, y, w,
        h, c.r, c.g, c.b);
  }
  void Polygon(std::span<const Point> corners, Colour c) override {
    out_ += fmt::format("<polygon points=\"{}\" fill=\"#{:02x}{:02x}{:02x}\"/>\n", List(corners), c.r, c.g, c.b);
  }
  void Line(std::span<const Point> points, double width, Colour c) override {
    out_ += fmt::format(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#{:02x}{:02x}{:02x}\" stroke-width=\"{:.2f}\" "
        "stroke-linejoin=\"round\"/>\n",
        List(points), c.r, c.g, c.b, width);
  }
  void Text(double x, double y, double size, std::string_view text, Colour c, Anchor anchor) override {
    constexpr std::string_view kAnchors[] = {"start", "middle", "end"};
    out_ += fmt::format(
        "<text x=\"{:.2f}\" y=\"{:.2f}\" font-size=\"{:.1f}\" fill=\"#{:02x}{:02x}{:02x}\" "
        "text-anchor=\"{}\">{}</text>\n",
        x, y + size * kBaseline, size, c.r, c.g, c.b, kAnchors[static_cast<int>(anchor)], EscapeMarkup(text));
  }
  std::string Encode() override { return out_ + "</svg>\n"; }

 private:
  static std::string List(std::span<const Point> points) {
    std::string list;
    for (const Point& p : points) list += fmt::format("{}{:.2f},{:.2f}", list.empty() ? "" : " ", p.x, p.y);
    return list;
  }
  std::string out_;
};

class PngCanvas final : public Canvas {
 public:
  PngCanvas(int width, int height)
      : width_(width * kScale),
        height_(height * kScale),
        pixels_(static_cast<size_t>(width_) * static_cast<size_t>(height_) * 3, 255) {}

  void Rect(double x, double y, double w, double h, Colour c) override {
    const auto edge = [](double v, int most) { return std::clamp(static_cast<int>(std::lround(v * kScale)), 0, most); };
    for (int row = edge(y, height_); row < edge(y + h, height_); ++row)
      for (int col = edge(x, width_); col < edge(x + w, width_); ++col) Put(col, row, c);
  }

  // Each row of pixels is the mean of kScans lines; along a line coverage is exact.
  void Polygon(std::span<const Point> corners, Colour c) override {
    constexpr int kScans = 4;
    if (corners.size() < 3) return;
    const auto [low, high] =
        std::minmax_element(corners.begin(), corners.end(), [](const Point& a, const Point& b) { return a.y < b.y; });
    const int top = std::clamp(static_cast<int>(std::floor(low->y * kScale)), 0, height_);
    const int end = std::clamp(static_cast<int>(std::ceil(high->y * kScale)), 0, height_);
    std::vector<double> cuts, cover(static_cast<size_t>(width_));
    for (int row = top; row < end; ++row) {
      std::fill(cover.begin(), cover.end(), 0);
      for (int scan = 0; scan < kScans; ++scan) {
        const double y = row + (scan + 0.5) / kScans;
        cuts.clear();
        for (size_t i = 0; i < corners.size(); ++i) {
          const Point &a = corners[i], &b = corners[(i + 1) % corners.size()];
          const double ya = a.y * kScale, yb = b.y * kScale;
          if ((ya <= y) != (yb <= y)) cuts.push_back((a.x + (b.x - a.x) * (y - ya) / (yb - ya)) * kScale);
        }
        std::sort(cuts.begin(), cuts.end());
        for (size_t i = 0; i + 1 < cuts.size(); i += 2) {
          const double left = std::clamp(cuts[i], 0.0, static_cast<double>(width_));
          const double right = std::clamp(cuts[i + 1], left, static_cast<double>(width_));
          for (int col = static_cast<int>(left); col < right; ++col)
            cover[static_cast<size_t>(col)] += (std::min(right, col + 1.0) - std::max(left, 1.0 * col)) / kScans;
        }
      }
      for (int col = 0; col < width_; ++col)
        if (const double share = cover[static_cast<size_t>(col)]; share > 0) Put(col, row, c, std::min(share, 1.0));
    }
  }

  // Round at corners and ends. A pixel is covered by the nearest piece alone, so that pieces don't darken one another.
  void Line(std::span<const Point> points, double width, Colour c) override {
    cover_.resize(pixels_.size() / 3);
    const double reach = width * kScale / 2 + 0.5;
    int left = width_, right = 0, top = height_, bottom = 0;
    for (size_t i = 1; i < points.size(); ++i) {
      const double ax = points[i - 1].x * kScale, ay = points[i - 1].y * kScale, dx = points[i].x * kScale - ax,
                   dy = points[i].y * kScale - ay, square = std::max(dx * dx + dy * dy, 1e-12);
      const auto bound = [reach](double v, double towards, int most) {
        return std::clamp(static_cast<int>(std::floor(v + towards * (reach + 1))), 0, most);
      };
      const int x0 = bound(std::min(ax, ax + dx), -1, width_), x1 = bound(std::max(ax, ax + dx), 1, width_);
      const int y0 = bound(std::min(ay, ay + dy), -1, height_), y1 = bound(std::max(ay, ay + dy), 1, height_);
      for (int row = y0; row < y1; ++row)
        for (int col = x0; col < x1; ++col) {
          const double px = col + 0.5 - ax, py = row + 0.5 - ay, t = std::clamp((px * dx + py * dy) / square, 0.0, 1.0);
          const auto share = static_cast<float>(std::clamp(reach - std::hypot(px - t * dx, py - t * dy), 0.0, 1.0));
          float& most = cover_[At(col, row)];
          most = std::max(most, share);
        }
      left = std::min(left, x0), right = std::max(right, x1), top = std::min(top, y0), bottom = std::max(bottom, y1);
    }
    for (int row = top; row < bottom; ++row)
      for (int col = left; col < right; ++col)
        if (float& share = cover_[At(col, row)]; share > 0) Put(col, row, c, std::exchange(share, 0.0F));
  }

  void Text(double x, double y, double size, std::string_view text, Colour c, Anchor anchor) override {
    constexpr double kPen = 0.085;
    const double width = StrokeTextWidth(text, size);
    const double left = x - (anchor == Anchor::kStart ? 0 : anchor == Anchor::kMiddle ? width / 2 : width);
    for (Stroke& stroke : StrokesOf(text, size)) {
      for (Point& p : stroke) p = {left + p.x, y + size * kBaseline + p.y};
      Line(stroke, size * kPen, c);
    }
  }

  std::string Encode() override {
    std::string out;
    const auto append = [](void* to, void* data, int size) {
      static_cast<std::string*>(to)->append(static_cast<char*>(data), static_cast<size_t>(size));
    };
    stbi_write_png_to_func(append, &out, width_, height_, 3, pixels_.data(), width_ * 3);
    return out;
  }

 private:
  static constexpr int kScale = 2;
  size_t At(int col, int row) const {
    return static_cast<size_t>(row) * static_cast<size_t>(width_) + static_cast<size_t>(col);
  }
  void Put(int col, int row, Colour c, double share = 1) {
    uint8_t* p = &pixels_[At(col, row) * 3];
    const uint8_t mix[] = {c.r, c.g, c.b};
    for (int i = 0; i < 3; ++i) p[i] = static_cast<uint8_t>(std::lround(p[i] + (mix[i] - p[i]) * share));
  }
  int width_, height_;
  std::vector<uint8_t> pixels_;
  std::vector<float> cover_;  // of a line while it is drawn; else 0
};

}  // namespace

std::string EscapeMarkup(std::string_view text) {
  std::string whole, out;
  Utf8Repair repair;
  repair.Add(text, &whole);
  repair.Finish(&whole);
  for (const char c : whole) switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default:
        if (static_cast<unsigned char>(c) >= 32) out += c;
    }
  return out;
}

double Canvas::TextWidth(std::string_view text, double size) {
  double em = 0;  // in Helvetica and those made to its measures, rounded up
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80) continue;
    const bool capital = c >= 'A' && c <= 'Z';
    em += std::string_view("ijl.,:;'|! ").find(c) != std::string_view::npos       ? 0.28
          : std::string_view("ft()[]{}r-\"/\\").find(c) != std::string_view::npos ? 0.355
          : std::string_view("mwMW@%&").find(c) != std::string_view::npos         ? 1.02
          : static_cast<unsigned char>(c) > 127                                   ? 1
          : capital                                                               ? 0.78
                                                                                  : 0.59;
  }
  return std::max(StrokeTextWidth(text, size), em * size);
}

std::unique_ptr<Canvas> MakeSvgCanvas(int width, int height) { return std::make_unique<SvgCanvas>(width, height); }
std::unique_ptr<Canvas> MakePngCanvas(int width, int height) { return std::make_unique<PngCanvas>(width, height); }

Status CheckPicturePath(const std::string& path, std::string_view option) {
  if (path.ends_with(".svg") || path.ends_with(".png")) return {};
  return Usage(fmt::format("{} {}: the name must end in .svg or .png", option, path));
}

std::unique_ptr<Canvas> MakeCanvasFor(const std::string& path, int width, int height) {
  return path.ends_with(".svg") ? MakeSvgCanvas(width, height) : MakePngCanvas(width, height);
}

}  // namespace sotto
