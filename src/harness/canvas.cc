#include "harness/canvas.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb/stb_easy_font.h>
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

namespace sotto {
namespace {

constexpr double kFontHeight = 10;  // of stb_easy_font: capitals are 7, a line with its gap is 12

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
  void Text(double x, double y, double size, std::string_view text, Colour c, Anchor anchor) override {
    constexpr std::string_view kAnchors[] = {"start", "middle", "end"};
    std::string safe;
    for (char ch : text) {
      if (ch == '<')
        safe += "&lt;";
      else if (ch == '&')
        safe += "&amp;";
      else if (ch == '>')
        safe += "&gt;";
      else if (static_cast<unsigned char>(ch) >= 32)
        safe += ch;
    }
    out_ += fmt::format(
        "<text x=\"{:.2f}\" y=\"{:.2f}\" font-size=\"{:.1f}\" fill=\"#{:02x}{:02x}{:02x}\" "
        "text-anchor=\"{}\">{}</text>\n",
        x, y + size * 0.36, size, c.r, c.g, c.b, kAnchors[static_cast<int>(anchor)], safe);
  }
  std::string Encode() override { return out_ + "</svg>\n"; }

 private:
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

  void Text(double x, double y, double size, std::string_view text, Colour c, Anchor anchor) override {
    struct Vertex {
      float x, y, z;
      unsigned char colour[4];
    };
    std::string ascii(text);
    for (char& ch : ascii)
      if (ch < 32 || ch > 126) ch = '?';
    std::vector<Vertex> quads(ascii.size() * 270 / sizeof(Vertex) * 4 + 64);
    const int count =
        stb_easy_font_print(0, 0, ascii.data(), nullptr, quads.data(), static_cast<int>(quads.size() * sizeof(Vertex)));
    const double scale = size / kFontHeight, width = stb_easy_font_width(ascii.data()) * scale;
    const double left = x - (anchor == Anchor::kStart ? 0 : anchor == Anchor::kMiddle ? width / 2 : width);
    for (int q = 0; q < count; ++q) {
      const Vertex *a = &quads[static_cast<size_t>(q) * 4], *b = a + 2;  // opposite corners
      Rect(left + a->x * scale, y + (a->y - 4) * scale, (b->x - a->x) * scale, (b->y - a->y) * scale, c);
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
  void Put(int col, int row, Colour c) {
    uint8_t* p = &pixels_[(static_cast<size_t>(row) * static_cast<size_t>(width_) + static_cast<size_t>(col)) * 3];
    p[0] = c.r;
    p[1] = c.g;
    p[2] = c.b;
  }
  int width_, height_;
  std::vector<uint8_t> pixels_;
};

}  // namespace

double Canvas::TextWidth(std::string_view text, double size) {
  std::string copy(text);
  return std::max(stb_easy_font_width(copy.data()) * size / kFontHeight,
                  static_cast<double>(text.size()) * size * 0.55);
}

std::unique_ptr<Canvas> MakeSvgCanvas(int width, int height) { return std::make_unique<SvgCanvas>(width, height); }
std::unique_ptr<Canvas> MakePngCanvas(int width, int height) { return std::make_unique<PngCanvas>(width, height); }

}  // namespace sotto
