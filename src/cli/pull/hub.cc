#include "cli/pull/hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>

#include "base/bytes.h"
#include "base/json.h"
#include "weights/hub_cache.h"

namespace sotto::pull {
namespace {

constexpr int kMaxRedirects = 10;
constexpr size_t kMaxListing = 16 * kMiB;  // JSON of a repository: 10,000 files make about 1 MB
constexpr size_t kMaxFiles = 100'000;
constexpr size_t kMaxPath = 1024;
constexpr double kLongestWait = 30;  // seconds
constexpr const char* kAgent = "sotto/" SOTTO_VERSION;

// A server's words on a person's terminal: printable ASCII, and not many.
std::string Printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 200)) out += c >= ' ' && c <= '~' ? c : '?';
  return out;
}

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool IsWorthAnotherTry(const HttpReply& reply) {
  constexpr int kPassing[] = {408, 429, 500, 502, 503, 504};
  return !reply.failure.empty() ||
         std::find(std::begin(kPassing), std::end(kPassing), reply.status) != std::end(kPassing);
}

std::optional<uint64_t> Number(std::string_view text) {
  uint64_t n = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

// "bytes 100-199/200" says where a partial answer starts and how long the file is.
bool RangeIs(const std::string& header, uint64_t offset, uint64_t size) {
  return size > 0 && header == fmt::format("bytes {}-{}/{}", offset, size - 1, size);
}

std::string PlainEtag(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') etag = etag.substr(1, etag.size() - 2);
  return etag;
}

}  // namespace

bool IsRelativePath(std::string_view path) {
  if (path.size() > kMaxPath) return false;
  while (true) {
    const size_t slash = path.find('/');
    if (!IsPlainName(path.substr(0, slash))) return false;
    if (slash == path.npos) return true;
    path.remove_prefix(slash + 1);
  }
}

Result<Hub> Hub::Open(const HubOptions& options) {
  Url endpoint = TRY(ParseUrl(options.endpoint));
  while (endpoint.target.ends_with('/')) endpoint.target.pop_back();
  if (std::any_of(options.token.begin(), options.token.end(), [](char c) { return c <= ' ' || c == '\x7f'; }))
    return Usage("the token in HF_TOKEN or in the token file has spaces or control characters; set it again");
  return Hub(options, std::move(endpoint));
}

std::string Hub::FileTarget(const std::string& repo, const std::string& commit, const std::string& file) const {
  return fmt::format("{}/{}/resolve/{}/{}", endpoint_.target, repo, PercentEncode(commit, ""),
                     PercentEncode(file, "/"));
}

HttpReply Hub::Follow(HttpRequest request, FunctionRef<bool(const HttpReply&)> enough,
                      FunctionRef<bool(std::string_view)> take) {
  for (int hop = 0;; ++hop) {
    HttpRequest sent = request;
    sent.headers.emplace_back("User-Agent", kAgent);
    // A CDN is another host: its address is signed, and the token is none of its business.
    if (!options_.token.empty() && request.url.Origin() == endpoint_.Origin())
      sent.headers.emplace_back("Authorization", "Bearer " + options_.token);
    HttpReply reply = http_.Send(
        sent, [&](const HttpReply& r) { return !IsRedirect(r.status) && enough(r); }, take);
    if (!IsRedirect(reply.status) || (request.head && enough(reply))) return reply;
    const Result<Url> next = FollowLocation(request.url, reply.Header("location"));
    if (!next.ok() || hop == kMaxRedirects) {
      HttpReply failed;
      failed.status = reply.status;  // not worth another try
      failed.headers["x-error-message"] = next.ok() ? "too many redirects" : next.error().message;
      return failed;
    }
    request.url = next.value();
  }
}

