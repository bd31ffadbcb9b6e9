// Files: positioned reads with every error named, small whole-file reads with a cap, and writes that are never half there.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sotto {

// A read-only file. Not copyable; closes itself.
class File {
 public:
  File() = default;
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  // `code` is what a failure means here: kBadModel for a model's file, kBadInput for audio.
  static Result<File> Open(const std::string& path, Code code);

  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  // Fills all of `out` from `offset`, or fails (a short file is an error). Retries EINTR and short reads. Thread-safe.
  Status ReadAt(uint64_t offset, std::span<std::byte> out) const;
  // The same file past the page cache (O_DIRECT), through `bounce`: aligned to 4 KiB and some of them long, in one thread. kFailed where
  // the file system has no such reads.
  Result<File> Direct(std::span<std::byte> bounce) const;

 private:
  ssize_t ReadThrough(uint64_t offset, std::span<std::byte> out) const;
  int fd_ = -1;
  uint64_t size_ = 0;
  Code code_ = Code::kFailed;
  std::string path_;
  std::span<std::byte> bounce_;
};

bool FileExists(const std::string& path);
bool IsDirectory(const std::string& path);

// The whole file as text; fails when it is larger than `max_bytes`.
Result<std::string> ReadSmallFile(const std::string& path, uint64_t max_bytes, Code code);

// Writes to `path + ".partial"`, renames to `path` in Commit(); without Commit() the temporary is removed.
class AtomicFile {
 public:
  AtomicFile() = default;
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();
  // `anew`: what an earlier run kept under the temporary name is thrown away.
  static Result<AtomicFile> Create(const std::string& path, bool anew = true);
  Status Write(std::string_view bytes);
  // At any place, from any thread; not together with Write.
  Status WriteAt(uint64_t offset, std::span<const std::byte> bytes) const;
  // Takes the disk's room for so many bytes now, where the file system can: a disk that is full says so before the work.
  Status Reserve(uint64_t bytes) const;
  Status Commit();  // flush, fsync, rename
  void Keep();      // closes the file, whose temporary name stays for a later run

 private:
  int fd_ = -1;
  std::string path_, partial_;
};

// All of it at once.
Status WriteAtomically(const std::string& path, std::string_view bytes);

}  // namespace sotto
