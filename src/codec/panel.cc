#include "codec/panel.h"

#include <algorithm>
#include <cstring>

#include "codec/block_panel.h"
#include "codec/half.h"
#include "codec/pack.h"
#include "codec/planes.h"

namespace sotto {
namespace {

const codec::Kernels& KernelsFor([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2 || isa == Isa::kAvx512)
    return codec::kAvx2Kernels;  // packing is bound by memory: no AVX512 version
#endif
  return codec::kPortableKernels;
}

// An SOTTO_ISA that cannot be had is reported where a backend is made; here the answer does not depend on it.
const codec::Kernels& Active() {
  static const codec::Kernels& kernels = []() -> const codec::Kernels& {
    const Result<Isa> isa = DetectIsa();
    return KernelsFor(isa.ok() ? isa.value() : Isa::kPortable);
  }();
  return kernels;
}

uint64_t Groups(PanelFormat f, int64_t k) {
  CHECK(f.group >= 1 && k >= 0);
  const auto n = static_cast<uint64_t>(k), g = static_cast<uint64_t>(f.group);
  return n / g + (n % g != 0 ? 1 : 0);
}

uint64_t CodeBytes(PanelFormat f, int64_t k) {
  if (f.blocks != nullptr) return GgmlBytes(*f.blocks, kPanel, static_cast<uint64_t>(k));
  return SatMul(Groups(f, k), kPanel * static_cast<uint64_t>(f.group) * SizeOf(f.dtype));
}

void CheckFormat(PanelFormat f) {
  if (f.blocks != nullptr) return CHECK(f.dtype == DType::kU8 && f.group == 1);
  CHECK(f.dtype == DType::kF32 || f.dtype == DType::kF16 ? f.group == 1
        : f.dtype == DType::kBF16                        ? f.group == 2
                                                         : f.dtype == DType::kI8 && (f.group == 2 || f.group == 4));
}

}  // namespace

PanelFormat FormatFor(DType dtype, Isa isa) {
  CHECK(dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kI8);
  if (dtype == DType::kBF16) return {dtype, 2};
  if (dtype == DType::kI8) return {dtype, isa == Isa::kAvx2 ? 2 : 4};
  return {dtype, 1};
}

PanelFormat FormatFor(const GgmlType& blocks, Isa) { return {DType::kU8, 1, &blocks}; }

uint64_t ScalesOffset(PanelFormat f, int64_t k) { return RoundUp(CodeBytes(f, k), 64); }

uint64_t PanelStride(PanelFormat f, int64_t k) {
  return f.dtype == DType::kI8 ? SatAdd(ScalesOffset(f, k), 128) : ScalesOffset(f, k);
}

Bytes PanelBytes(PanelFormat f, int64_t n, int64_t k) {
  CHECK(n >= 0);
  const uint64_t panels = static_cast<uint64_t>(n) / kPanel + (n % kPanel != 0 ? 1 : 0);
  return Bytes{PanelStride(f, k)} * panels;
}

void PackPanel(Isa isa, PanelFormat f, DType source, std::span<const std::byte* const> rows, int64_t k,
               std::byte* out) {
  CheckFormat(f);
  CHECK(source == DType::kF32 || source == DType::kF16 || source == DType::kBF16);
  CHECK(!rows.empty() && rows.size() <= kPanel && k >= 0);
  if (f.blocks != nullptr) return QuantizePanel(f, source, rows, k, out);
  KernelsFor(isa).pack(f, source, rows, k, out);
  const uint64_t end = CodeBytes(f, k);
  std::memset(out + end, 0, ScalesOffset(f, k) - end);
}

void PackPanel(PanelFormat f, DType source, std::span<const std::byte* const> rows, int64_t k, std::byte* out) {
  static const Isa isa = [] {
    const Result<Isa> detected = DetectIsa();
    return detected.ok() ? detected.value() : Isa::kPortable;
  }();
  PackPanel(isa, f, source, rows, k, out);
}

void UnpackRow(const WeightView& w, int64_t row, float* out) {
  CHECK(row >= 0 && row < w.out);
  if (w.planes) return UnpackPlaneRow(w.data, row, out);
  const PanelFormat f = FormatOf(w);
  CheckFormat(f);
  if (f.blocks != nullptr) return UnpackBlockRow(w, row, out);
  const std::byte* panel = w.data + static_cast<uint64_t>(row / kPanel) * PanelStride(f, w.in);
  const int64_t lane = row % kPanel, group = f.group;
  float scale = 1;
  if (f.dtype == DType::kI8) std::memcpy(&scale, panel + ScalesOffset(f, w.in) + lane * 4, 4);
  const auto f32 = reinterpret_cast<const float*>(panel);
  const auto u16 = reinterpret_cast<const uint16_t*>(panel);
  const auto i8 = reinterpret_cast<const int8_t*>(panel);
  for (int64_t k = 0, at = lane * group; k < w.in; k += group, at += kPanel * group) {
    for (int64_t i = 0; i < std::min(group, w.in - k); ++i) {
      switch (f.dtype) {
        case DType::kF32: out[k + i] = f32[at + i]; break;
        case DType::kF16: out[k + i] = HalfToFloat(u16[at + i]); break;
        case DType::kBF16: out[k + i] = Bf16ToFloat(u16[at + i]); break;
        default: out[k + i] = static_cast<float>(i8[at + i]) * scale;
      }
    }
  }
}

void HalfToFloat(const uint16_t* from, int64_t n, float* to) { Active().half_to_float(from, n, to); }
void FloatToHalf(const float* from, int64_t n, uint16_t* to) { Active().float_to_half(from, n, to); }
void Bf16ToFloat(const uint16_t* from, int64_t n, float* to) { Active().bf16_to_float(from, n, to); }
void FloatToBf16(const float* from, int64_t n, uint16_t* to) { Active().float_to_bf16(from, n, to); }

}  // namespace sotto
