#include "audio/source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace sotto {

ByteSource::ByteSource(ByteSource&& other) noexcept { *this = std::move(other); }

ByteSource& ByteSource::operator=(ByteSource&& other) noexcept {
  std::swap(kind_, other.kind_);
  std::swap(fd_, other.fd_);
  std::swap(owns_fd_, other.owns_fd_);
  std::swap(ended_, other.ended_);
  std::swap(origin_, other.origin_);
  std::swap(size_, other.size_);
  std::swap(base_, other.base_);
  std::swap(fill_, other.fill_);
  std::swap(furthest_, other.furthest_);
  std::swap(window_, other.window_);
  std::swap(bytes_, other.bytes_);
  std::swap(name_, other.name_);
  std::swap(error_, other.error_);
  return *this;
}

ByteSource::~ByteSource() {
  if (owns_fd_) ::close(fd_);
}

Result<ByteSource> ByteSource::Open(const std::string& path, std::span<std::byte> window) {
  CHECK(static_cast<int64_t>(window.size()) >= kWindowBytes);
  ByteSource s;
  const bool is_stdin = path == "-";
  s.name_ = is_stdin ? "standard input" : path;
  s.window_ = window.first(kWindowBytes);
  s.fd_ = is_stdin ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  s.owns_fd_ = !is_stdin && s.fd_ >= 0;
  struct stat st {};
  if (s.fd_ < 0)
    return BadInput(
        fmt::format("cannot open audio {}: {}; check the path and its permissions", path, std::strerror(errno)));
  if (::fstat(s.fd_, &st) != 0)
    return BadInput(
        fmt::format("cannot read audio from {}: {}; give a file, or pipe audio in", s.name_, std::strerror(errno)));
  if (S_ISDIR(st.st_mode))
    return BadInput(fmt::format("{} is a directory, not an audio file; name the files in it", s.name_));
  if (::isatty(s.fd_))
    return BadInput(fmt::format("{} is a terminal, not audio; pipe a file in, or give its path", s.name_));
  if (!S_ISREG(st.st_mode)) {
    s.kind_ = Kind::kPipe;
    s.size_ = -1;
    return s;
  }
  s.kind_ = Kind::kFile;
  s.origin_ = is_stdin ? std::max<int64_t>(0, ::lseek(s.fd_, 0, SEEK_CUR)) : 0;
  s.size_ = std::max<int64_t>(0, st.st_size - s.origin_);
  return s;
}

ByteSource ByteSource::FromMemory(std::span<const std::byte> bytes, std::string name) {
  ByteSource s;
  s.bytes_ = bytes;
  s.size_ = static_cast<int64_t>(bytes.size());
  s.name_ = std::move(name);
  return s;
}

bool ByteSource::Fill(int64_t position) {
  const int64_t capacity = static_cast<int64_t>(window_.size());
  if (kind_ == Kind::kFile && (position < base_ || position > base_ + fill_)) {
    base_ = position;
    fill_ = 0;
    ended_ = false;
  }
  if (position < base_) return false;  // a pipe that has moved on
  while (position >= base_ + fill_) {
    if (ended_) return false;
    if (fill_ == capacity) {
      const int64_t keep = capacity / 2;
      std::memmove(window_.data(), window_.data() + (fill_ - keep), static_cast<size_t>(keep));
      base_ += fill_ - keep;
      fill_ = keep;
    }
    std::byte* to = window_.data() + fill_;
    const size_t room = static_cast<size_t>(std::min<int64_t>(capacity - fill_, capacity / 4));
    const ssize_t got = kind_ == Kind::kFile ? ::pread(fd_, to, room, static_cast<off_t>(origin_ + base_ + fill_))
                                             : ::read(fd_, to, room);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {  // a pipe that its owner opened without blocking
      struct pollfd wait {
        fd_, POLLIN, 0
      };
      ::poll(&wait, 1, -1);
      continue;
    }
    if (got < 0) error_ = std::strerror(errno);
    if (got <= 0) {
      ended_ = true;
      return false;
    }
    fill_ += got;
    furthest_ = std::max(furthest_, base_ + fill_);
  }
  return true;
}

int64_t ByteSource::ReadAt(int64_t position, std::span<std::byte> out) {
  if (position < 0) return 0;
  int64_t done = 0;
  const int64_t wanted = static_cast<int64_t>(out.size());
  if (kind_ == Kind::kMemory) {
    if (position >= size_) return 0;
    done = std::min(wanted, size_ - position);
    if (done > 0) std::memcpy(out.data(), bytes_.data() + position, static_cast<size_t>(done));
    furthest_ = std::max(furthest_, position + done);
    return done;
  }
  while (done < wanted && Fill(position + done)) {
    const int64_t at = position + done - base_;
    const int64_t n = std::min(wanted - done, fill_ - at);
    std::memcpy(out.data() + done, window_.data() + at, static_cast<size_t>(n));
    done += n;
  }
  return done;
}

}  // namespace sotto
