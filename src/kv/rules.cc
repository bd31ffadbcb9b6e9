#include "kv/rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace sotto {
namespace {

constexpr float kLeastWeight = 1e-30F, kHeldWeight = 1e30F;
constexpr double kAssumed = 1e-3;  // pairs of a query and a key that stand for what isn't known

// Distances of four buckets an octave, by the exponent and the upper two bits of the fraction of a float.
int BucketOf(int64_t distance) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(distance));
  return std::min(static_cast<int>(bits >> 21) - (127 << 2), MassByDistance::kBuckets - 1);
}
// The least distance of a bucket. Those of the first two octaves hold one distance or none.
double StartOf(int bucket) { return std::ceil(std::ldexp(1 + 0.25 * (bucket % 4), bucket / 4)); }

// Loss per bit of a step down.
float PriceOf(float weight, int bits, int below) {
  const auto slope = static_cast<float>((KvNoise(below) - KvNoise(bits)) / (bits - below));
  return std::clamp(weight, kLeastWeight, kHeldWeight) * slope;
}

// Each step down that a token could take: its price as a number of the same order, and the bits that it frees.
template <class Each>
void ForEachStep(std::span<const KvPart> parts, KvWidths allowed, Each each) {
  for (const KvPart& part : parts)
    for (size_t i = 0; i < part.widths.size(); ++i)
      for (int bits = part.widths[i], below; (below = allowed.Below(bits)) != 0; bits = below)
        each(part.widths[i], std::bit_cast<uint32_t>(PriceOf(part.weights[i], bits, below)), bits, below);
}

}  // namespace

std::optional<KvRule> FindKvRule(std::string_view name) {
  if (name == "uniform") return KvRule::kUniform;
  if (name == "recency") return KvRule::kRecency;
  if (name == "history") return KvRule::kHistory;
  if (name == "smart") return KvRule::kSmart;
  return std::nullopt;
}

double KvNoise(int bits) {
  switch (bits) {  // 9.2, 14.3, 19.4, 40.7 dB, of Gaussian rows
    case 2: return 0.1202;
    case 3: return 0.03715;
    case 4: return 0.01148;
    case 8: return 0.0000851;
    default: CHECK(false);
  }
  return 0;
}

MassByDistance::MassByDistance() {
  for (int b = 0; b < kBuckets; ++b) {
    seen_[static_cast<size_t>(b)] = kAssumed;
    mass_[static_cast<size_t>(b)] = kAssumed / StartOf(b);
  }
}

void MassByDistance::Add(std::span<const float> mass, int64_t queries) {
  const auto n = static_cast<int64_t>(mass.size());
  for (int64_t i = 0; i < n; ++i) {
    const int64_t by = std::min(queries, n - i);  // a token of the piece is seen by itself and by those behind it
    const auto b = static_cast<size_t>(BucketOf(n - i - (by - 1) / 2));  // their middle distance
    mass_[b] += mass[static_cast<size_t>(i)];
    seen_[b] += static_cast<double>(by);
  }
}

ExpectedMass::ExpectedMass(const MassByDistance& measured) {
  double sum = 0;
  for (int b = 0; b < MassByDistance::kBuckets; ++b) {
    const auto i = static_cast<size_t>(b);
    mean_[i] = static_cast<float>(measured.mass_[i] / measured.seen_[i]);
    before_[i] = sum;
    sum += mean_[i] * (StartOf(b + 1) - StartOf(b));
  }
}

float ExpectedMass::At(int64_t distance) const { return mean_[static_cast<size_t>(BucketOf(distance))]; }

double ExpectedMass::UpTo(int64_t distance) const {
  if (distance < 1) return 0;
  const int b = BucketOf(distance);
  const auto i = static_cast<size_t>(b);
  return before_[i] + mean_[i] * (static_cast<double>(distance) + 1 - StartOf(b));
}

void Observe(std::span<const float> mass, int64_t queries, std::span<float> observed, MassByDistance* by_distance) {
  CHECK(mass.size() <= observed.size() && queries > 0);
  by_distance->Add(mass, queries);
  for (size_t i = 0; i < mass.size(); ++i) observed[i] += mass[i];
}

void TokenWeights(KvRule rule, std::span<const float> observed, const MassByDistance& by_distance, float value_energy,
                  std::span<float> weights) {
  const ExpectedMass expected(by_distance);
  const size_t n = observed.size();
  CHECK(weights.size() >= n);
  for (size_t i = 0; i < n; ++i) {
    const auto seen = static_cast<int64_t>(n - i);  // by so many queries; the next one stands one further
    switch (rule) {
      case KvRule::kUniform: weights[i] = 1; break;
      case KvRule::kRecency: weights[i] = 1 / static_cast<float>(seen + 1); break;
      case KvRule::kHistory: weights[i] = observed[i]; break;
      case KvRule::kSmart: {
        // One more query, of the usual mass, keeps what was seen by few from saying much.
        const double usual = expected.At(seen + 1);
        const double ratio = (observed[i] + usual) / (expected.UpTo(seen) + usual);
        weights[i] = static_cast<float>(std::sqrt(usual * ratio * value_energy));
        break;
      }
    }
  }
}

void HoldTokens(std::span<const int32_t> sinks, int64_t recent, std::span<float> weights) {
  for (const int32_t sink : sinks) weights[static_cast<size_t>(sink)] = kHeldWeight;
  const size_t last = std::min(weights.size(), static_cast<size_t>(std::max<int64_t>(0, recent)));
  std::fill(weights.end() - static_cast<std::ptrdiff_t>(last), weights.end(), kHeldWeight);
}

