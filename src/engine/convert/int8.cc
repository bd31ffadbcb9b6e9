#include "engine/convert/int8.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "codec/panel.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;

constexpr PanelFormat kCodes{DType::kI8, 4};

// A directory under another name until Commit(); removed without it.
class PartialDirectory {
 public:
  explicit PartialDirectory(std::string path) : path_(std::move(path)), partial_(path_ + ".partial") {}
  PartialDirectory(const PartialDirectory&) = delete;
  PartialDirectory& operator=(const PartialDirectory&) = delete;
  ~PartialDirectory() {
    std::error_code ignored;
    fs::remove_all(partial_, ignored);
  }
  const std::string& partial() const { return partial_; }

  Status Create() const {
    std::error_code error;
    fs::remove_all(partial_, error);
    if (!error && fs::create_directory(partial_, error)) return {};
    return Failed(
        fmt::format("cannot create {}: {}; check that its folder exists and is writable", partial_, error.message()));
  }
  // One step, also where there is a directory already, which is then removed.
  Status Commit() const {
    const bool replaces = IsDirectory(path_);
    if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, path_.c_str(), replaces ? RENAME_EXCHANGE : 0) == 0)
      return {};
    return Failed(fmt::format("cannot finish {}: {}; nothing was left behind", path_, std::strerror(errno)));
  }

 private:
  std::string path_, partial_;
};

// A tensor of the new file.
struct Entry {
  std::string name, type, shape;  // as the header writes them
  uint64_t offset = 0, bytes = 0;
};

struct Listing {
  std::vector<Entry> entries;
  uint64_t bytes = 0;

  void Add(std::string name, std::string type, std::string shape, uint64_t n) {
    entries.push_back({std::move(name), std::move(type), std::move(shape), bytes, n});
    bytes += n;
  }
  // Aligned to 8 by spaces, as the reference implementation writes it.
  std::string Header() const {
    std::string json = R"({"__metadata__":{"format":"pt","sotto.weights":"int8","sotto.scales":"row"})";
    for (const Entry& t : entries)
      json += fmt::format(R"(,{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", Json(t.name).dump(), t.type,
                          t.shape, t.offset, t.offset + t.bytes);
    json += "}";
    json.resize(RoundUp(json.size(), 8), ' ');
    const uint64_t size = json.size();
    return std::string(reinterpret_cast<const char*>(&size), 8) + json;
  }
};

std::string ShapeOf(const Slot& s) {
  std::string shape;
  for (int i = 0; i < s.dims; ++i) shape += fmt::format("{}{}", i == 0 ? "" : ",", s.shape[static_cast<size_t>(i)]);
  return "[" + shape + "]";
}

// Codes and scales of whole panels, made by the same code that makes them when a model is loaded.
Status WriteMatrix(const AtomicFile& file, uint64_t codes_at, uint64_t scales_at, const Passage& p, Threads& threads,
                   Meter& meter) {
  struct Buffers {
    std::vector<std::byte> panel, codes;
    std::vector<float> scales;
  };
  std::vector<Buffers> buffers(static_cast<size_t>(threads.count()));
  const auto cols = static_cast<size_t>(p.cols);
  return PassRows(p, kPanel, threads, meter, [&](int64_t first, std::span<const float> rows, int thread) -> Status {
    Buffers& b = buffers[static_cast<size_t>(thread)];
    const size_t count = rows.size() / cols;
    b.panel.resize(PanelStride(kCodes, p.cols));
    b.codes.resize(rows.size());
    b.scales.resize(count);
    for (size_t row = 0; row < count; row += kPanel) {
      const std::byte* pointers[kPanel];
      const size_t lanes = std::min<size_t>(kPanel, count - row);
      for (size_t i = 0; i < lanes; ++i) pointers[i] = std::as_bytes(rows.subspan((row + i) * cols)).data();
      PackPanel(kCodes, DType::kF32, {pointers, lanes}, p.cols, b.panel.data());
      std::memcpy(&b.scales[row], b.panel.data() + ScalesOffset(kCodes, p.cols), lanes * sizeof(float));
      constexpr size_t kGroup = 4;
      for (size_t i = 0; i < lanes; ++i)
        for (size_t k = 0; k < cols; k += kGroup)
          std::memcpy(&b.codes[(row + i) * cols + k], &b.panel[(k / kGroup * kPanel + i) * kGroup],
                      std::min(kGroup, cols - k));
    }
    TRY(file.WriteAt(codes_at + static_cast<uint64_t>(first) * cols, b.codes));
    return file.WriteAt(scales_at + static_cast<uint64_t>(first) * 4, std::as_bytes(std::span(b.scales)));
  });
}

