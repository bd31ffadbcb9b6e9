// Counts this process's heap allocations while armed: malloc and its kin are replaced in the test program (glibc only, and not
// under a sanitizer, which replaces them itself).
#pragma once
#include <cstddef>
#include <cstdint>

namespace sotto {

struct HeapCount {
  int64_t calls = 0;
  int64_t large = 0;   // of more than 64 KiB
  size_t largest = 0;  // bytes
  bool available = false;
};

void StartHeapCount();
HeapCount StopHeapCount();

}  // namespace sotto
