// Both formats of a canvas hold what was drawn: a PNG's pixels are decoded again, an SVG's elements are read.
#include "harness/canvas.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

#include "harness/stroke_font.h"

namespace sotto {
namespace {

constexpr Colour kRed{200, 0, 0};
using Pixel = std::array<int, 3>;

struct Picture {
  int width = 0, height = 0;
  std::string pixels;
  // At a place of the canvas, whose units are two pixels.
  Pixel At(double x, double y) const {
    const size_t at = (static_cast<size_t>(y * 2) * static_cast<size_t>(width) + static_cast<size_t>(x * 2)) * 3;
    return {static_cast<uint8_t>(pixels[at]), static_cast<uint8_t>(pixels[at + 1]),
            static_cast<uint8_t>(pixels[at + 2])};
  }
  int Inked() const {
    int n = 0;
    for (size_t i = 0; i < pixels.size(); i += 3) n += static_cast<uint8_t>(pixels[i + 1]) < 128;
    return n;
  }
};

Picture Decode(const std::string& png) {
  Picture p;
  int channels = 0;
  stbi_uc* data = stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(png.data()), static_cast<int>(png.size()),
                                        &p.width, &p.height, &channels, 3);
  if (data == nullptr) return p;
  p.pixels.assign(reinterpret_cast<const char*>(data),
                  static_cast<size_t>(p.width) * static_cast<size_t>(p.height) * 3);
  stbi_image_free(data);
  return p;
}

constexpr Pixel kInside{200, 0, 0}, kOutside{255, 255, 255};

TEST(Canvas, APolygonIsFilledEvenOddWithSoftEdges) {
  const Canvas::Point triangle[] = {{10, 10}, {50, 10}, {10, 50}};
  const Canvas::Point crossed[] = {{60, 10}, {90, 40}, {90, 10}, {60, 40}};  // two triangles that meet in the middle
  auto png = MakePngCanvas(100, 60);
  png->Polygon(triangle, kRed);
  png->Polygon(crossed, kRed);
  const Picture p = Decode(png->Encode());
  ASSERT_EQ(p.width, 200);
  ASSERT_EQ(p.height, 120);
  EXPECT_EQ(p.At(15, 15), kInside);
  EXPECT_EQ(p.At(45, 45), kOutside);
  EXPECT_EQ(p.At(9, 30), kOutside);
  EXPECT_GT(p.At(29.5, 30)[1], 60);  // on the slope: half covered
  EXPECT_LT(p.At(29.5, 30)[1], 200);
  EXPECT_EQ(p.At(62, 25), kInside);
  EXPECT_EQ(p.At(88, 25), kInside);
  EXPECT_EQ(p.At(75, 12), kOutside);
  EXPECT_NEAR(p.Inked(), (40 * 40 / 2 + 2 * 15 * 30 / 2) * 4, 100);

  auto svg = MakeSvgCanvas(100, 60);
  svg->Polygon(triangle, kRed);
  EXPECT_NE(svg->Encode().find("<polygon points=\"10.00,10.00 50.00,10.00 10.00,50.00\" fill=\"#c80000\"/>"),
            std::string::npos);
}

TEST(Canvas, ALineGoesThroughItsPointsAndNowhereElse) {
  const Canvas::Point corner[] = {{10, 10}, {40, 10}, {40, 40}};
  auto png = MakePngCanvas(60, 60);
  png->Line(corner, 4, kRed);
  const Picture p = Decode(png->Encode());
  EXPECT_EQ(p.At(25, 10), kInside);
  EXPECT_EQ(p.At(25, 11.5), kInside);
  EXPECT_EQ(p.At(40, 25), kInside);
  EXPECT_EQ(p.At(40, 10), kInside);
  EXPECT_EQ(p.At(25, 13), kOutside);
  EXPECT_EQ(p.At(30, 20), kOutside);
  EXPECT_NEAR(p.Inked(), (30 * 4 * 2 + 12) * 4, 80);
  auto svg = MakeSvgCanvas(60, 60);
  svg->Line(corner, 4, kRed);
  EXPECT_NE(svg->Encode().find("<polyline points=\"10.00,10.00 40.00,10.00 40.00,40.00\" fill=\"none\" "
                               "stroke=\"#c80000\" stroke-width=\"4.00\""),
            std::string::npos);
}

TEST(Canvas, WhatLiesOutsideIsCutOff) {
  const Canvas::Point beyond[] = {{-20, -20}, {80, -20}, {80, 80}, {-20, 80}};
  auto png = MakePngCanvas(30, 30);
  png->Polygon(beyond, kRed);
  png->Line(beyond, 3, kRed);
  png->Text(-10, 40, 12, "outside", kRed);
  EXPECT_EQ(Decode(png->Encode()).Inked(), 60 * 60);
}

TEST(Canvas, EveryLetterHasItsOwnStrokesAndItsWidth) {
  std::string all;
  for (char c = '!'; c <= '~'; ++c) all += c;
  const auto shape = [](char c) {
    std::string text;
    for (const Stroke& stroke : StrokesOf(std::string(1, c), 100)) {
      for (const auto& [x, y] : stroke) {
        EXPECT_GE(x, 0) << c;
        EXPECT_LE(x, StrokeTextWidth(std::string(1, c), 100) + 1e-9) << c;
        EXPECT_GE(y, -72.01) << c;
        EXPECT_LE(y, 21) << c;
        text += std::to_string(x) + "," + std::to_string(y) + " ";
      }
      text += "/";
    }
    return text;
  };
  for (size_t i = 0; i < all.size(); ++i)
    for (size_t j = 0; j < i; ++j) EXPECT_NE(shape(all[i]), shape(all[j])) << all[i] << all[j];
  EXPECT_EQ(StrokesOf(" ", 10).size(), 0U);
  EXPECT_EQ(StrokesOf("\xC3\xA9", 10).size(), StrokesOf("?", 10).size());  // one letter outside ASCII
  EXPECT_LE(StrokeTextWidth(all, 12), Canvas::TextWidth(all, 12));
}

TEST(Canvas, TextIsEscaped) {
  EXPECT_EQ(EscapeMarkup("a\x01<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(EscapeMarkup("\xC3\xA9\xFF"), "\xC3\xA9\xEF\xBF\xBD");
  auto svg = MakeSvgCanvas(60, 60);
  svg->Text(1, 1, 12, "</text><script>", kRed);
  EXPECT_NE(svg->Encode().find(">&lt;/text&gt;&lt;script&gt;</text>"), std::string::npos);
}

TEST(Canvas, TheEndingChoosesTheFormat) {
  EXPECT_TRUE(CheckPicturePath("a.svg", "--plot").ok());
  EXPECT_TRUE(CheckPicturePath("a.png", "--plot").ok());
  for (const char* bad : {"a.jpg", "a", "", "svg"})
    EXPECT_EQ(CheckPicturePath(bad, "--plot").error().code, Code::kUsage) << bad;
  EXPECT_TRUE(MakeCanvasFor("a.svg", 10, 10)->Encode().starts_with("<svg "));
  EXPECT_TRUE(MakeCanvasFor("a.png", 10, 10)->Encode().starts_with("\x89PNG"));
}

}  // namespace
}  // namespace sotto
