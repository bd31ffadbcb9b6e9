#include "ops/cpu/cpu_backend.h"

#include <algorithm>

#include "codec/half.h"
#include "codec/panel.h"
#include "ops/row.h"

namespace sotto {
namespace cpu {

uint64_t LinearBytes(const ScratchNeed& need);     // linear.cc
uint64_t CacheLaneBytes(const ScratchNeed& need);  // cache_attend.cc
uint64_t CacheSharedBytes(const ScratchNeed& need);
uint64_t ChunkLaneBytes(const ScratchNeed& need);  // attend_chunk.cc
uint64_t PageLaneBytes(const ScratchNeed& need);   // page_attend.cc
uint64_t PageSharedBytes(const ScratchNeed& need);

uint64_t LaneBytes(const ScratchNeed& need) {
  return RoundUp(std::max({LinearBytes(need), CpuBackend::AttendBytes(need.head_dim), CacheLaneBytes(need),
                           ChunkLaneBytes(need), PageLaneBytes(need)}),
                 64);
}

uint64_t SharedBytes(const ScratchNeed& need) { return std::max(CacheSharedBytes(need), PageSharedBytes(need)); }

const Kernels& KernelsFor(Isa isa) {
  CHECK(Supports(isa));
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2: return kAvx2;
    case Isa::kAvx512: return kAvx512;
#elif defined(__aarch64__)
    case Isa::kNeon: return kNeon;
#endif
    default: return kPortable;
  }
}

CpuBackend::CpuBackend(Isa isa, const Kernels& kernels, Threads* threads, const ScratchNeed& need,
                       std::span<std::byte> scratch)
    : isa_(isa), kernels_(kernels), threads_(threads), need_(need), scratch_(scratch) {
  CHECK(need.threads == threads->count() && scratch.size() >= CpuScratchBytes(need).n);
  CHECK(reinterpret_cast<uintptr_t>(scratch.data()) % 64 == 0);
}

void CpuBackend::ForRows(int64_t rows, int64_t cols, FunctionRef<void(int64_t)> body) {
  const int64_t grain =
      std::max<int64_t>(1, 16384 / std::max<int64_t>(cols, 1));  // below that, waking a thread costs more
  threads_->For(rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) body(r);
  });
}

void CpuBackend::LayerNorm(View x, View gain, View bias, float eps, View out) {
  for (const View& v : {x, gain, bias, out}) CHECK(v.dtype == DType::kF32 && v.cols == x.cols);
  CHECK(x.rows == out.rows && gain.rows == 1 && bias.rows == 1 && x.cols >= 1);
  ForRows(x.rows, x.cols,
          [&](int64_t r) { kernels_.layer_norm(x.F32(r), gain.F32(), bias.F32(), x.cols, eps, out.F32(r)); });
}

void CpuBackend::RmsNorm(View x, View gain, float eps, View out) {
  for (const View& v : {x, gain, out}) CHECK(v.dtype == DType::kF32 && v.cols == x.cols);
  CHECK(x.rows == out.rows && gain.rows == 1 && x.cols >= 1);
  ForRows(x.rows, x.cols, [&](int64_t r) { kernels_.rms_norm(x.F32(r), gain.F32(), x.cols, eps, out.F32(r)); });
}

void CpuBackend::Rotate(View x, View angles, int heads, int head_dim) {
  CHECK(x.dtype == DType::kF32 && angles.dtype == DType::kF32 && x.cols == int64_t{heads} * head_dim);
  CHECK(angles.rows == x.rows && angles.cols % 2 == 0 && angles.cols <= head_dim);
  ForRows(x.rows, x.cols, [&](int64_t r) {
    for (int h = 0; h < heads; ++h) kernels_.rotate(x.F32(r) + h * head_dim, angles.F32(r), angles.cols / 2);
  });
}

void CpuBackend::SiluMul(View gate, View up, View out) {
  for (const View& v : {gate, up, out}) CHECK(v.dtype == DType::kF32 && v.cols == out.cols && v.rows == out.rows);
  ForRows(out.rows, out.cols, [&](int64_t r) { kernels_.silu_mul(gate.F32(r), up.F32(r), out.cols, out.F32(r)); });
}

