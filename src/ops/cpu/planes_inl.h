// Products of weights in the plane code (codec/planes.h) with quantized activations. 32 inputs of a panel are decoded into the first-level
// cache and multiplied by all rows that pass by; integer sums are those of blocks_inl.h, so every instruction set gives the same bits:
//
//   kStep   y = sum over 32 inputs of (2 I + X) * scale of the activations, X their codes' sum: twice the product, in steps
//   kInt8   y = sum of I, exact integers
//   I = sum of L * (activation code)
//
// Literals that fit the kernel's bytes are put where they belong before the product; what others lack is added as it comes, kStep's
// into a second sum.
#pragma once
#include <cstring>
#include <utility>

#include "ops/cpu/blocks_inl.h"

namespace sotto::cpu {
namespace {

constexpr int kPlaneBlock = 8;  // groups of 32 inputs, which have one scale
// Groups decoded at once: so many that what is written is in the cache, and not on its way there, when it is read again.
constexpr int kPlaneChunk = PlaneLiterals::kChunkGroups;

// Codes are L + offset; `steps` as in BlockShape: the larger the magnitudes, the fewer products fit 16 bits.
template <int kSteps, int kOffset>
struct PlaneKind {
  static constexpr BlockShape kShape{"", 32, kSteps, 0, kOffset, false};
  static Codes Of(const uint8_t* decoded, int channel) {
    Codes c;
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) c.of[j] = LoadU(decoded + kPlaneGroup * j + 4 * channel);
    return c;
  }
};

// What 32 inputs of kLanes channels add to the sums of one row.
template <class Kind, template <class> class Sums, bool kInt8>
inline F AddTo(F sum, const Sums<Kind>& sums, const BlockInputs& x) {
  const I product = sums.Of(x);
  if constexpr (kInt8)
    return reinterpret_cast<F>(reinterpret_cast<I>(sum) + product);
  else
    return sum + __builtin_convertvector(2 * product + (x.sums[0] + x.sums[1]), F) * Set(x.scale);
}

// Blocks of 32 inputs times their activations in m rows, x[blocks][m].
template <class Kind, template <class> class Sums, bool kInt8>
inline void AddPlaneBlocks(const uint8_t* codes, int blocks, const BlockInputs* x, int m, float* acc) {
  constexpr int kBytes = kPlaneBlock * kPlaneGroup;
  for (int v = 0; v < kVecs; ++v, acc += kLanes) {
    if (m == 1) {  // the sums of one row stay in registers
      F sum = Load(acc);
      for (int b = 0; b < blocks; ++b)
        sum = AddTo<Kind, Sums, kInt8>(sum, Sums<Kind>(Kind::Of(codes + b * kBytes, v * kLanes)), x[b]);
      Store(acc, sum);
      continue;
    }
    for (int b = 0; b < blocks; ++b) {
      const Sums<Kind> sums(Kind::Of(codes + b * kBytes, v * kLanes));
      for (int r = 0; r < m; ++r) {
        float* to = acc + r * kPanel;
        Store(to, AddTo<Kind, Sums, kInt8>(Load(to), sums, x[b * m + r]));
      }
    }
  }
}

// Sums of the literals that a kernel's bytes have no room for.
struct FarLiterals {
  bool any = false;

