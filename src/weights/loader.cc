#include "weights/loader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <unordered_map>

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

bool Readable(DType t) { return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16; }

struct Origin {
  int file = -1;
  uint64_t offset = 0;
  DType dtype = DType::kF32;
};

void ToFloat(const std::byte* from, DType dtype, int64_t n, float* out) {
  if (dtype == DType::kF32) std::memcpy(out, from, static_cast<size_t>(n) * 4);
  if (dtype == DType::kF16) HalfToFloat(reinterpret_cast<const uint16_t*>(from), n, out);
  if (dtype == DType::kBF16) Bf16ToFloat(reinterpret_cast<const uint16_t*>(from), n, out);
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
  Loader(const ModelFiles& files, const Anatomy& anatomy, const Run& run, std::span<std::byte> staging,
         Threads& threads)
      : files_(files), anatomy_(anatomy), run_(run), threads_(threads) {
    share_ = staging.size() / static_cast<size_t>(threads.count()) / 64 * 64;
    staging_ = staging.data();
  }

  Status Fill(uint32_t id, const Origin& origin) {
    const Slot& slot = anatomy_.at(id);
    if (slot.form == Form::kMatrix) return FillMatrix(id, slot, origin);
    return FillPlain(id, slot, origin);
  }

 private:
  std::byte* Staging(int thread) const { return staging_ + share_ * static_cast<size_t>(thread); }

  Status FillMatrix(uint32_t id, const Slot& slot, const Origin& origin) {
    const Stored& stored = run_.stored({id});
    const PanelFormat format{stored.dtype, stored.group};
    const int64_t out = slot.shape[0], in = slot.shape[1], taps = slot.shape[2], k = in * taps;
    const uint64_t size = SizeOf(origin.dtype), row_bytes = static_cast<uint64_t>(k) * size;
    const uint64_t panel_bytes = kPanel * row_bytes, stride = PanelStride(format, k);
    const bool conv = slot.source == Source::kConv && taps > 1;
    const int64_t panels = (out + kPanel - 1) / kPanel;
    const auto at_once = static_cast<int64_t>(std::max<uint64_t>(1, share_ / (panel_bytes * (conv ? 2 : 1))));
    std::byte* const target = run_.At(id);
    Status failed;
    std::mutex mutex;
    std::atomic<bool> stop{false};
    threads_.For(panels, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t p = begin; p < end && !stop; p += at_once) {
        const int64_t first = p * kPanel, last = std::min(out, std::min(end, p + at_once) * kPanel);
        std::byte* const rows = Staging(thread);
        std::byte* const turned = rows + (conv ? share_ / 2 / 64 * 64 : 0);
        Status read = files_.file(origin.file)
                          .ReadAt(origin.offset + static_cast<uint64_t>(first) * row_bytes,
                                  {rows, static_cast<size_t>(static_cast<uint64_t>(last - first) * row_bytes)});
        if (!read.ok()) {
          const std::lock_guard lock(mutex);
          failed = std::move(read);
          stop = true;
          return;
        }
        for (int64_t r = first; conv && r < last; ++r)
          Transpose(rows + static_cast<uint64_t>(r - first) * row_bytes, in, taps, size,
                    turned + static_cast<uint64_t>(r - first) * row_bytes);
        for (int64_t row = first; row < last; row += kPanel) {
          const std::byte* pointers[kPanel];
          const int64_t count = std::min<int64_t>(kPanel, last - row);
          for (int64_t i = 0; i < count; ++i) pointers[i] = turned + static_cast<uint64_t>(row - first + i) * row_bytes;
          PackPanel(format, origin.dtype, {pointers, static_cast<size_t>(count)}, k,
                    target + static_cast<uint64_t>(row / kPanel) * stride);
        }
      }
    });
    return failed;
  }

  // Vectors and rows: element by element, in pieces of the staging area.
  Status FillPlain(uint32_t id, const Slot& slot, const Origin& origin) {
    const DType to = run_.stored({id}).dtype;
    const uint64_t size = SizeOf(origin.dtype), n = slot.Elements();
    const uint64_t piece = share_ / 8 / 64 * 64;  // source and its fp32 form
    std::byte* const out = run_.At(id);
    std::byte* const raw = Staging(0);
    auto* const wide = reinterpret_cast<float*>(raw + piece * 4);
    for (uint64_t i = 0; i < n; i += piece) {
      const uint64_t count = std::min(piece, n - i);
      TRY(files_.file(origin.file).ReadAt(origin.offset + i * size, {raw, static_cast<size_t>(count * size)}));
      std::byte* const place = out + i * SizeOf(to);
      if (to == origin.dtype) {
        std::memcpy(place, raw, count * size);
        continue;
      }
      const auto elements = static_cast<int64_t>(count);
      ToFloat(raw, origin.dtype, elements, wide);
      if (to == DType::kF32) std::memcpy(place, wide, count * 4);
      if (to == DType::kF16) FloatToHalf(wide, elements, reinterpret_cast<uint16_t*>(place));
      if (to == DType::kBF16) FloatToBf16(wide, elements, reinterpret_cast<uint16_t*>(place));
    }
    return {};
  }

  const ModelFiles& files_;
  const Anatomy& anatomy_;
  const Run& run_;
  Threads& threads_;
  std::byte* staging_;
  size_t share_;
};

}  // namespace

