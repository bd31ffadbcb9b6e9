#include "harness/stroke_font.h"

#include <algorithm>

namespace sotto {
namespace {

// From '!' on. A glyph is strokes with a space between; a stroke is points of two digits in base 36, x from the left and y from
// the top: capitals end at 0, small letters at 4, the baseline is e (14), descenders end at i (18). A stroke that begins with (
// is a curve which its inner points draw towards them (a quadratic B-spline), one with [ is such a curve that closes.
constexpr std::string_view kGlyphs[] = {
    "0009 0d0e",                           // !
    "0003 3033",                           // "
    "302e 706e 0595 0a9a",                 // #
    "(83800007979e0e0b 404e",              // $
    "[00505606 [78c8ce7e b01e",            // %
    "(9e241060640a0e6e98",                 // &
    "0003",                                // '
    "(40040c4g",                           // (
    "(00444c0g",                           // )
    "3038 0266 6206",                      // *
    "454d 0989",                           // +
    "1d0h",                                // ,
    "0959",                                // -
    "0d0e",                                // .
    "600g",                                // /
    "[00808e0e",                           // 0
    "03404e",                              // 1
    "(040080860e 0e8e",                    // 2
    "(0200808636 (36868e0e0b",             // 3
    "6e600a8a",                            // 4
    "801006 (0634948e0e0b",                // 5
    "(700009 [05858e0e",                   // 6
    "00803e",                              // 7
    "[10707616 [06868e0e",                 // 8
    "[00808909 (858e1e",                   // 9
    "0506 0d0e",                           // :
    "1516 1d0h",                           // ;
    "84098e",                              // <
    "0787 0b8b",                           // =
    "04890e",                              // >
    "(03007076353a 3d3e",                  // ?
    "[44848a4a (848aca (cac0000ece",       // @
    "0e50ae 2989",                         // A
    "000e (00808606 (06969e0e",            // B
    "(9390000e9e9b",                       // C
    "000e (00a0ae0e",                      // D
    "80000e8e 0777",                       // E
    "80000e 0777",                         // F
    "(9390000e9e98 9858",                  // G
    "000e 909e 0797",                      // H
    "000e",                                // I
    "606a (6a6e0e0a",                      // J
    "000e 8009 368e",                      // K
    "000e7e",                              // L
    "0e005aa0ae",                          // M
    "0e009e90",                            // N
    "[00a0ae0e",                           // O
    "0e00 (00909808",                      // P
    "[00a0ae0e 6aaf",                      // Q
    "0e00 (00909808 488e",                 // R
    "(83800007979e0e0b",                   // S
    "00a0 505e",                           // T
    "000a (0a0e9e9a 9a90",                 // U
    "005ea0",                              // V
    "003e72bee0",                          // W
    "009e 900e",                           // X
    "0057a0 575e",                         // Y
    "00900e9e",                            // Z
    "40000g4g",                            // [
    "006g",                                // backslash
    "00404g0g",                            // ]
    "044084",                              // ^
    "0g8g",                                // _
    "0022",                                // `
    "848e [04848e0e",                      // a
    "000e [04848e0e",                      // b
    "(8784040e8e8b",                       // c
    "808e [04848e0e",                      // d
    "0989 (8984040e8e8c",                  // e
    "(602024 242e 0454",                   // f
    "[04848e0e 848f (8f8i0i0h",            // g
    "000e (08048488 888e",                 // h
    "040e 0001",                           // i
    "343f (3f3i0i 3031",                   // j
    "000e 740a 388e",                      // k
    "000b (0b0e3e",                        // l
    "040e (08046468 686e (6864c4c8 c8ce",  // m
    "040e (08048488 888e",                 // n
    "[04848e0e",                           // o
    "040i [04848e0e",                      // p
    "848i [04848e0e",                      // q
    "040e (080454",                        // r
    "(76740409898e0e0c",                   // s
    "202b (2b2e5e 0454",                   // t
    "040a (0a0e8e8a 848e",                 // u
    "044e84",                              // v
    "043e659ec4",                          // w
    "048e 840e",                           // x
    "044e 842i",                           // y
    "04840e8e",                            // z
    "502027092b2g5g",                      // {
    "000h",                                // |
    "003037593b3g0g",                      // }
    "(0b276d89",                           // ~
};
static_assert(std::size(kGlyphs) == 94);

constexpr double kUnit = 0.72 / 14, kNarrow = 0.84, kBaseline = 14;
constexpr double kGap = 4.4, kSpace = 6;  // units between letters, and of a space

double Digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

// A quadratic B-spline: it begins and ends at the outer points, or closes, and passes the middles between inner ones.
Stroke Curve(const Stroke& p, bool closed) {
  constexpr int kPieces = 8;
  const size_t n = p.size();
  const auto middle = [](Canvas::Point a, Canvas::Point b) { return Canvas::Point{(a.x + b.x) / 2, (a.y + b.y) / 2}; };
  Stroke out;
  for (size_t i = closed ? 0 : 1; i < (closed ? n : n - 1); ++i) {
    const Canvas::Point &before = p[(i + n - 1) % n], &at = p[i], &after = p[(i + 1) % n];
    const Canvas::Point from = !closed && i == 1 ? before : middle(before, at);
    const Canvas::Point to = !closed && i == n - 2 ? after : middle(at, after);
    for (int k = 0; k <= kPieces; ++k) {
      const double t = static_cast<double>(k) / kPieces, a = (1 - t) * (1 - t), b = 2 * t * (1 - t), c = t * t;
      out.push_back({a * from.x + b * at.x + c * to.x, a * from.y + b * at.y + c * to.y});
    }
  }
  return out;
}

// Calls visit(glyph, left edge in units) for each letter; returns where the text ends.
template <class Visit>
double EachLetter(std::string_view text, Visit visit) {
  double left = 0, end = 0;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if ((code & 0xC0) == 0x80) continue;  // the rest of a letter outside ASCII
    if (c == ' ') {
      left += kSpace;
      continue;
    }
    const std::string_view glyph = kGlyphs[(code > ' ' && code < 127 ? code : '?') - '!'];
    double width = 0;
    for (size_t i = 0; i < glyph.size();) {
      if (glyph[i] == ' ' || glyph[i] == '(' || glyph[i] == '[') {
        ++i;
        continue;
      }
      width = std::max(width, Digit(glyph[i]));
      i += 2;
    }
    visit(glyph, left);
    end = left + width;
    left = end + kGap;
  }
  return end;
}

}  // namespace

std::vector<Stroke> StrokesOf(std::string_view text, double size) {
  std::vector<Stroke> strokes;
  EachLetter(text, [&](std::string_view glyph, double left) {
    while (!glyph.empty()) {
      std::string_view part = glyph.substr(0, glyph.find(' '));
      glyph.remove_prefix(std::min(glyph.size(), part.size() + 1));
      const char kind = part[0];
      if (kind == '(' || kind == '[') part.remove_prefix(1);
      Stroke stroke;
      for (size_t i = 0; i + 1 < part.size(); i += 2)
        stroke.push_back(
            {(left + Digit(part[i])) * kUnit * kNarrow * size, (Digit(part[i + 1]) - kBaseline) * kUnit * size});
      strokes.push_back(kind == '(' || kind == '[' ? Curve(stroke, kind == '[') : stroke);
    }
  });
  return strokes;
}

double StrokeTextWidth(std::string_view text, double size) {
  return EachLetter(text, [](std::string_view, double) {}) * kUnit * kNarrow * size;
}

}  // namespace sotto
