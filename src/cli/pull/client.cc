#include "cli/pull/client.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "base/bytes.h"
#include "base/file.h"
#include "cli/pull/blob.h"
#include "weights/hub_cache.h"
#include "weights/model_dir.h"
#include "weights/safetensors_header.h"

namespace sotto::pull {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// What the commands read beside the weights: configs, every form of tokenizer that src/text/ opens, chat templates.
// Files in subfolders belong to other frameworks.
constexpr const char* kNeeded[] = {"config.json",
                                   "generation_config.json",
                                   "preprocessor_config.json",
                                   "processor_config.json",
                                   "tokenizer*.json",
                                   "vocab.json",
                                   "vocab.txt",
                                   "merges.txt",
                                   "added_tokens.json",
                                   "special_tokens_map.json",
                                   "normalizer.json",
                                   "tokenizer.model",
                                   "*.tiktoken",
                                   "tekken.json",
                                   "chat_template.jinja",
                                   "chat_template.json"};

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsTrue(std::string value) {
  std::transform(value.begin(), value.end(), value.begin(), [](unsigned char c) { return std::toupper(c); });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

std::string Trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  return begin == text.npos ? "" : text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// A bar on a terminal, a line a file elsewhere.
class Progress {
 public:
  explicit Progress(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}
  void Begin(const RemoteFile& file) {
    name_ = file.name;
    size_ = file.size;
    started_ = std::chrono::steady_clock::now();
    drawn_ = {};
    first_ = ~0ULL;
  }
  void Show(uint64_t at) {
    first_ = std::min(first_, at);
    const auto now = std::chrono::steady_clock::now();
    if (quiet_ || !terminal_ || now - drawn_ < std::chrono::milliseconds(100)) return;
    drawn_ = now;
    const double seconds = std::chrono::duration<double>(now - started_).count();
    const double rate = seconds > 0 ? static_cast<double>(at - first_) / seconds : 0;
    const int share = size_ == 0 ? 100 : static_cast<int>(static_cast<double>(at) * 100 / static_cast<double>(size_));
    constexpr int kCells = 24;
    fmt::print(stderr, "\r\x1b[K{:<28.28} [{:<{}}] {:3}% of {}, {}/s", name_, std::string(kCells * share / 100, '='),
               kCells, share, Human({size_}), Human({static_cast<uint64_t>(rate)}));
    std::fflush(stderr);
  }
  void End(bool cached) {
    if (!quiet_)
      fmt::print(stderr, "{}{} {}{}\n", terminal_ ? "\r\x1b[K" : "", name_, Human({size_}), cached ? ", cached" : "");
  }

 private:
  bool quiet_, terminal_;
  std::string name_;
  uint64_t size_ = 0, first_ = 0;
  std::chrono::steady_clock::time_point started_, drawn_;
};

// One pull. The listing decides what is wanted; the index of sharded weights, once fetched, adds its shards.
class Puller {
 public:
  Puller(Hub hub, const PullOptions& options, RepoOnDisk disk, RepoInfo info)
      : hub_(std::move(hub)),
        options_(options),
        disk_(std::move(disk)),
        info_(std::move(info)),
        progress_(options.quiet) {}

  Result<std::vector<PulledFile>> Run() {
    std::vector<std::string> wanted = TRY(Wanted());
    if (options_.include.empty() && Contains(wanted, kIndex)) {
      TRY(Fetch({kIndex}));
      for (std::string& shard : TRY(Shards())) wanted.push_back(std::move(shard));
      std::erase(wanted, kIndex);
    }
    TRY(Fetch(wanted));
    return std::move(files_);
  }

 private:
  Result<std::vector<std::string>> Wanted() const {
    std::vector<std::string> wanted;
    if (!options_.include.empty()) {
      for (const std::string& file : info_.files)
        for (const std::string& glob : options_.include)
          if (fnmatch(glob.c_str(), file.c_str(), 0) == 0) {
            wanted.push_back(file);
            break;
          }
      if (wanted.empty())
        return BadModel(fmt::format("{} has no file that matches {}; it has: {}", disk_.repo,
                                    fmt::join(options_.include, ", "), Some(info_.files)));
      return wanted;
    }
    for (const std::string& file : info_.files)
      for (const char* glob : kNeeded)
        if (fnmatch(glob, file.c_str(), FNM_PATHNAME) == 0) {
          wanted.push_back(file);
          break;
        }
    if (!Contains(wanted, "config.json"))
      return BadModel(
          fmt::format("{} has no config.json, so it is no transformers model; name files with --include; it has: {}",
                      disk_.repo, Some(info_.files)));
    if (Contains(info_.files, kSingle)) {
      wanted.push_back(kSingle);
    } else if (Contains(info_.files, kIndex)) {
      wanted.push_back(kIndex);
    } else {
      return BadModel(fmt::format(
          "{} has no safetensors weights{}; look for another copy of the model, or fetch the config "
          "alone with --include config.json, which is enough for `sotto plan`",
          disk_.repo, Contains(info_.files, "pytorch_model.bin") ? ", only pickles, which sotto does not open" : ""));
    }
    return wanted;
  }

  static std::string Some(std::vector<std::string> names) {
    constexpr size_t kShown = 12;
    const bool more = names.size() > kShown;
    names.resize(std::min(names.size(), kShown));
    return fmt::format("{}{}", fmt::join(names, ", "), more ? " …" : "");
  }

  Result<std::vector<std::string>> Shards() const {
    const File index = TRY(File::Open(disk_.Pointer(kIndex), Code::kBadModel));
    std::set<std::string> shards;
    TRY(ReadShardIndex(index, [&](std::string_view, std::string_view shard) -> Status {
      if (shards.emplace(shard).second && !Contains(info_.files, std::string(shard)))
        return BadModel(fmt::format("{} names the shard {}, which {} does not have; report it to its owner", kIndex,
                                    shard.substr(0, 100), disk_.repo));
      return {};
    }));
    return std::vector<std::string>(shards.begin(), shards.end());
  }

  Status Fetch(const std::vector<std::string>& names) {
    std::vector<RemoteFile> remote;
    uint64_t missing = 0;
    for (const std::string& name : names) {
      // A commit never changes, so a file of its snapshot needs no question.
      if (const Result<File> there = File::Open(disk_.Pointer(name), Code::kFailed); there.ok()) {
        const RemoteFile cached{name, "", there.value().size()};
        progress_.Begin(cached);
        progress_.End(/*cached=*/true);
        files_.push_back({name, cached.size, true});
        continue;
      }
      remote.push_back(TRY(hub_.Describe(disk_.repo, disk_.commit, name)));
      missing = SatAdd(missing, MissingBytes(disk_, remote.back()));
    }
    TRY(CheckRoom(missing));
    for (const RemoteFile& file : remote) {
      const bool cached = FileExists(disk_.Blob(file.etag));
      progress_.Begin(file);
      TRY(FetchBlob(hub_, disk_, file, [&](uint64_t at) { progress_.Show(at); }));
      TRY(LinkSnapshot(disk_, file));
      progress_.End(cached);
      files_.push_back({file.name, file.size, cached});
    }
    return {};
  }

  Status CheckRoom(uint64_t missing) const {
    TRY(MakeDirectories(disk_.Folder()));
    struct statvfs fs {};
    if (missing == 0 || ::statvfs(disk_.Folder().c_str(), &fs) != 0) return {};
    const uint64_t free = SatMul(fs.f_bavail, fs.f_frsize);
    if (missing <= free) return {};
    return Failed(
        fmt::format("{} needs {} more but {} has only {} free; make room, or set HF_HUB_CACHE to a larger disk",
                    disk_.repo, Human({missing}), disk_.cache, Human({free})));
  }

  Hub hub_;
  const PullOptions& options_;
  RepoOnDisk disk_;
  RepoInfo info_;
  Progress progress_;
  std::vector<PulledFile> files_;
};

}  // namespace

Result<PullOptions> OptionsFromEnvironment() {
  PullOptions options;
  options.cache = HubCacheDir();
  if (const std::string endpoint = Environment("HF_ENDPOINT"); !endpoint.empty()) options.hub.endpoint = endpoint;
  while (options.hub.endpoint.ends_with('/')) options.hub.endpoint.pop_back();
  options.offline = IsTrue(Environment("HF_HUB_OFFLINE")) || IsTrue(Environment("TRANSFORMERS_OFFLINE"));
  options.hub.token = Trimmed(Environment("HF_TOKEN"));
  if (options.hub.token.empty()) {
    const std::string path = Environment("HF_TOKEN_PATH").empty() ? HubHome() + "/token" : Environment("HF_TOKEN_PATH");
    if (FileExists(path)) options.hub.token = Trimmed(TRY(ReadSmallFile(path, 4096, Code::kFailed)));
  }
  return options;
}

Result<PullReport> Pull(const PullOptions& options) {
  PullReport report;
  const size_t at = options.model.find('@');
  report.repo = options.model.substr(0, at);
  report.revision = !options.revision.empty()  ? options.revision
                    : at != options.model.npos ? options.model.substr(at + 1)
                                               : "main";
  if (const std::string alias = WhisperAlias(report.repo); !alias.empty()) report.repo = alias;
  if (!IsRepoId(report.repo))
    return Usage(
        fmt::format("\"{}\" is not a model's name; give owner/name in letters, digits, '-', '_' and '.'", report.repo));
  if (!IsRevision(report.revision))
    return Usage(fmt::format("\"{}\" is not a revision; give a branch, a tag or a commit", report.revision));
  if (options.offline)
    return Failed(
        fmt::format("{} was not fetched because the offline mode is on; leave out --offline and unset "
                    "HF_HUB_OFFLINE to go on the network",
                    report.repo));

  Hub hub = TRY(Hub::Open(options.hub));
  RepoInfo info = TRY(hub.Info(report.repo, report.revision));
  report.commit = info.commit;
  const RepoOnDisk disk{options.cache, report.repo, info.commit};
  report.path = disk.Snapshot();
  report.files = TRY(Puller(std::move(hub), options, disk, std::move(info)).Run());
  // Last, so that a name never leads to a snapshot that lacks files.
  TRY(WriteRef(disk, report.revision));
  return report;
}

}  // namespace sotto::pull
