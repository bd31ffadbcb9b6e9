#include "cli/pull/http.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <cstdlib>

#include "base/check.h"

namespace sotto::pull {
namespace {

constexpr size_t kMaxHeaderBytes = 64 * 1024;  // of one answer

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kWhite = " \t\r\n";
  while (!text.empty() && kWhite.find(text.front()) != kWhite.npos) text.remove_prefix(1);
  while (!text.empty() && kWhite.find(text.back()) != kWhite.npos) text.remove_suffix(1);
  return text;
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return lower;
}

// One exchange, as libcurl's callbacks see it.
struct Exchange {
  HttpReply reply;
  FunctionRef<bool(const HttpReply&)> accept;
  FunctionRef<bool(std::string_view)> take;
  size_t header_bytes = 0;
  bool too_long = false, wanted = true, broken_off = false;
  char reason[CURL_ERROR_SIZE] = "";
};

// Called for every line of a header, its status line and the empty one at its end included.
size_t OnHeader(char* data, size_t, size_t n, void* exchange) {
  auto& e = *static_cast<Exchange*>(exchange);
  const std::string_view line(data, n);
  e.header_bytes += n;
  if (e.header_bytes > kMaxHeaderBytes) return e.too_long = true, 0;
  if (line.starts_with("HTTP/")) {
    const size_t space = line.find(' ');
    e.reply.status = space == line.npos ? 0 : std::atoi(std::string(line.substr(space + 1, 3)).c_str());
    e.reply.headers.clear();
  } else if (const std::string_view text = Trim(line); !text.empty()) {
    const size_t colon = text.find(':');
    if (colon != text.npos) e.reply.headers.try_emplace(LowerCase(text.substr(0, colon)), Trim(text.substr(colon + 1)));
  } else if (e.reply.status >= 200) {  // 100 and 103 come before the answer
    e.wanted = e.accept(e.reply);
  }
  return n;
}

size_t OnBody(char* data, size_t, size_t n, void* exchange) {
  auto& e = *static_cast<Exchange*>(exchange);
  if (e.wanted && e.take({data, n})) return n;
  e.broken_off = true;
  return 0;
}

// Why it failed, without the address (the caller says what it wanted).
std::string Reason(CURLcode code, const Exchange& e) {
  if (e.too_long) return "the answer's header is too long";
  if (code == CURLE_OPERATION_TIMEDOUT) return "no byte came in time";
  if (code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR)
    return "the answer ends too early";
  if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY) return "the answer is not HTTP";
  const std::string text = e.reason[0] != '\0' ? e.reason : curl_easy_strerror(code);
  return code == CURLE_PEER_FAILED_VERIFICATION ? fmt::format("its certificate is not accepted ({})", text) : text;
}

void Check(CURLcode code) { CHECK(code == CURLE_OK); }  // of options that this libcurl has

}  // namespace

struct HttpConnections::Curl {
  CURL* easy = curl_easy_init();
  ~Curl() { curl_easy_cleanup(easy); }
};

const std::string& HttpReply::Header(const std::string& name) const {
  static const std::string none;
  const auto at = headers.find(name);
  return at == headers.end() ? none : at->second;
}

HttpConnections::HttpConnections(int timeout_seconds)
    : timeout_seconds_(timeout_seconds), curl_(std::make_unique<Curl>()) {
  CHECK(curl_->easy != nullptr);
}
HttpConnections::HttpConnections(HttpConnections&&) noexcept = default;
HttpConnections::~HttpConnections() = default;

HttpReply HttpConnections::Send(const HttpRequest& request, FunctionRef<bool(const HttpReply&)> accept,
                                FunctionRef<bool(std::string_view)> take) {
  CURL* const easy = curl_->easy;
  Exchange e{{}, accept, take};
  curl_slist* headers = nullptr;
  for (const auto& [name, value] : request.headers)
    headers = curl_slist_append(headers, fmt::format("{}: {}", name, value).c_str());
  curl_easy_reset(easy);  // keeps the connections
  const std::string url = request.url.Text();
  Check(curl_easy_setopt(easy, CURLOPT_URL, url.c_str()));
  Check(curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L));  // a signed address goes out as it came in
  Check(curl_easy_setopt(easy, CURLOPT_NOBODY, request.head ? 1L : 0L));
  Check(curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers));
  Check(curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1));
  Check(curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https"));
  Check(curl_easy_setopt(easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2));
  for (const auto& [name, option] : {std::pair{"SSL_CERT_FILE", CURLOPT_CAINFO}, {"SSL_CERT_DIR", CURLOPT_CAPATH}})
    if (const char* path = std::getenv(name); path != nullptr && *path != '\0')
      Check(curl_easy_setopt(easy, option, path));
  Check(curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L));
  Check(curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L));
  Check(curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, static_cast<long>(timeout_seconds_)));
  Check(curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L));
  Check(curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(timeout_seconds_)));
  Check(curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, e.reason));
  Check(curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &OnHeader));
  Check(curl_easy_setopt(easy, CURLOPT_HEADERDATA, &e));
  Check(curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &OnBody));
  Check(curl_easy_setopt(easy, CURLOPT_WRITEDATA, &e));
  const CURLcode done = curl_easy_perform(easy);
  curl_slist_free_all(headers);
  if (done != CURLE_OK && !e.broken_off) e.reply.failure = Reason(done, e);
  return std::move(e.reply);
}

}  // namespace sotto::pull
