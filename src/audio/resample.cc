#include "audio/resample.h"

#include <fmt/format.h>
#include <soxr.h>

#include <utility>

namespace sotto {

Resampler::Resampler(Resampler&& other) noexcept { *this = std::move(other); }

Resampler& Resampler::operator=(Resampler&& other) noexcept {
  std::swap(soxr_, other.soxr_);
  return *this;
}

Resampler::~Resampler() {
  if (soxr_ != nullptr) soxr_delete(soxr_);
}

Result<Resampler> Resampler::Create(int from, int to) {
  const soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
  const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
  soxr_runtime_spec_t runtime = soxr_runtime_spec(1);  // one thread
  // Transforms of at most 2^10: a third less memory than soxr's own choice and as fast on one channel.
  runtime.log2_min_dft_size = 8;
  runtime.log2_large_dft_size = 8;
  runtime.coef_size_kbytes = 100;
  soxr_error_t error = nullptr;
  Resampler r;
  r.soxr_ = soxr_create(from, to, 1, &error, &io, &quality, &runtime);
  if (r.soxr_ == nullptr || error != nullptr)
    return Failed(fmt::format("cannot resample from {} Hz to {} Hz ({}); convert the audio to {} Hz first", from, to,
                              error != nullptr ? error : "no memory", to));
  return r;
}

Resampler::Step Resampler::Process(std::span<const float> in, std::span<float> out) {
  size_t used = 0, made = 0;
  CHECK(soxr_process(soxr_, in.data(), in.size(), &used, out.data(), out.size(), &made) == nullptr);
  return {static_cast<int64_t>(used), static_cast<int64_t>(made)};
}

int64_t Resampler::Flush(std::span<float> out) {
  size_t made = 0;
  CHECK(soxr_process(soxr_, nullptr, 0, nullptr, out.data(), out.size(), &made) == nullptr);
  return static_cast<int64_t>(made);
}

}  // namespace sotto
