#include "weights/fill.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/try_for.h"
#include "codec/ggml_blocks.h"
#include "codec/half.h"
#include "codec/panel.h"
#include "codec/planes.h"

namespace sotto {
namespace {

constexpr uint64_t kLeastStaging = 256 * kKiB;  // a thread: small rows are read many at a time

void FromInt8(const std::byte* from, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(static_cast<int8_t>(from[i]));
}

// The row of the file that is row `row` of the slot.
int64_t FileRow(int64_t row, int64_t half) {
  if (half == 0) return row;
  const int64_t in_head = row % (2 * half);
  return row - in_head + 2 * (in_head % half) + in_head / half;
}

// [in, taps] of one output channel to [taps, in], element by element of `size` bytes.
void Transpose(const std::byte* from, int64_t in, int64_t taps, uint64_t size, std::byte* out) {
  for (int64_t i = 0; i < in; ++i)
    for (int64_t t = 0; t < taps; ++t)
      std::memcpy(out + static_cast<uint64_t>(t * in + i) * size, from + static_cast<uint64_t>(i * taps + t) * size,
                  size);
}

// Rows that hold a code of 127 have got the scale 1 and stayed what they are; rows of zeros, 0.
bool AreCodes(const std::byte* scales, int64_t rows) {
  const auto* scale = reinterpret_cast<const float*>(scales);
  return std::all_of(scale, scale + rows, [](float s) { return s == 1 || s == 0; });
}

Status ReadRows(const WeightOrigin& origin, int64_t first, int64_t last, uint64_t row_bytes, std::byte* rows) {
  const auto read = [&](int64_t row, int64_t count, std::byte* to) {
    return origin.file->ReadAt(origin.offset + static_cast<uint64_t>(row) * row_bytes,
                               {to, static_cast<size_t>(static_cast<uint64_t>(count) * row_bytes)});
  };
  if (origin.paired == 0) return read(first, last - first, rows);
  for (int64_t r = first; r < last; ++r)
    TRY(read(FileRow(r, origin.paired), 1, rows + static_cast<uint64_t>(r - first) * row_bytes));
  return {};
}

}  // namespace

uint64_t StagingBytes(const Anatomy& anatomy, int threads, bool widened) {
  uint64_t most = kLeastStaging;
  for (const Slot& s : anatomy.slots()) {
    if (s.form != Form::kMatrix) continue;
    const uint64_t row = SatMul(SatMul(static_cast<uint64_t>(s.shape[1]), static_cast<uint64_t>(s.shape[2])), 4);
    most = std::max(most, RoundUp(SatMul(row, s.source == Source::kConv || widened ? 2 * kPanel : kPanel), 128));
  }
  return SatMul(most, static_cast<uint64_t>(threads));
}

SlotFiller::SlotFiller(const Anatomy& anatomy, const Run& run, std::span<std::byte> staging, Threads& threads)
    : anatomy_(anatomy),
      run_(run),
      threads_(threads),
      staging_(staging.data()),
      share_(staging.size() / static_cast<size_t>(threads.count()) / 64 * 64) {}

Status SlotFiller::Fill(const SlotTensor& tensor) {
  const auto& [id, piece, origin] = tensor;
  if (piece == Piece::kPlanes) return FillPlanes(id, origin);
  if (piece == Piece::kScale) return FillScales(id, origin);
  const Slot& slot = anatomy_.at(id);
  return slot.form == Form::kMatrix ? FillMatrix(id, slot, origin) : FillPlain(id, slot, origin);
}

// As it lies in the file; where the slot is the file's own pages, it is there.
Status SlotFiller::ReadPlanes(uint32_t id, const WeightOrigin& origin) {
  if (!run_.stored({id}).planes || run_.stored({id}).bytes.n != origin.bytes)
    return BadModel(fmt::format("{} changed while it was read; fetch it again", origin.file->path()));
  if (IsMapped(anatomy_, run_.stored({id}))) return {};
  std::byte* const target = run_.At(id);
  constexpr int64_t kPiece = kMiB;
  const auto bytes = static_cast<int64_t>(origin.bytes);
  return TryFor(threads_, bytes, kPiece, [&](int64_t begin, int64_t end, int) -> Status {
    return origin.file->ReadAt(origin.offset + static_cast<uint64_t>(begin),
                               {target + begin, static_cast<size_t>(end - begin)});
  });
}

// Read, and then all that kernels rely on is checked.
Status SlotFiller::FillPlanes(uint32_t id, const WeightOrigin& origin) {
  TRY(ReadPlanes(id, origin));
  const Slot& slot = anatomy_.at(id);
  return CheckPlanes({run_.At(id), origin.bytes}, slot.shape[0], slot.shape[1] * slot.shape[2], slot.name, PlaneIsa(),
                     &threads_);
}

// The scales of int8 codes that are in their panels.
Status SlotFiller::FillScales(uint32_t id, const WeightOrigin& origin) {
  const Slot& slot = anatomy_.at(id);
  const Stored& stored = run_.stored({id});
  const PanelFormat format{stored.dtype, stored.group, stored.blocks};
  const int64_t k = slot.shape[1] * slot.shape[2];
  auto* const scales = reinterpret_cast<float*>(Rows(0));
  const auto piece = static_cast<int64_t>(share_ / sizeof(float));
  for (int64_t first = 0; first < slot.shape[0]; first += piece) {
    const int64_t count = std::min(piece, slot.shape[0] - first);
    TRY(origin.file->ReadAt(origin.offset + static_cast<uint64_t>(first) * sizeof(float),
                            {Rows(0), static_cast<size_t>(count) * sizeof(float)}));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = first + i;
      if (!(scales[i] >= 0 && scales[i] <= 1e30F))
        return BadModel(fmt::format("{}: a scale of '{}' is {}; convert the model again", origin.file->path(),
                                    slot.name, scales[i]));
      std::byte* const panel = run_.At(id) + static_cast<uint64_t>(row / kPanel) * PanelStride(format, k);
      std::memcpy(panel + ScalesOffset(format, k) + static_cast<uint64_t>(row % kPanel) * 4, &scales[i], 4);
    }
  }
  return {};
}

