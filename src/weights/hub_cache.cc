#include "weights/hub_cache.h"

#include <dirent.h>

#include <algorithm>
#include <cstdlib>

#include "base/file.h"

namespace sotto {
namespace {

constexpr size_t kMaxRepoId = 96, kMaxRevision = 255, kMaxFileName = 255;
constexpr uint64_t kMaxRefBytes = 255;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string ExpandHome(std::string path) {
  if (path == "~" || path.starts_with("~/")) path.replace(0, 1, Environment("HOME"));
  return path;
}

bool IsWordByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

}  // namespace

std::string HubHome() {
  if (const std::string home = Environment("HF_HOME"); !home.empty()) return ExpandHome(home);
  if (const std::string xdg = Environment("XDG_CACHE_HOME"); !xdg.empty()) return ExpandHome(xdg) + "/huggingface";
  return Environment("HOME") + "/.cache/huggingface";
}

std::string HubCacheDir() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const std::string cache = Environment(name); !cache.empty()) return ExpandHome(cache);
  return HubHome() + "/hub";
}

bool IsRepoId(std::string_view id) {
  if (id.empty() || id.size() > kMaxRepoId || std::count(id.begin(), id.end(), '/') > 1) return false;
  if (id.find("--") != id.npos || id.find("..") != id.npos || id.ends_with(".git")) return false;
  const auto part_is_good = [](std::string_view part) {
    const auto edge = [](char c) { return c == '-' || c == '.'; };
    return !part.empty() && std::all_of(part.begin(), part.end(), IsWordByte) && !edge(part.front()) &&
           !edge(part.back());
  };
  const size_t slash = id.find('/');
  if (slash == id.npos) return part_is_good(id);
  return part_is_good(id.substr(0, slash)) && part_is_good(id.substr(slash + 1));
}

bool IsRevision(std::string_view revision) {
  if (revision.empty() || revision.size() > kMaxRevision) return false;
  while (true) {
    const size_t slash = revision.find('/');
    const std::string_view part = revision.substr(0, slash);
    if (!IsPlainName(part) || !std::all_of(part.begin(), part.end(), IsWordByte)) return false;
    if (slash == revision.npos) return true;
    revision.remove_prefix(slash + 1);
  }
}

bool IsPlainName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxFileName && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](char c) {
           return c == '/' || c == '\\' || static_cast<unsigned char>(c) < ' ' || c == '\x7f';
         });
}

std::string RepoFolder(std::string_view id) {
  CHECK(IsRepoId(id));
  std::string folder = "models--";
  for (const char c : id) folder += c == '/' ? "--" : std::string(1, c);
  return folder;
}

std::string CachedCommit(const std::string& repo, const std::string& revision) {
  if (!IsRevision(revision)) return "";
  const Result<std::string> ref = ReadSmallFile(repo + "/refs/" + revision, kMaxRefBytes, Code::kBadModel);
  if (ref.ok()) {
    const std::string_view text = ref.value();
    const std::string_view commit = text.substr(0, text.find_last_not_of(" \r\n") + 1);
    if (IsPlainName(commit)) return std::string(commit);
  }
  if (IsPlainName(revision) && IsDirectory(repo + "/snapshots/" + revision)) return revision;
  return "";
}

std::vector<std::string> ListDirectory(const std::string& path) {
  std::vector<std::string> names;
  DIR* dir = opendir(path.c_str());
  if (dir == nullptr) return names;
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace sotto
