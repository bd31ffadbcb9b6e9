#include "cli/pull/blob.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/file.h"
#include "cli/pull/digest.h"
#include "weights/hub_cache.h"

namespace sotto::pull {
namespace {

constexpr size_t kReadBytes = 1 << 20;

std::string Reason() { return std::strerror(errno); }

// The blob while it grows. Closes itself.
class Partial {
 public:
  Partial() = default;
  Partial(Partial&& other) noexcept : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
  Partial& operator=(Partial&&) = delete;
  ~Partial() {
    if (fd_ >= 0) ::close(fd_);
  }

  static Result<Partial> Open(const std::string& path) {
    Partial p;
    p.path_ = path;
    p.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (p.fd_ < 0) return p.Problem("write");
    return p;
  }

  // Feeds what is there to the digest; returns its bytes. A part longer than the file is none of it.
  Result<uint64_t> Resume(uint64_t size, Digest& digest) {
    struct stat st {};
    if (::fstat(fd_, &st) != 0) return Problem("examine");
    if (!digest.checkable() || static_cast<uint64_t>(st.st_size) > size) return TRY(Empty()), uint64_t{0};
    std::vector<char> buffer(kReadBytes);
    uint64_t at = 0;
    while (true) {
      const ssize_t got = ::pread(fd_, buffer.data(), buffer.size(), static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Problem("read");
      if (got == 0) break;
      digest.Add({buffer.data(), static_cast<size_t>(got)});
      at += static_cast<uint64_t>(got);
    }
    at_ = at;
    return at;
  }

  Status Empty() {
    if (::ftruncate(fd_, 0) != 0) return Problem("empty");
    at_ = 0;
    return {};
  }

  Status Append(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t put = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(at_));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return Problem("write");
      at_ += static_cast<uint64_t>(put);
      bytes.remove_prefix(static_cast<size_t>(put));
    }
    return {};
  }

  Status Finish(const std::string& path) {
    if (::fsync(fd_) != 0 && errno != EINVAL) return Problem("finish");  // EINVAL: the file system cannot sync
    if (std::rename(path_.c_str(), path.c_str()) != 0) return Problem("rename");
    return {};
  }

 private:
  Error Problem(const char* what) const {
    return Failed(
        fmt::format("cannot {} {}: {}; check the disk and the permissions, or set HF_HUB_CACHE to another folder", what,
                    path_, Reason()));
  }
  int fd_ = -1;
  uint64_t at_ = 0;
  std::string path_;
};

// An advisory lock on a file of its own, as huggingface_hub's (flock). Waits for another download of the file.
class Lock {
 public:
  Lock() = default;
  Lock(Lock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Lock& operator=(Lock&&) = delete;
  ~Lock() {
    if (fd_ >= 0) ::close(fd_);
  }
  static Result<Lock> Take(const std::string& path) {
    Lock lock;
    lock.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock.fd_ < 0)
      return Failed(fmt::format("cannot lock {}: {}; check the permissions of the cache", path, Reason()));
    // A file system without locks (some NFS) costs a second download at worst: the rename is atomic, the hash checked.
    while (::flock(lock.fd_, LOCK_EX) != 0 && errno == EINTR) {}
    return lock;
  }

 private:
  int fd_ = -1;
};

bool Exists(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0;
}

std::string Parent(const std::string& path) { return path.substr(0, path.rfind('/')); }

}  // namespace

std::string RepoOnDisk::Folder() const { return cache + "/" + RepoFolder(repo); }

Status MakeDirectories(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), 0777) != 0 && errno != EEXIST && !IsDirectory(part))
      return Failed(
          fmt::format("cannot create {}: {}; set HF_HUB_CACHE to a folder that can be written", part, Reason()));
    if (slash == path.npos) return {};
  }
}

uint64_t MissingBytes(const RepoOnDisk& disk, const RemoteFile& file) {
  if (Exists(disk.Pointer(file.name)) || Exists(disk.Blob(file.etag))) return 0;
  struct stat st {};
  if (::stat((disk.Blob(file.etag) + ".incomplete").c_str(), &st) != 0) return file.size;
  return file.size - std::min(file.size, static_cast<uint64_t>(st.st_size));
}

Status FetchBlob(Hub& hub, const RepoOnDisk& disk, const RemoteFile& file, FunctionRef<void(uint64_t)> progress) {
  const std::string blob = disk.Blob(file.etag);
  const std::string locks = disk.cache + "/.locks/" + RepoFolder(disk.repo);
  TRY(MakeDirectories(Parent(blob)));
  TRY(MakeDirectories(locks));
  const Lock lock = TRY(Lock::Take(locks + "/" + file.etag + ".lock"));
  if (Exists(blob)) return {};

  Partial partial = TRY(Partial::Open(blob + ".incomplete"));
  Digest digest(file.etag, file.size);
  uint64_t at = TRY(partial.Resume(file.size, digest));
  bool from_an_earlier_run = at > 0;
  const auto restart = [&]() -> Status {
    digest.Restart();
    at = 0;
    from_an_earlier_run = false;
    return partial.Empty();
  };
  const auto take = [&](std::string_view bytes) -> Status {
    TRY(partial.Append(bytes));
    digest.Add(bytes);
    at += bytes.size();
    progress(at);
    return {};
  };
  while (true) {
    progress(at);
    TRY(hub.Read(disk.repo, disk.commit, file, at, restart, take));
    if (digest.Matches()) return partial.Finish(blob);
    const bool again = from_an_earlier_run;  // what lay on the disk may be to blame
    TRY(restart());
    if (again) continue;
    ::unlink((blob + ".incomplete").c_str());
    return Failed(fmt::format("what came for {}/{} does not have the checksum {}; nothing of it was kept, try again",
                              disk.repo, file.name, file.etag));
  }
}

Status LinkSnapshot(const RepoOnDisk& disk, const RemoteFile& file) {
  const std::string pointer = disk.Pointer(file.name);
  if (Exists(pointer)) return {};
  TRY(MakeDirectories(Parent(pointer)));
  std::string target = "../../";
  for (const char c : file.name)
    if (c == '/') target += "../";
  target += "blobs/" + file.etag;
  ::unlink(pointer.c_str());  // a link that leads nowhere
  if (::symlink(target.c_str(), pointer.c_str()) == 0 || (errno == EEXIST && Exists(pointer))) return {};
  return Failed(
      fmt::format("cannot link {}: {}; set HF_HUB_CACHE to a file system with symbolic links", pointer, Reason()));
}

Status WriteRef(const RepoOnDisk& disk, const std::string& revision) {
  if (revision == disk.commit) return {};
  const std::string path = disk.Folder() + "/refs/" + revision;
  if (const auto old = ReadSmallFile(path, 4096, Code::kFailed); old.ok() && old.value() == disk.commit) return {};
  TRY(MakeDirectories(Parent(path)));
  AtomicFile ref = TRY(AtomicFile::Create(path));
  TRY(ref.Write(disk.commit));
  return ref.Commit();
}

}  // namespace sotto::pull