void CpuBackend::Hadamard(View x, int head_dim) {
  CHECK(x.dtype == DType::kF32 && head_dim >= 1 && x.cols % head_dim == 0);
  const int64_t block = head_dim & -head_dim;
  ForRows(x.rows, x.cols, [&](int64_t r) {
    for (int64_t i = 0; i < x.cols; i += block) kernels_.hadamard(x.F32(r) + i, block);
  });
}

void CpuBackend::Embed(std::span<const int32_t> ids, std::span<const int32_t> pos, const WeightView& table,
                       View positions, View out) {
  CHECK(out.dtype == DType::kF32 && out.cols == table.in && out.rows == static_cast<int64_t>(ids.size()));
  CHECK(positions.data == nullptr ? pos.empty() : positions.cols == table.in && pos.size() == ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    float* to = out.F32(static_cast<int64_t>(i));
    UnpackRow(table, ids[i], to);
    if (pos.empty()) continue;
    CHECK(positions.dtype == DType::kF32 && pos[i] >= 0 && pos[i] < positions.rows);
    kernels_.add(to, positions.F32(pos[i]), table.in, to);
  }
}

void CpuBackend::Add(View a, View b, View out) {
  for (const View& v : {a, b, out}) CHECK(v.dtype == DType::kF32 && v.cols == out.cols && v.rows == out.rows);
  ForRows(out.rows, out.cols, [&](int64_t r) { kernels_.add(a.F32(r), b.F32(r), out.cols, out.F32(r)); });
}

void CpuBackend::Convert(View x, View out) {
  CHECK(x.rows == out.rows && x.cols == out.cols);
  ForRows(x.rows, x.cols, [&](int64_t r) {
    const std::byte* from = x.Rows(r, 1).data;
    std::byte* to = out.Rows(r, 1).data;
    const auto* from16 = reinterpret_cast<const uint16_t*>(from);
    const auto* from32 = reinterpret_cast<const float*>(from);
    auto* to16 = reinterpret_cast<uint16_t*>(to);
    auto* to32 = reinterpret_cast<float*>(to);
    if (x.dtype == out.dtype) {
      std::copy(from, from + static_cast<uint64_t>(x.cols) * SizeOf(x.dtype), to);
    } else if (x.dtype == DType::kF32) {
      CHECK(out.dtype == DType::kF16 || out.dtype == DType::kBF16);
      out.dtype == DType::kF16 ? FloatToHalf(from32, x.cols, to16) : FloatToBf16(from32, x.cols, to16);
    } else {
      CHECK(out.dtype == DType::kF32 && (x.dtype == DType::kF16 || x.dtype == DType::kBF16));
      x.dtype == DType::kF16 ? HalfToFloat(from16, x.cols, to32) : Bf16ToFloat(from16, x.cols, to32);
    }
  });
}

}  // namespace cpu

Bytes CpuScratchBytes(const ScratchNeed& need) {
  CHECK(need.threads >= 1 && need.in >= 0 && need.head_dim >= 1);
  return Bytes{cpu::LaneBytes(need)} * static_cast<uint64_t>(need.threads) + Bytes{cpu::SharedBytes(need)};
}

std::unique_ptr<Backend> MakeCpuBackend(Isa isa, Threads* threads, const ScratchNeed& need,
                                        std::span<std::byte> scratch) {
  return std::make_unique<cpu::CpuBackend>(isa, cpu::KernelsFor(isa), threads, need, scratch);
}

namespace {

const cpu::Kernels& RowKernels() {
  static const cpu::Kernels& kernels = []() -> const cpu::Kernels& {
    const Result<Isa> isa = DetectIsa();
    return cpu::KernelsFor(isa.ok() ? isa.value() : Isa::kPortable);
  }();
  return kernels;
}

}  // namespace

int64_t ArgMax(const float* x, int64_t n) { return RowKernels().arg_max(x, n); }

float LogSumExp(const float* x, int64_t n) {
  const float peak = RowKernels().max(x, n);
  if (!(peak > -__builtin_inff())) return peak;
  return peak + static_cast<float>(__builtin_log(RowKernels().sum_exp(x, n, peak)));
}

void Softmax(const float* x, int64_t n, float* out) { RowKernels().exp_shifted(x, n, LogSumExp(x, n), out); }

}  // namespace sotto
