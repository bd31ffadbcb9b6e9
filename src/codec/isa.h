// Isa: which instruction set the kernels of codec/ and ops/ use. Chosen once a process: the best that this CPU has, or
// what SOTTO_ISA=portable|avx2|avx512|neon pins (tests, comparisons). Packed weights depend on it (codec/panel.h), so
// the plan knows it.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace sotto {

enum class Isa : uint8_t { kPortable, kAvx2, kAvx512, kNeon };

constexpr std::string_view NameOf(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kNeon: return "neon";
  }
  return "?";
}

// Whether this CPU, its operating system and this build have it: kAvx2 needs AVX2, FMA and F16C; kAvx512 needs F, BW,
// DQ, VL and VNNI besides; kNeon needs the dot product of ARMv8.2.
bool Supports(Isa isa);

// kUsage when SOTTO_ISA is none of the names or not supported here. Reads the environment at each call.
Result<Isa> DetectIsa();

}  // namespace sotto
