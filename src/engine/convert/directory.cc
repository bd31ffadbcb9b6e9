#include "engine/convert/directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "engine/fit/record.h"

namespace sotto {

namespace fs = std::filesystem;

PartialDirectory::~PartialDirectory() {
  if (kept_) return;
  std::error_code ignored;
  fs::remove_all(partial_, ignored);
}

Status PartialDirectory::Create() const {
  std::error_code error;
  fs::remove_all(partial_, error);
  if (!error && fs::create_directory(partial_, error)) return {};
  return Failed(
      fmt::format("cannot create {}: {}; check that its folder exists and is writable", partial_, error.message()));
}

Status PartialDirectory::Commit() const {
  const bool replaces = IsDirectory(path_);
  if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, path_.c_str(), replaces ? RENAME_EXCHANGE : 0) == 0) return {};
  return Failed(fmt::format("cannot finish {}: {}; nothing was left behind", path_, std::strerror(errno)));
}

Status CopyBytes(const File& from, uint64_t offset, uint64_t bytes, const AtomicFile& to, uint64_t at, Meter* meter) {
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

Status CopyCompanions(const std::string& from, const std::string& to) {
  constexpr uint64_t kMost = 256 * kMiB;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(from, error)) {
    const std::string name = entry.path().filename().string();
    const bool small = entry.is_regular_file(error) && entry.file_size(error) <= kMost;
    const bool kept = name.ends_with(".json") || name.ends_with(".jinja") || name.ends_with(".txt") ||
                      name.ends_with(".model") || name.ends_with(".md");
    if (name == kFiguresName) continue;  // measured of the original
    if (!small || !kept || name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json")) continue;
    const File file = TRY(File::Open(entry.path().string(), Code::kBadModel));
    AtomicFile copy = TRY(AtomicFile::Create(to + "/" + name));
    TRY(CopyBytes(file, 0, file.size(), copy, 0, nullptr));
    TRY(copy.Commit());
  }
  return error ? Status(Failed(fmt::format("cannot list {}: {}", from, error.message()))) : Status();
}

void Listing::Add(std::string name, std::string type, std::string shape, uint64_t n) {
  entries.push_back({std::move(name), std::move(type), std::move(shape), bytes, n});
  bytes += n;
}

std::string Listing::Header(const std::string& metadata, uint64_t room) const {
  std::string json = R"({"__metadata__":)" + metadata;
  for (const Entry& t : entries)
    json += fmt::format(R"(,{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", Json(t.name).dump(), t.type,
                        t.shape, t.offset, t.offset + t.bytes);
  json += "}";
  json.resize(std::max<uint64_t>(RoundUp(json.size(), 8), room > 8 ? room - 8 : 0), ' ');
  const uint64_t size = json.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + json;
}

std::string ShapeOf(const Slot& s) {
  std::string shape;
  for (int i = 0; i < s.dims; ++i) shape += fmt::format("{}{}", i == 0 ? "" : ",", s.shape[static_cast<size_t>(i)]);
  return "[" + shape + "]";
}

}  // namespace sotto
