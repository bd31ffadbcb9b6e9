#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/bytes.h"
#include "base/check.h"

namespace sotto {
namespace {
std::string Reason() { return std::strerror(errno); }
constexpr uint64_t kDirect = 4096;  // what O_DIRECT asks of addresses and offsets, at most
}  // namespace

File::File(File&& other) noexcept { *this = std::move(other); }

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  std::swap(code_, other.code_);
  std::swap(path_, other.path_);
  std::swap(bounce_, other.bounce_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Result<File> File::Open(const std::string& path, Code code) {
  File f;
  f.path_ = path;
  f.code_ = code;
  f.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // opening a FIFO would wait for its writer
  if (f.fd_ < 0)
    return Error{code, fmt::format("cannot open {}: {}; check the path and its permissions", path, Reason())};
  struct stat st {};
  if (::fstat(f.fd_, &st) != 0) return Error{code, fmt::format("cannot examine {}: {}", path, Reason())};
  if (!S_ISREG(st.st_mode)) return Error{code, fmt::format("{} is not a regular file; give the path of a file", path)};
  f.size_ = static_cast<uint64_t>(st.st_size);
  return f;
}

Status File::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset)
    return Error{code_,
                 fmt::format("{} ends at byte {} but bytes {} to {} are needed; the file is cut short, fetch it again",
                             path_, size_, offset, offset + out.size())};
  while (!out.empty()) {
    const ssize_t got =
        bounce_.empty() ? ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset)) : ReadThrough(offset, out);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error{code_, fmt::format("cannot read {} at byte {}: {}", path_, offset, Reason())};
    if (got == 0) return Error{code_, fmt::format("{} became shorter while it was read; fetch it again", path_)};
    out = out.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

Result<File> File::Direct(std::span<std::byte> bounce) const {
  CHECK(bounce.size() >= kDirect && bounce.size() % kDirect == 0 &&
        reinterpret_cast<uintptr_t>(bounce.data()) % kDirect == 0);
  File f;
  f.path_ = path_;
  f.code_ = code_;
  f.size_ = size_;
  f.bounce_ = bounce;
  f.fd_ = ::open(fmt::format("/proc/self/fd/{}", fd_).c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (f.fd_ < 0)
    return Error{Code::kFailed,
                 fmt::format("{} cannot be read past the page cache: {}; leave --direct out", path_, Reason())};
  return f;
}

// As much of `out` as one read of whole blocks gives; as pread returns.
ssize_t File::ReadThrough(uint64_t offset, std::span<std::byte> out) const {
  const uint64_t first = offset / kDirect * kDirect, skip = offset - first;
  const uint64_t n = std::min<uint64_t>(bounce_.size(), RoundUp(skip + out.size(), kDirect));
  const ssize_t got = ::pread(fd_, bounce_.data(), n, static_cast<off_t>(first));
  if (got < 0) return got;
  if (static_cast<uint64_t>(got) <= skip) return 0;
  const uint64_t useful = std::min<uint64_t>(static_cast<uint64_t>(got) - skip, out.size());
  std::memcpy(out.data(), bounce_.data() + skip, useful);
  return static_cast<ssize_t>(useful);
}

bool FileExists(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode);
}

bool IsDirectory(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

Result<std::string> ReadSmallFile(const std::string& path, uint64_t max_bytes, Code code) {
  const File f = TRY(File::Open(path, code));
  if (f.size() > max_bytes)
    return Error{
        code, fmt::format("{} has {} bytes, more than the {} allowed for such a file; it is not what it claims to be",
                          path, f.size(), max_bytes)};
  std::string text(f.size(), '\0');
  TRY(f.ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept { *this = std::move(other); }

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(partial_, other.partial_);
  return *this;
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(partial_.c_str());
}

Result<AtomicFile> AtomicFile::Create(const std::string& path, bool anew) {
  AtomicFile f;
  f.path_ = path;
  f.partial_ = path + ".partial";
  f.fd_ = ::open(f.partial_.c_str(), O_WRONLY | O_CREAT | (anew ? O_TRUNC : 0) | O_CLOEXEC, 0644);
  if (f.fd_ < 0)
    return Failed(fmt::format("cannot write {}: {}; check that its folder exists and is writable", path, Reason()));
  return f;
}

Status AtomicFile::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Failed(fmt::format("cannot write {}: {}; nothing was left behind", path_, Reason()));
    bytes.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

Status AtomicFile::WriteAt(uint64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Failed(fmt::format("cannot write {}: {}; nothing was left behind", path_, Reason()));
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return {};
}

Status AtomicFile::Reserve(uint64_t bytes) const {
  if (bytes > static_cast<uint64_t>(INT64_MAX)) return Failed(fmt::format("cannot write {}: it is too large", path_));
  if (bytes == 0 || ::fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) == 0) return {};
  if (errno != ENOSPC && errno != EFBIG && errno != EDQUOT) return {};  // the file system cannot, or was interrupted
  return Failed(fmt::format("cannot write {} ({}): {}; nothing was left behind", path_, Human({bytes}), Reason()));
}

Status AtomicFile::Commit() {
  const bool synced = ::fsync(fd_) == 0 || errno == EINVAL;  // EINVAL: the file system cannot sync
  const bool closed = ::close(fd_) == 0;
  fd_ = -1;
  if (!synced || !closed || std::rename(partial_.c_str(), path_.c_str()) != 0) {
    const std::string reason = Reason();
    ::unlink(partial_.c_str());
    return Failed(fmt::format("cannot finish {}: {}; nothing was left behind", path_, reason));
  }
  return {};
}

void AtomicFile::Keep() {
  ::close(fd_);
  fd_ = -1;
}

Status WriteAtomically(const std::string& path, std::string_view bytes) {
  AtomicFile file = TRY(AtomicFile::Create(path));
  TRY(file.Write(bytes));
  return file.Commit();
}

}  // namespace sotto
