#include "codec/plane_code.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"

namespace sotto {
namespace {

constexpr int kMagnitudes = 128;
constexpr double kMostEscaped = 0.62;  // of kFewPlanes: of 64 weights 57 are five standard deviations more

// How many weights have a magnitude of at least m.
std::array<uint64_t, kMagnitudes + 1> Tails(const Magnitudes& histogram) {
  std::array<uint64_t, kMagnitudes + 1> tails{};
  for (int m = kMagnitudes; m-- > 0;)
    tails[static_cast<size_t>(m)] = tails[static_cast<size_t>(m) + 1] + histogram[static_cast<size_t>(m)];
  return tails;
}

double LiteralBits(const std::array<uint64_t, kMagnitudes + 1>& tails, int cap) {
  const auto tail = [&](int m) { return tails[static_cast<size_t>(std::min(m, kMagnitudes))]; };
  return static_cast<double>(tail(cap + 1) + tail(cap + kNearLiteral + 1)) * kLiteralBits;
}

// The best way to end: `slots` magnitudes from `first` on are left, with `planes` levels to come.
struct Ending {
  double bits = 0;  // beyond those that all of these weights have
  int planes = -1;  // not known yet
  std::array<uint8_t, kMostPlanes> threshold{};
};

class Search {
 public:
  Search(const Magnitudes& histogram, double most_escaped) : tails_(Tails(histogram)), most_escaped_(most_escaped) {}

  const Ending& Best(int planes, int first, int slots) {
    Ending& known = memo_[static_cast<size_t>((planes * kMagnitudes + first) * (kMagnitudes + 1) + slots)];
    if (known.planes >= 0) return known;
    Ending best{LiteralBits(tails_, first + slots - 1), 0, {}};
    for (int n = 0; planes > 0 && n < slots && best.bits > 0; ++n) {
      const int next = first + n, more = 2 * (slots - n);
      const auto escaped = static_cast<double>(Tail(next));
      if (next + more > kMagnitudes || escaped > most_escaped_ * static_cast<double>(tails_[0]) || escaped >= best.bits)
        continue;
      const Ending& rest = Best(planes - 1, next, more);
      if (escaped + rest.bits >= best.bits) continue;
      Ending found{escaped + rest.bits, rest.planes + 1, {}};
      found.threshold[0] = static_cast<uint8_t>(next);
      std::copy_n(rest.threshold.begin(), rest.planes, found.threshold.begin() + 1);
      best = found;
    }
    return known = best;
  }

  uint64_t Tail(int m) const { return tails_[static_cast<size_t>(std::min(m, kMagnitudes))]; }

 private:
  std::array<uint64_t, kMagnitudes + 1> tails_;
  double most_escaped_;
  std::vector<Ending> memo_ = std::vector<Ending>((kMostPlanes + 1) * kMagnitudes * (kMagnitudes + 1));
};

}  // namespace

int PlaneCode::cap() const {
  int m = (1 << (base_bits - 1)) - 1;
  for (int i = 0; i < planes; ++i) m = 2 * m - threshold[static_cast<size_t>(i)] + 1;
  return m;
}

bool IsValid(const PlaneCode& code) {
  if (code.base_bits < 2 || code.base_bits > 8 || code.planes > kMostPlanes) return false;
  if (code.reserved != decltype(code.reserved){}) return false;
  int m = (1 << (code.base_bits - 1)) - 1;
  for (int i = 0; i < code.planes; ++i) {
    const int t = code.threshold[static_cast<size_t>(i)];
    if (t > m || (i > 0 && t < code.threshold[static_cast<size_t>(i) - 1])) return false;
    m = 2 * m - t + 1;
    if (m >= kMagnitudes) return false;
  }
  return true;
}

double CodeBits(const PlaneCode& code, const Magnitudes& histogram) {
  const auto tails = Tails(histogram);
  double bits = static_cast<double>(tails[0]) * code.base_bits;
  for (int i = 0; i < code.planes; ++i) bits += static_cast<double>(tails[code.threshold[static_cast<size_t>(i)]]);
  return bits + LiteralBits(tails, code.cap());
}

namespace {

// Of at most `planes` planes; lowers `least`, the bits of `best`, when it finds a better one.
void ChooseAmong(const Magnitudes& histogram, int planes, double most_escaped, PlaneCode* best, double* least) {
  Search search(histogram, most_escaped);
  for (int base = 2; base <= 8; ++base) {
    const Ending& ending = search.Best(planes, 0, 1 << (base - 1));
    const double bits = static_cast<double>(search.Tail(0)) * base + ending.bits;
    if (bits >= *least || (most_escaped >= 1 && ending.planes <= kFewPlanes)) continue;
    *least = bits;
    *best = {static_cast<uint8_t>(base), static_cast<uint8_t>(ending.planes), ending.threshold};
  }
}

}  // namespace

PlaneCode ChooseCode(const Magnitudes& histogram, int planes) {
  CHECK(planes >= 0 && planes <= kMostPlanes);
  PlaneCode best;
  double least = std::numeric_limits<double>::infinity();
  ChooseAmong(histogram, std::min(planes, kFewPlanes), kMostEscaped, &best, &least);
  if (planes > kFewPlanes) ChooseAmong(histogram, planes, 1, &best, &least);
  CHECK(IsValid(best));
  return best;
}

double Entropy(std::span<const uint64_t> counts) {
  double total = 0, sum = 0;
  for (const uint64_t n : counts) total += static_cast<double>(n);
  for (const uint64_t n : counts)
    if (n > 0) sum -= static_cast<double>(n) * std::log2(static_cast<double>(n) / total);
  return total > 0 ? sum / total : 0;
}

}  // namespace sotto
