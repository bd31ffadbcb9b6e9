#include "weights/loader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>

#include "codec/ggml_blocks.h"
#include "codec/planes.h"
#include "weights/model_dir.h"

namespace sotto {
namespace {

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

const GgmlType& TypeOf(DType t) {
  return *FindGgmlType(std::string_view(t == DType::kF32   ? "F32"
                                        : t == DType::kF16 ? "F16"
                                        : t == DType::kI8  ? "I8"
                                                           : "BF16"));
}

// The matrix that a tensor's name belongs to, and what it is of it; scales have names of their own.
std::pair<std::string_view, Piece> MatrixOf(std::string_view name) {
  if (!name.ends_with(kPlanesSuffix)) return {name, Piece::kWhole};
  name.remove_suffix(kPlanesSuffix.size());
  return {name, Piece::kPlanes};
}

}  // namespace

Result<std::vector<NamedPart>> OpenParts(const Json& config) {
  std::vector<NamedPart> parts;
  for (const auto& [key, from, to] : {std::tuple("text_model_id", "", "language_model."),
                                      std::tuple("audio_model_id", "model.encoder.", "audio_tower.")}) {
    const auto it = config.find(key);
    if (it == config.end() || !it->is_string()) continue;
    NamedPart part{key, it->get<std::string>(), from, to, std::nullopt};
    const Result<ModelDir> dir = FindModel(part.id, ModelUse::kRun);
    if (dir.ok() && dir->gguf_path.empty()) part.files = TRY(ModelFiles::Open(dir->path));
    parts.push_back(std::move(part));
  }
  return parts;
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

namespace {

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
      kept[id] = {slot.Elements(), t.bytes, nullptr, true, t.offset};
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

namespace {
// Fills one slot after the other, but lists those that are in a ring; checks those that are mapped.
class Loading {
 public:
  Loading(const Anatomy& anatomy, const Run& run, std::span<std::byte> staging, Threads& threads,
          std::vector<SlotTensor>* streamed, FunctionRef<bool(uint64_t, uint64_t)> progress)
      : anatomy_(anatomy),
        run_(run),
        filler_(anatomy, run, staging, threads),
        streamed_(streamed),
        progress_(progress) {}
  void Expect(uint64_t bytes) { all_ += bytes; }
  Status Take(const SlotTensor& t) {
    const Stored& stored = run_.stored({t.id});
    if (stored.inside != kNoSlot && !IsMapped(anatomy_, stored))
      streamed_->push_back(t);
    else
      TRY(filler_.Fill(t));
    done_ += t.origin.bytes;
    return progress_(done_, std::max(all_, done_)) ? Status() : Status(Interrupted());
  }

 private:
  const Anatomy& anatomy_;
  const Run& run_;
  SlotFiller filler_;
  std::vector<SlotTensor>* streamed_;
  FunctionRef<bool(uint64_t, uint64_t)> progress_;
  uint64_t done_ = 0, all_ = 0;
};
}  // namespace

Status LoadWeights(const ModelFiles& files, std::span<const NamedPart> parts, const Anatomy& anatomy, const Run& run,
                   std::span<std::byte> staging, Threads& threads, std::vector<SlotTensor>* streamed,
                   FunctionRef<bool(uint64_t, uint64_t)> progress) {
  CHECK(staging.size() >= StagingBytes(anatomy, threads.count(), false));
  Loading loading(anatomy, run, staging, threads, streamed, progress);
  const auto expect = [&](const ModelFiles& f) {
    for (int i = 0; i < f.count(); ++i) ::posix_fadvise(f.file(i).fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
    loading.Expect(f.total_bytes());
  };
  expect(files);
  for (const NamedPart& part : parts)
    if (part.files) expect(*part.files);
  // Scales come last: codes are in their panels then, whatever the order in the files.
  bool int8 = false;
  for (const bool scales : {false, true}) {
    if (scales && !int8) break;
    TRY(ForEachWeight(
        files, parts, anatomy, [&](uint32_t id, const ModelFiles& from, const TensorHeader& t, Piece piece) -> Status {
          int8 = int8 || piece == Piece::kScale;
          if ((piece == Piece::kScale) != scales) return {};
          WeightOrigin origin{&from.file(t.file), t.offset, t.bytes, nullptr, 0};
          if (piece != Piece::kPlanes) {
            const DType dtype = TRY(from.TypeOf(t));
            if (!scales && (!SameShape(anatomy.at(id), t.shape) || !Readable(dtype)))
              return BadModel(fmt::format("{} changed while it was read; fetch it again", origin.file->path()));
            origin.type = &TypeOf(dtype);
          }
          return loading.Take({id, piece, origin});
        }));
  }
  return {};
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
                   Threads& threads, std::vector<SlotTensor>* streamed,
                   FunctionRef<bool(uint64_t, uint64_t)> progress) {
  CHECK(staging.size() >= StagingBytes(anatomy, threads.count(), true));
  Loading loading(anatomy, run, staging, threads, streamed, progress);
  bool first = true;
  TRY(gguf.ForEachWeight(anatomy, [&](uint32_t, const WeightOrigin& origin) -> Status {
    if (first) ::posix_fadvise(origin.file->fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
    first = false;
    loading.Expect(origin.bytes);
    return {};
  }));
  return gguf.ForEachWeight(anatomy, [&](uint32_t id, const WeightOrigin& origin) {
    return loading.Take({id, Piece::kWhole, origin});
  });
}

}  // namespace sotto
