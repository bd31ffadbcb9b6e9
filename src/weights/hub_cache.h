// The Hugging Face cache on disk, as huggingface_hub keeps it: where it is and how names map to paths. Nothing is
// created or written here (that is cli/pull/). Source: huggingface_hub 2.4.0, constants.py and file_download.py.
//
//   <cache>/models--owner--name/refs/main                    the commit that "main" meant at the last download
//                               snapshots/<commit>/<file> -> ../../blobs/<etag>
//                               blobs/<etag>                 sha256 of a large file, git's sha1 of a small one
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sotto {

// HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub. An empty variable
// counts as unset; a leading ~ is the home directory.
std::string HubCacheDir();

// HF_HOME, else XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface.
std::string HubHome();

// "owner/name" or "name": letters, digits, - _ . only, at most 96 bytes, no "--" or "..", no - or . at an end. Hence
// such a name can never leave the folder that it is appended to.
bool IsRepoId(std::string_view id);

// A branch, tag or commit ("main", "refs/pr/1"): letters, digits, - _ . / only, no empty, "." or ".." component.
bool IsRevision(std::string_view revision);

// One path component: not empty, not "." or "..", no '/', '\\' or control characters, at most 255 bytes.
bool IsPlainName(std::string_view name);

// "models--owner--name". REQUIRES: IsRepoId(id).
std::string RepoFolder(std::string_view id);

// The commit that `revision` stands for in `repo` (<cache>/models--…): refs/<revision>, or the revision itself when
// snapshots/ has it. "" when neither exists.
std::string CachedCommit(const std::string& repo, const std::string& revision);

// Names in a directory, sorted, without "." and ".."; empty when it cannot be read.
std::vector<std::string> ListDirectory(const std::string& path);

}  // namespace sotto
