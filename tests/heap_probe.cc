#include "heap_probe.h"

#include <atomic>
#include <cerrno>

namespace sotto {
namespace {
std::atomic<bool> g_armed{false};
std::atomic<int64_t> g_calls{0}, g_large{0};
std::atomic<size_t> g_largest{0};
constexpr size_t kLarge = 64 << 10;

[[maybe_unused]] void Note(size_t n) {
  if (!g_armed.load(std::memory_order_relaxed)) return;
  g_calls.fetch_add(1);
  if (n > kLarge) g_large.fetch_add(1);
  for (size_t most = g_largest.load(); n > most && !g_largest.compare_exchange_weak(most, n);) {}
}
}  // namespace

void StartHeapCount() {
  g_calls = 0;
  g_large = 0;
  g_largest = 0;
  g_armed = true;
}

HeapCount StopHeapCount() {
  g_armed = false;
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  return {g_calls, g_large, g_largest, true};
#else
  return {};
#endif
}
}  // namespace sotto

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t n) {
  sotto::Note(n);
  return __libc_malloc(n);
}
void* calloc(size_t count, size_t size) {
  sotto::Note(count * size);
  return __libc_calloc(count, size);
}
void* realloc(void* p, size_t n) {
  sotto::Note(n);
  return __libc_realloc(p, n);
}
void* memalign(size_t align, size_t n) {
  sotto::Note(n);
  return __libc_memalign(align, n);
}
void* aligned_alloc(size_t align, size_t n) {
  sotto::Note(n);
  return __libc_memalign(align, n);
}
int posix_memalign(void** out, size_t align, size_t n) {
  sotto::Note(n);
  *out = __libc_memalign(align, n);
  return *out == nullptr ? ENOMEM : 0;
}
}
#endif
