// Weights [out = N, in = K] in the plane code (codec/plane_code.h): one block of bytes a matrix, the same in files, in memory and under
// the kernels. Panels of 16 output channels as in codec/panel.h; a group is four inputs of all 16, 64 weights, and K is filled up
// with zeros to whole groups.
//
//   | header 64 bytes | codes, 12 bytes each | scales, fp32: none, 1 or N | values, 128 bytes (halves only) |
//   | panel index: offset u32, bytes of literals u32 (the top byte: which code) |
//   | panel 0 | panel 1 | …                   | zeros: 16, so that kernels may read ahead, and up to a multiple of 32 in all |
//
//   a panel: base fields, 8 * base_bits bytes a group | raw fields, 8 * raw_bits bytes a group | bytes of planes 0 … P-2, u32 each |
//            literals | planes 0 … P-1, bits of escaped weights in order, each a whole number of bytes | up to 31 zeros
//   base and raw fields of a group: what bits of a weight there are, lowest first, in fields of 4, then 2, then 1 bits
//     4 bits, 32 bytes: byte j is weights j and 32 + j       2 bits, 16 bytes: weights j, 16 + j, 32 + j, 48 + j
//     1 bit, 8 bytes: bit j of the group is weight j
//   weight j of a group: channel j / 4, input j % 4
//   literals: how many in each chunk of 32 groups, u8 (255: a u16 in front of the chunk's first has it); then, in order, a u16 each:
//             the weight's place in the chunk, 11 bits, and above it what its L has too little, a signed 5-bit number with the sign
//             of L, or 0: an int16 that follows is that
//
// A weight is v = L * 2^raw_bits + raw, with L as plane_code.h has it. What it means:
//   kInt8   v * scale, one scale a channel or one for all: int8 weights, bit for bit
//   kStep   (v + 1/2) * scale: a uniform quantizer without a zero
//   kF16, kBF16   the bits of a half: sign of L, then values[magnitude], 7 bits, then 8 raw bits; bf16 with at most 128 different
//                 exponents: 8 bits, all of the exponent, then 7 raw bits
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/threads.h"
#include "codec/isa.h"
#include "codec/plane_code.h"

namespace sotto {

// Of a group and plane in codes of at most kFewPlanes: what 8 bytes from any bit on hold. Codes of more, which decode more slowly
// anyway, may have 64.
inline constexpr int kMostEscapes = 57;
inline constexpr int64_t kMostPlaneSide = int64_t{1} << 24;
inline constexpr int kMostSteps = 16383;  // the largest magnitude that kStep has
inline constexpr int kPlaneChannels = 16, kPlaneGroup = 64,
                     kPlaneInputs = 4;  // of a panel; weights and inputs of a group

constexpr int64_t PlaneGroups(int64_t in) { return (in + kPlaneInputs - 1) / kPlaneInputs; }
constexpr int64_t PlanePanels(int64_t out) { return (out + kPlaneChannels - 1) / kPlaneChannels; }

enum class PlaneScheme : uint8_t { kInt8 = 1, kStep = 2, kF16 = 3, kBF16 = 4 };

inline constexpr uint16_t kPlanesVersion = 2;
// Blocks, and panels of wide matrices, begin and end at multiples of half a cache line, so that no vector of 32 bytes lies in two. Blocks
// of older versions end anywhere; a reader minds neither.
inline constexpr uint64_t kPlanesAlign = 32;

struct PlanesHeader {
  char magic[4] = {'S', 'P', 'L', 'N'};
  uint16_t version = kPlanesVersion;
  PlaneScheme scheme = PlaneScheme::kStep;
  uint8_t raw_bits = 0;  // 0 … 8; in halves 8, or 7
  uint32_t out = 0, in = 0, codes = 0, scales = 0;
  uint64_t bytes = 0;     // of all
  uint64_t literals = 0;  // bytes of them, in all panels
  uint64_t checksum = 0;  // XXH3, 64 bits, of what comes behind the header
  uint8_t reserved[16] = {};
};
static_assert(sizeof(PlanesHeader) == 64 && sizeof(PlaneCode) == 12);

// A panel of a block that CheckPlanes has accepted.
struct PlanePanel {
  PlaneCode code;
  int64_t groups = 0;
  const uint8_t *base = nullptr, *raw = nullptr, *literals = nullptr, *literals_end = nullptr;
  std::array<const uint8_t*, kMostPlanes> plane{};
};

// The parts of a block. Cheap to make; REQUIRES: CheckPlanes(data).ok(), once.
class Planes {
 public:
  explicit Planes(const std::byte* data);
  const PlanesHeader& header() const { return *header_; }
  std::span<const PlaneCode> codes() const { return {codes_, header_->codes}; }
  const float* scales() const { return scales_; }
  float Scale(int64_t channel) const { return scales_[header_->scales == 1 ? 0 : channel]; }
  const uint8_t* values() const { return values_; }  // [128]; kF16 and kBF16
  int64_t groups() const { return PlaneGroups(header_->in); }
  int64_t panels() const { return PlanePanels(header_->out); }
  PlanePanel Panel(int64_t index) const;

