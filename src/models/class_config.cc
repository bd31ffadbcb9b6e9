#include "models/class_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sotto {
namespace {

struct Default {
  std::string_view type, key;
  int64_t value;
};
constexpr Default kDefaults[] = {
#include "models/class_defaults.inc"
};

std::string Shown(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 40) text = text.substr(0, 40) + "...";
  return text;
}

const Json& Nothing() {
  static const Json kNothing = Json::object();
  return kNothing;
}

}  // namespace

std::optional<int64_t> ClassDefault(std::string_view type, std::string_view key) {
  for (const Default& d : kDefaults)
    if (d.type == type && d.key == key) return d.value;
  return std::nullopt;
}

ClassConfig::ClassConfig(const Json& json, std::string where, std::string type)
    : json_(&json), where_(std::move(where)), type_(std::move(type)) {}

Result<ClassConfig> ClassConfig::Of(const Json& object, std::string where, std::string_view type) {
  if (!object.is_object())
    return BadModel(fmt::format("{} is not an object; take config.json from the model's own page", where));
  ClassConfig config(object, std::move(where), std::string(type));
  if (const Json* own = config.Find("model_type")) {
    if (!own->is_string()) return config.Bad("model_type", fmt::format("is {}, but must be a string", Shown(*own)));
    config.type_ = own->get<std::string>();
  }
  return config;
}

const Json* ClassConfig::Find(std::string_view key) const {
  const auto it = json_->find(std::string(key));
  return it == json_->end() || it->is_null() ? nullptr : &*it;
}

std::optional<int64_t> ClassConfig::Default(std::string_view key) const {
  const auto given = ClassDefault(parent_, key);
  return given ? given : ClassDefault(type_, key);
}

bool ClassConfig::Has(std::string_view key) const { return Find(key) != nullptr; }

Error ClassConfig::Bad(std::string_view key, std::string_view what) const {
  return BadModel(fmt::format("{}: '{}' {}; take config.json from the model's own page", where_, key, what));
}

Result<int64_t> ClassConfig::Int(std::string_view key, int64_t least, int64_t most) const {
  const Json* value = Find(key);
  if (value == nullptr) {
    if (const auto known = Default(key); known && *known >= least && *known <= most) return *known;
    return Bad(key, fmt::format("is missing, and the class of model_type '{}' publishes no default for it",
                                type_.substr(0, 60)));
  }
  const bool whole = value->is_number_unsigned() ? value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                                                 : value->is_number_integer();
  if (!whole || value->get<int64_t>() < least || value->get<int64_t>() > most)
    return Bad(key, fmt::format("is {}, but must be a whole number from {} to {}", Shown(*value), least, most));
  return value->get<int64_t>();
}

Result<int64_t> ClassConfig::IntOr(std::string_view key, int64_t least, int64_t most, int64_t derived) const {
  if (!Has(key) && !Default(key)) return derived;
  return Int(key, least, most);
}

Result<bool> ClassConfig::Bool(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) {
    if (const auto known = Default(key)) return *known != 0;
    return Bad(key, fmt::format("is missing, and the class of model_type '{}' publishes no default for it",
                                type_.substr(0, 60)));
  }
  if (!value->is_boolean()) return Bad(key, fmt::format("is {}, but must be true or false", Shown(*value)));
  return value->get<bool>();
}

Result<bool> ClassConfig::BoolOr(std::string_view key, bool derived) const {
  if (!Has(key) && !Default(key)) return derived;
  return Bool(key);
}

Result<double> ClassConfig::Number(std::string_view key, std::optional<double> derived) const {
  const Json* value = Find(key);
  if (value == nullptr) return derived ? Result<double>(*derived) : Result<double>(Bad(key, "is missing"));
  if (!value->is_number() || !std::isfinite(value->get<double>()))
    return Bad(key, fmt::format("is {}, but must be a finite number", Shown(*value)));
  return value->get<double>();
}

Result<std::string> ClassConfig::String(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) return Bad(key, "is missing");
  if (!value->is_string()) return Bad(key, fmt::format("is {}, but must be a string", Shown(*value)));
  return value->get<std::string>();
}

Result<ClassConfig> ClassConfig::Part(std::string_view key, std::string_view type) const {
  const Json* value = Find(key);
  ClassConfig part = TRY(Of(value == nullptr ? Nothing() : *value, fmt::format("{}: {}", where_, key), type));
  part.parent_ = fmt::format("{}.{}{}", type_, key, value == nullptr ? "?" : "");
  if (value == nullptr && !ClassDefault(part.parent_, "hidden_size")) part.parent_.pop_back();
  return part;
}

}  // namespace sotto
