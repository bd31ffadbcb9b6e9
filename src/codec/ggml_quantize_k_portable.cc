// fp32 to the K types of GGUF: a block of 256 in groups of 16 or 32, x = d scale q - dmin min, where scale and min are a
// group's integers and d and dmin the block's fp16 numbers. The format doesn't say how they are chosen. Here they minimise
//
//     sum over the block of (x - decoded x)^2
//
// with equal weights: the expected error of W a for activations a of which nothing is known. (ggml, without an importance
// matrix, weights large x more. Its errors are larger, by this measure and by that of W a for a trained model's activations:
// bench/peers/ggml_blocks.py measures both.) The minimum is looked for, not guaranteed:
//
//   1. each group alone, its scale and offset real numbers: from a few ranges, rounding and least squares in turns;
//   2. d and dmin from the largest of these;
//   3. each group's integers: the scale among the three nearest to the wanted one, the min that suits it best. Then d and
//      dmin by least squares for these integers, and step 3 again while that helps.
//
// Sums are in four lanes, so they are the same bits on every instruction set.
#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>

#include "codec/ggml_quantize_k.h"

namespace sotto::codec {
namespace {

typedef float F __attribute__((vector_size(16)));

float Sum(F v) { return (v[0] + v[2]) + (v[1] + v[3]); }
F Lesser(F a, F b) { return a < b ? a : b; }
F Greater(F a, F b) { return a > b ? a : b; }

constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves no room for a fraction

float AsHalf(float v) { return HalfToFloat(FloatToHalf(v)); }
float Inverse(float v) { return v == 0 ? 0 : 1 / v; }

// The nearest integer in low … high, halves to even; NaN is low.
int Nearest(float v, int low, int high) {
  v = v > static_cast<float>(low) ? v : static_cast<float>(low);
  v = v < static_cast<float>(high) ? v : static_cast<float>(high);
  return static_cast<int>((v + kRound) - kRound);
}

struct Shape {
  int group;            // elements
  int low, high;        // of q
  int least, most;      // of scale; min is 0 … most
  bool has_min = true;  // without: d may be negative, and any group's scale too
};

template <Shape kShape>
class Search {
  static constexpr int kGroup = kShape.group, kGroups = 256 / kGroup;
  static constexpr float kLow = kShape.low, kHigh = kShape.high;

 public:
  explicit Search(const float* x) {
    std::memcpy(x_, x, sizeof x_);
    float widest = 0, deepest = 0;
    for (int g = 0; g < kGroups; ++g) {
      FitGroup(g);
      if (std::fabs(wanted_[g].scale) > std::fabs(widest)) widest = wanted_[g].scale;
      deepest = std::max(deepest, -wanted_[g].offset);
    }
    Choice now;
    now.d = AsHalf(widest / static_cast<float>(kShape.has_min ? kShape.most : kShape.least));
    now.dmin = AsHalf(deepest / static_cast<float>(kShape.most));
    for (int round = 0; round < 4; ++round) {
      if (!Refine(&now)) break;
    }
  }

  float d() const { return best_.d; }
  float dmin() const { return best_.dmin; }
  int scale(int g) const { return best_.scale[g]; }
  int min(int g) const { return best_.min[g]; }

  // Codes from 0 up: q - low.
  std::array<uint8_t, 256> Codes() const {
    std::array<uint8_t, 256> codes;
    for (int i = 0; i < 256; ++i) {
      const Line l = best_.Of(i / kGroup);
      const float x = x_[i / 4][i % 4];
      codes[i] = static_cast<uint8_t>(Nearest((x - l.offset) * Inverse(l.scale), kShape.low, kShape.high) - kShape.low);
    }
    return codes;
  }

 private:
  struct Line {  // x = scale q + offset, offset <= 0
    float scale = 0, offset = 0;
  };
  struct Sums {  // over a group
    float error = FLT_MAX, q = 0, qq = 0, qx = 0;
  };
  struct Choice {
    float d = 0, dmin = 0;
    std::array<int, kGroups> scale{}, min{};
    Line Of(int g) const { return {d * static_cast<float>(scale[g]), -dmin * static_cast<float>(min[g])}; }
  };

