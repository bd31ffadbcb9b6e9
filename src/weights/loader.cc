#include "weights/loader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "codec/ggml_blocks.h"
#include "codec/half.h"
#include "codec/panel.h"

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

bool Readable(DType t) { return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16; }

const GgmlType& TypeOf(DType t) {
  return *FindGgmlType(std::string_view(t == DType::kF32 ? "F32" : t == DType::kF16 ? "F16" : "BF16"));
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
    const GgmlDequantize dequantize = TRY(DequantizerOf(*origin.type));
    if (conv && widen)
      return BadModel(fmt::format("{}: the convolution '{}' is stored as {}; sotto reads F32, F16 and BF16 there",
                                  origin.file->path(), slot.name, origin.type->name));
    const bool turn = conv || widen;
    const uint64_t wide_bytes = widen ? static_cast<uint64_t>(k) * 4 : row_bytes;
    const DType type = PlainType(*origin.type).value_or(DType::kF32);
    const int64_t panels = (out + kPanel - 1) / kPanel;
    const auto at_once = static_cast<int64_t>(
        std::max<uint64_t>(1, share_ / (kPanel * std::max(row_bytes, wide_bytes) * (turn ? 2 : 1))));
    std::byte* const target = run_.At(id);
    Status failed;
    std::mutex mutex;
    std::atomic<bool> stop{false};
    threads_.For(panels, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t p = begin; p < end && !stop; p += at_once) {
        const int64_t first = p * kPanel, last = std::min(out, std::min(end, p + at_once) * kPanel);
        std::byte* const rows = Rows(thread);
        Status read = ReadRows(origin, first, last, row_bytes, rows);
        if (!read.ok()) {
          const std::lock_guard lock(mutex);
          failed = std::move(read);
          stop = true;
          return;
        }
        const std::byte* const packed = turn ? Turned(thread) : rows;
        for (int64_t r = first; turn && r < last; ++r) {
          const std::byte* const from = rows + static_cast<uint64_t>(r - first) * row_bytes;
          std::byte* const to = Turned(thread) + static_cast<uint64_t>(r - first) * wide_bytes;
          if (widen)
            dequantize(from, k, reinterpret_cast<float*>(to));
          else
            Transpose(from, in, taps, origin.type->bytes, to);
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
        }
      }
    });
    return failed;
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

}  // namespace

namespace {

// What the tensors of a model's own files and of its parts are: visit(slot, files, tensor) for each that has a slot. A part fills
// what is missing.
using VisitTensor = FunctionRef<Status(uint32_t, const ModelFiles&, const TensorHeader&)>;
Status ForEachWeight(const ModelFiles& files, std::span<const NamedPart> parts, const Anatomy& anatomy,
                     VisitTensor visit) {
  const SlotsByName by_name = ByName(anatomy);
  std::vector<bool> seen(anatomy.slots().size());
  TRY(files.ForEachTensor([&](const TensorHeader& t) -> Status {
    const std::optional<uint32_t> id = Lookup(by_name, t.name);
    if (id && seen[*id])
      return BadModel(fmt::format("'{}' is in the model's files twice; fetch them again", anatomy.at(*id).name));
    if (id) seen[*id] = true;
    if (id) return visit(*id, files, t);
    if (IsTiedCopy(t.name)) return {};
    return BadModel(
        fmt::format("{} holds the tensor '{}', which config.json does not describe; config and weights are not of "
                    "the same model",
                    files.file(t.file).path(), t.name));
  }));
  for (const NamedPart& part : parts) {
    if (!part.files) continue;
    TRY(part.files->ForEachTensor([&](const TensorHeader& t) -> Status {
      if (!t.name.starts_with(part.from)) return {};
      const std::optional<uint32_t> id = Lookup(by_name, part.to + std::string(t.name.substr(part.from.size())));
      if (!id || seen[*id]) return {};
      seen[*id] = true;
      return visit(*id, *part.files, t);
    }));
  }
  for (uint32_t id = 0; id < seen.size(); ++id)
    if (anatomy.at(id).role == Role::kWeight && !seen[id]) {
      for (const NamedPart& part : parts)
        if (anatomy.at(id).name.starts_with(part.to) && !part.files)
          return BadModel(
              fmt::format("the weights of '{}' are those of {}, which config.json names ({}) and which is "
                          "not here; fetch it with: sotto pull {}",
                          part.to, part.id, part.key, part.id));
      return BadModel(
          fmt::format("the model's files lack the tensor '{}': config.json describes {} parameters; fetch the model "
                      "again",
                      anatomy.at(id).name, anatomy.Parameters()));
    }
  return {};
}

}  // namespace

Result<StoredWeights> CheckHeaders(const ModelFiles& files, std::span<const NamedPart> parts, const Anatomy& anatomy) {
  uint64_t bytes_of[8] = {};
  StoredWeights stored;
  TRY(ForEachWeight(files, parts, anatomy, [&](uint32_t id, const ModelFiles& from, const TensorHeader& t) -> Status {
    const Slot& slot = anatomy.at(id);
    if (!SameShape(slot, t.shape))
      return BadModel(
          fmt::format("{}: '{}' has the shape [{}], but config.json makes it [{}]; config and weights are not of the "
                      "same model",
                      from.file(t.file).path(), t.name, fmt::join(t.shape, ", "),
                      fmt::join(std::span(slot.shape).first(static_cast<size_t>(slot.dims)), ", ")));
    const DType dtype = TRY(from.TypeOf(t));
    if (!Readable(dtype))
      return BadModel(fmt::format("{}: '{}' is stored as {}; sotto reads F32, F16 and BF16 weights",
                                  from.file(t.file).path(), t.name, t.type));
    stored.parameters = SatAdd(stored.parameters, slot.Elements());
    if (slot.form == Form::kMatrix)
      bytes_of[static_cast<int>(dtype)] = SatAdd(bytes_of[static_cast<int>(dtype)], t.bytes);
    return {};
  }));
  for (const DType t : {DType::kF16, DType::kBF16})
    if (bytes_of[static_cast<int>(t)] > bytes_of[static_cast<int>(stored.dtype)]) stored.dtype = t;
  return stored;
}

uint64_t StagingBytes(const Anatomy& anatomy, int threads, bool gguf) {
  uint64_t most = kLeastStaging;
  for (const Slot& s : anatomy.slots()) {
    if (s.form != Form::kMatrix) continue;
    const uint64_t row = SatMul(SatMul(static_cast<uint64_t>(s.shape[1]), static_cast<uint64_t>(s.shape[2])), 4);
    most = std::max(most, RoundUp(SatMul(row, s.source == Source::kConv || gguf ? 2 * kPanel : kPanel), 128));
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
  return ForEachWeight(
      files, parts, anatomy, [&](uint32_t id, const ModelFiles& from, const TensorHeader& t) -> Status {
        const DType dtype = TRY(from.TypeOf(t));
        if (!SameShape(anatomy.at(id), t.shape) || !Readable(dtype))
          return BadModel(fmt::format("{} changed while it was read; fetch it again", from.file(t.file).path()));
        TRY(loader.Fill(id, {&from.file(t.file), t.offset, t.bytes, &TypeOf(dtype), 0}));
        done += t.bytes;
        if (!progress(done, std::max(all, done))) return Interrupted();
        return {};
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
