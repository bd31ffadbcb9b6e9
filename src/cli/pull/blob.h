// One file of a repository into the Hugging Face cache: locked, resumed, verified, then renamed to its place.
//
//   <cache>/.locks/models--a--b/<etag>.lock     the lock that huggingface_hub takes, too
//   <cache>/models--a--b/blobs/<etag>.incomplete   the part that has come so far; kept when interrupted
//   <cache>/models--a--b/blobs/<etag>              only ever the whole, verified file
//   <cache>/models--a--b/snapshots/<commit>/<name> -> ../../blobs/<etag>
#pragma once
#include <cstdint>
#include <string>

#include "base/function_ref.h"
#include "base/result.h"
#include "cli/pull/hub.h"

namespace sotto::pull {

struct RepoOnDisk {
  std::string cache;  // HubCacheDir()
  std::string repo;   // "owner/name"
  std::string commit;
  std::string Folder() const;
  std::string Snapshot() const { return Folder() + "/snapshots/" + commit; }
  std::string Pointer(const std::string& file) const { return Snapshot() + "/" + file; }
  std::string Blob(const std::string& etag) const { return Folder() + "/blobs/" + etag; }
};

// Creates a directory and those above it.
Status MakeDirectories(const std::string& path);

// Bytes of `file` that are still to come, given what lies in the cache.
uint64_t MissingBytes(const RepoOnDisk& disk, const RemoteFile& file);

// Puts the blob in its place, downloading what is missing. `progress` gets the bytes that are there. kFailed.
Status FetchBlob(Hub& hub, const RepoOnDisk& disk, const RemoteFile& file, FunctionRef<void(uint64_t)> progress);

// snapshots/<commit>/<name> -> the blob, relative, replacing a link that leads nowhere.
Status LinkSnapshot(const RepoOnDisk& disk, const RemoteFile& file);

// refs/<revision> says `commit`; nothing to do when the revision is the commit.
Status WriteRef(const RepoOnDisk& disk, const std::string& revision);

}  // namespace sotto::pull
