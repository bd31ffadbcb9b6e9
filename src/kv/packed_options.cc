#include "kv/packed_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "base/bytes.h"

namespace sotto {
namespace {

constexpr int64_t kMostSinks = 64, kMostRecent = 4096;

Error Bad(std::string_view key, std::string_view value, std::string_view may_be) {
  return Error{Code::kUsage,
               fmt::format("--kv smart: {}={} is not possible; {}", key.substr(0, 20), value.substr(0, 40), may_be)};
}

template <class T>
bool Number(std::string_view text, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

// Calls each(part) for the parts of a text between separators.
template <class Each>
Status Split(std::string_view text, char separator, const Each& each) {
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    TRY(each(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return {};
}

Status Budget(std::string_view value, PackedKvOptions* o) {
  constexpr std::string_view kMayBe =
      "it is a share of fp16's bytes above 0 and at most 1, or a size: budget=0.25, budget=64MiB";
  if (double share = 0; Number(value, &share)) {
    if (!(share > 0 && share <= 1)) return Bad("budget", value, kMayBe);
    o->budget_share = share;
    return {};
  }
  const Result<Bytes> size = ParseSize(value, Bytes{});
  if (!size.ok() || size->n == 0) return Bad("budget", value, kMayBe);
  o->budget_bytes = size->n;
  o->budget_share = 0;
  return {};
}

Status Widths(std::string_view value, PackedKvOptions* o) {
  std::vector<int64_t> bits;
  TRY(Split(value, '/', [&](std::string_view one) -> Status {
    bits.push_back(0);
    if (!Number(one, &bits.back())) bits.back() = 0;
    return {};
  }));
  const std::optional<KvWidths> widths = KvWidths::Of(bits);
  if (!widths) return Bad("bits", value, "it is some of 2, 3, 4 and 8: bits=2/3/4/8");
  o->widths = *widths;
  return {};
}

Status Count(std::string_view key, std::string_view value, int64_t most, int64_t* count) {
  if (Number(value, count) && *count >= 0 && *count <= most) return {};
  return Bad(key, value, fmt::format("it is a number of tokens, 0 to {}", most));
}

Status Set(std::string_view pair, PackedKvOptions* o) {
  const size_t equals = std::min(pair.find('='), pair.size());
  const std::string_view key = pair.substr(0, equals), value = pair.substr(std::min(equals + 1, pair.size()));
  if (key == "budget") return Budget(value, o);
  if (key == "bits") return Widths(value, o);
  if (key == "sinks") return Count(key, value, kMostSinks, &o->sinks);
  if (key == "recent") return Count(key, value, kMostRecent, &o->recent);
  if (key != "rule") return Bad(key, value, "keys are budget, bits, sinks, recent and rule");
  const std::optional<KvRule> rule = FindKvRule(value);
  if (!rule) return Bad(key, value, "rules are uniform, recency, history and smart");
  o->rule = *rule;
  return {};
}

}  // namespace

bool IsPackedKv(std::string_view text) {
  return text == "q8" || text == "q4" || text == "q3" || text == "q2" || text == "smart" || text.starts_with("smart:");
}

Result<PackedKvOptions> ParsePackedKv(std::string_view text) {
  CHECK(IsPackedKv(text));
  PackedKvOptions o;
  if (text[0] == 'q') {
    const int64_t bits[] = {text[1] - '0'};
    return PackedKvOptions{KvRule::kUniform, *KvWidths::Of(bits), 0, 0, 0, 0};
  }
  if (const size_t colon = text.find(':'); colon != text.npos)
    TRY(Split(text.substr(colon + 1), ',', [&](std::string_view pair) { return Set(pair, &o); }));
  return o;
}

}  // namespace sotto
