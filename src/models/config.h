// Reading a published config.json: every number is hostile until compared, a missing key is either a published class default
// or a refusal that names it. Never a guess.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"

namespace sotto {

// The value of `key` within [least, most]; `fallback` (the published class default) when the key is missing or null.
Result<int64_t> ConfigInt(const Json& config, std::string_view key, int64_t least, int64_t most,
                          std::optional<int64_t> fallback = std::nullopt);
Result<double> ConfigNumber(const Json& config, std::string_view key, double fallback);
Result<bool> ConfigBool(const Json& config, std::string_view key, bool fallback);
Result<std::string> ConfigString(const Json& config, std::string_view key,
                                 std::optional<std::string> fallback = std::nullopt);

}  // namespace sotto