  template <bool kInt8>
  __attribute__((noinline)) void Add(uint32_t at, int missing, const BlockInputs* x, int m, float* sums) {
    if (!std::exchange(any, true)) std::memset(sums, 0, static_cast<size_t>(m) * kPanel * sizeof(float));
    const uint32_t group = at / kPlaneGroup, channel = at % kPlaneGroup / kPlaneInputs;
    const uint32_t input = group % kPlaneBlock * kPlaneInputs + at % kPlaneInputs;
    const BlockInputs* rows = x + group / kPlaneBlock * static_cast<uint32_t>(m);
    for (int r = 0; r < m; ++r) {
      const int product = missing * rows[r].codes[input];
      float* to = sums + static_cast<uint32_t>(r * kPanel) + channel;
      if constexpr (kInt8)
        *reinterpret_cast<int32_t*>(to) += product;
      else
        *to += static_cast<float>(2 * product) * rows[r].scale;
    }
  }
};

template <class Kind, template <class> class Sums, bool kInt8>
void PlaneProductOf(const PlanePanel& panel, Isa isa, const BlockInputs* x, int m, float* acc, float* literals) {
  PlaneReader reader(panel, isa);
  PlaneLiterals missing(panel);
  std::memset(acc, 0, static_cast<size_t>(m) * kPanel * sizeof(float));
  constexpr int kOffset = Kind::kShape.offset;
  const int most = kOffset + panel.code.cap(), least = kOffset - 1 - panel.code.cap();  // codes without literals
  FarLiterals far;
  alignas(64) uint8_t decoded[kPlaneChunk * kPlaneGroup];
  if (panel.groups % kPlaneBlock != 0) std::memset(decoded, 0, sizeof decoded);  // the last block is not full
  for (int64_t g = 0; g < panel.groups; g += kPlaneChunk) {
    const int groups = static_cast<int>(panel.groups - g < kPlaneChunk ? panel.groups - g : kPlaneChunk);
    reader.Next(groups, kOffset, decoded);
    missing.Chunk([&](uint32_t at, int more) __attribute__((always_inline)) {
      const int code = more + (more < 0 ? least : most);
      if (kOffset == 0 ? code >= -127 && code <= 127 : static_cast<uint32_t>(code) < 2 * kOffset) [[likely]]
        decoded[at] = static_cast<uint8_t>(code);
      else
        far.Add<kInt8>(at, more, x, m, literals);
    });
    const int blocks = (groups + kPlaneBlock - 1) / kPlaneBlock;
    AddPlaneBlocks<Kind, Sums, kInt8>(decoded, blocks, x, m, acc);
    x += blocks * m;
  }
  for (int i = 0; far.any && i < m * kPanel; ++i) {
    if constexpr (kInt8)
      reinterpret_cast<int32_t*>(acc)[i] += reinterpret_cast<const int32_t*>(literals)[i];
    else
      acc[i] += literals[i];
  }
}

template <template <class> class Sums, bool kInt8>
void PlaneProductFor(const PlanePanel& panel, Isa isa, const BlockInputs* x, int m, float* acc, float* literals) {
  const int cap = panel.code.cap();
  // Where literals are many, bytes in which nearly all of them have room.
  const bool many = (panel.literals_end - panel.literals) * 512 > panel.groups * kPlaneGroup;
  const auto product = cap < 16 && !many ? PlaneProductOf<PlaneKind<4, 16>, Sums, kInt8>
                       : cap < 32        ? PlaneProductOf<PlaneKind<2, 32>, Sums, kInt8>
                       : cap < 64        ? PlaneProductOf<PlaneKind<1, 64>, Sums, kInt8>
                                         : PlaneProductOf<PlaneKind<0, 0>, Sums, kInt8>;
  product(panel, isa, x, m, acc, literals);
}

// acc[m][16]: with kInt8 int32; literals[m][16] is scratch.
template <template <class> class Sums>
void PlaneProduct(const PlanePanel& panel, bool int8, Isa isa, const BlockInputs* x, int m, float* acc,
                  float* literals) {
  (int8 ? PlaneProductFor<Sums, true> : PlaneProductFor<Sums, false>)(panel, isa, x, m, acc, literals);
}

// Quantizes a row by one scale, which is returned: the codes that Linear has for kI8.
float QuantizeWhole(const float* x, int64_t k, BlockInputs* out, int64_t stride) {
  const QuantizeScale s = ScaleOf(x, k);
  for (int64_t i = 0; i < k; i += 32, out += stride) {
    QuantizeBy<int8_t, 0>(s, x + i, k - i < 32 ? k - i : 32, 32, reinterpret_cast<std::byte*>(out->codes));
    SumCodes(out);
    out->scale = 1;
  }
  return s.scale;
}

}  // namespace
}  // namespace sotto::cpu