 private:
  const std::byte* data_;
  const PlanesHeader* header_;
  const PlaneCode* codes_;
  const float* scales_;
  const uint8_t* values_;
  const uint32_t* index_;
};

uint64_t PlanesChecksum(std::span<const std::byte> block);

// What a header alone can show: version, scheme, extents, counts; `bytes` are those of the whole block. kBadModel; `what` names it.
Status CheckPlanesHeader(const PlanesHeader& header, uint64_t bytes, int64_t out, int64_t in, const std::string& what);

// The checksum, and everything that the kernels rely on: sizes, offsets, each plane's bits counted by decoding it, places of literals.
Status CheckPlanes(std::span<const std::byte> data, int64_t out, int64_t in, const std::string& what,
                   Isa isa = Isa::kPortable, Threads* threads = nullptr);

// That of the fastest decoder here. All give the same bytes.
Isa PlaneIsa();

// Decodes a panel, group by group. Next(n, offset, to): L + offset of the next n groups, to[n][64], without literals.
class PlaneReader {
 public:
  explicit PlaneReader(const PlanePanel& panel, Isa isa = Isa::kPortable);
  void Next(int groups, int offset, uint8_t* to) { decode_(this, groups, offset, to); }

  PlanePanel panel;
  int64_t group = 0;
  std::array<uint64_t, kMostPlanes> bits{};         // taken of each plane so far
  std::array<std::array<uint8_t, 16>, 2> lookup{};  // a decoder's own, for `lookup_offset`
  int lookup_offset = -1;

 private:
  void (*decode_)(PlaneReader*, int groups, int offset, uint8_t* to);
};

// The literals of a panel, in order; by chunk, or up to any place, but not both.
class PlaneLiterals {
 public:
  static constexpr int64_t kChunkGroups = 32, kChunk = kChunkGroups * kPlaneGroup;
  static constexpr int kLeast = -kNearLiteral - 1,
                       kMost = kNearLiteral;  // of what is missing, without a word of its own
  static constexpr uint8_t kMany = 255;

  explicit PlaneLiterals(const PlanePanel& panel)
      : counts_(panel.literals), at_(panel.literals + Chunks(panel.groups)) {}
  static int64_t Chunks(int64_t groups) { return (groups + kChunkGroups - 1) / kChunkGroups; }

  // Whether a panel's literals are whole: places that rise and are within it, and nothing behind the last.
  static bool AreWhole(const PlanePanel& panel);

  // The next chunk's: visit(place in the chunk, what is missing).
  template <class Visit>
  inline __attribute__((always_inline)) void Chunk(const Visit& visit) {
    int left = Count();
    const uint8_t* at = at_;  // not the member: what `visit` writes may be bytes, which may be anything's
    for (; left > 0; --left) {
      const int entry = Int16(at);
      visit(static_cast<uint32_t>(entry) % kChunk, Missing(entry, &at));
    }
    at_ = at;
  }

