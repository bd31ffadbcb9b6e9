// What the Hub is asked: the files of a revision, what a file is, its bytes. Adds to http.h what the Hub needs:
// redirects (the token goes to the endpoint's own origin only), retries with backoff, and a sentence for each refusal.
// Source: huggingface_hub 2.4.0, file_download.py (get_hf_file_metadata) and utils/_http.py (hf_raise_for_status).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "base/result.h"
#include "cli/pull/http.h"

namespace sotto::pull {

struct HubOptions {
  std::string endpoint = "https://huggingface.co";
  std::string token;         // "" for none
  int timeout_seconds = 30;  // without a byte
  int attempts = 5;          // in a row without a byte
  double wait_seconds = 1;   // before the second attempt; doubles up to 30
};

struct RepoInfo {
  std::string commit;
  std::vector<std::string> files;  // relative paths, checked: no "..", not absolute
};

struct RemoteFile {
  std::string name;   // "config.json"
  std::string etag;   // names the content, and the blob on disk: one plain path component
  uint64_t size = 0;  // bytes
};

class Hub {
 public:
  static Result<Hub> Open(const HubOptions& options);

  Result<RepoInfo> Info(const std::string& repo, const std::string& revision);
  Result<RemoteFile> Describe(const std::string& repo, const std::string& commit, const std::string& file);

  // Bytes [offset, file.size) as they come. `restart` is called before the first byte when the server sends the whole
  // file instead; `take` returns an error to stop. Breaks are resumed where they happened.
  Status Read(const std::string& repo, const std::string& commit, const RemoteFile& file, uint64_t offset,
              FunctionRef<Status()> restart, FunctionRef<Status(std::string_view)> take);

 private:
  Hub(HubOptions options, Url endpoint)
      : options_(std::move(options)), endpoint_(std::move(endpoint)), http_(options_.timeout_seconds) {}

  std::string FileTarget(const std::string& repo, const std::string& commit, const std::string& file) const;
  // Follows redirects until one has what is wanted (`enough`), or an answer that is none.
  HttpReply Follow(HttpRequest request, FunctionRef<bool(const HttpReply&)> enough,
                   FunctionRef<bool(std::string_view)> take);
  // Calls `once` until it gives an answer worth keeping; waits in between.
  HttpReply Retry(FunctionRef<HttpReply()> once);
  void Wait(int attempt, const HttpReply& reply);
  Error Refusal(const HttpReply& reply, const std::string& repo, const std::string& revision,
                const std::string& what) const;

  HubOptions options_;
  Url endpoint_;
  HttpConnections http_;
};

// A relative path of plain components ("config.json", "onnx/model.onnx").
bool IsRelativePath(std::string_view path);

}  // namespace sotto::pull
