#include "weights/loader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "base/try_for.h"
#include "codec/ggml_blocks.h"
#include "codec/half.h"
#include "codec/panel.h"
#include "codec/planes.h"

namespace sotto {
namespace {

constexpr off_t kReadAhead = 64 << 20;          // of page cache, which is the system's and not counted
constexpr uint64_t kLeastStaging = 256 * kKiB;  // a thread: small rows are read many at a time

using SlotsByName = std::unordered_map<std::string_view, uint32_t>;

SlotsByName ByName(const Anatomy& anatomy) {
  SlotsByName map;
  const auto slots = anatomy.slots();
  map.reserve(slots.size());
  for (uint32_t id = 0; id < slots.size(); ++id)
    if (slots[id].role == Role::kWeight) map.emplace(slots[id].name, id);
  return map;
}

// Checkpoints of the bare model lack the wrapper's prefix.
std::optional<uint32_t> Lookup(const SlotsByName& map, std::string_view name) {
  if (const auto it = map.find(name); it != map.end()) return it->second;
  if (const auto it = map.find("model." + std::string(name)); it != map.end()) return it->second;
  return std::nullopt;
}

// A tied head that some files repeat.
bool IsTiedCopy(std::string_view name) { return name == "proj_out.weight" || name == "lm_head.weight"; }

bool SameShape(const Slot& slot, std::span<const int64_t> shape) {
  if (shape.size() != static_cast<size_t>(slot.dims)) return false;
  for (size_t i = 0; i < shape.size(); ++i)
    if (shape[i] != slot.shape[i]) return false;
  return true;
}

Error Interrupted() { return {Code::kInterrupted, "interrupted while loading the model"}; }

bool Readable(DType t) { return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16 || t == DType::kI8; }

// Beside int8 codes (docs/int8.md): one fp32 number a row.
constexpr std::string_view kScale = ".scale";

void FromInt8(const std::byte* from, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(static_cast<int8_t>(from[i]));
}

const GgmlType& TypeOf(DType t) {
  return *FindGgmlType(std::string_view(t == DType::kF32   ? "F32"
                                        : t == DType::kF16 ? "F16"
                                        : t == DType::kI8  ? "I8"
                                                           : "BF16"));
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

class Loader {
 public:
  Loader(const Anatomy& anatomy, const Run& run, std::span<std::byte> staging, Threads& threads)
      : anatomy_(anatomy), run_(run), threads_(threads) {
    share_ = staging.size() / static_cast<size_t>(threads.count()) / 64 * 64;
    staging_ = staging.data();
  }

  Status Fill(uint32_t id, const WeightOrigin& origin) {
    const Slot& slot = anatomy_.at(id);
    if (slot.form == Form::kMatrix) return FillMatrix(id, slot, origin);
    return FillPlain(id, slot, origin);
  }

  // A packed matrix as it lies in the file; then all that kernels rely on is checked.
  Status FillPlanes(uint32_t id, const WeightOrigin& origin) {
    const Slot& slot = anatomy_.at(id);
    if (!run_.stored({id}).planes || run_.stored({id}).bytes.n != origin.bytes)
      return BadModel(fmt::format("{} changed while it was read; fetch it again", origin.file->path()));
    std::byte* const target = run_.At(id);
    constexpr int64_t kPiece = kMiB;
    const auto bytes = static_cast<int64_t>(origin.bytes);
    TRY(TryFor(threads_, bytes, kPiece, [&](int64_t begin, int64_t end, int) -> Status {
      return origin.file->ReadAt(origin.offset + static_cast<uint64_t>(begin),
                                 {target + begin, static_cast<size_t>(end - begin)});
    }));
    return CheckPlanes({target, origin.bytes}, slot.shape[0], slot.shape[1] * slot.shape[2], slot.name, PlaneIsa(),
                       &threads_);
  }

  // The scales of int8 codes that are in their panels.
  Status FillScales(uint32_t id, const WeightOrigin& origin) {
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

 private:
  // Where a thread's rows lie while they become panels: as the file has them, and the same transposed or as fp32.
  std::byte* Rows(int thread) const { return staging_ + share_ * static_cast<size_t>(thread); }
  std::byte* Turned(int thread) const { return Rows(thread) + share_ / 2 / 64 * 64; }

  Status FillMatrix(uint32_t id, const Slot& slot, const WeightOrigin& origin) {
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
          for (int64_t i = 0; i < count; ++i)
            pointers[i] = packed + static_cast<uint64_t>(row - first + i) * wide_bytes;
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

  // Rows that hold a code of 127 have got the scale 1 and stayed what they are; rows of zeros, 0.
  static bool AreCodes(const std::byte* scales, int64_t rows) {
    const auto* scale = reinterpret_cast<const float*>(scales);
    return std::all_of(scale, scale + rows, [](float s) { return s == 1 || s == 0; });
  }

  static Status ReadRows(const WeightOrigin& origin, int64_t first, int64_t last, uint64_t row_bytes, std::byte* rows) {
    const auto read = [&](int64_t row, int64_t count, std::byte* to) {
      return origin.file->ReadAt(origin.offset + static_cast<uint64_t>(row) * row_bytes,
                                 {to, static_cast<size_t>(static_cast<uint64_t>(count) * row_bytes)});
    };
    if (origin.paired == 0) return read(first, last - first, rows);
    for (int64_t r = first; r < last; ++r)
      TRY(read(FileRow(r, origin.paired), 1, rows + static_cast<uint64_t>(r - first) * row_bytes));
    return {};
  }

  // Vectors and rows: element by element, in pieces of the staging area.
  Status FillPlain(uint32_t id, const Slot& slot, const WeightOrigin& origin) {
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

  const Anatomy& anatomy_;
  const Run& run_;
  Threads& threads_;
  std::byte* staging_;
  size_t share_;
};

// What the tensors of a model's own files and of its parts are: visit(slot, files, tensor, piece) for each that has a slot. A part
// fills what is missing.
enum class Piece : uint8_t { kWhole, kScale, kPlanes };
using VisitTensor = FunctionRef<Status(uint32_t, const ModelFiles&, const TensorHeader&, Piece)>;

// The matrix that a tensor's name belongs to, and what it is of it; scales have names of their own.
std::pair<std::string_view, Piece> MatrixOf(std::string_view name) {
  if (!name.ends_with(kPlanesSuffix)) return {name, Piece::kWhole};
  name.remove_suffix(kPlanesSuffix.size());
  return {name, Piece::kPlanes};
}

Status ForEachWeight(const ModelFiles& files, std::span<const NamedPart> parts, const Anatomy& anatomy,
                     VisitTensor visit) {
  const SlotsByName by_name = ByName(anatomy);
  std::vector<bool> seen(anatomy.slots().size());
  TRY(files.ForEachTensor([&](const TensorHeader& t) -> Status {
    const auto [name, piece] = MatrixOf(t.name);
    const std::optional<uint32_t> id = Lookup(by_name, name);
    if (id && seen[*id])
      return BadModel(fmt::format("'{}' is in the model's files twice; fetch them again", anatomy.at(*id).name));
    if (id) seen[*id] = true;
    if (id) return visit(*id, files, t, piece);
    if (IsTiedCopy(name)) return {};
    if (t.name.ends_with(kScale))
      if (const auto of = Lookup(by_name, t.name.substr(0, t.name.size() - kScale.size())))
        return visit(*of, files, t, Piece::kScale);
    return BadModel(
        fmt::format("{} holds the tensor '{}', which config.json does not describe; config and weights are not of "
                    "the same model",
                    files.file(t.file).path(), t.name));
  }));
  for (const NamedPart& part : parts) {
    if (!part.files) continue;
    TRY(part.files->ForEachTensor([&](const TensorHeader& t) -> Status {
      if (!t.name.starts_with(part.from)) return {};
      const auto [name, piece] = MatrixOf(t.name);
      const std::optional<uint32_t> id = Lookup(by_name, part.to + std::string(name.substr(part.from.size())));
      if (!id || seen[*id]) return {};
      seen[*id] = true;
      return visit(*id, *part.files, t, piece);
    }));
  }
  uint64_t in_files = 0;
  for (uint32_t id = 0; id < seen.size(); ++id)
    if (seen[id]) in_files = SatAdd(in_files, anatomy.at(id).Elements());
  for (uint32_t id = 0; id < seen.size(); ++id)
    if (anatomy.at(id).role == Role::kWeight && !seen[id]) {
      for (const NamedPart& part : parts)
        if (anatomy.at(id).name.starts_with(part.to) && !part.files)
          return BadModel(
              fmt::format("the weights of '{}' are those of {}, which config.json names ({}) and which is "
                          "not here; fetch it with: sotto pull {}",
                          part.to, part.id, part.key, part.id));
      return BadModel(
          fmt::format("the model's files lack the tensor '{}': config.json describes {} parameters, the headers hold "
                      "{}; fetch the model again",
                      anatomy.at(id).name, anatomy.Parameters(), in_files));
    }
  return {};
}

// The block's own header, before anything is planned by its size.
Status CheckPacked(const Slot& slot, const ModelFiles& from, const TensorHeader& t) {
  const File& file = from.file(t.file);
  PlanesHeader h;
  if (slot.form != Form::kMatrix || t.type != "U8" || t.shape.size() != 1 || t.bytes < sizeof h)
    return BadModel(fmt::format("{}: '{}' is no packed matrix; pack the model again", file.path(), t.name));
  TRY(file.ReadAt(t.offset, std::as_writable_bytes(std::span(&h, 1))));
  return CheckPlanesHeader(h, t.bytes, slot.shape[0], slot.shape[1] * slot.shape[2], slot.name);
}

}  // namespace

Result<StoredWeights> CheckHeaders(const ModelFiles& files, std::span<const NamedPart> parts, const Anatomy& anatomy) {
  uint64_t bytes_of[8] = {};
  StoredWeights stored;
  std::vector<uint8_t> scaled(anatomy.slots().size());  // bit 0: is int8, bit 1: has scales
  std::vector<Kept> kept(anatomy.slots().size());
  const auto visit = [&](uint32_t id, const ModelFiles& from, const TensorHeader& t, Piece piece) -> Status {
    const Slot& slot = anatomy.at(id);
    if (piece == Piece::kPlanes) {
      TRY(CheckPacked(slot, from, t));
      stored.parameters = SatAdd(stored.parameters, slot.Elements());
      stored.format = "packed";
      stored.by_type["packed"] += t.bytes;
      kept[id] = {slot.Elements(), t.bytes, nullptr, true};
      return {};
    }
    if (piece == Piece::kScale) {
      const bool right = slot.form == Form::kMatrix && t.dtype == DType::kF32 && t.shape.size() == 1 &&
                         t.shape[0] == slot.shape[0] && (scaled[id] & 2) == 0;
      scaled[id] |= 2;
      if (right) return {};
      return BadModel(fmt::format("{}: '{}' is not one F32 number for each of the {} rows of '{}'",
                                  from.file(t.file).path(), t.name, slot.shape[0], slot.name));
    }
    if (!SameShape(slot, t.shape))
      return BadModel(
          fmt::format("{}: '{}' has the shape [{}], but config.json makes it [{}]; config and weights are not of the "
                      "same model",
                      from.file(t.file).path(), t.name, fmt::join(t.shape, ", "),
                      fmt::join(std::span(slot.shape).first(static_cast<size_t>(slot.dims)), ", ")));
    const DType dtype = TRY(from.TypeOf(t));
    if (!Readable(dtype) || (dtype == DType::kI8 && slot.form != Form::kMatrix))
      return BadModel(fmt::format("{}: '{}' is stored as {}; sotto reads F32, F16 and BF16 weights",
                                  from.file(t.file).path(), t.name, t.type));
    if (dtype == DType::kI8) scaled[id] |= 1;
    kept[id] = {slot.Elements(), t.bytes, &TypeOf(dtype), false};
    stored.by_type[std::string(NameOf(dtype))] += t.bytes;
    stored.parameters = SatAdd(stored.parameters, slot.Elements());
    if (slot.form == Form::kMatrix)
      bytes_of[static_cast<int>(dtype)] = SatAdd(bytes_of[static_cast<int>(dtype)], t.bytes);
    return {};
  };
  TRY(ForEachWeight(files, parts, anatomy, visit));
  const bool int8 = bytes_of[static_cast<int>(DType::kI8)] > 0;
  for (uint32_t id = 0; id < scaled.size(); ++id) {
    const bool lacks = int8 && anatomy.at(id).form == Form::kMatrix && scaled[id] != 3;
    if (scaled[id] == 1 || scaled[id] == 2 || lacks)
      return BadModel(
          fmt::format("'{}' has not both int8 codes and scales, as docs/int8.md has them; convert the model again",
                      anatomy.at(id).name));
  }
  for (const DType t : {DType::kF16, DType::kBF16, DType::kI8})
    if (bytes_of[static_cast<int>(t)] > bytes_of[static_cast<int>(stored.dtype)]) stored.dtype = t;
  if (stored.format.empty())
    stored.by_type.clear();
  else if (int8)
    return BadModel("the model's files hold packed and int8 matrices; pack the model again");
  for (uint32_t id = 0; id < kept.size() && !stored.format.empty(); ++id)
    if (anatomy.at(id).role == Role::kWeight) stored.kept.push_back(kept[id]);
  return stored;
}

uint64_t StagingBytes(const Anatomy& anatomy, int threads, bool widened) {
  uint64_t most = kLeastStaging;
  for (const Slot& s : anatomy.slots()) {
    if (s.form != Form::kMatrix) continue;
    const uint64_t row = SatMul(SatMul(static_cast<uint64_t>(s.shape[1]), static_cast<uint64_t>(s.shape[2])), 4);
    most = std::max(most, RoundUp(SatMul(row, s.source == Source::kConv || widened ? 2 * kPanel : kPanel), 128));
  }
  return SatMul(most, static_cast<uint64_t>(threads));
}

Status LoadWeights(const ModelFiles& files, std::span<const NamedPart> parts, const Anatomy& anatomy, const Run& run,
                   std::span<std::byte> staging, Threads& threads, FunctionRef<bool(uint64_t, uint64_t)> progress) {
  CHECK(staging.size() >= StagingBytes(anatomy, threads.count(), false));
  Loader loader(anatomy, run, staging, threads);
  uint64_t done = 0, all = 0;
  const auto expect = [&](const ModelFiles& f) {
    for (int i = 0; i < f.count(); ++i) ::posix_fadvise(f.file(i).fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
    all += f.total_bytes();
  };
  expect(files);
  for (const NamedPart& part : parts)
    if (part.files) expect(*part.files);
  bool int8 = false;
  TRY(ForEachWeight(
      files, parts, anatomy, [&](uint32_t id, const ModelFiles& from, const TensorHeader& t, Piece piece) -> Status {
        if (piece == Piece::kScale) return int8 = true, Status();
        if (piece == Piece::kPlanes) {
          TRY(loader.FillPlanes(id, {&from.file(t.file), t.offset, t.bytes, nullptr, 0}));
          done += t.bytes;
          return progress(done, std::max(all, done)) ? Status() : Status(Interrupted());
        }
        const DType dtype = TRY(from.TypeOf(t));
        if (!SameShape(anatomy.at(id), t.shape) || !Readable(dtype))
          return BadModel(fmt::format("{} changed while it was read; fetch it again", from.file(t.file).path()));
        TRY(loader.Fill(id, {&from.file(t.file), t.offset, t.bytes, &TypeOf(dtype), 0}));
        done += t.bytes;
        if (!progress(done, std::max(all, done))) return Interrupted();
        return {};
      }));
  if (!int8) return {};
  // Codes are in their panels now, whatever the order in the files.
  return ForEachWeight(files, parts, anatomy,
                       [&](uint32_t id, const ModelFiles& from, const TensorHeader& t, Piece piece) -> Status {
                         if (piece != Piece::kScale) return {};
                         return loader.FillScales(id, {&from.file(t.file), t.offset, t.bytes, &TypeOf(DType::kF32), 0});
                       });
}

Status CheckLoadable(const GgufModel& gguf, const Anatomy& anatomy) {
  return gguf.ForEachWeight(anatomy, [&](uint32_t id, const WeightOrigin& origin) -> Status {
    const Slot& slot = anatomy.at(id);
    if (slot.Elements() != origin.bytes / origin.type->bytes * origin.type->block)
      return BadModel(fmt::format("{}: the tensor of '{}' has not the {} elements of its slot; fetch it again",
                                  origin.file->path(), slot.name, slot.Elements()));
    const auto decoder = DequantizerOf(*origin.type);
    if (decoder.ok()) return {};
    return BadModel(fmt::format("{}: '{}': {}", origin.file->path(), slot.name, decoder.error().message));
  });
}

Status LoadWeights(const GgufModel& gguf, const Anatomy& anatomy, const Run& run, std::span<std::byte> staging,
                   Threads& threads, FunctionRef<bool(uint64_t, uint64_t)> progress) {
  CHECK(staging.size() >= StagingBytes(anatomy, threads.count(), true));
  Loader loader(anatomy, run, staging, threads);
  uint64_t done = 0, all = 0;
  TRY(gguf.ForEachWeight(anatomy, [&](uint32_t, const WeightOrigin& origin) -> Status {
    if (all == 0) ::posix_fadvise(origin.file->fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
    all += origin.bytes;
    return {};
  }));
  return gguf.ForEachWeight(anatomy, [&](uint32_t id, const WeightOrigin& origin) -> Status {
    TRY(loader.Fill(id, origin));
    done += origin.bytes;
    if (!progress(done, all)) return Interrupted();
    return {};
  });
}

}  // namespace sotto
