// The published allocation of SmartKV, with what its text leaves out: a token that was raised once is not offered its
// next step while 85 % or more of the budget is spent (its damping against rank changes, seen from a cache that is
// new), the first three positions are never lowered, and each token that is forced to the top lowers others by one step
// at most. Kept exact for comparison; what is wrong with it stays.
#include "kv/reference_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <queue>

namespace sotto {
namespace {

constexpr size_t kFirst = 4;         // positions that start at the top
constexpr size_t kNeverLowered = 3;  // of them
constexpr double kLeastImportance = 1e-6, kBoost = 1.5, kDampedFrom = 0.85, kTolerance = 1e-6;

struct Step {
  double score;
  size_t token;
  bool operator<(const Step& other) const {  // of a heap: the best last
    return score != other.score ? score < other.score : token > other.token;
  }
};

class Reference {
 public:
  Reference(const ReferenceCache& cache, std::span<const double> importance)
      : cache_(cache),
        importance_(importance),
        scale_share_(32.0 / (16.0 * static_cast<double>(cache.head_dim))),
        bits_(importance.size(), cache.widths.least()) {
    std::fill_n(bits_.begin(), std::min(kFirst, bits_.size()), cache.widths.most());
    sum_ = std::accumulate(bits_.begin(), bits_.end(), int64_t{0});
    for (size_t i = kFirst; i < bits_.size(); ++i)
      if (importance[i] > 0) top_.push_back(i);
    std::stable_sort(top_.begin(), top_.end(), [&](size_t a, size_t b) { return importance[a] > importance[b]; });
    const double share = static_cast<double>(top_.size()) * cache.high_precision_fraction;
    top_.resize(std::min(top_.size(), static_cast<size_t>(std::ceil(share))));
    is_top_.resize(bits_.size());
    for (const size_t i : top_) is_top_[i] = true;
  }

  double Ratio() const { return Ratio(sum_); }
  bool Fits() const { return Fits(sum_); }

  std::vector<uint8_t> Run() {
    Raise();
    Force();
    return std::move(bits_);
  }

 private:
  // Of FP16's bytes.
  double Ratio(int64_t sum) const {
    return static_cast<double>(sum) / (16.0 * static_cast<double>(bits_.size())) + scale_share_;
  }
  bool Fits(int64_t sum) const { return Ratio(sum) <= cache_.budget + kTolerance; }

  void Offer(size_t i) {
    const int bits = bits_[i], next = cache_.widths.Above(bits);
    if (next == 0) return;
    double value = std::max(importance_[i], kLeastImportance);
    if (is_top_[i] && next == cache_.widths.most()) value *= kBoost;
    steps_.push({value * (std::sqrt(next) - std::sqrt(bits)) / (next - bits), i});
  }

  // The best step that the budget allows, until there is none.
  void Raise() {
    for (size_t i = kFirst; i < bits_.size(); ++i) Offer(i);
    while (!steps_.empty()) {
      const size_t i = steps_.top().token;
      steps_.pop();
      const int next = cache_.widths.Above(bits_[i]);
      if (!Fits(sum_ + next - bits_[i])) continue;
      sum_ += next - bits_[i];
      bits_[i] = static_cast<uint8_t>(next);
      if (Ratio(sum_) < cache_.budget * kDampedFrom) Offer(i);
    }
  }

  // The most important to the top, at the cost of the least important.
  void Force() {
    std::vector<size_t> others;
    for (size_t i = kNeverLowered; i < bits_.size(); ++i)
      if (!is_top_[i]) others.push_back(i);
    std::stable_sort(others.begin(), others.end(), [&](size_t a, size_t b) { return importance_[a] < importance_[b]; });
    size_t lowest = 0;  // all before it are at the bottom, and stay there
    int failed = std::numeric_limits<int>::max();
    std::vector<size_t> lowered;
    for (const size_t i : top_) {
      const int more = cache_.widths.most() - bits_[i];
      if (more == 0 || more >= failed) continue;
      while (lowest < others.size() && bits_[others[lowest]] == cache_.widths.least()) ++lowest;
      lowered.clear();
      for (size_t k = lowest; k < others.size() && !Fits(sum_ + more); ++k)
        if (Lower(others[k])) lowered.push_back(others[k]);
      if (!Fits(sum_ + more)) {
        for (const size_t k : lowered) Restore(k);
        failed = more;
        continue;
      }
      failed = std::numeric_limits<int>::max();
      sum_ += more;
      bits_[i] = static_cast<uint8_t>(cache_.widths.most());
    }
  }

  bool Lower(size_t i) {
    const int below = cache_.widths.Below(bits_[i]);
    if (below == 0) return false;
    sum_ -= bits_[i] - below;
    bits_[i] = static_cast<uint8_t>(below);
    return true;
  }
  void Restore(size_t i) {
    const int above = cache_.widths.Above(bits_[i]);
    sum_ += above - bits_[i];
    bits_[i] = static_cast<uint8_t>(above);
  }

  const ReferenceCache& cache_;
  std::span<const double> importance_;
  double scale_share_;
  std::vector<uint8_t> bits_;
  int64_t sum_;
  std::vector<size_t> top_;
  std::vector<bool> is_top_;
  std::priority_queue<Step> steps_;
};

}  // namespace

Result<std::vector<uint8_t>> ReferenceWidths(const ReferenceCache& cache, std::span<const double> importance) {
  CHECK(cache.heads > 0 && cache.head_dim > 0);
  if (importance.empty()) return std::vector<uint8_t>();
  Reference reference(cache, importance);
  if (reference.Fits()) return reference.Run();
  const auto n = static_cast<double>(importance.size()), fp16 = 4.0 * static_cast<double>(cache.heads * cache.head_dim);
  Error error{Code::kOverBudget,
              fmt::format("{} tokens take {:.6f} of FP16 at the least, and the budget is {:.6f}; give at least that",
                          importance.size(), reference.Ratio(), cache.budget)};
  error.budget_bytes = static_cast<uint64_t>(cache.budget * n * fp16);
  error.required_bytes = error.smallest_budget_bytes = static_cast<uint64_t>(std::ceil(reference.Ratio() * n * fp16));
  return error;
}

}  // namespace sotto
