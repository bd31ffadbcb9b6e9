// GET and HEAD by libcurl: one exchange at a time, kept connections, proxies (https_proxy, no_proxy … as curl reads them),
// certificates always verified (the system's store, or SSL_CERT_FILE and SSL_CERT_DIR). Follows no redirects and tries
// nothing again: hub.h does both, since a token may go to one origin only.
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
  // false to break off.
  HttpReply Send(const HttpRequest& request, FunctionRef<bool(const HttpReply&)> accept,
                 FunctionRef<bool(std::string_view)> take);

 private:
  struct Curl;
  int timeout_seconds_;
  std::unique_ptr<Curl> curl_;
};

}  // namespace sotto::pull
