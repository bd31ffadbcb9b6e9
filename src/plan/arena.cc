#include "plan/arena.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sotto {
namespace {
constexpr uint64_t kHugePage = 2 << 20;
}  // namespace

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  return *this;
}

Arena::~Arena() {
  if (base_ != nullptr) ::munmap(base_, size_.n);
}

namespace {
Error Refused(uint64_t bytes, const char* what) {
  Error e{Code::kOverBudget,
          fmt::format("the system does not give {} bytes of memory ({}: {}); free memory, raise the limit (ulimit -d, "
                      "cgroup), or pass a smaller --memory",
                      bytes, what, std::strerror(errno))};
  e.required_bytes = bytes;
  return e;
}
}  // namespace

Result<Arena> Arena::Map(Bytes bytes) {
  const uint64_t size = RoundUp(std::max<uint64_t>(bytes.n, 1), kPage);
  if (size > (1ULL << 46)) return errno = ENOMEM, Refused(bytes.n, "address space");
  // Reserve more than needed without access (it costs no memory and no RLIMIT_DATA), keep the part that starts on a huge page.
  // The block ends where the plan ends, so its last, incomplete huge page is made of small ones: nothing is rounded up.
  void* reserved = ::mmap(nullptr, size + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return Refused(bytes.n, "reserving addresses");
  auto* start = static_cast<std::byte*>(reserved);
  const uint64_t head = RoundUp(reinterpret_cast<uintptr_t>(start), kHugePage) - reinterpret_cast<uintptr_t>(start);
  if (head != 0) ::munmap(start, head);
  std::byte* base = start + head;
  if (const uint64_t tail = kHugePage - head; tail != 0) ::munmap(base + size, tail);
  if (::mprotect(base, size, PROT_READ | PROT_WRITE) != 0) {
    const int saved = errno;
    ::munmap(base, size);
    errno = saved;
    return Refused(bytes.n, "mapping");
  }
  ::madvise(base, size, MADV_HUGEPAGE);  // twice the read bandwidth; where the system has none, small pages do
  Arena arena;
  arena.base_ = base;
  arena.size_ = Bytes{size};
  return arena;
}

Status Arena::Take(uint64_t offset, uint64_t n) const {
  if (offset >= size_.n) return {};
  n = std::min(n, size_.n - offset);
#ifdef MADV_POPULATE_WRITE
  if (::madvise(base_ + offset, n, MADV_POPULATE_WRITE) == 0) return {};
  if (errno == ENOMEM) return Refused(size_.n, "taking pages");
#endif
  for (uint64_t i = 0; i < n; i += kPage) *reinterpret_cast<volatile std::byte*>(base_ + offset + i) = std::byte{0};
  return {};
}

Status Arena::MapFile(uint64_t offset, const File& file, uint64_t from, uint64_t bytes) const {
  CHECK(offset % kPage == 0 && bytes % kPage == 0 && offset <= size_.n && bytes <= size_.n - offset);
  std::byte* const at = base_ + offset;
  if (::mmap(at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, file.fd(), static_cast<off_t>(from)) == MAP_FAILED)
    return Failed(fmt::format("{} cannot be mapped: {}; leave --mapped out", file.path(), std::strerror(errno)));
  struct stat now {};
  if (::fstat(file.fd(), &now) != 0 || static_cast<uint64_t>(now.st_size) < file.size())
    return BadModel(fmt::format("{} became shorter while it was read; fetch it again", file.path()));
  ::madvise(at, bytes, MADV_WILLNEED);  // what is not in the page cache is read while the first of it is checked
  return {};
}

std::byte* Run::At(uint32_t id) const {
  CHECK(id < plan_->at.size());
  CHECK((anatomy_->at(id).live & phase_) != 0);
  return base_ + plan_->at[id].offset;
}

namespace {
WeightView PanelView(const Slot& s, const Stored& stored, const std::byte* data) {
  return {data, stored.dtype, stored.group, s.shape[0], s.shape[1] * s.shape[2], stored.blocks, stored.planes};
}
}  // namespace

WeightView Run::operator[](const Matrix& m) const { return PanelView(slot(m), stored(m), At(m.id)); }
WeightView Run::operator[](const ConvMatrix& m) const { return PanelView(slot(m), stored(m), At(m.id)); }

View Run::operator[](const Vector& m) const {
  const Slot& s = slot(m);
  return {At(m.id), DType::kF32, 1, s.shape[0], s.shape[0]};
}
View Run::operator[](const RowTable& m) const {
  const Slot& s = slot(m);
  return {At(m.id), stored(m).dtype, s.shape[0], s.shape[1], s.shape[1]};
}
View Run::operator[](const Buffer& m) const {
  const Slot& s = slot(m);
  return {At(m.id), s.dtype, s.shape[0], s.shape[1], s.shape[1]};
}
View Run::operator[](const Cache& m) const {
  const Slot& s = slot(m);
  return {At(m.id), s.dtype, s.shape[0] * s.shape[1], s.shape[2], s.shape[2]};
}
std::span<std::byte> Run::operator[](const Table& m) const { return {At(m.id), static_cast<size_t>(slot(m).shape[0])}; }

Run Run::In(Phases phase) const {
  Run r = *this;
  r.phase_ = phase;
  return r;
}

}  // namespace sotto
