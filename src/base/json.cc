#include "base/json.h"

#include <fmt/format.h>

#include "base/file.h"

namespace sotto {
namespace {
constexpr int kMaxDepth = 64;
constexpr uint64_t kMaxConfigBytes = 4 << 20;
}  // namespace

Result<Json> ParseJson(std::string_view text, const std::string& where, Code code) {
  bool too_deep = false;
  const auto guard = [&](int depth, Json::parse_event_t, Json&) {
    too_deep |= depth > kMaxDepth;
    return !too_deep;  // false drops the value, so a deep document costs no memory
  };
  Json parsed = Json::parse(text.begin(), text.end(), guard, /*allow_exceptions=*/false);
  if (too_deep) return Error{code, fmt::format("{} nests deeper than {} levels; it is not a config", where, kMaxDepth)};
  if (parsed.is_discarded()) return Error{code, fmt::format("{} is not valid JSON; fetch the file again", where)};
  return parsed;
}

Result<Json> ReadJson(const std::string& path, Code code) {
  const std::string text = TRY(ReadSmallFile(path, kMaxConfigBytes, code));
  return ParseJson(text, path, code);
}

}  // namespace sotto
