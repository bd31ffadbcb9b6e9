// Packed pages of a KV cache to codes and floats, and the Hadamard transform. Compiled once an instruction set.
#pragma once
#include <utility>

#include "codec/kv_page.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/vec.h"

namespace sotto::cpu {
namespace {

// Element i and element i ^ half of a vector become their sum and difference.
template <int half, size_t... i>
inline F Butterfly(F x, std::index_sequence<i...>) {
  const F swapped = __builtin_shufflevector(x, x, static_cast<int>(i ^ half)...);
  const F sign = {((i & half) != 0 ? -1.0f : 1.0f)...};
  return Fma(x, sign, swapped);
}

inline F InVector(F x, int64_t n) {
  constexpr auto kAll = std::make_index_sequence<kLanes>();
  if (n > 1) x = Butterfly<1>(x, kAll);
  if (n > 2) x = Butterfly<2>(x, kAll);
  if constexpr (kLanes > 4)
    if (n > 4) x = Butterfly<4>(x, kAll);
  if constexpr (kLanes > 8)
    if (n > 8) x = Butterfly<8>(x, kAll);
  return x;
}

void Hadamard(float* x, int64_t n) {
  const F norm = Set(1.0f / __builtin_sqrtf(static_cast<float>(n)));
  if (n < kLanes) {
    float edge[kLanes] = {};
    std::memcpy(edge, x, static_cast<size_t>(n) * 4);
    Store(edge, InVector(Load(edge), n) * norm);
    std::memcpy(x, edge, static_cast<size_t>(n) * 4);
    return;
  }
  for (int64_t i = 0; i < n; i += kLanes) Store(x + i, InVector(Load(x + i), kLanes) * norm);
  for (int64_t half = kLanes; half < n; half *= 2)
    for (int64_t at = 0; at < n; at += 2 * half)
      for (int64_t i = at; i < at + half; i += kLanes) {
        const F a = Load(x + i), b = Load(x + i + half);
        Store(x + i, a + b);
        Store(x + i + half, a - b);
      }
}

typedef uint64_t Wide __attribute__((vector_size(32)));
typedef int8_t WideBytes __attribute__((vector_size(32)));
constexpr int64_t kRegister = sizeof(Wide);

// Where codes go: field f of register r to byte (r / run) * outer + (r % run) * 32 + f * step.
struct Spread {
  int64_t run, outer, step;
};

// The fields of all registers of a block. kPlane: those of a plane's block, from bit `bit` on, are the lowest bits.
template <int kBits, bool kPlane>
void UnpackBlock(const std::byte* block, const std::byte* plane, int bit, int64_t registers, const Spread& to,
                 int offset, std::byte* out) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  const Wide low = Wide{} + kOnes, mask = Wide{} + kOnes * ((1 << kBits) - 1);
  const auto down = reinterpret_cast<WideBytes>(Wide{} + kOnes * static_cast<uint64_t>(offset));
  for (int64_t r = 0; r < registers; ++r) {
    Wide codes, bits = {};
    std::memcpy(&codes, block + r * kRegister, sizeof codes);
    if constexpr (kPlane) {
      std::memcpy(&bits, plane + r * kRegister, sizeof bits);
      bits >>= bit;
    }
    std::byte* at = out + r / to.run * to.outer + r % to.run * kRegister;
#pragma GCC unroll 4
    for (int f = 0; f < 8 / kBits; ++f, at += to.step) {
      Wide field = kBits == 8 ? codes : codes >> (f * kBits) & mask;
      if constexpr (kPlane) field = field + field + (bits >> f & low);
      const WideBytes centred = reinterpret_cast<WideBytes>(field) - down;
      std::memcpy(at, &centred, sizeof centred);
    }
  }
}

void UnpackPages(const KvPageShape& shape, const KvGroup& group, int head, bool values, int64_t first, int64_t n,
                 bool centred, std::byte* out) {
  const int width = group.bits == 3 ? 2 : group.bits, tokens = KvPageTokens(width);
  const int64_t registers = shape.head_dim / 4, block = (2 * head + (values ? 1 : 0)) * shape.block_bytes();
  const Spread to =
      values ? Spread{2, kPageTile / 4 * kRegister, 2 * kRegister} : Spread{registers, 0, registers * kRegister};
  const int offset = centred && group.bits < 8 ? 1 << (group.bits - 1) : 0;
  const std::byte* plane = group.bits == 3 ? group.planes[first / kPageTile] + block : nullptr;
  for (int64_t t = 0; t < n; t += tokens, out += tokens / 8 * to.step) {
    const std::byte* from = group.pages[(first + t) / tokens] + block;
    switch (group.bits) {
      case 8: UnpackBlock<8, false>(from, nullptr, 0, registers, to, offset, out); break;
      case 4: UnpackBlock<4, false>(from, nullptr, 0, registers, to, offset, out); break;
      case 3: UnpackBlock<2, true>(from, plane, static_cast<int>(t / 8), registers, to, offset, out); break;
      default: UnpackBlock<2, false>(from, nullptr, 0, registers, to, offset, out); break;
    }
  }
}

void WidenKeys(const std::byte* codes, int64_t n, int dim, float offset, const float* scales, float* out) {
  const auto* from = reinterpret_cast<const int8_t*>(codes);
  for (int64_t t = 0; t < n; t += 8, scales += 8)
    for (int64_t d = 0; d < dim; d += 4, from += 32)
      for (int i = 0; i < 4; ++i) {
        float* to = out + (t / 16 * dim + d + i) * 16 + t % 16;
        for (int lane = 0; lane < 8; ++lane)
          to[lane] = (static_cast<float>(from[4 * lane + i]) + offset) * scales[lane];
      }
}

void WidenValues(const std::byte* codes, int64_t n, int dim, float offset, const float* scales, float* out) {
  const auto* all = reinterpret_cast<const int8_t*>(codes);
  for (int64_t d = 0; d < dim; d += 8)
    for (int64_t t = 0; t < n; ++t) {
      const int8_t* from = all + d / 8 * (8 * kPageTile) + t / 4 * 32 + t % 4;
      float* to = out + (d / 16 * n + t) * 16 + d % 16;
      for (int lane = 0; lane < 8; ++lane) to[lane] = (static_cast<float>(from[4 * lane]) + offset) * scales[t];
    }
}

void AddScaled(const float* x, int64_t n, float factor, float* sum, float* squares) {
  const F f = Set(factor);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F v = Load(x + i) * f;
    Store(sum + i, Load(sum + i) + v);
    if (squares != nullptr) Store(squares + i, Fma(v, v, Load(squares + i)));
  }
  for (; i < n; ++i) {
    const float v = x[i] * factor;
    sum[i] += v;
    if (squares != nullptr) squares[i] += v * v;
  }
}

}  // namespace
}  // namespace sotto::cpu
