// Sampler: from logits to the next token. The steps and their order are transformers' (generation/logits_process.py): repetition
// penalty, presence and frequency penalties (as OpenAI and vLLM have them), temperature, top-k, top-p, min-p, then one draw. All
// that it keeps lies in memory that the plan provides.
//
//   Sampler sampler({.temperature = 0.7F, .top_p = 0.9F, .seed = 1}, vocab_size, memory);
//   sampler.Saw(id);                             // every token of the prompt and of the answer: what penalties count
//   int32_t next = sampler.Next(logits);         // changes the logits
#pragma once
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace sotto {

struct SamplerSettings {
  float temperature = 0;         // 0: the likeliest token, nothing is drawn
  int64_t top_k = 0;             // 0: all
  float top_p = 1, min_p = 0;    // shares of the probability; of the likeliest token's probability
  float repetition_penalty = 1;  // logits of tokens seen are divided by it above 0, multiplied below
  float presence_penalty = 0, frequency_penalty = 0;  // subtracted once, and for each time
  uint64_t seed = 0;
};

// kUsage names the setting that is out of its bounds.
Status CheckSampler(const SamplerSettings& settings);

struct TokenLogprob {
  int32_t id;
  float logprob;  // natural
};

class Sampler {
 public:
  static uint64_t MemoryBytes(int64_t vocab_size);

  // `memory`: MemoryBytes(vocab_size), aligned to 8, outlives this. REQUIRES: CheckSampler(settings).ok().
  Sampler(const SamplerSettings& settings, int64_t vocab_size, std::span<std::byte> memory);

  void Saw(int32_t id) { ++counts_[static_cast<size_t>(id)]; }
  void Forget();

  // logits: [vocab_size], changed. Logits that are not numbers are never chosen.
  int32_t Next(std::span<float> logits);

  // The n likeliest tokens of the raw logits, likeliest first (`out` gets at most n), and the chosen one's log-probability.
  float Likeliest(std::span<const float> logits, int32_t chosen, size_t n, std::vector<TokenLogprob>* out) const;

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  void Penalize(std::span<float> logits) const;
  std::span<Candidate> Kept(std::span<const float> logits);

  SamplerSettings settings_;
  std::span<Candidate> candidates_;
  std::span<uint32_t> counts_;
  std::mt19937_64 random_;
};

}  // namespace sotto