  // Those before `end`, which never falls: visit(place in the panel, what is missing).
  template <class Visit>
  void Before(int64_t end, const Visit& visit) {
    for (; begin_ < end; begin_ += kChunk, left_ = -1) {
      if (left_ < 0) left_ = Count();
      for (; left_ > 0; --left_) {
        const int entry = Int16(at_);
        const int64_t place = begin_ + (entry & (kChunk - 1));
        if (place >= end) break;
        visit(place, Missing(entry, &at_));
      }
      if (end - begin_ < kChunk) break;
    }
  }

 private:
  static int Int16(const uint8_t* from) {
    int16_t word;
    std::memcpy(&word, from, sizeof word);
    return word;
  }
  // And goes on behind it.
  static int Missing(int entry, const uint8_t** at) {
    *at += 2;
    if (const int near = entry >> 11; near != 0) [[likely]]
      return near;
    *at += 2;
    return Int16(*at - 2);
  }
  int Count() {
    const uint8_t few = *counts_++;
    if (few < kMany) return few;
    at_ += 2;
    return static_cast<uint16_t>(Int16(at_ - 2));
  }

  const uint8_t *counts_, *at_;
  int64_t begin_ = 0;  // of a chunk
  int left_ = -1;      // of its literals; not counted yet
};

// A panel's weights as numbers, slice by slice. Next(groups, tile): the next `groups` groups, tile[4 groups][16].
class PlaneFloats {
 public:
  PlaneFloats(const Planes& planes, int64_t panel, Isa isa);
  void Next(int64_t groups, float* tile);

 private:
  void NextBytes(int64_t groups, float half, const float* scale, float* tile);

  const Planes& planes_;
  int64_t first_channel_;
  PlaneReader reader_;
  PlaneLiterals literals_;
};

// Rows [first, first + count) as numbers, [count][header().in]: a panel is decoded once for all of its rows.
void UnpackPlaneRows(const std::byte* data, int64_t first, int64_t count, float* out);
inline void UnpackPlaneRow(const std::byte* data, int64_t row, float* out) { UnpackPlaneRows(data, row, 1, out); }

// Entropy of the weights of a block, in bits each: of single L (those beyond a byte at its ends), and the raw bits.
double PlanesEntropy(const std::byte* data);

// What a block is made of. rows(first, count, values): v of rows [first, first + count), row-major [count][in]; from several threads.
struct PlanesSource {
  PlaneScheme scheme = PlaneScheme::kStep;
  int raw_bits = 0;
  int64_t out = 0, in = 0;
  std::vector<float> scales;
  std::function<void(int64_t first, int64_t count, int32_t* values)> rows;
  std::vector<uint8_t> values;  // [128] of kF16 and kBF16: what rows() gives are ranks then
};
struct PlanesLevel {
  int planes = 1;   // at most
  int classes = 4;  // codes, each panel has the one that suits it best
};
// How a block will be coded: what one reading of the rows tells.
struct PlanesPlan {
  std::vector<PlaneCode> codes;
  std::vector<uint8_t> of;  // a panel's code
  uint64_t bytes = 0;       // of the block, nearly
  double entropy = 0;       // bits a weight, of single weights
};
PlanesPlan PlanPlanes(const PlanesSource& source, const PlanesLevel& level, Threads& threads);
// About the bytes that PlanPlanes finds, from some `panels` panels, or up to twice as many.
double EstimatePlanes(const PlanesSource& source, const PlanesLevel& level, int64_t panels, Threads& threads);
// The block; rows are read once more, by all threads at once. Deterministic. kUsage when it would be 4 GiB or more.
Result<std::vector<std::byte>> EncodePlanes(const PlanesSource& source, const PlanesPlan& plan, Threads& threads);

}  // namespace sotto
