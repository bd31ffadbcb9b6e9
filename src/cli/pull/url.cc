#include "cli/pull/url.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace sotto::pull {
namespace {

constexpr size_t kMaxUrl = 8192;  // signed CDN addresses are about 1,500 bytes

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return lower;
}

}  // namespace

std::string Url::Origin() const {
  const bool v6 = host.find(':') != host.npos;
  return fmt::format("{}://{}{}{}:{}", tls ? "https" : "http", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

Result<Url> ParseUrl(std::string_view text) {
  const Error bad = Usage(fmt::format("\"{}\" is not an http:// or https:// address", text.substr(0, 200)));
  if (text.size() > kMaxUrl) return bad;
  if (std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; }))
    return bad;
  Url url;
  url.tls = text.starts_with("https://");
  if (!url.tls && !text.starts_with("http://")) return bad;
  text.remove_prefix(url.tls ? 8 : 7);
  const size_t end = std::min(text.find_first_of("/?#"), text.size());
  std::string_view authority = text.substr(0, end);
  std::string_view target = text.substr(end, text.find('#') == text.npos ? text.npos : text.find('#') - end);
  url.target = target.starts_with('/') ? std::string(target) : "/" + std::string(target);
  if (authority.find_first_of("@\\") != authority.npos) return bad;
  url.port = url.tls ? 443 : 80;
  size_t colon = authority.rfind(':');
  if (authority.starts_with('[')) {
    const size_t close = authority.find(']');
    if (close == authority.npos || (close + 1 < authority.size() && authority[close + 1] != ':')) return bad;
    url.host = LowerCase(authority.substr(1, close - 1));
    colon = close + 1 < authority.size() ? close + 1 : authority.npos;
  } else {
    url.host = LowerCase(authority.substr(0, colon));
  }
  if (colon != authority.npos) {
    const std::string_view port = authority.substr(colon + 1);
    const auto [stop, problem] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (problem != std::errc() || stop != port.data() + port.size() || url.port < 1 || url.port > 65535) return bad;
  }
  if (url.host.empty() || (!authority.starts_with('[') && url.host.find(':') != url.host.npos)) return bad;
  return url;
}

Result<Url> FollowLocation(const Url& base, std::string_view location) {
  const auto bad = [&](std::string_view why) {
    return Failed(fmt::format("{} sends on to \"{}\", {}; try again later or set HF_ENDPOINT to another mirror",
                              base.Origin(), location.substr(0, 200), why));
  };
  std::string absolute(location);
  if (location.starts_with("//"))
    absolute = (base.tls ? "https:" : "http:") + absolute;
  else if (location.starts_with('/'))
    absolute = base.Origin() + absolute;
  else if (location.find("://") == location.npos)
    absolute =
        base.Origin() + base.target.substr(0, base.target.substr(0, base.target.find('?')).rfind('/') + 1) + absolute;
  const Result<Url> next = ParseUrl(absolute);
  if (!next.ok()) return bad("which is not an address");
  if (base.tls && !next.value().tls) return bad("which is not encrypted");
  return next.value();
}

std::string PercentEncode(std::string_view text, std::string_view keep) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '_' || c == '.' || c == '~' || keep.find(c) != keep.npos;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

}  // namespace sotto::pull