// Byte by byte, in pieces.
Status Copy(const File& from, uint64_t offset, uint64_t bytes, const AtomicFile& to, uint64_t at, Meter* meter) {
  std::vector<std::byte> piece(static_cast<size_t>(std::min<uint64_t>(bytes, kMiB)));
  for (uint64_t i = 0; i < bytes; i += piece.size()) {
    const auto part = std::span(piece).first(static_cast<size_t>(std::min<uint64_t>(piece.size(), bytes - i)));
    TRY(from.ReadAt(offset + i, part));
    TRY(to.WriteAt(at + i, part));
    if (meter != nullptr && !meter->Pass(part.size()))
      return Error{Code::kInterrupted, "interrupted; nothing was left behind"};
  }
  return {};
}

// Everything beside the weights that a model directory has: config, tokenizer, templates.
Status CopyCompanions(const std::string& from, const std::string& to) {
  constexpr uint64_t kMost = 256 * kMiB;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(from, error)) {
    const std::string name = entry.path().filename().string();
    const bool small = entry.is_regular_file(error) && entry.file_size(error) <= kMost;
    const bool kept = name.ends_with(".json") || name.ends_with(".jinja") || name.ends_with(".txt") ||
                      name.ends_with(".model") || name.ends_with(".md");
    if (!small || !kept || name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json")) continue;
    const File file = TRY(File::Open(entry.path().string(), Code::kBadModel));
    AtomicFile copy = TRY(AtomicFile::Create(to + "/" + name));
    TRY(Copy(file, 0, file.size(), copy, 0, nullptr));
    TRY(copy.Commit());
  }
  return error ? Status(Failed(fmt::format("cannot list {}: {}", from, error.message()))) : Status();
}

}  // namespace

Result<Converted> WriteInt8(const Original& original, const ConvertRequest& request, ConvertProgress progress) {
  Listing plan;
  Converted done;
  uint64_t total = 0;
  std::vector<std::pair<uint32_t, size_t>> slots;  // and their first target
  for (uint32_t id = 0; id < original.origins.size(); ++id) {
    const Slot& slot = original.anatomy->at(id);
    const WeightOrigin& origin = original.origins[id];
    if (slot.role != Role::kWeight || origin.file == nullptr) continue;
    slots.emplace_back(id, plan.entries.size());
    total += origin.bytes;
    const bool matrix = slot.form == Form::kMatrix;
    std::string type(origin.type->name);
    plan.Add(slot.name, matrix ? "I8" : type, ShapeOf(slot), matrix ? slot.Elements() : origin.bytes);
    done.by_type[matrix ? "int8" : LowerName(*origin.type)] += plan.entries.back().bytes;
    if (!matrix) continue;
    plan.Add(slot.name + ".scale", "F32", fmt::format("[{}]", slot.shape[0]), static_cast<uint64_t>(slot.shape[0]) * 4);
    done.by_type["f32"] += plan.entries.back().bytes;
  }

  const PartialDirectory out(request.out);
  TRY(out.Create());
  TRY(CopyCompanions(original.dir.path, out.partial()));
  AtomicFile file = TRY(AtomicFile::Create(out.partial() + "/model.safetensors"));
  const std::string header = plan.Header();
  TRY(file.Reserve(header.size() + plan.bytes));
  TRY(file.Write(header));
  Threads threads(request.threads);
  Meter meter(total, progress);
  for (const auto& [id, first] : slots) {
    const Slot& slot = original.anatomy->at(id);
    const uint64_t at = header.size() + plan.entries[first].offset;
    const Passage passage{original.origins[id], slot.shape[0], slot.shape[1] * slot.shape[2], 0, slot.name};
    if (slot.form == Form::kMatrix)
      TRY(WriteMatrix(file, at, header.size() + plan.entries[first + 1].offset, passage, threads, meter));
    else
      TRY(Copy(*passage.from.file, passage.from.offset, passage.from.bytes, file, at, &meter));
  }
  TRY(file.Commit());
  TRY(out.Commit());
  done.tensors = plan.entries.size();
  done.tensor_bytes = plan.bytes;
  done.file_bytes = header.size() + plan.bytes;
  return done;
}

}  // namespace sotto
