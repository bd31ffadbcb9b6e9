#include "plan/machine.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

namespace sotto {
namespace {

std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream in(path);
  std::string word;
  if (!(in >> word) || word == "max" || word.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  try {
    return std::stoull(word);
  } catch (...) {  // out of range: no limit
    return std::nullopt;
  }
}

// The value of the line "key 123" or "key: 123 kB".
std::optional<uint64_t> ReadField(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string name, unit;
    uint64_t value = 0;
    if (!(words >> name >> value)) continue;
    if (!name.empty() && name.back() == ':') name.pop_back();
    if (name != key) continue;
    words >> unit;
    return unit == "kB" ? SatMul(value, 1024) : value;
  }
  return std::nullopt;
}

uint64_t CgroupFree(const std::string& dir, const char* limit_file, const char* usage_file, const char* inactive_key,
                    const char* slab_key) {
  const auto limit = ReadNumber(dir + "/" + limit_file);
  const auto usage = ReadNumber(dir + "/" + usage_file);
  if (!limit || !usage) return UINT64_MAX;
  const uint64_t reclaimable = SatAdd(ReadField(dir + "/memory.stat", inactive_key).value_or(0),
                                      ReadField(dir + "/memory.stat", slab_key).value_or(0));
  const uint64_t used = *usage > reclaimable ? *usage - reclaimable : 0;
  return *limit > used ? *limit - used : 0;
}

// Walks from the process's group up to the mount's root.
uint64_t CgroupsFree(const std::string& root) {
  uint64_t least = UINT64_MAX;
  std::ifstream in(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    const bool v2 = controllers.empty();
    if (!v2 && ("," + controllers + ",").find(",memory,") == std::string::npos) continue;
    const std::string mount = root + (v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    for (;;) {
      const std::string dir = mount + (path == "/" ? "" : path);
      least = std::min(least, v2 ? CgroupFree(dir, "memory.max", "memory.current", "inactive_file", "slab_reclaimable")
                                 : CgroupFree(dir, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                              "total_inactive_file", "total_slab_reclaimable"));
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return least;
}

uint64_t LimitLeft(int resource, uint64_t used) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return UINT64_MAX;
  return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}

}  // namespace

Bytes AvailableMemory(const std::string& root) {
  uint64_t least = ReadField(root + "/proc/meminfo", "MemAvailable").value_or(UINT64_MAX);
  least = std::min(least, CgroupsFree(root));
  const std::string status = root + "/proc/self/status";
  least = std::min(least, LimitLeft(RLIMIT_AS, ReadField(status, "VmSize").value_or(0)));
  least = std::min(least, LimitLeft(RLIMIT_DATA, ReadField(status, "VmData").value_or(0)));
  // What this process already has resident is part of its budget, not on top of it.
  return Bytes{least} + Bytes{ReadField(status, "VmRSS").value_or(0)};
}

Bytes PeakResident() { return {ReadField("/proc/self/status", "VmHWM").value_or(0)}; }
Bytes Resident() { return {ReadField("/proc/self/status", "VmRSS").value_or(0)}; }

Bytes RuntimeBound(int threads, int streams) {
  constexpr uint64_t kProcess = 9 * kMiB, kThread = 128 * kKiB;
  // Decoders of audio files: a file alone may be anything; files side by side have at most two coded channels. Two never count
  // less than one, so that a plan grows with its batch.
  constexpr uint64_t kLoneStream = 5 * kMiB, kStream = 1536 * kKiB;
  const uint64_t audio = streams == 0 ? 0 : std::max(kLoneStream, kStream * static_cast<uint64_t>(streams));
  return {RoundUp(kProcess + kThread * static_cast<uint64_t>(threads) + audio, kMiB)};
}

}  // namespace sotto
