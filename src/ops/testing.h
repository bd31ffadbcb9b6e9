// What the tests of ops/ share: random matrices, packed weights, backends with scratch of exactly the stated size.
#pragma once
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "base/threads.h"
#include "codec/half.h"
#include "codec/panel.h"
#include "ops/backend.h"
#include "ops/cpu/cpu_backend.h"

namespace sotto::cpu {
const Kernels* EmulatedAvx512();  // kernels_avx512_test.cc
}

namespace sotto::testing {

using Rng = std::mt19937;

// The instruction sets whose kernels can run here, AVX512's by emulation where the CPU lacks it.
inline std::vector<Isa> Isas() {
  std::vector<Isa> all;
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kNeon})
    if (Supports(isa) || (isa == Isa::kAvx512 && cpu::EmulatedAvx512() != nullptr)) all.push_back(isa);
  return all;
}

inline const cpu::Kernels& KernelsOf(Isa isa) { return Supports(isa) ? cpu::KernelsFor(isa) : *cpu::EmulatedAvx512(); }

// A matrix whose elements, and whose gaps between rows, are random: a kernel that reads a gap gives a wrong result.
struct Matrix {
  Matrix() = default;
  Matrix(Rng& rng, int64_t rows, int64_t cols, float scale = 1, int64_t gap = 0)
      : Matrix(rng, rows, cols, cols + gap, scale, 0) {}
  Matrix(Rng& rng, int64_t rows, int64_t cols, int64_t stride, float scale, int)
      : values(static_cast<size_t>(rows > 0 ? (rows - 1) * stride + cols : 0)), rows(rows), cols(cols), stride(stride) {
    std::normal_distribution<float> normal(0, scale);
    for (float& v : values) v = normal(rng);
  }
  float at(int64_t r, int64_t c) const { return values[static_cast<size_t>(r * stride + c)]; }
  View view() const {
    return {reinterpret_cast<std::byte*>(const_cast<float*>(values.data())), DType::kF32, rows, cols, stride};
  }
  float& at(int64_t r, int64_t c) { return values[static_cast<size_t>(r * stride + c)]; }
  std::vector<float> values;
  int64_t rows = 0, cols = 0, stride = 0;
};

// Weights of a matrix in the format of one instruction set.
struct Packed {
  Packed(const Matrix& w, DType dtype, Isa isa) : Packed(w, FormatFor(dtype, isa), isa) {}
  Packed(const Matrix& w, const GgmlType& type, Isa isa) : Packed(w, FormatFor(type, isa), isa) {}
  Packed(const Matrix& w, PanelFormat f, Isa isa) : bytes(0) {
    const uint64_t stride = PanelStride(f, w.cols);
    bytes = std::vector<std::byte>(PanelBytes(f, w.rows, w.cols).n + 64);
    std::byte* at = bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
    view = {at, f.dtype, f.group, w.rows, w.cols, f.blocks};
    for (int64_t n = 0; n < w.rows; n += kPanel, at += stride) {
      std::vector<const std::byte*> rows;
      for (int64_t r = n; r < std::min<int64_t>(w.rows, n + kPanel); ++r)
        rows.push_back(reinterpret_cast<const std::byte*>(w.values.data() + r * w.stride));
      PackPanel(isa, f, DType::kF32, rows, w.cols, at);
    }
  }
  std::vector<std::byte> bytes;
  WeightView view;
};

// A CPU backend with its threads and scratch, the latter filled with NaNs.
struct Cpu {
  Cpu(Isa isa, int count, int64_t in = 0, int head_dim = 64) : Cpu(isa, ScratchNeed{count, in, head_dim}) {}
  Cpu(Isa isa, const ScratchNeed& need) : threads(need.threads) {
    size = CpuScratchBytes(need).n;
    scratch.reset(static_cast<std::byte*>(std::aligned_alloc(64, RoundUp(size, 64))));
    std::fill(scratch.get(), scratch.get() + size, std::byte{0xFF});
    ops = std::make_unique<cpu::CpuBackend>(isa, KernelsOf(isa), &threads, need, std::span(scratch.get(), size));
  }
  Backend* operator->() const { return ops.get(); }
  Threads threads;
  uint64_t size = 0;
  std::unique_ptr<std::byte, decltype(&std::free)> scratch{nullptr, std::free};
  std::unique_ptr<Backend> ops;
};

constexpr double kUnit =
    0x1p-24;  // half the distance of 1 to the next float: the largest relative error of one operation

}  // namespace sotto::testing
