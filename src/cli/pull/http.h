// HTTP/1.1, as much of it as a download needs: GET and HEAD, one exchange at a time, kept connections, proxies. Follows
// no redirects and tries nothing again (hub.h does both).
//
// Why not cpp-httplib: the 0.11 of Debian 12 percent-decodes the headers of answers (its parse_header), and the signed
// CDN address in a Location that was decoded is refused by the CDN.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/function_ref.h"
#include "base/result.h"
#include "cli/pull/url.h"

namespace sotto::pull {

struct HttpReply {
  int status = 0;                              // 0: no answer, `failure` says why
  std::string failure;                         // also set when an answer broke off
  std::map<std::string, std::string> headers;  // names in lower case; the first of several
  const std::string& Header(const std::string& lower_case_name) const;
};

struct HttpRequest {
  bool head = false;
  Url url;
  std::vector<std::pair<std::string, std::string>> headers;
};

class HttpConnections {
 public:
  explicit HttpConnections(int timeout_seconds);  // without a byte, and to connect
  HttpConnections(HttpConnections&&) noexcept;
  ~HttpConnections();

  // `accept` sees status and headers and says whether the body is wanted; `take` gets it piece by piece and returns
  // false to break off. Connections are kept for the next request to the same origin. Proxies: HTTPS_PROXY, HTTP_PROXY,
  // NO_PROXY.
  HttpReply Send(const HttpRequest& request, FunctionRef<bool(const HttpReply&)> accept,
                 FunctionRef<bool(std::string_view)> take);

 private:
  struct Kept;
  int timeout_seconds_;
  std::unique_ptr<Kept> kept_;
};

}  // namespace sotto::pull
