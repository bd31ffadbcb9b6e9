#include "codec/isa.h"

#include <cstdlib>
#include <string>

#if defined(__aarch64__)
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sotto {
namespace {
#if defined(__x86_64__)
bool HasF16c() {  // clang 14 has no name for it in __builtin_cpu_supports
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif
}  // namespace

bool Supports(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return true;
#if defined(__x86_64__)
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c() &&
             __builtin_cpu_supports("bmi2");
    case Isa::kAvx512:
      return Supports(Isa::kAvx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__)
    case Isa::kNeon: return (getauxval(AT_HWCAP) & (1UL << 20)) != 0;  // HWCAP_ASIMDDP
#endif
    default: return false;
  }
}

Result<Isa> DetectIsa() {
  const char* pinned = std::getenv("SOTTO_ISA");
  if (pinned == nullptr || *pinned == '\0') {
    for (Isa isa : {Isa::kAvx512, Isa::kAvx2, Isa::kNeon})
      if (Supports(isa)) return isa;
    return Isa::kPortable;
  }
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kNeon}) {
    if (NameOf(isa) != pinned) continue;
    if (!Supports(isa)) return Usage("SOTTO_ISA=" + std::string(pinned) + ": this CPU does not have it; unset it");
    return isa;
  }
  return Usage("SOTTO_ISA=" + std::string(pinned) + " is not an instruction set; use portable, avx2, avx512 or neon");
}

}  // namespace sotto