  // What comes of rounding a group to codes.
  Sums Round(int g, Line l) const {
    const float inverse = Inverse(l.scale);
    F error{}, q1{}, qq{}, qx{};
    for (int i = g * kGroup / 4; i < (g + 1) * kGroup / 4; ++i) {
      F q = Lesser(Greater((x_[i] - l.offset) * inverse, F{} + kLow), F{} + kHigh);
      q = (q + kRound) - kRound;
      const F r = x_[i] - (l.scale * q + l.offset);
      error += r * r, q1 += q, qq += q * q, qx += q * x_[i];
    }
    return {Sum(error), Sum(q1), Sum(qq), Sum(qx)};
  }

  // The best line for the codes that gave `s`.
  Line LeastSquares(int g, const Sums& s) const {
    if (kShape.has_min) {
      const float det = s.qq * kGroup - s.q * s.q;
      if (!(det > 0)) return {};
      const Line l{(s.qx * kGroup - s.q * sum_[g]) / det, (s.qq * sum_[g] - s.q * s.qx) / det};
      if (l.offset <= 0) return l;
    }
    return {s.qq > 0 ? s.qx / s.qq : 0, 0};
  }

  void FitGroup(int g) {
    F least{}, greatest = F{} - FLT_MAX, total{};
    for (int i = g * kGroup / 4; i < (g + 1) * kGroup / 4; ++i) {
      least = Lesser(x_[i], least), greatest = Greater(x_[i], greatest), total += x_[i];
    }
    sum_[g] = Sum(total);
    const float low = std::min({least[0], least[1], least[2], least[3]});
    const float high = std::max({greatest[0], greatest[1], greatest[2], greatest[3]});
    float error = FLT_MAX;
    const auto descend = [&](Line l) {
      for (int step = 0; step < 3 && l.scale != 0; ++step) {
        const Sums s = Round(g, l);
        if (s.error < error) error = s.error, wanted_[g] = l;
        l = LeastSquares(g, s);
      }
    };
    wanted_[g] = {0, kShape.has_min ? low : 0};
    for (const float wider : {-0.8f, -0.4f, 0.0f, 0.4f, 0.8f}) {
      if (kShape.has_min) {
        descend({(high - low) / (kHigh + wider), low});
      } else {
        const float largest = high > -low ? high : low;
        descend({largest / (kLow - wider), 0});
        descend({largest / (kHigh + wider), 0});
      }
    }
  }

  // Chooses the integers of a group at `c`'s d and dmin.
  Sums Choose(int g, Choice* c) const {
    const int near = Nearest(wanted_[g].scale * Inverse(c->d), kShape.least, kShape.most);
    const float inverse = Inverse(c->dmin);
    Sums best;
    for (int scale = std::max(near - 1, kShape.least); scale <= std::min(near + 1, kShape.most); ++scale) {
      Line l{c->d * static_cast<float>(scale), wanted_[g].offset};
      for (int step = 0, last = -1; step < 2; ++step) {
        const int min = Nearest(-l.offset * inverse, 0, kShape.most);
        if (min == last) break;
        last = min, l.offset = -c->dmin * static_cast<float>(min);
        const Sums s = Round(g, l);
        if (s.error < best.error) best = s, c->scale[g] = scale, c->min[g] = min;
        l.offset = (sum_[g] - l.scale * s.q) / kGroup;
      }
    }
    return best;
  }

  // Integers for `now`, kept when better than the best so far; then the next d and dmin. False when there is nothing to gain.
  bool Refine(Choice* now) {
    float error = 0, ss = 0, sm = 0, mm = 0, sx = 0, mx = 0;  // of scale q, min and x, over the block
    for (int g = 0; g < kGroups; ++g) {
      const Sums s = Choose(g, now);
      const auto scale = static_cast<float>(now->scale[g]), min = static_cast<float>(now->min[g]);
      error += s.error;
      ss += scale * scale * s.qq, sm += scale * min * s.q, mm += kGroup * min * min;
      sx += scale * s.qx, mx += min * sum_[g];
    }
    if (!(error < error_)) return false;
    error_ = error, best_ = *now;
    const float det = ss * mm - sm * sm;
    now->d = ss > 0 ? AsHalf(sx / ss) : 0;
    now->dmin = 0;
    if (det > 0 && sm * sx > mx * ss) {
      now->d = AsHalf((sx * mm - sm * mx) / det);
      now->dmin = AsHalf((sm * sx - mx * ss) / det);
    }
    return now->d != 0;
  }

