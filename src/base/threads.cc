#include "base/threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/thread.h"

namespace sotto {
namespace {

constexpr int kSpins = 4000;               // about 50 microseconds: longer than the gaps inside a decoding step
constexpr size_t kStackBytes = 512 << 10;  // bodies keep their tiles on the stack, nothing large

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

double CgroupCpus() {
  double cpus = 1e9;
  if (std::FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "re")) {
    double quota = 0, period = 0;
    if (std::fscanf(f, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) cpus = quota / period;
    std::fclose(f);
  }
  double v1[2] = {0, 0};
  const char* names[2] = {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"};
  for (int i = 0; i < 2; ++i)
    if (std::FILE* f = std::fopen(names[i], "re")) {
      if (std::fscanf(f, "%lf", &v1[i]) != 1) v1[i] = 0;
      std::fclose(f);
    }
  if (v1[0] > 0 && v1[1] > 0) cpus = std::min(cpus, v1[0] / v1[1]);
  return cpus;
}

}  // namespace

bool StartThread(void* (*main)(void*), void* argument, pthread_t* thread) {
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, kStackBytes);
  const bool started = pthread_create(thread, &attr, main, argument) == 0;
  pthread_attr_destroy(&attr);
  return started;
}

struct Threads::Shared {
  std::atomic<uint64_t> epoch{0};
  std::atomic<int> running{0};
  std::atomic<int> sleeping{0};
  std::atomic<bool> stop{false};
  FunctionRef<void(int)>* body = nullptr;
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<pthread_t> workers;
};

Threads::Threads(int count) : count_(count), shared_(std::make_unique<Shared>()) {
  CHECK(count >= 1);
  struct Start {
    Shared* shared;
    int thread;
  };
  for (int t = 1; t < count; ++t) {
    pthread_t id;
    auto* start = new Start{shared_.get(), t};
    const auto main = [](void* arg) -> void* {
      const std::unique_ptr<Start> s(static_cast<Start*>(arg));
      Shared& shared = *s->shared;
      uint64_t seen = 0;
      for (;;) {
        for (int i = 0; i < kSpins && shared.epoch.load(std::memory_order_acquire) == seen; ++i) Pause();
        if (shared.epoch.load(std::memory_order_acquire) == seen) {
          std::unique_lock lock(shared.mutex);
          shared.sleeping.fetch_add(1);
          shared.wake.wait(lock, [&] { return shared.epoch.load() != seen; });
          shared.sleeping.fetch_sub(1);
        }
        seen = shared.epoch.load(std::memory_order_acquire);
        if (shared.stop.load()) return nullptr;
        (*shared.body)(s->thread);
        shared.running.fetch_sub(1, std::memory_order_release);
      }
    };
    CHECK(StartThread(main, start, &id));
    shared_->workers.push_back(id);
  }
}

Threads::~Threads() {
  shared_->stop = true;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->epoch.fetch_add(1);
  }
  shared_->wake.notify_all();
  for (pthread_t id : shared_->workers) pthread_join(id, nullptr);
}

void Threads::Run(FunctionRef<void(int)> body) {
  Shared& s = *shared_;
  if (count_ == 1) return body(0);
  s.body = &body;
  s.running.store(count_ - 1, std::memory_order_relaxed);
  s.epoch.fetch_add(1);
  if (s.sleeping.load() >
      0) {  // both sides are sequentially consistent: a sleeper either sees the epoch or is seen here
    const std::lock_guard lock(s.mutex);
    s.wake.notify_all();
  }
  body(0);
  for (int spins = 0; s.running.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins)
      Pause();
    else
      sched_yield();  // more threads than cores: let the others finish
  }
}

void Threads::For(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t, int)> body) {
  CHECK(grain >= 1);
  if (n <= 0) return;
  const int64_t grains = (n + grain - 1) / grain;
  if (count_ == 1 || grains == 1) return body(0, n, 0);
  const int64_t pieces = std::min<int64_t>(grains, int64_t{4} * count_);
  std::atomic<int64_t> next{0};
  Run([&](int thread) {
    for (int64_t p = next.fetch_add(1); p < pieces; p = next.fetch_add(1)) {
      const int64_t begin = grains * p / pieces * grain;
      const int64_t end = std::min(n, grains * (p + 1) / pieces * grain);
      if (begin < end) body(begin, end, thread);
    }
  });
}

int Threads::Available() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cpus = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = CPU_COUNT(&set);
  const double quota = CgroupCpus();
  if (quota < cpus) cpus = static_cast<int>(std::ceil(quota));
  return std::max(cpus, 1);
}

Aside::Aside(bool own_thread, std::function<void()> job) : job_(std::move(job)) {
  if (own_thread) {
    const auto main = [](void* self) -> void* {
      static_cast<Aside*>(self)->job_();
      return nullptr;
    };
    running_ = StartThread(main, this, &thread_);
  }
  if (!running_) job_();
}

void Aside::Join() {
  if (running_) pthread_join(thread_, nullptr);
  running_ = false;
}

}  // namespace sotto
