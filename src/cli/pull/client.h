// `sotto pull owner/name`: the files that a model needs, from the Hugging Face Hub into the Hugging Face cache, so that
// sotto and huggingface_hub both find them. Chooses the files and reports; hub.h asks, blob.h writes.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/pull/hub.h"

namespace sotto::pull {

struct PullOptions {
  std::string model;                 // "owner/name", "owner/name@revision", or one of Whisper's sizes
  std::string revision;              // "" for "main"
  std::vector<std::string> include;  // fnmatch patterns on paths; empty for what a model needs
  std::string cache;                 // HubCacheDir() unless told otherwise
  bool offline = false;              // refuse instead of asking
  bool quiet = false;                // nothing on stderr but errors
  HubOptions hub;
};

struct PulledFile {
  std::string name;
  uint64_t bytes = 0;
  bool was_cached = false;
};

struct PullReport {
  std::string repo, revision, commit;
  std::string path;  // the snapshot: a model directory
  std::vector<PulledFile> files;
};

// Endpoint, token and offline switch as huggingface_hub takes them: HF_ENDPOINT; HF_TOKEN, else the file HF_TOKEN_PATH
// or HF_HOME/token; HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE.
Result<PullOptions> OptionsFromEnvironment();

Result<PullReport> Pull(const PullOptions& options);

}  // namespace sotto::pull
