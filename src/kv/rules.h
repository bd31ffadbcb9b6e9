// Who gets how many bits: 2, 3, 4 or 8 for each token of a KV cache, so that all of them fit a number of bytes. Keys,
// values and heads of a token in one layer have one width. Arithmetic on arrays of the caller, by position: nothing is
// stored or packed here, and only AllocateWidths allocates.
//
// What a token adds to the squared error of attention's output is what attention gives it x the quantizer's noise
// D(bits). The sum of weight x D(bits) is made least: D is convex, so the steps down that lose least per bit go first,
// and one price a bit tells which. The weight is what a rule expects of future attention.
//
//   const std::vector<uint8_t> bits = TRY(AllocateWidths(KvRule::kSmart, cache, mass));  // of a whole vector
//
// Online: after attention each token's mass is added up; where room is needed, widths go down. They never go up: what
// was dropped is gone. A layer's tokens are a part, and all layers share one budget, because they need it unequally
// (docs/kv.md).
//
//   Observe(mass, queries, observed, &by_distance);                    // after attention, a layer
//   TokenWeights(rule, observed, by_distance, value_energy, weights);  // before room is made, a layer
//   HoldTokens(sinks, recent, weights);
//   const Demoted d = Demote(parts, allowed, bits_to_free);            // part: a layer's weights and widths, made new
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/widths.h"

namespace sotto {

// What is known of a token's future: nothing, its age, what it received, or what it received over what is usual at its
// distances.
enum class KvRule { kUniform, kRecency, kHistory, kSmart };
std::optional<KvRule> FindKvRule(std::string_view name);

// Noise over signal of the quantizer after rotation.
double KvNoise(int bits);

// The attention that one layer's keys receive, by distance: the mean over all pairs of a query and a key, measured
// online in quarters of octaves. It is what a token may be expected to receive. Ranking by attention received so far
// fails without it: young tokens have no history. Plain data, for planned memory.
class MassByDistance {
 public:
  static constexpr int kBuckets = 4 * 24;  // distances below 2^24

  // As if a little had been seen, falling as 1 / distance: where nothing is known yet, the near matter more.
  MassByDistance();
  // mass[i]: what token i received from the last `queries` tokens together, heads summed.
  void Add(std::span<const float> mass, int64_t queries);

 private:
  friend class ExpectedMass;
  std::array<double, kBuckets> mass_, seen_;  // sums over pairs, and how many
};

// The same as a table for many tokens; about a kilobyte.
class ExpectedMass {
 public:
  explicit ExpectedMass(const MassByDistance& measured);
  float At(int64_t distance) const;     // of one query at this distance; a query sees itself at distance 1
  double UpTo(int64_t distance) const;  // of those at 1 … distance together

 private:
  std::array<float, MassByDistance::kBuckets> mean_;
  std::array<double, MassByDistance::kBuckets> before_;
};

// Adds the mass of the last `queries` tokens' attention to what each token has received.
void Observe(std::span<const float> mass, int64_t queries, std::span<float> observed, MassByDistance* by_distance);

// The weight of each token. kSmart: sqrt(E[mass at its distance] x observed / expected x value_energy), where expected
// is what the queries that could see the token give at their distances, so that it is not blamed for its youth. The
// root hedges: past attention tells only in part where future attention goes. value_energy: the mean squared length of
// the layer's values (any scale that all layers share), because an error of attention counts as much as the values that
// it mixes.
void TokenWeights(KvRule rule, std::span<const float> observed, const MassByDistance& by_distance, float value_energy,
                  std::span<float> weights);

// Gives the sinks (positions) and the last `recent` tokens a weight above all others.
void HoldTokens(std::span<const int32_t> sinks, int64_t recent, std::span<float> weights);

// Sinks are told by attention and by BOS, not by position: hundreds of audio vectors may stand before BOS. BOS (a
// position; -1: none) and the tokens that received the most over what is expected at their distances, if that is
// kSinkRatio times as much; of those that at least kSinkQueries queries have seen. Writes at most sinks.size()
// positions, rising, and returns their number. To be asked once a sequence and layer, before anything is demoted.
inline constexpr double kSinkRatio = 4;
inline constexpr int64_t kSinkQueries = 16;
size_t FindSinks(std::span<const float> observed, const MassByDistance& by_distance, int64_t bos,
                 std::span<int32_t> sinks);

struct KvPart {
  std::span<const float> weights;
  std::span<uint8_t> widths;  // of `allowed`
};
struct Demoted {
  int64_t bits = 0;  // of width, summed over tokens: less than asked for only when all stand at the least width
  float price = 0;   // loss per bit of the dearest step taken
};
// Frees `bits` of width or up to one step's more: the steps that lose least per bit first, ties by part and position. A
// bit of width is 2 * heads * head_dim / 8 bytes. No memory, four passes.
Demoted Demote(std::span<const KvPart> parts, KvWidths allowed, int64_t bits);

// What a token of width `bits` goes to at the price of the last Demote: for one that leaves the recent window in
// between, so that it is quantized once and not lowered again soon.
int WidthAtPrice(float weight, int bits, float price, KvWidths allowed);

// Held tokens: more recent ones gained nothing, and no sinks lost nothing where attention had been seen (docs/kv.md).
inline constexpr int64_t kHeldSinks = 4, kHeldRecent = 8;

struct KvAllocation {
  int64_t heads = 0, head_dim = 0;  // of keys, and of values alike
  uint64_t budget_bytes =
      0;  // scales counted: one of 16 bits for the keys and one for the values of each token and head
  KvWidths widths;
  int64_t sinks = kHeldSinks, recent = kHeldRecent;  // held; kUniform holds none
};
// Bytes of a token with its scales.
uint64_t KvTokenBytes(int64_t heads, int64_t head_dim, int bits);
// The widths of tokens that received `mass`, from the oldest to the newest. kOverBudget names the smallest budget.
Result<std::vector<uint8_t>> AllocateWidths(KvRule rule, const KvAllocation& cache, std::span<const double> mass);

}  // namespace sotto
