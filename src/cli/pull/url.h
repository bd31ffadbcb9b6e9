// Addresses: parsed strictly, followed from redirects, percent-encoded. Nothing is decoded: a signed address must go
// out as it came in.
#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

namespace sotto::pull {

struct Url {
  bool tls = false;
  std::string host;  // without brackets
  int port = 0;
  std::string target = "/";  // path and query, already percent-encoded; starts with '/'

  // What a browser calls the origin, "https://huggingface.co:443": a token may go to one origin only.
  std::string Origin() const;
  std::string Text() const { return Origin() + target; }
};

// http:// or https:// with a host; no user name, no spaces or control characters. kUsage.
Result<Url> ParseUrl(std::string_view text);

// A Location header, absolute or relative, as seen from `base`. kFailed for anything else than http(s), and for a way
// from https to http.
Result<Url> FollowLocation(const Url& base, std::string_view location);

// Percent-encodes all but letters, digits, - _ . ~ and the bytes in `keep`.
std::string PercentEncode(std::string_view text, std::string_view keep);

}  // namespace sotto::pull
