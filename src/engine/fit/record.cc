#include "engine/fit/record.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/bytes.h"
#include "base/file.h"
#include "codec/checksum.h"
#include "weights/hub_cache.h"

namespace sotto {
namespace {
constexpr uint64_t kBeginning = kMiB, kPiece = 16 * kKiB;
}  // namespace

Result<FileState> StateOf(const std::string& path, Code code) {
  const File file = TRY(File::Open(path, code));
  FileState s{file.size(), 0, 0};
  std::array<std::byte, kPiece> piece;
  for (uint64_t at = 0; at < std::min(s.bytes, kBeginning); at += kPiece) {
    const auto part = std::span(piece).first(std::min(kPiece, s.bytes - at));
    TRY(file.ReadAt(at, part));
    s.checksum = Checksum(part, s.checksum);
  }
  struct stat status {};
  if (::fstat(file.fd(), &status) == 0) s.changed = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
  return s;
}

std::string ChecksumText(uint64_t checksum) { return fmt::format("{:016x}", checksum); }

std::vector<std::string> FilesOf(const ModelDir& dir) {
  std::vector<std::string> files;
  if (!dir.gguf_path.empty()) {
    files.push_back(dir.gguf_path);
    if (!dir.mmproj_path.empty()) files.push_back(dir.mmproj_path);
    return files;
  }
  for (const std::string& name : ListDirectory(dir.path))
    for (const char* end : {".safetensors", ".json", ".model", ".txt", ".jinja"})
      if (name.ends_with(end) && name != kFiguresName) files.push_back(dir.path + "/" + name);
  return files;
}

Result<std::string> StateOfModel(const ModelDir& dir) {
  uint64_t sum = 0;
  std::vector<std::string> files = FilesOf(dir);
  std::sort(files.begin(), files.end());
  for (const std::string& path : files) {
    const FileState s = TRY(StateOf(path));
    const std::string text =
        fmt::format("{} {} {} {}\n", path.substr(path.rfind('/') + 1), s.bytes, s.changed, ChecksumText(s.checksum));
    sum = Checksum(std::as_bytes(std::span(text)), sum);
  }
  return ChecksumText(sum);
}

Result<std::string> Reader::Text(const char* key) const {
  const auto it = object_.find(key);
  if (it == object_.end() || !it->is_string()) return Broken(key);
  return it->get<std::string>();
}

Result<int64_t> Reader::Whole(const char* key, int64_t least, int64_t most) const {
  const auto it = object_.find(key);
  if (it == object_.end() || !it->is_number_integer() || (it->is_number_unsigned() && it->get<uint64_t>() > INT64_MAX))
    return Broken(key);
  const auto value = it->get<int64_t>();
  return value >= least && value <= most ? Result<int64_t>(value) : Broken(key);
}

Result<double> Reader::Number(const char* key) const {
  const auto it = object_.find(key);
  if (it == object_.end() || !it->is_number() || !std::isfinite(it->get<double>())) return Broken(key);
  return it->get<double>();
}

Result<bool> Reader::Flag(const char* key) const {
  const auto it = object_.find(key);
  if (it == object_.end() || !it->is_boolean()) return Broken(key);
  return it->get<bool>();
}

Result<Reader> Reader::Object(const char* key) const {
  const auto it = object_.find(key);
  if (it == object_.end() || !it->is_object()) return Broken(key);
  return Reader(*it, path_, what_);
}

Result<std::vector<Reader>> Reader::List(const char* key) const {
  const auto it = object_.find(key);
  if (it == object_.end() || !it->is_array()) return Broken(key);
  std::vector<Reader> all;
  for (const Json& entry : *it) {
    if (!entry.is_object()) return Broken(key);
    all.emplace_back(entry, path_, what_);
  }
  return all;
}

Error Reader::Broken(const char* key) const {
  return BadModel(fmt::format("{} is not {} ('{}'); make it again", path_, what_, key));
}

}  // namespace sotto
