#include "cli/pull/http.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>

#include "cli/pull/connection.h"

namespace sotto::pull {
namespace {

constexpr size_t kBufferBytes = 64 * 1024;
constexpr size_t kMaxHeaderBytes = 64 * 1024;  // of one answer
constexpr size_t kMaxChunkLine = 1024;

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return lower;
}

std::string Environment(const char* upper, const char* lower) {
  for (const char* name : {lower, upper})
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return value;
  return "";
}

// NO_PROXY: names separated by commas; each matches itself and what ends in it; "*" matches all.
bool GoesDirect(const std::string& host) {
  const std::string list = Environment("NO_PROXY", "no_proxy");
  size_t begin = 0;
  while (begin < list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    std::string_view name = std::string_view(list).substr(begin, end - begin);
    while (name.starts_with(' ') || name.starts_with('.')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    if (name == "*" || name == host) return true;
    if (!name.empty() && host.size() > name.size() && host.ends_with(name) &&
        host[host.size() - name.size() - 1] == '.')
      return true;
    begin = end + 1;
  }
  return false;
}

Endpoint EndpointFor(const Url& url) {
  Endpoint endpoint{url.tls, url.host, url.port, "", 0};
  const std::string proxy =
      url.tls ? Environment("HTTPS_PROXY", "https_proxy") : Environment("HTTP_PROXY", "http_proxy");
  if (proxy.empty() || GoesDirect(url.host)) return endpoint;
  const Result<Url> at = ParseUrl(proxy.find("://") == proxy.npos ? "http://" + proxy : proxy);
  if (!at.ok()) return endpoint;
  endpoint.proxy_host = at.value().host;
  endpoint.proxy_port = at.value().port;
  return endpoint;
}

std::string_view Trim(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  return text;
}

template <class Int>
std::optional<Int> Whole(std::string_view text, int base = 10) {
  Int n{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), n, base);
  if (text.empty() || problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

// Reads an answer off a connection, through one buffer.
class Answer {
 public:
  explicit Answer(Connection& connection) : connection_(connection), buffer_(kBufferBytes, 0) {}

  bool got_a_byte() const { return got_a_byte_; }

  // A line without its end. Failed when the stream ends in it or `budget` bytes don't hold it.
  Result<std::string> Line(size_t& budget) {
    std::string line;
    while (true) {
      if (next_ == end_ && TRY(Fill()) == 0) return Failed("the answer ends too early");
      const char c = buffer_[next_++];
      if (budget-- == 0) return Failed("the answer's header is too long");
      if (c == '\n') break;
      line += c;
    }
    if (line.ends_with('\r')) line.pop_back();
    return line;
  }

  // Hands on the next bytes, at most `most`; 0 at the end of the stream. `more` says whether to go on.
  Result<size_t> Some(uint64_t most, FunctionRef<bool(std::string_view)> take, bool& more) {
    if (next_ == end_ && TRY(Fill()) == 0) return size_t{0};
    const size_t n = static_cast<size_t>(std::min<uint64_t>(most, end_ - next_));
    more = take({buffer_.data() + next_, n});
    next_ += n;
    return n;
  }

  bool empty() const { return next_ == end_; }

 private:
  Result<size_t> Fill() {
    next_ = 0;
    end_ = 0;
    end_ = TRY(connection_.Read(buffer_.data(), buffer_.size()));
    got_a_byte_ |= end_ > 0;
    return end_;
  }
  Connection& connection_;
  std::string buffer_;
  size_t next_ = 0, end_ = 0;
  bool got_a_byte_ = false;
};

// Status line and headers. RFC 9112: folded lines are refused.
Status ReadHead(Answer& answer, HttpReply& reply) {
  size_t budget = kMaxHeaderBytes;
  while (true) {
    const std::string first = TRY(answer.Line(budget));
    const auto status = first.size() >= 12 && first.starts_with("HTTP/1.") && first[8] == ' '
                            ? Whole<int>(std::string_view(first).substr(9, 3))
                            : std::nullopt;
    if (!status || *status < 100) return Failed("the answer is not HTTP");
    reply.headers.clear();
    while (true) {
      const std::string line = TRY(answer.Line(budget));
      if (line.empty()) break;
      const size_t colon = line.find(':');
      if (colon == line.npos || colon == 0 || line[0] == ' ' || line[0] == '\t')
        return Failed("the answer is not HTTP");
      reply.headers.try_emplace(LowerCase(line.substr(0, colon)), Trim(std::string_view(line).substr(colon + 1)));
    }
    if (*status >= 200) return reply.status = *status, Status();  // 100 and 103 come before the answer
  }
}

// Exactly `bytes` of the body. False when `take` broke off.
Result<bool> ReadExactly(Answer& answer, uint64_t bytes, FunctionRef<bool(std::string_view)> take) {
  bool more = true;
  while (bytes > 0) {
    const size_t n = TRY(answer.Some(bytes, take, more));
    if (n == 0) return Failed("the answer ends too early");
    if (!more) return false;
    bytes -= n;
  }
  return true;
}

// The body. True when it was read to its end and the connection can serve again.
Result<bool> ReadBody(Answer& answer, const HttpReply& reply, FunctionRef<bool(std::string_view)> take) {
  const bool keeps = LowerCase(reply.Header("connection")) != "close";
  if (reply.status == 204 || reply.status == 304) return keeps;
  if (const std::string& coding = reply.Header("transfer-encoding"); !coding.empty()) {
    if (LowerCase(coding) != "chunked") return Failed("the answer comes in an unknown coding");
    while (true) {
      size_t budget = kMaxChunkLine;
      const std::string line = TRY(answer.Line(budget));
      const auto size = Whole<uint64_t>(Trim(std::string_view(line).substr(0, line.find(';'))), 16);
      if (!size) return Failed("the answer is not HTTP");
      if (*size > 0 && !TRY(ReadExactly(answer, *size, take))) return false;
      while (!TRY(answer.Line(budget)).empty())  // the end of the chunk, or trailers and their end
        if (*size > 0) return Failed("the answer is not HTTP");
      if (*size == 0) return keeps;
    }
  }
  if (const std::string& length = reply.Header("content-length"); !length.empty()) {
    const auto bytes = Whole<uint64_t>(length);
    if (!bytes) return Failed("the answer is not HTTP");
    return TRY(ReadExactly(answer, *bytes, take)) && keeps;
  }
  for (bool more = true; more;)
    if (TRY(answer.Some(~0ULL, take, more)) == 0) break;
  return false;
}

}  // namespace

struct HttpConnections::Kept {
  std::map<std::string, Connection> by_origin;
};

const std::string& HttpReply::Header(const std::string& name) const {
  static const std::string none;
  const auto at = headers.find(name);
  return at == headers.end() ? none : at->second;
}

HttpConnections::HttpConnections(int timeout_seconds)
    : timeout_seconds_(timeout_seconds), kept_(std::make_unique<Kept>()) {}
HttpConnections::HttpConnections(HttpConnections&&) noexcept = default;
HttpConnections::~HttpConnections() = default;

HttpReply HttpConnections::Send(const HttpRequest& request, FunctionRef<bool(const HttpReply&)> accept,
                                FunctionRef<bool(std::string_view)> take) {
  const Endpoint endpoint = EndpointFor(request.url);
  const bool to_proxy = !endpoint.tls && !endpoint.proxy_host.empty();
  // A default port is not written: some servers compare Host with their name.
  const bool usual_port = request.url.port == (request.url.tls ? 443 : 80);
  const bool v6 = request.url.host.find(':') != request.url.host.npos;
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: {}{}{}{}\r\n", request.head ? "HEAD" : "GET",
                                 to_proxy ? request.url.Text() : request.url.target, v6 ? "[" : "", request.url.host,
                                 v6 ? "]" : "", usual_port ? "" : fmt::format(":{}", request.url.port));
  for (const auto& [name, value] : request.headers) text += fmt::format("{}: {}\r\n", name, value);
  text += "Accept: */*\r\nAccept-Encoding: identity\r\n\r\n";  // sizes and checksums are of the plain bytes

  // A kept connection may have been closed at the other end meanwhile: then a new one is tried, once.
  for (bool may_be_stale = true;; may_be_stale = false) {
    HttpReply reply;
    std::optional<Connection> connection;
    const auto kept = kept_->by_origin.find(request.url.Origin());
    const bool was_kept = may_be_stale && kept != kept_->by_origin.end();
    if (was_kept) connection.emplace(std::move(kept->second));
    if (kept != kept_->by_origin.end()) kept_->by_origin.erase(kept);
    if (!was_kept) {
      Result<Connection> opened = Connection::Open(endpoint, timeout_seconds_);
      if (!opened.ok()) return reply.failure = opened.error().message, reply;
      connection.emplace(std::move(opened).value());
    }
    Answer answer(*connection);
    const auto exchange = [&]() -> Result<bool> {
      TRY(connection->Write(text));
      TRY(ReadHead(answer, reply));
      const bool wanted = accept(reply);
      if (request.head) return LowerCase(reply.Header("connection")) != "close";
      return wanted ? TRY(ReadBody(answer, reply, take)) : false;
    };
    const Result<bool> serves_again = exchange();
    if (!serves_again.ok() && was_kept && !answer.got_a_byte()) continue;
    if (!serves_again.ok()) reply.failure = serves_again.error().message;
    if (serves_again.ok() && serves_again.value() && answer.empty())
      kept_->by_origin.emplace(request.url.Origin(), std::move(*connection));
    return reply;
  }
}

}  // namespace sotto::pull
