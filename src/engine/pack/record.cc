#include "engine/pack/record.h"

#include "base/bytes.h"

namespace sotto {
namespace {

constexpr uint64_t kMostBytes = 256 * kMiB;

}  // namespace

PackRecord::PackRecord(const std::string& path, Json identity, size_t matrices)
    : path_(path), identity_(std::move(identity)) {
  const Result<std::string> text = ReadSmallFile(path + ".partial", kMostBytes, Code::kFailed);
  if (text.ok()) Read(*text, matrices);
}

void PackRecord::Read(std::string_view text, size_t matrices) {
  // What stands behind the last line feed was cut.
  for (int line = 0; text.find('\n') != text.npos; ++line) {
    const Result<Json> j = ParseJson(text.substr(0, text.find('\n')), path_, Code::kFailed);
    text.remove_prefix(text.find('\n') + 1);
    if (!j.ok() || (line == 0 && *j != identity_)) return;
    if (line == 1) {
      if (!j->is_array() || j->size() != matrices) return;
      for (const Json& m : *j) multiples_.push_back(m.is_number() ? m.get<double>() : 1);
      continues_ = true;
    }
    if (line > 1 && j->is_object() && j->contains("name") && (*j)["name"].is_string())
      matrices_[(*j)["name"].get<std::string>()] = *j;
  }
}

const Json* PackRecord::Find(const std::string& name) const {
  const auto it = matrices_.find(name);
  return it == matrices_.end() ? nullptr : &it->second;
}

Status PackRecord::Begin(const std::vector<double>& multiples) {
  file_ = TRY(AtomicFile::Create(path_));
  if (!continues_) multiples_ = multiples;
  TRY(Write(identity_));
  TRY(Write(multiples_));
  for (const auto& [name, matrix] : matrices_) TRY(Write(matrix));
  return {};
}

Status PackRecord::Add(const Json& matrix) { return Write(matrix); }

Status PackRecord::Write(const Json& line) {
  return file_.Write(line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace sotto
