#include "models/config.h"

#include <fmt/format.h>

#include <cmath>

namespace sotto {
namespace {

const Json* Find(const Json& config, std::string_view key) {
  if (!config.is_object()) return nullptr;
  const auto it = config.find(std::string(key));
  return it == config.end() || it->is_null() ? nullptr : &*it;
}

Error Missing(std::string_view key) {
  return BadModel(
      fmt::format("config.json has no '{}' and its class publishes no default for it; take config.json from the "
                  "model's own page",
                  key));
}

Error Wrong(std::string_view key, const Json& value, const std::string& wanted) {
  std::string shown = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (shown.size() > 40) shown = shown.substr(0, 40) + "...";
  return BadModel(fmt::format("config.json: '{}' is {}, but must be {}; take config.json from the model's own page",
                              key, shown, wanted));
}

}  // namespace

Result<int64_t> ConfigInt(const Json& config, std::string_view key, int64_t least, int64_t most,
                          std::optional<int64_t> fallback) {
  const Json* value = Find(config, key);
  if (value == nullptr) {
    if (fallback) return *fallback;
    return Missing(key);
  }
  const Error wrong = Wrong(key, *value, fmt::format("a whole number from {} to {}", least, most));
  if (!value->is_number_integer()) return wrong;
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return wrong;
  const auto n = value->get<int64_t>();
  if (n < least || n > most) return wrong;
  return n;
}

Result<double> ConfigNumber(const Json& config, std::string_view key, double fallback) {
  const Json* value = Find(config, key);
  if (value == nullptr) return fallback;
  if (!value->is_number() || !std::isfinite(value->get<double>())) return Wrong(key, *value, "a finite number");
  return value->get<double>();
}

Result<bool> ConfigBool(const Json& config, std::string_view key, bool fallback) {
  const Json* value = Find(config, key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return Wrong(key, *value, "true or false");
  return value->get<bool>();
}

Result<std::string> ConfigString(const Json& config, std::string_view key, std::optional<std::string> fallback) {
  const Json* value = Find(config, key);
  if (value == nullptr) {
    if (fallback) return *fallback;
    return Missing(key);
  }
  if (!value->is_string()) return Wrong(key, *value, "a string");
  return value->get<std::string>();
}

}  // namespace sotto
