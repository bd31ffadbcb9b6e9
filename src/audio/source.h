// ByteSource: the bytes of one audio input, from a regular file, a pipe, or memory, through one fixed window of memory.
//
// It is not a decoder and keeps no more than its window: a regular file and memory can be read at any position, a pipe
// only forwards, or backwards as far as the window still holds. Nothing is allocated after Open.
//
//   ByteSource s = TRY(ByteSource::Open("-", window));
//   int64_t got = s.ReadAt(0, out);
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace sotto {

class ByteSource {
 public:
  // Bytes of window that a source works with; half of it stays readable behind the furthest byte read from a pipe.
  static constexpr int64_t kWindowBytes = 256 * 1024;

  ByteSource() = default;
  ByteSource(ByteSource&& other) noexcept;
  ByteSource& operator=(ByteSource&& other) noexcept;
  ~ByteSource();

  // `path` or "-" for standard input, which may itself be a pipe or a regular file. `window` has kWindowBytes and
  // outlives the source. kBadInput: missing, unreadable, a directory, a terminal.
  static Result<ByteSource> Open(const std::string& path, std::span<std::byte> window);
  // Bytes that the caller keeps alive, for uploads and tests; `name` is what errors call them.
  static ByteSource FromMemory(std::span<const std::byte> bytes, std::string name);

  // "standard input" or the path.
  const std::string& name() const { return name_; }
  // Any position can be read again.
  bool seekable() const { return kind_ != Kind::kPipe; }
  // Bytes in all; -1 for a pipe.
  int64_t size() const { return size_; }
  // One past the furthest byte that has been read so far (of a pipe: received so far).
  int64_t furthest() const { return furthest_; }

  // Copies bytes from `position` on into `out`, as many as there are: fewer than asked only at the end of the input, or
  // when a pipe no longer has that position (0). A failed read of the operating system counts as the end and is kept in
  // error().
  int64_t ReadAt(int64_t position, std::span<std::byte> out);

  // Empty, or why reading ended early ("Input/output error").
  const std::string& error() const { return error_; }

 private:
  enum class Kind { kMemory, kFile, kPipe };
  bool Fill(int64_t position);  // makes `position` readable in the window; false at the end

  Kind kind_ = Kind::kMemory;
  int fd_ = -1;
  bool owns_fd_ = false;
  bool ended_ = false;
  int64_t origin_ = 0;  // file offset of position 0 (a redirected standard input may have been read from)
  int64_t size_ = 0;
  int64_t base_ = 0, fill_ = 0;  // the window holds positions [base_, base_ + fill_)
  int64_t furthest_ = 0;
  std::span<std::byte> window_;
  std::span<const std::byte> bytes_;
  std::string name_, error_;
};

}  // namespace sotto