Status SlotFiller::FillMatrix(uint32_t id, const Slot& slot, const WeightOrigin& origin) {
  const Stored& stored = run_.stored({id});
  const PanelFormat format{stored.dtype, stored.group, stored.blocks};
  const int64_t out = slot.shape[0], in = slot.shape[1], taps = slot.shape[2], k = in * taps;
  const uint64_t row_bytes = GgmlBytes(*origin.type, 1, static_cast<uint64_t>(k)), stride = PanelStride(format, k);
  const bool conv = slot.source == Source::kConv && taps > 1;
  const bool widen = !PlainType(*origin.type) && format.blocks != origin.type;
  const bool codes = origin.type->name == "I8";
  const GgmlDequantize dequantize = codes ? FromInt8 : TRY(DequantizerOf(*origin.type));
  if (conv && widen && !codes)
    return BadModel(fmt::format("{}: the convolution '{}' is stored as {}; sotto reads F32, F16 and BF16 there",
                                origin.file->path(), slot.name, origin.type->name));
  const bool turn = conv || widen;
  const uint64_t wide_bytes = widen ? static_cast<uint64_t>(k) * 4 : row_bytes;
  const DType type = PlainType(*origin.type).value_or(DType::kF32);
  const int64_t panels = (out + kPanel - 1) / kPanel;
  // The room was planned by what the headers said then.
  const uint64_t panel_room = kPanel * std::max(row_bytes, wide_bytes) * (turn ? 2 : 1);
  if (panel_room > share_ || (codes && format.dtype != DType::kI8))
    return BadModel(fmt::format("{} changed while it was read; fetch it again", origin.file->path()));
  const auto at_once = static_cast<int64_t>(share_ / panel_room);
  std::byte* const target = run_.At(id);
  return TryFor(threads_, panels, 1, [&](int64_t begin, int64_t end, int thread) -> Status {
    for (int64_t p = begin; p < end; p += at_once) {
      const int64_t first = p * kPanel, last = std::min(out, std::min(end, p + at_once) * kPanel);
      std::byte* const rows = Rows(thread);
      TRY(ReadRows(origin, first, last, row_bytes, rows));
      const std::byte* const packed = turn ? Turned(thread) : rows;
      for (int64_t r = first; turn && r < last; ++r) {
        const std::byte* const from = rows + static_cast<uint64_t>(r - first) * row_bytes;
        std::byte* const to = Turned(thread) + static_cast<uint64_t>(r - first) * wide_bytes;
        // Codes take a quarter of the room of the rows that they become: those of a convolution are turned in the next.
        std::byte* const aside = rows + share_ / 4 + static_cast<uint64_t>(r - first) * row_bytes;
        if (conv) Transpose(from, in, taps, origin.type->bytes, widen ? aside : to);
        if (widen) dequantize(conv ? aside : from, k, reinterpret_cast<float*>(to));
      }
      for (int64_t row = first; row < last; row += kPanel) {
        const std::byte* pointers[kPanel];
        const int64_t count = std::min<int64_t>(kPanel, last - row);
        for (int64_t i = 0; i < count; ++i) pointers[i] = packed + static_cast<uint64_t>(row - first + i) * wide_bytes;
        const std::span<const std::byte* const> few(pointers, static_cast<size_t>(count));
        std::byte* const panel = target + static_cast<uint64_t>(row / kPanel) * stride;
        if (format.blocks == origin.type)
          PackBlocks(format, few, k, panel);
        else
          PackPanel(format, type, few, k, panel);
        if (codes && !AreCodes(panel + ScalesOffset(format, k), count))
          return BadModel(fmt::format("{}: rows of '{}' have no code of 127 or -127; they are not int8 by row",
                                      origin.file->path(), slot.name));
      }
    }
    return {};
  });
}

