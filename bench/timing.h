// What the programs of bench/ that time kernels share: clocks, memory as the arena has it, a plain read.
#pragma once
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "base/threads.h"
#include "plan/view.h"

namespace sotto {

inline double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double ProcessorTime() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// What disturbs a single thread least: its own processor time.
inline auto ClockFor(const Threads& threads) { return threads.count() == 1 ? ProcessorTime : Now; }

struct Block {
  explicit Block(uint64_t bytes, bool huge_pages = true) : n(bytes) {
    const uint64_t size = RoundUp(bytes + 1, 2 << 20);
    data.reset(static_cast<std::byte*>(std::aligned_alloc(2 << 20, size)));
    ::madvise(data.get(), size, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);  // as the arena does
    for (uint64_t i = 0; i < bytes; i += 4) {
      const float v = static_cast<float>((i * 2654435761u >> 7) % 2001) / 1000.0f - 1.0f;
      std::memcpy(data.get() + i, &v, std::min<uint64_t>(4, bytes - i));
    }
  }
  View view(int64_t rows, int64_t cols) const { return {data.get(), DType::kF32, rows, cols, cols}; }
  uint64_t n;
  std::unique_ptr<std::byte, decltype(&std::free)> data{nullptr, std::free};
};

// Reads whole MiB of a block once, by all threads.
inline void ReadAll(const Block& block, Threads* threads) {
  threads->For(static_cast<int64_t>(block.n >> 20), 1, [&](int64_t begin, int64_t end, int) {
    const auto* p = reinterpret_cast<const uint64_t*>(block.data.get() + (begin << 20));
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (int64_t i = 0; i < (end - begin) << 17; i += 4) a += p[i], b += p[i + 1], c += p[i + 2], d += p[i + 3];
    volatile uint64_t sink = a ^ b ^ c ^ d;
    (void)sink;
  });
}

}  // namespace sotto
