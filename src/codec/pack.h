// The kernels behind half.h and panel.h, one table an instruction set. Internal to codec/.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/panel.h"

namespace sotto::codec {

struct Kernels {
  void (*pack)(PanelFormat format, DType source, std::span<const std::byte* const> rows, int64_t k, std::byte* out);
  void (*half_to_float)(const uint16_t* from, int64_t n, float* to);
  void (*float_to_half)(const float* from, int64_t n, uint16_t* to);
  void (*bf16_to_float)(const uint16_t* from, int64_t n, float* to);
  void (*float_to_bf16)(const float* from, int64_t n, uint16_t* to);
};

extern const Kernels kPortableKernels;
extern const Kernels kAvx2Kernels;  // only in builds for x86-64

// An absmax below this is an all-zero channel: 127 / absmax must stay finite.
inline constexpr float kLeastAbsmax = 1e-30f;

}  // namespace sotto::codec
