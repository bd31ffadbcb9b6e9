// A published config (or a part of it, such as text_config) together with its class's published defaults. Configs leave keys
// out; what holds then is the default of transformers' config class for that model_type (class_defaults.inc, made by
// tests/golden/make_class_defaults.py). A key that neither has is a refusal that names it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"

namespace sotto {

class ClassConfig {
 public:
  // `where` names the object in errors ("config.json", "config.json: text_config"). `type`: whose defaults hold when the
  // object doesn't say its model_type. The object must outlive this. kBadModel when it is no object.
  static Result<ClassConfig> Of(const Json& object, std::string where, std::string_view type = "");

  const std::string& type() const { return type_; }
  const std::string& where() const { return where_; }
  const Json& json() const { return *json_; }
  bool Has(std::string_view key) const;  // in the object, and not null

  // Within [least, most], from the object or the class; null and missing are the same. kBadModel names the key.
  Result<int64_t> Int(std::string_view key, int64_t least, int64_t most) const;
  // The same for a key that the class derives from others when nobody gives it.
  Result<int64_t> IntOr(std::string_view key, int64_t least, int64_t most, int64_t derived) const;
  Result<bool> Bool(std::string_view key) const;
  Result<bool> BoolOr(std::string_view key, bool derived) const;
  // A finite number, from the object only; without `derived` it must be there.
  Result<double> Number(std::string_view key, std::optional<double> derived = std::nullopt) const;
  Result<std::string> String(std::string_view key) const;
  // An object in it; when it is missing, one without keys: the defaults of `type` hold.
  Result<ClassConfig> Part(std::string_view key, std::string_view type = "") const;

  Error Bad(std::string_view key, std::string_view what) const;

 private:
  ClassConfig(const Json& json, std::string where, std::string type);
  const Json* Find(std::string_view key) const;
  std::optional<int64_t> Default(std::string_view key) const;
  const Json* json_;
  std::string where_, type_, parent_;  // parent_: whose class gives this part its values, "voxtral.text_config"
};

// Whole numbers and truth values of class_defaults.inc; nothing when the class has no default for the key.
std::optional<int64_t> ClassDefault(std::string_view type, std::string_view key);

// Bounds that every published model keeps by far; products of two stay below 2^63.
inline constexpr int64_t kMaxWidth = 1 << 20, kMaxLayers = 4096, kMaxVocab = 1 << 24, kMaxContext = int64_t{1} << 32;

}  // namespace sotto