void Hub::Wait(int attempt, const HttpReply& reply) {
  double seconds = std::min(kLongestWait, options_.wait_seconds * std::exp2(std::min(attempt, 16)));
  if (const auto asked = Number(reply.Header("retry-after")); asked && options_.wait_seconds > 0)
    seconds = std::min<double>(kLongestWait, static_cast<double>(*asked));
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

HttpReply Hub::Retry(FunctionRef<HttpReply()> once) {
  for (int attempt = 0;; ++attempt) {
    HttpReply reply = once();
    if (!IsWorthAnotherTry(reply) || attempt + 1 >= options_.attempts) return reply;
    Wait(attempt, reply);
  }
}

Error Hub::Refusal(const HttpReply& reply, const std::string& repo, const std::string& revision,
                   const std::string& what) const {
  const std::string host = endpoint_.Origin();
  const std::string& code = reply.Header("x-error-code");
  const std::string said = reply.Header("x-error-message").empty()
                               ? ""
                               : fmt::format(" (it says: {})", Printable(reply.Header("x-error-message")));
  if (!reply.failure.empty())
    return Failed(
        fmt::format("{} cannot be fetched from {}: {}, after {} attempts; check the network, or set HF_ENDPOINT to a "
                    "mirror, then run the same command to go on",
                    what, host, Printable(reply.failure), options_.attempts));
  if (code == "GatedRepo")
    return Failed(fmt::format(
        "{} is gated: accept its licence at {}/{}, then set HF_TOKEN to a token of the same account{}", repo,
        options_.endpoint, repo, options_.token.empty() ? "" : "; the token given has no access yet"));
  if (reply.status == 401)
    return options_.token.empty()
               ? BadModel(fmt::format(
                     "{} does not exist at {} or is private; check the name, or set HF_TOKEN to a token that "
                     "may read it",
                     repo, host))
               : Failed(fmt::format(
                     "{} does not accept the token for {}, or no such model exists; check the name and HF_TOKEN", host,
                     repo));
  if (reply.status == 403)
    return Failed(
        fmt::format("{} refuses access to {}{}; give the token in HF_TOKEN the right to read it", host, repo, said));
  if (reply.status == 404 &&
      (code == "RevisionNotFound" || (code != "RepoNotFound" && revision != "main" && what == repo)))
    return BadModel(fmt::format("{} has no revision {} at {}; give a branch, a tag or a commit", repo, revision, host));
  if (reply.status == 404)
    return BadModel(fmt::format("{} does not exist at {}; check the name{}", what, host,
                                options_.token.empty() ? ", and set HF_TOKEN if it is private" : ""));
  return Failed(fmt::format("{} answers {} for {}{}; try again later, or set HF_ENDPOINT to a mirror", host,
                            reply.status, what, said));
}

Result<RepoInfo> Hub::Info(const std::string& repo, const std::string& revision) {
  HttpRequest request;
  request.url = endpoint_;
  request.url.target = fmt::format("{}/api/models/{}/revision/{}", endpoint_.target, repo, PercentEncode(revision, ""));
  std::string body;
  bool too_long = false;
  const HttpReply reply = Retry([&] {
    body.clear();
    return Follow(
        request, [](const HttpReply& r) { return r.status == 200; },
        [&](std::string_view bytes) {
          too_long = body.size() + bytes.size() > kMaxListing;
          if (!too_long) body += bytes;
          return !too_long;
        });
  });
  const std::string where = fmt::format("the listing of {} at {}", repo, endpoint_.Origin());
  if (too_long)
    return Failed(fmt::format("{} is larger than {}; name the files with --include", where, Human({kMaxListing})));
  if (reply.status != 200 || !reply.failure.empty()) return Refusal(reply, repo, revision, repo);
  const Json json = TRY(ParseJson(body, where, Code::kFailed));
  const auto bad = [&](std::string_view why) {
    return Failed(fmt::format("{} {}; set HF_ENDPOINT to a server that speaks the Hub's API", where, why));
  };
  RepoInfo info;
  if (!json.is_object() || !json.contains("sha") || !json["sha"].is_string()) return bad("has no sha");
  info.commit = json["sha"].get<std::string>();
  if (!IsRevision(info.commit) || !IsPlainName(info.commit)) return bad("has a sha that is no commit");
  const auto siblings = json.find("siblings");
  if (siblings == json.end() || !siblings->is_array() || siblings->size() > kMaxFiles)
    return bad("has no list of files");
  for (const Json& sibling : *siblings) {
    const auto name = sibling.is_object() ? sibling.find("rfilename") : sibling.end();
    if (!sibling.is_object() || name == sibling.end() || !name->is_string()) return bad("has a file without a name");
    std::string path = name->get<std::string>();
    if (!IsRelativePath(path))
      return Failed(fmt::format("{} names the file \"{}\", which would lie outside of its folder; nothing was written",
                                where, Printable(path)));
    info.files.push_back(std::move(path));
  }
  return info;
}

Result<RemoteFile> Hub::Describe(const std::string& repo, const std::string& commit, const std::string& file) {
  HttpRequest request;
  request.head = true;
  request.url = endpoint_;
  request.url.target = FileTarget(repo, commit, file);
  const HttpReply reply = Retry([&] {
    return Follow(
        request, [](const HttpReply& r) { return !IsRedirect(r.status) || !r.Header("x-linked-etag").empty(); },
        [](std::string_view) { return true; });
  });
  const std::string what = repo + "/" + file;
  const bool linked = !reply.Header("x-linked-etag").empty();
  if (!(reply.status == 200 || (IsRedirect(reply.status) && linked)) || !reply.failure.empty())
    return Refusal(reply, repo, commit, what);
  RemoteFile remote;
  remote.name = file;
  remote.etag = PlainEtag(reply.Header(linked ? "x-linked-etag" : "etag"));
  if (!IsPlainName(remote.etag))
    return Failed(fmt::format("{} gives no usable ETag for {}; set HF_ENDPOINT to a server that speaks the Hub's API",
                              endpoint_.Origin(), what));
  const bool has_linked_size = !reply.Header("x-linked-size").empty();
  const auto size = Number(reply.Header(has_linked_size ? "x-linked-size" : "content-length"));
  if (!size || (!has_linked_size && IsRedirect(reply.status)))
    return Failed(fmt::format("{} does not say how large {} is; set HF_ENDPOINT to a server that speaks the Hub's API",
                              endpoint_.Origin(), what));
  const std::string& at = reply.Header("x-repo-commit");
  if (!at.empty() && at != commit)
    return Failed(fmt::format("{} answers for commit {} instead of {}; try again", what, Printable(at), commit));
  remote.size = *size;
  return remote;
}

Status Hub::Read(const std::string& repo, const std::string& commit, const RemoteFile& file, uint64_t offset,
                 FunctionRef<Status()> restart, FunctionRef<Status(std::string_view)> take) {
  const std::string what = repo + "/" + file.name;
  int fruitless = 0;  // attempts in a row without a byte
  while (offset < file.size) {
    HttpRequest request;
    request.url = endpoint_;
    request.url.target = FileTarget(repo, commit, file.name);
    // No If-Range: the CDN's ETag is another one than the Hub's. The partial file is named by the content's hash
    // instead, the range that comes back is compared, and the whole is hashed before anybody may read it.
    if (offset > 0) request.headers.emplace_back("Range", fmt::format("bytes={}-", offset));
    std::optional<Error> stopped;
    bool wrong_range = false, fruit = false;
    const auto keep = [&](Status status) {
      if (!status.ok()) stopped = std::move(status).error();
      return !stopped;
    };
    const auto accept = [&](const HttpReply& reply) {
      if (reply.status == 206) {
        wrong_range = !RangeIs(reply.Header("content-range"), offset, file.size);
        return !wrong_range;
      }
      if (reply.status == 416) wrong_range = true;
      if (reply.status != 200) return false;
      if (offset > 0 && !keep(restart())) return false;
      offset = 0;
      return true;
    };
    const auto receive = [&](std::string_view bytes) {
      if (bytes.size() > file.size - offset) {
        stopped = Failed(fmt::format("{} is longer than the {} bytes announced; try again later", what, file.size));
        return false;
      }
      fruit = true;
      offset += bytes.size();
      return keep(take(bytes));
    };
    const HttpReply reply = Follow(request, accept, receive);
    if (stopped) return std::move(*stopped);
    if (offset == file.size) break;
    if (wrong_range) {  // the server's idea of the file is another one: begin again, once for each attempt
      TRY(restart());
      offset = 0;
    } else if (!IsWorthAnotherTry(reply) && reply.status != 200 && reply.status != 206) {
      return Refusal(reply, repo, commit, what);
    }
    fruitless = fruit ? 1 : fruitless + 1;
    if (fruitless >= options_.attempts) {
      HttpReply last = reply;
      if (last.failure.empty() && (last.status == 200 || last.status == 206 || wrong_range))
        last.failure = "the answer ends too early";
      return Refusal(last, repo, commit, what);
    }
    Wait(fruitless - 1, reply);
  }
  return {};
}

}  // namespace sotto::pull
