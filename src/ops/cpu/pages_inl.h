// Packed pages of a KV cache to codes and floats, and the Hadamard transform. Compiled once an instruction set.
#pragma once
#include <algorithm>
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

// The fields of all registers of a block, to where UnpackPages says. kPlane: those of a plane's block, from bit `bit`
// on, are the lowest bits. next: what will be unpacked after this tile, asked for ahead: pages lie anywhere.
template <bool kValues, int kBits, bool kPlane>
void UnpackBlock(const std::byte* block, const std::byte* plane, int bit, int64_t registers, int offset,
                 const std::byte* next, std::byte* out) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  const Wide low = Wide{} + kOnes, mask = Wide{} + kOnes * ((1 << kBits) - 1);
  const auto down = reinterpret_cast<WideBytes>(Wide{} + kOnes * static_cast<uint64_t>(offset));
  const int64_t step = kValues ? 2 * kRegister : registers * kRegister;  // from one field to the next
  for (int64_t r = 0; r < registers; ++r) {
    Wide codes, bits = {};
    __builtin_prefetch(next + r * kRegister);
    std::memcpy(&codes, block + r * kRegister, sizeof codes);
    if constexpr (kPlane) {
      std::memcpy(&bits, plane + r * kRegister, sizeof bits);
      bits >>= bit;
    }
    std::byte* at = out + (kValues ? (r & ~int64_t{1}) * (kPageTile / 8) + (r & 1) : r) * kRegister;
#pragma GCC unroll 4
    for (int f = 0; f < 8 / kBits; ++f, at += step) {
      Wide field = kBits == 8 ? codes : codes >> (f * kBits) & mask;
      if constexpr (kPlane) field = field + field + (bits >> f & low);
      const WideBytes centred = reinterpret_cast<WideBytes>(field) - down;
      std::memcpy(at, &centred, sizeof centred);
    }
  }
}

template <bool kValues>
void UnpackTile(const KvPageShape& shape, const KvGroup& group, int head, int64_t first, int64_t n, int offset,
                std::byte* out) {
  const int tokens = KvPageTokens(group.bits == 3 ? 2 : group.bits);
  const int64_t registers = shape.head_dim / 4, block = (2 * head + (kValues ? 1 : 0)) * shape.block_bytes();
  const int64_t last = (group.count - 1) / tokens;
  const std::byte* plane = group.bits == 3 ? group.planes[first / kPageTile] + block : nullptr;
  for (int64_t t = 0; t < n; t += tokens, out += tokens / 8 * (kValues ? 2 : registers) * kRegister) {
    const int64_t page = (first + t) / tokens;
    const std::byte* from = group.pages[page] + block;
    const std::byte* next = group.pages[std::min(page + kPageTile / tokens, last)] + block;
    const int bit = static_cast<int>(t / 8);
    switch (group.bits) {
      case 8: UnpackBlock<kValues, 8, false>(from, nullptr, 0, registers, 0, next, out); break;
      case 4: UnpackBlock<kValues, 4, false>(from, nullptr, 0, registers, offset, next, out); break;
      case 3: UnpackBlock<kValues, 2, true>(from, plane, bit, registers, offset, next, out); break;
      default: UnpackBlock<kValues, 2, false>(from, nullptr, 0, registers, offset, next, out); break;
    }
  }
}

void UnpackPages(const KvPageShape& shape, const KvGroup& group, int head, bool values, int64_t first, int64_t n,
                 bool centred, std::byte* out) {
  const int offset = centred ? 1 << (group.bits - 1) : 0;
  values ? UnpackTile<true>(shape, group, head, first, n, offset, out)
         : UnpackTile<false>(shape, group, head, first, n, offset, out);
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
