#include "engine/pack/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/bytes.h"
#include "base/file.h"

namespace sotto {
namespace {

constexpr const char* kSchema = "sotto.sensitivity/1";
constexpr uint64_t kMostBytes = 64 * kMiB;

// A finite number of at least 0, or -1.
double NumberIn(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_number()) return -1;
  const double value = it->get<double>();
  return std::isfinite(value) && value >= 0 ? value : -1;
}

std::string TextIn(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

}  // namespace

const Sensitivity* Sensitivities::Find(const std::string& name) const {
  const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const Sensitivity& t) { return t.name == name; });
  return it == tensors.end() ? nullptr : &*it;
}

Result<double> Sensitivities::ValueOf(const std::string& name) const {
  if (const Sensitivity* s = Find(name)) return s->value;
  return BadInput(fmt::format(
      "the sensitivities lack '{}': they are of another model; measure this one with: sotto eval sensitivity", name));
}

double SpreadOf(double share_of_weights, double share_of_harm) {
  constexpr double kLeastHarm = 1.0 / 256;
  return std::sqrt(share_of_weights / std::max(share_of_harm, kLeastHarm * share_of_weights));
}

Json SensitivitiesJson(const Sensitivities& s) {
  Json tensors = Json::array();
  for (const Sensitivity& t : s.tensors) tensors.push_back({{"name", t.name}, {"sensitivity", t.value}, {"kl", t.kl}});
  return {{"schema", kSchema},
          {"model", s.model},
          {"tokens", s.tokens},
          {"noise", s.noise},
          {"tensors", std::move(tensors)}};
}

Result<Sensitivities> ReadSensitivities(const std::string& path) {
  const std::string text = TRY(ReadSmallFile(path, kMostBytes, Code::kBadInput));
  const Json j = TRY(ParseJson(text, path, Code::kBadInput));
  if (!j.is_object() || TextIn(j, "schema") != kSchema || !j.contains("tensors") || !j["tensors"].is_array())
    return BadInput(path + " is not what `sotto eval sensitivity -o` writes; measure the model again");
  Sensitivities s{
      TextIn(j, "model"), static_cast<int64_t>(std::min(NumberIn(j, "tokens"), 1e15)), NumberIn(j, "noise"), {}};
  for (const Json& t : j["tensors"]) {
    if (t.is_object()) s.tensors.push_back({TextIn(t, "name"), NumberIn(t, "sensitivity"), NumberIn(t, "kl")});
    if (!t.is_object() || s.tensors.back().name.empty() || s.tensors.back().value < 0)
      return BadInput(fmt::format("{}: tensor {} has no name or no sensitivity of at least 0; measure the model again",
                                  path, s.tensors.size()));
  }
  return s;
}

}  // namespace sotto