Result<StoredWeights> CheckHeaders(const ModelFiles& files, const Anatomy& anatomy) {
  const SlotsByName by_name = ByName(anatomy);
  std::vector<bool> seen(anatomy.slots().size());
  uint64_t bytes_of[8] = {}, in_files = 0;
  TRY(files.ForEachTensor([&](const TensorHeader& t) -> Status {
    const std::optional<uint32_t> id = Lookup(by_name, t.name);
    if (!id) {
      if (IsTiedCopy(t.name)) return {};
      return BadModel(
          fmt::format("{} holds the tensor '{}', which config.json does not describe; config and weights are not of "
                      "the same model",
                      files.file(t.file).path(), t.name));
    }
    const Slot& slot = anatomy.at(*id);
    if (!SameShape(slot, t.shape))
      return BadModel(
          fmt::format("{}: '{}' has the shape [{}], but config.json makes it [{}]; config and weights are not of the "
                      "same model",
                      files.file(t.file).path(), t.name, fmt::join(t.shape, ", "),
                      fmt::join(std::span(slot.shape).first(static_cast<size_t>(slot.dims)), ", ")));
    const DType dtype = TRY(files.TypeOf(t));
    if (!Readable(dtype))
      return BadModel(fmt::format("{}: '{}' is stored as {}; sotto reads F32, F16 and BF16 weights",
                                  files.file(t.file).path(), t.name, t.type));
    if (seen[*id]) return BadModel(fmt::format("'{}' is in the model's files twice; fetch them again", slot.name));
    seen[*id] = true;
    in_files = SatAdd(in_files, slot.Elements());
    if (slot.form == Form::kMatrix)
      bytes_of[static_cast<int>(dtype)] = SatAdd(bytes_of[static_cast<int>(dtype)], t.bytes);
    return {};
  }));
  for (uint32_t id = 0; id < seen.size(); ++id)
    if (anatomy.at(id).role == Role::kWeight && !seen[id])
      return BadModel(
          fmt::format("the model's files lack the tensor '{}': config.json describes {} parameters, the headers hold "
                      "{}; fetch the model again",
                      anatomy.at(id).name, anatomy.Parameters(), in_files));
  StoredWeights stored;
  stored.parameters = in_files;
  for (const DType t : {DType::kF16, DType::kBF16})
    if (bytes_of[static_cast<int>(t)] > bytes_of[static_cast<int>(stored.dtype)]) stored.dtype = t;
  return stored;
}

uint64_t StagingBytes(const Anatomy& anatomy, int threads) {
  uint64_t most = kLeastStaging;
  for (const Slot& s : anatomy.slots()) {
    if (s.form != Form::kMatrix) continue;
    const uint64_t row = SatMul(SatMul(static_cast<uint64_t>(s.shape[1]), static_cast<uint64_t>(s.shape[2])), 4);
    most = std::max(most, RoundUp(SatMul(row, s.source == Source::kConv ? 2 * kPanel : kPanel), 128));
  }
  return SatMul(most, static_cast<uint64_t>(threads));
}

Status LoadWeights(const ModelFiles& files, const Anatomy& anatomy, const Run& run, std::span<std::byte> staging,
                   Threads& threads, FunctionRef<bool(uint64_t, uint64_t)> progress) {
  CHECK(staging.size() >= StagingBytes(anatomy, threads.count()));
  Loader loader(files, anatomy, run, staging, threads);
  const SlotsByName by_name = ByName(anatomy);
  for (int i = 0; i < files.count(); ++i) ::posix_fadvise(files.file(i).fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
  uint64_t done = 0;
  return files.ForEachTensor([&](const TensorHeader& t) -> Status {
    const std::optional<uint32_t> id = Lookup(by_name, t.name);
    if (!id) return {};
    const DType dtype = TRY(files.TypeOf(t));
    if (!SameShape(anatomy.at(*id), t.shape) || !Readable(dtype))
      return BadModel(fmt::format("{} changed while it was read; fetch it again", files.file(t.file).path()));
    TRY(loader.Fill(*id, {t.file, t.offset, dtype}));
    done += t.bytes;
    if (!progress(done, files.total_bytes())) return Error{Code::kInterrupted, "interrupted while loading the model"};
    return {};
  });
}

}  // namespace sotto
