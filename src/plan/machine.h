// Machine: how much memory this process may still take, and how much it takes besides its arena.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace sotto {

// `root` is prefixed to /proc and /sys (tests).
struct SystemMemory {
  Bytes total;                 // MemTotal, or the least limit of a cgroup ancestor where that is less
  Bytes available;             // for something new, beside what runs, this process included
  std::optional<Bytes> limit;  // of cgroups, where it is less than MemTotal
};
// `available` is the least of MemAvailable, of limit - (usage - reclaimable) for every cgroup ancestor (v1 and v2) and
// of what RLIMIT_AS and RLIMIT_DATA leave. Page cache is not "used".
SystemMemory ReadSystemMemory(const std::string& root = "");

// The same for this process's own budget: what it has resident already is part of it.
Bytes AvailableMemory(const std::string& root = "");

// Processes whose name (/proc/<id>/comm) is this, the largest first.
struct ProcessMemory {
  int id = 0;
  std::string arguments;  // the beginning of its command line, without the program and without control characters
  Bytes resident;
};
std::vector<ProcessMemory> ProcessesNamed(const std::string& name, const std::string& root = "");

// Peak resident set of this process so far (VmHWM), and its current one (VmRSS).
Bytes PeakResident();
Bytes Resident();

// What a process takes beside its arena: the binary and its libraries' touched pages, stacks, the audio libraries' own
// memory, small heap. An upper bound, checked on real processes by tests/budget_test.cc and for the audio libraries by
// audio/fuzz_test.cc, rounded up to 1 MiB so that refusals are reproducible. `streams`: audio files open at once.
Bytes RuntimeBound(int threads, int streams);

}  // namespace sotto
