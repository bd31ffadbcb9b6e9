// The AVX512 kernels on a CPU that has only AVX2: the same source, with the intrinsics that need AVX512 taken from
// SIMDe. All tests of operations use this table for Isa::kAvx512 where the CPU lacks it (testing.h).
#include "ops/cpu/kernels.h"

#if defined(__x86_64__) && __has_include(<simde/x86/avx512/dpbusd.h>)
#include <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512/dpbusd.h>
#include <simde/x86/avx512/fmadd.h>
#include <simde/x86/avx512/max.h>
#include <simde/x86/avx512/min.h>
#include <simde/x86/avx512/set1.h>
#define SOTTO_SIMDE 1
#define SOTTO_TABLE kEmulated
#include "ops/cpu/kernels_avx512.cc"

namespace sotto::cpu {
const Kernels* EmulatedAvx512() { return Supports(Isa::kAvx2) ? &kEmulated : nullptr; }
}  // namespace sotto::cpu
#else
namespace sotto::cpu {
const Kernels* EmulatedAvx512() { return nullptr; }
}  // namespace sotto::cpu
#endif