// Vectors and rows: element by element, in pieces of the staging area.
Status SlotFiller::FillPlain(uint32_t id, const Slot& slot, const WeightOrigin& origin) {
  const DType to = run_.stored({id}).dtype;
  const GgmlDequantize dequantize = TRY(DequantizerOf(*origin.type));
  const uint64_t n = slot.Elements();
  const uint64_t piece = share_ / 2 / 4 / 256 * 256;  // whole blocks of any type; as fp32 in one half
  std::byte* const out = run_.At(id);
  auto* const wide = reinterpret_cast<float*>(Turned(0));
  for (uint64_t i = 0; i < n; i += piece) {
    const uint64_t count = std::min(piece, n - i), bytes = GgmlBytes(*origin.type, 1, count);
    TRY(origin.file->ReadAt(origin.offset + GgmlBytes(*origin.type, 1, i), {Rows(0), static_cast<size_t>(bytes)}));
    const auto elements = static_cast<int64_t>(count);
    dequantize(Rows(0), elements, wide);
    std::byte* const place = out + i * SizeOf(to);
    if (to == DType::kF32) std::memcpy(place, wide, count * 4);
    if (to == DType::kF16) FloatToHalf(wide, elements, reinterpret_cast<uint16_t*>(place));
    if (to == DType::kBF16) FloatToBf16(wide, elements, reinterpret_cast<uint16_t*>(place));
  }
  if (origin.paired == 0) return {};
  // A bias of paired heads, put in order through its copy. REQUIRES fp32, and a row that the staging area holds.
  auto* const vector = reinterpret_cast<float*>(out);
  if (n > piece) return BadModel(slot.name + " is longer than any model's");
  std::memcpy(wide, vector, n * 4);
  for (uint64_t i = 0; i < n; ++i) vector[i] = wide[FileRow(static_cast<int64_t>(i), origin.paired)];
  return {};
}

}  // namespace sotto
