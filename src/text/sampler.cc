#include "text/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sotto {

Status CheckSampler(const SamplerSettings& s) {
  const auto within = [](float x, float least, float most) { return x >= least && x <= most; };  // false for NaN
  if (!within(s.temperature, 0, 100)) return Usage(fmt::format("--temperature {} is not from 0 to 100", s.temperature));
  if (s.top_k < 0) return Usage(fmt::format("--top-k {} is negative; 0 keeps all tokens", s.top_k));
  if (!within(s.top_p, 0, 1)) return Usage(fmt::format("--top-p {} is not from 0 to 1", s.top_p));
  if (!within(s.min_p, 0, 1)) return Usage(fmt::format("--min-p {} is not from 0 to 1", s.min_p));
  if (!within(s.repetition_penalty, 0.01F, 100))
    return Usage(fmt::format("--repetition-penalty {} is not from 0.01 to 100; 1 has no effect", s.repetition_penalty));
  if (!within(s.presence_penalty, -100, 100) || !within(s.frequency_penalty, -100, 100))
    return Usage("--presence-penalty and --frequency-penalty go from -100 to 100; 0 has no effect");
  return {};
}

uint64_t Sampler::MemoryBytes(int64_t vocab_size) {
  return SatMul(static_cast<uint64_t>(vocab_size), sizeof(Candidate) + sizeof(uint32_t));
}

Sampler::Sampler(const SamplerSettings& settings, int64_t vocab_size, std::span<std::byte> memory)
    : settings_(settings), random_(settings.seed) {
  CHECK(memory.size() >= MemoryBytes(vocab_size) && reinterpret_cast<uintptr_t>(memory.data()) % 8 == 0);
  const auto n = static_cast<size_t>(vocab_size);
  candidates_ = {reinterpret_cast<Candidate*>(memory.data()), n};
  counts_ = {reinterpret_cast<uint32_t*>(memory.data() + n * sizeof(Candidate)), n};
  Forget();
}

void Sampler::Forget() { std::fill(counts_.begin(), counts_.end(), 0); }

void Sampler::Penalize(std::span<float> logits) const {
  const SamplerSettings& s = settings_;
  if (s.repetition_penalty == 1 && s.presence_penalty == 0 && s.frequency_penalty == 0) return;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (counts_[i] == 0) continue;
    float& x = logits[i];
    x = x > 0 ? x / s.repetition_penalty : x * s.repetition_penalty;
    x -= s.presence_penalty + s.frequency_penalty * static_cast<float>(counts_[i]);
  }
}

// The candidates that top-k, top-p and min-p leave, likeliest first, with their probabilities (not normalized) as logits.
std::span<Sampler::Candidate> Sampler::Kept(std::span<const float> logits) {
  size_t n = 0;
  for (size_t i = 0; i < logits.size(); ++i)
    if (!std::isnan(logits[i])) candidates_[n++] = {logits[i] / settings_.temperature, static_cast<int32_t>(i)};
  std::span<Candidate> kept = candidates_.first(n);
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  if (settings_.top_k > 0 && static_cast<size_t>(settings_.top_k) < n) {
    std::nth_element(kept.begin(), kept.begin() + settings_.top_k, kept.end(), likelier);
    kept = kept.first(static_cast<size_t>(settings_.top_k));
  }
  std::sort(kept.begin(), kept.end(), likelier);
  if (kept.empty()) return kept;
  const float peak = kept.front().logit;
  double sum = 0;
  for (Candidate& c : kept) {
    c.logit = c.logit == peak ? 1 : std::exp(c.logit - peak);  // also for an infinite peak
    sum += c.logit;
  }
  double before = 0;
  size_t left = 0;
  for (const Candidate& c : kept) {
    if (left > 0 && (before >= settings_.top_p * sum || c.logit < settings_.min_p)) break;
    before += c.logit;
    ++left;
  }
  return kept.first(left);
}

int32_t Sampler::Next(std::span<float> logits) {
  CHECK(logits.size() == candidates_.size());
  Penalize(logits);
  if (settings_.temperature == 0) {
    size_t best = 0;
    for (size_t i = 1; i < logits.size(); ++i)
      if (logits[i] > logits[best] || std::isnan(logits[best])) best = i;
    return static_cast<int32_t>(best);
  }
  const std::span<const Candidate> kept = Kept(logits);
  double sum = 0;
  for (const Candidate& c : kept) sum += c.logit;
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * sum;
  for (const Candidate& c : kept)
    if ((left -= c.logit) < 0) return c.id;
  return kept.empty() ? 0 : kept.back().id;
}

float Sampler::Likeliest(std::span<const float> logits, int32_t chosen, size_t n,
                         std::vector<TokenLogprob>* out) const {
  double sum = 0;
  const float peak = *std::max_element(logits.begin(), logits.end());
  for (const float x : logits) sum += std::exp(double{x} - peak);
  const float all = peak + static_cast<float>(std::log(sum));
  out->clear();
  for (size_t i = 0; i < logits.size(); ++i) {  // n is small: an insertion into a short sorted list
    const TokenLogprob t{static_cast<int32_t>(i), logits[i] - all};
    if (out->size() == n && (n == 0 || !(t.logprob > out->back().logprob))) continue;
    if (out->size() == n) out->pop_back();
    out->insert(std::upper_bound(out->begin(), out->end(), t,
                                 [](const TokenLogprob& a, const TokenLogprob& b) { return a.logprob > b.logprob; }),
                t);
  }
  return logits[static_cast<size_t>(chosen)] - all;
}

}  // namespace sotto
