#include "plan/machine.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

namespace sotto {
namespace {

constexpr size_t kMostProcesses = 1000, kMostCommand = 200;

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

struct Room {
  uint64_t free = UINT64_MAX, limit = UINT64_MAX;
};

Room CgroupRoom(const std::string& dir, const char* limit_file, const char* usage_file, const char* inactive_key,
                const char* slab_key) {
  const auto limit = ReadNumber(dir + "/" + limit_file);
  const auto usage = ReadNumber(dir + "/" + usage_file);
  if (!limit || !usage) return {};
  const uint64_t reclaimable = SatAdd(ReadField(dir + "/memory.stat", inactive_key).value_or(0),
                                      ReadField(dir + "/memory.stat", slab_key).value_or(0));
  const uint64_t used = *usage > reclaimable ? *usage - reclaimable : 0;
  return {*limit > used ? *limit - used : 0, *limit};
}

// Walks from the process's group up to the mount's root.
Room CgroupsRoom(const std::string& root) {
  Room least;
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
      const Room room = v2 ? CgroupRoom(dir, "memory.max", "memory.current", "inactive_file", "slab_reclaimable")
                           : CgroupRoom(dir, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                                        "total_slab_reclaimable");
      least = {std::min(least.free, room.free), std::min(least.limit, room.limit)};
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

SystemMemory ReadSystemMemory(const std::string& root) {
  const std::string meminfo = root + "/proc/meminfo", status = root + "/proc/self/status";
  const Room cgroups = CgroupsRoom(root);
  const uint64_t physical = ReadField(meminfo, "MemTotal").value_or(UINT64_MAX);
  SystemMemory memory;
  memory.total = {std::min(physical, cgroups.limit)};
  if (cgroups.limit < physical) memory.limit = Bytes{cgroups.limit};
  uint64_t least = std::min(ReadField(meminfo, "MemAvailable").value_or(UINT64_MAX), cgroups.free);
  least = std::min(least, LimitLeft(RLIMIT_AS, ReadField(status, "VmSize").value_or(0)));
  least = std::min(least, LimitLeft(RLIMIT_DATA, ReadField(status, "VmData").value_or(0)));
  memory.available = {least};
  return memory;
}

Bytes AvailableMemory(const std::string& root) {
  // What this process already has resident is part of its budget, not on top of it.
  return ReadSystemMemory(root).available + Bytes{ReadField(root + "/proc/self/status", "VmRSS").value_or(0)};
}

std::vector<ProcessMemory> ProcessesNamed(const std::string& name, const std::string& root) {
  std::vector<ProcessMemory> found;
  std::error_code ignored;  // a process that ends meanwhile is left out
  for (const auto& entry : std::filesystem::directory_iterator(root + "/proc", ignored)) {
    const std::string id = entry.path().filename().string(), dir = entry.path().string();
    if (id.size() > 9 || id.find_first_not_of("0123456789") != std::string::npos) continue;
    std::string comm, command;
    std::getline(std::ifstream(dir + "/comm"), comm);
    const auto resident = ReadField(dir + "/status", "VmRSS");
    if (comm != name || !resident) continue;
    std::ifstream arguments(dir + "/cmdline", std::ios::binary);
    std::getline(arguments, command, '\0');  // the program's path says no more than its name
    command.assign(kMostCommand, '\0');
    arguments.read(command.data(), kMostCommand);
    command.resize(static_cast<size_t>(arguments.gcount()));
    while (command.ends_with('\0')) command.pop_back();
    for (char& c : command)
      if (c >= 0 && c < ' ') c = ' ';
    found.push_back({std::stoi(id), command, Bytes{*resident}});
    if (found.size() == kMostProcesses) break;
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.resident > b.resident; });
  return found;
}

Bytes PeakResident() { return {ReadField("/proc/self/status", "VmHWM").value_or(0)}; }
Bytes Resident() { return {ReadField("/proc/self/status", "VmRSS").value_or(0)}; }

Bytes RuntimeBound(int threads, int streams) {
  constexpr uint64_t kProcess = 9 * kMiB, kThread = 128 * kKiB;
  // Decoders of audio files: a file alone may be anything; files side by side have at most two coded channels. Two
  // never count less than one, so that a plan grows with its batch.
  constexpr uint64_t kLoneStream = 5 * kMiB, kStream = 1536 * kKiB;
  const uint64_t audio = streams == 0 ? 0 : std::max(kLoneStream, kStream * static_cast<uint64_t>(streams));
  return {RoundUp(kProcess + kThread * static_cast<uint64_t>(threads) + audio, kMiB)};
}

}  // namespace sotto
