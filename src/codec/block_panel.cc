#include "codec/block_panel.h"

#include <algorithm>
#include <cstring>

#include "codec/half.h"

namespace sotto {
namespace {

constexpr uint32_t kMostBytes = 512;  // of a block

BlockLayout LayoutOf(const GgmlType& type) {
  for (const BlockLayout& l : kBlockLayouts)
    if (l.type == type.name) return l;
  return {type.name, {{type.bytes, 1}}};
}

consteval bool FieldsAddUp() {
  for (const BlockLayout& l : kBlockLayouts) {
    uint32_t bytes = 0;
    for (const BlockField& f : l.fields) bytes += f.unit * f.count;
    if (bytes != FindGgmlType(l.type)->bytes) return false;
  }
  for (const GgmlType& t : kGgmlTypes)
    if (t.bytes > kMostBytes) return false;
  return true;
}
static_assert(FieldsAddUp());

// Calls copy(offset in the block, offset in the piece, bytes) for each unit of one channel.
template <class Copy>
void ForUnits(const BlockLayout& layout, uint64_t channel, const Copy& copy) {
  uint64_t block = 0;
  for (const BlockField& f : layout.fields) {
    uint64_t piece = block * kPanel + channel * f.unit;
    const auto units = [&](auto unit) {  // a constant size: a copy is one instruction
      for (uint32_t i = 0; i < f.count; ++i, block += unit, piece += kPanel * unit) copy(block, piece, unit);
    };
    switch (f.unit) {
      case 2: units(std::integral_constant<uint64_t, 2>()); break;
      case 4: units(std::integral_constant<uint64_t, 4>()); break;
      default: units(uint64_t{f.unit});
    }
  }
}

int64_t Blocks(const GgmlType& type, int64_t k) {
  CHECK(k >= 0 && k % type.block == 0);
  return k / type.block;
}

float Widen(DType source, const std::byte* row, int64_t k) {
  uint16_t half;
  float whole;
  if (source == DType::kF32) return std::memcpy(&whole, row + 4 * k, 4), whole;
  std::memcpy(&half, row + 2 * k, 2);
  return source == DType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
}

}  // namespace

bool HasIntegerKernels(const GgmlType& type) {
  return std::any_of(std::begin(kBlockLayouts), std::end(kBlockLayouts),
                     [&](const BlockLayout& l) { return l.type == type.name; });
}

void PackBlocks(PanelFormat f, std::span<const std::byte* const> rows, int64_t k, std::byte* out) {
  CHECK(f.blocks != nullptr && !rows.empty() && rows.size() <= kPanel);
  const BlockLayout layout = LayoutOf(*f.blocks);
  const uint64_t bytes = f.blocks->bytes;
  const int64_t blocks = Blocks(*f.blocks, k);
  std::byte* to = out;
  for (int64_t b = 0; b < blocks; ++b, to += kPanel * bytes) {
    if (rows.size() < kPanel) std::memset(to, 0, kPanel * bytes);
    for (size_t c = 0; c < rows.size(); ++c) {
      const std::byte* from = rows[c] + static_cast<uint64_t>(b) * bytes;
      ForUnits(layout, c,
               [&](uint64_t block, uint64_t piece, auto unit) { std::memcpy(to + piece, from + block, unit); });
    }
  }
  std::memset(to, 0, PanelStride(f, k) - static_cast<uint64_t>(to - out));
}

// QuantizerOf's blocks of one piece at a time, so that nothing is allocated.
void QuantizePanel(PanelFormat f, DType source, std::span<const std::byte* const> rows, int64_t k, std::byte* out) {
  const Result<GgmlQuantize> quantize = QuantizerOf(*f.blocks);
  CHECK(quantize.ok());
  const uint64_t bytes = f.blocks->bytes;
  const int64_t blocks = Blocks(*f.blocks, k), block = f.blocks->block;
  float wide[256];
  CHECK(block <= 256);
  std::byte made[kPanel][kMostBytes];
  const std::byte* piece[kPanel];
  for (int64_t b = 0; b < blocks; ++b) {
    for (size_t c = 0; c < rows.size(); ++c) {
      for (int64_t i = 0; i < block; ++i) wide[i] = Widen(source, rows[c], b * block + i);
      quantize.value()(wide, block, made[c]);
      piece[c] = made[c];
    }
    std::byte last[kPanel * kMostBytes + 64];  // PackBlocks pads what it takes for a whole panel
    PackBlocks(f, {piece, rows.size()}, block, last);
    std::memcpy(out + static_cast<uint64_t>(b) * kPanel * bytes, last, kPanel * bytes);
  }
  const uint64_t end = static_cast<uint64_t>(blocks) * kPanel * bytes;
  std::memset(out + end, 0, PanelStride(f, k) - end);
}

namespace {
void UnpackChannel(const BlockLayout& layout, const GgmlType& type, GgmlDequantize decode, const std::byte* panel,
                   uint64_t channel, int64_t first, int64_t n, float* out) {
  const int64_t begin = Blocks(type, first), end = begin + Blocks(type, n);
  std::byte block[kMostBytes];
  for (int64_t b = begin; b < end; ++b, out += type.block) {
    const std::byte* from = panel + static_cast<uint64_t>(b) * kPanel * type.bytes;
    ForUnits(layout, channel,
             [&](uint64_t at, uint64_t piece, auto unit) { std::memcpy(block + at, from + piece, unit); });
    decode(block, type.block, out);
  }
}
}  // namespace

void UnpackBlocks(const GgmlType& type, GgmlDequantize decode, const std::byte* panel, int64_t first, int64_t n,
                  float* out) {
  const BlockLayout layout = LayoutOf(type);
  for (uint64_t c = 0; c < kPanel; ++c, out += n) UnpackChannel(layout, type, decode, panel, c, first, n, out);
}

void UnpackBlockRow(const WeightView& w, int64_t row, float* out) {
  const Result<GgmlDequantize> decode = DequantizerOf(*w.blocks);
  CHECK(decode.ok());
  const std::byte* panel = w.data + static_cast<uint64_t>(row / kPanel) * PanelStride(FormatOf(w), w.in);
  UnpackChannel(LayoutOf(*w.blocks), *w.blocks, decode.value(), panel, static_cast<uint64_t>(row % kPanel), 0, w.in,
                out);
}

}  // namespace sotto
