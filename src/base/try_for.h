// Threads::For with a body that can fail.
#pragma once
#include <atomic>
#include <mutex>

#include "base/result.h"
#include "base/threads.h"

namespace sotto {

// body(begin, end, thread) as Threads::For calls it. The first error is returned; no range is begun after one.
inline Status TryFor(Threads& threads, int64_t n, int64_t grain,
                     FunctionRef<Status(int64_t begin, int64_t end, int thread)> body) {
  std::mutex mutex;
  Status failed;
  std::atomic<bool> stop{false};
  threads.For(n, grain, [&](int64_t begin, int64_t end, int thread) {
    if (stop) return;
    Status done = body(begin, end, thread);
    if (done.ok()) return;
    stop = true;
    const std::lock_guard lock(mutex);
    if (failed.ok()) failed = std::move(done);
  });
  return failed;
}

}  // namespace sotto
