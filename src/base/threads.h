// A fixed set of threads for data-parallel loops. The caller is one of them. Loops follow each other by the microsecond in a
// decoding step, so waiting threads spin a short while before they sleep. Nothing is allocated per loop.
#pragma once
#include <pthread.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "base/function_ref.h"

namespace sotto {

class Threads {
 public:
  explicit Threads(int count);  // count >= 1; 1 means that everything runs in the caller
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int count() const { return count_; }

  // Calls body(thread) once for each thread number in [0, count()), in parallel; returns when all are done. Not reentrant.
  void Run(FunctionRef<void(int thread)> body);

  // Splits [0, n) into contiguous ranges of multiples of `grain` (the last one may be shorter): body(begin, end, thread).
  // Ranges are handed out one at a time (several a thread), so a slow core does not hold up the loop.
  void For(int64_t n, int64_t grain, FunctionRef<void(int64_t begin, int64_t end, int thread)> body);

  // CPUs that this process may use: affinity mask and cgroup quota (v1 and v2); at least 1.
  static int Available();

 private:
  struct Shared;
  int count_;
  std::unique_ptr<Shared> shared_;
};

// One job beside the caller, on a thread of its own with a small stack (a job that keeps up to 256 KiB of it). Where no
// thread is wanted or to be had it runs at once. Join() or the destructor waits.
class Aside {
 public:
  Aside(bool own_thread, std::function<void()> job);
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;
  ~Aside() { Join(); }
  void Join();

 private:
  std::function<void()> job_;
  pthread_t thread_{};
  bool running_ = false;
};

}  // namespace sotto
