// Machine: how much memory this process may still take, and how much it takes besides its arena.
#pragma once
#include <string>

#include "base/bytes.h"

namespace sotto {

// The least of MemAvailable, of limit - (usage - reclaimable) for every cgroup ancestor (v1 and v2) and of RLIMIT_AS and
// RLIMIT_DATA. Page cache is not "used". `root` is prefixed to /proc and /sys (tests).
Bytes AvailableMemory(const std::string& root = "");

// Peak resident set of this process so far (VmHWM), and its current one (VmRSS).
Bytes PeakResident();
Bytes Resident();

// What a process takes beside its arena: the binary and its libraries' touched pages, stacks, the audio libraries' own memory,
// small heap. An upper bound, checked on real processes by tests/budget_test.cc and for the audio libraries by
// audio/fuzz_test.cc, rounded up to 1 MiB so that refusals are reproducible. `streams`: audio files open at once.
Bytes RuntimeBound(int threads, int streams);

}  // namespace sotto