size_t FindSinks(std::span<const float> observed, const MassByDistance& by_distance, int64_t bos,
                 std::span<int32_t> sinks) {
  const ExpectedMass expected(by_distance);
  const auto n = static_cast<int64_t>(observed.size());
  const auto ratio = [&](int64_t i) { return observed[static_cast<size_t>(i)] / expected.UpTo(n - i); };
  size_t count = 0;
  if (bos >= 0 && bos < n && !sinks.empty()) sinks[count++] = static_cast<int32_t>(bos);
  const size_t fixed = count;
  for (int64_t i = 0; i + kSinkQueries <= n; ++i) {
    if (i == bos || ratio(i) < kSinkRatio) continue;
    size_t at = count;  // by falling ratio, ties by position
    while (at > fixed && ratio(sinks[at - 1]) < ratio(i)) --at;
    if (at == sinks.size()) continue;
    count = std::min(count + 1, sinks.size());
    std::copy_backward(sinks.begin() + static_cast<std::ptrdiff_t>(at),
                       sinks.begin() + static_cast<std::ptrdiff_t>(count) - 1,
                       sinks.begin() + static_cast<std::ptrdiff_t>(count));
    sinks[at] = static_cast<int32_t>(i);
  }
  std::sort(sinks.begin(), sinks.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

// Prices are positive floats, whose bits are ordered as they are: the price at which enough is freed is found byte by byte.
Demoted Demote(std::span<const KvPart> parts, KvWidths allowed, int64_t bits) {
  Demoted done;
  if (bits <= 0) return done;
  uint32_t price = 0;
  int64_t rest = bits;  // to be freed at this price, beside all that is cheaper
  for (int shift = 24; shift >= 0; shift -= 8) {
    std::array<int64_t, 256> freed{};
    ForEachStep(parts, allowed, [&](uint8_t, uint32_t p, int from, int to) {
      if (uint64_t{p} >> (shift + 8) == uint64_t{price} >> (shift + 8)) freed[p >> shift & 255] += from - to;
    });
    uint32_t byte = 0;
    while (byte < 255 && freed[byte] < rest) rest -= freed[byte++];
    price |= byte << shift;
  }
  ForEachStep(parts, allowed, [&](uint8_t& width, uint32_t p, int from, int to) {
    if (p > price || (p == price && rest <= 0)) return;
    if (p == price) rest -= from - to;
    width = static_cast<uint8_t>(to);
    done.bits += from - to;
    done.price = std::max(done.price, std::bit_cast<float>(p));
  });
  return done;
}

int WidthAtPrice(float weight, int bits, float price, KvWidths allowed) {
  for (int below; (below = allowed.Below(bits)) != 0 && PriceOf(weight, bits, below) <= price;) bits = below;
  return bits;
}

uint64_t KvTokenBytes(int64_t heads, int64_t head_dim, int bits) {
  return static_cast<uint64_t>(2 * heads * (head_dim * bits + 16) / 8);
}

Result<std::vector<uint8_t>> AllocateWidths(KvRule rule, const KvAllocation& cache, std::span<const double> mass) {
  CHECK(cache.heads > 0 && cache.head_dim > 0 && cache.head_dim % 8 == 0);
  const size_t n = mass.size();
  const uint64_t smallest = n * KvTokenBytes(cache.heads, cache.head_dim, cache.widths.least());
  if (cache.budget_bytes < smallest) {
    Error error{
        Code::kOverBudget,
        fmt::format("{} tokens of {} heads of {} take {} bytes at {} bits, the budget is {}; give {} or more", n,
                    cache.heads, cache.head_dim, smallest, cache.widths.least(), cache.budget_bytes, smallest)};
    error.required_bytes = error.smallest_budget_bytes = smallest;
    error.budget_bytes = cache.budget_bytes;
    return error;
  }
  // A vector tells nothing of distances: 1 / distance is assumed, and the mass brought to that scale.
  const MassByDistance by_distance;
  const ExpectedMass expected(by_distance);
  double all = 0, usual = 0;
  for (size_t i = 0; i < n; ++i) {
    all += mass[i];
    usual += expected.UpTo(static_cast<int64_t>(n - i));
  }
  std::vector<float> observed(n), weights(n);
  for (size_t i = 0; i < n; ++i) observed[i] = static_cast<float>(all > 0 ? mass[i] * (usual / all) : 0);
  TokenWeights(rule, observed, by_distance, 1, weights);
  if (rule != KvRule::kUniform) {
    std::vector<int32_t> sinks(static_cast<size_t>(cache.sinks));
    sinks.resize(FindSinks(observed, by_distance, -1, sinks));
    HoldTokens(sinks, cache.recent, weights);
  }
  const uint64_t bit_bytes = static_cast<uint64_t>(2 * cache.heads * cache.head_dim / 8);
  std::vector<uint8_t> widths(n, static_cast<uint8_t>(cache.widths.most()));
  const uint64_t most = n * KvTokenBytes(cache.heads, cache.head_dim, cache.widths.most());
  const uint64_t over = most - std::min(most, cache.budget_bytes);
  const KvPart part{weights, widths};
  Demote({&part, 1}, cache.widths, static_cast<int64_t>((over + bit_bytes - 1) / bit_bytes));
  return widths;
}

}  // namespace sotto
