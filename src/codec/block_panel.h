// How blocks of a GGUF type stand in a panel (codec/panel.h): which units the bytes of a block are cut into. A piece of 16
// blocks, one a channel, is its fields in the file's order; a field is its units in order; a unit stands 16 times, once a
// channel. Types without a line here are one unit as a whole.
#pragma once
#include <cstdint>

#include "codec/panel.h"

namespace sotto {

struct BlockField {
  uint32_t unit, count;  // bytes of a unit, units of the field
};

struct BlockLayout {
  std::string_view type;
  BlockField fields[5];  // those behind the last have no bytes
};

inline constexpr BlockLayout kBlockLayouts[] = {
    {"Q4_0", {{2, 1}, {4, 4}}},                           // d, q
    {"Q4_1", {{2, 1}, {2, 1}, {4, 4}}},                   // d, m, q
    {"Q5_0", {{2, 1}, {4, 1}, {4, 4}}},                   // d, high, q
    {"Q5_1", {{2, 1}, {2, 1}, {4, 1}, {4, 4}}},           // d, m, high, q
    {"Q8_0", {{2, 1}, {4, 8}}},                           // d, q
    {"Q4_K", {{2, 1}, {2, 1}, {4, 3}, {4, 32}}},          // d, dmin, scales, q
    {"Q5_K", {{2, 1}, {2, 1}, {4, 3}, {4, 8}, {4, 32}}},  // d, dmin, scales, high, q
    {"Q6_K", {{4, 32}, {4, 16}, {2, 8}, {2, 1}}},         // q, high, scales, d
};

// What PackPanel and UnpackRow of codec/panel.h do for blocks.
void QuantizePanel(PanelFormat f, DType source, std::span<const std::byte* const> rows, int64_t k, std::byte* out);
void UnpackBlockRow(const WeightView& w, int64_t row, float* out);

}  // namespace sotto