  F x_[64];
  float sum_[kGroups];
  Line wanted_[kGroups];
  Choice best_;
  float error_ = FLT_MAX;
};

uint8_t Byte(int v) { return static_cast<uint8_t>(v); }

// Two bits, from bit `from` up, of the four elements 32 apart, in one byte.
void PackQuarters(const std::array<uint8_t, 256>& codes, int from, uint8_t* q) {
  for (int i = 0; i < 64; ++i) {
    const uint8_t* c = codes.data() + i / 32 * 128 + i % 32;
    const auto two = [&](int at) { return (c[at] >> from) & 3; };
    q[i] = Byte(two(0) | two(32) << 2 | two(64) << 4 | two(96) << 6);
  }
}

// The low four bits of the two elements `apart` apart, in one byte.
void PackHalves(const std::array<uint8_t, 256>& codes, int apart, uint8_t* q) {
  for (int i = 0; i < 128; ++i) {
    const uint8_t* c = codes.data() + i / apart * 2 * apart + i % apart;
    q[i] = Byte((c[0] & 15) | (c[apart] & 15) << 4);
  }
}

// One bit of the eight elements 32 apart, in one byte.
void PackEighths(const std::array<uint8_t, 256>& codes, int bit, uint8_t* high) {
  for (int i = 0; i < 32; ++i) {
    int bits = 0;
    for (int g = 0; g < 8; ++g) bits |= ((codes[32 * g + i] >> bit) & 1) << g;
    high[i] = Byte(bits);
  }
}

template <class S>
void PackScaleMin(const S& s, uint8_t* scales) {
  for (int g = 0; g < 4; ++g) {
    scales[g] = Byte(s.scale(g) | s.scale(g + 4) >> 4 << 6);
    scales[g + 4] = Byte(s.min(g) | s.min(g + 4) >> 4 << 6);
    scales[g + 8] = Byte((s.scale(g + 4) & 15) | (s.min(g + 4) & 15) << 4);
  }
}

}  // namespace

void Encode(const float* x, Q2K* b) {
  const Search<Shape{16, 0, 3, 0, 15}> s(x);
  b->d = s.d(), b->dmin = s.dmin();
  for (int g = 0; g < 16; ++g) b->scales[g] = Byte(s.scale(g) | s.min(g) << 4);
  PackQuarters(s.Codes(), 0, b->q);
}

void Encode(const float* x, Q3K* b) {
  const Search<Shape{16, -4, 3, -32, 31, false}> s(x);
  const auto codes = s.Codes();
  b->d = s.d();
  std::memset(b->scales, 0, sizeof b->scales);
  for (int g = 0; g < 16; ++g) {
    const int scale = s.scale(g) + 32;
    b->scales[g % 8] |= Byte((scale & 15) << (g / 8 * 4));
    b->scales[8 + g % 4] |= Byte(scale >> 4 << (g / 4 * 2));
  }
  PackQuarters(codes, 0, b->q);
  PackEighths(codes, 2, b->high);
}

void Encode(const float* x, Q4K* b) {
  const Search<Shape{32, 0, 15, 0, 63}> s(x);
  b->d = s.d(), b->dmin = s.dmin();
  PackScaleMin(s, b->scales);
  PackHalves(s.Codes(), 32, b->q);
}

void Encode(const float* x, Q5K* b) {
  const Search<Shape{32, 0, 31, 0, 63}> s(x);
  const auto codes = s.Codes();
  b->d = s.d(), b->dmin = s.dmin();
  PackScaleMin(s, b->scales);
  PackHalves(codes, 32, b->q);
  PackEighths(codes, 4, b->high);
}

void Encode(const float* x, Q6K* b) {
  const Search<Shape{16, -32, 31, -128, 127, false}> s(x);
  const auto codes = s.Codes();
  b->d = s.d();
  for (int g = 0; g < 16; ++g) b->scales[g] = static_cast<int8_t>(s.scale(g));
  PackHalves(codes, 64, b->q);
  PackQuarters(codes, 4, b->high);
}

}  // namespace sotto::codec
