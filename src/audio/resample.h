// Resampler: mono float samples from one rate to another, by soxr at high quality (20 bits: alias rejection beyond 120
// dB, pass band to 0.91 of the lower half rate). Streaming; latency is compensated, so sample 0 of the output is time
// 0.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

struct soxr;

namespace sotto {

class Resampler {
 public:
  Resampler() = default;
  Resampler(Resampler&& other) noexcept;
  Resampler& operator=(Resampler&& other) noexcept;
  ~Resampler();

  // Rates in Hz. kFailed only when memory is short.
  static Result<Resampler> Create(int from, int to);

  struct Step {
    int64_t used = 0, made = 0;
  };
  // Consumes from `in` and writes to `out` as far as either reaches.
  Step Process(std::span<const float> in, std::span<float> out);
  // After the last input: the samples still in flight; 0 when there are none left.
  int64_t Flush(std::span<float> out);

 private:
  soxr* soxr_ = nullptr;
};

}  // namespace sotto
