#include "engine/admission_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "engine/report.h"

namespace sotto {
namespace {

Json NameOrNull(const Rung* rung) { return rung == nullptr ? Json(nullptr) : Json(rung->name); }

std::string Sized(Bytes b) { return fmt::format("{} bytes ({})", b.n, Human(b)); }

std::string StatusText(const MemoryStats& s) {
  const Bytes available = s.now.memory.available;
  if (s.models.empty()) return fmt::format("nothing is loaded; {} are available", Sized(available));
  switch (s.now.state) {
    case MemoryState::kOk: return fmt::format("{} are available", Sized(available));
    case MemoryState::kWarning:
      return fmt::format("{} are available, less than {}: load nothing more", Sized(available),
                         Sized(s.thresholds.warning_below));
    case MemoryState::kCritical:
      return fmt::format("{} are available, less than the {} to stay free: unload a model", Sized(available),
                         Sized(s.thresholds.critical_below));
  }
  return "";
}

Json SampleJson(const MemorySample& s) {
  return {{"seconds", s.seconds},
          {"available_bytes", s.memory.available.n},
          {"reserved_bytes", s.reserved.n},
          {"percent_used", PercentUsed(s.memory)},
          {"status", NameOf(s.state)}};
}

}  // namespace

Json RecommendJson(const AdmissionRules& rules, const SystemMemory& memory) {
  const Rung* const best = Recommended(rules, memory);
  Json j = {{"recommended", NameOrNull(best)},
            {"profile", rules.profile},
            {"model", rules.model},
            {"total_bytes", memory.total.n},
            {"available_bytes", memory.available.n},
            {"rungs", Json::array()}};
  for (const Rung& r : rules.rungs)
    j["rungs"].push_back({{"name", r.name},
                          {"need_bytes", (r.need + rules.audio_overhead).n},
                          {"min_free_bytes", r.buffer.n},
                          {"required_bytes", RoomFor(rules, r, memory.total).n},
                          {"can_load", MayLoad(rules, r, memory)}});
  if (best == nullptr) j["error"] = ErrorJson(LoadRefusal(rules, Smallest(rules, memory.total), memory, {}));
  return j;
}

Json CheckJson(const AdmissionRules& rules, const Rung& rung, const SystemMemory& memory, Bytes reserved) {
  const Bytes room = RoomFor(rules, rung, memory.total);
  const bool fits = memory.available >= room;
  Json j = {{"can_load", fits},
            {"reason", ""},
            {"quantization", rung.name},
            {"profile", rules.profile},
            {"model", rules.model},
            {"required_bytes", room.n},
            {"available_bytes", memory.available.n},
            {"reserved_bytes", reserved.n},
            {"missing_bytes", fits ? 0 : room.n - memory.available.n},
            {"largest_that_fits", NameOrNull(LargestThatFits(rules, memory))}};
  if (fits) {
    j["reason"] = fmt::format("{} fits as {}: it needs {} available, and {} are", rules.model, rung.name, Sized(room),
                              Sized(memory.available));
  } else {
    j["error"] = ErrorJson(LoadRefusal(rules, rung, memory, reserved));
    j["reason"] = j["error"]["message"];
  }
  return j;
}

Json StatusJson(const MemoryStats& s) {
  return {{"status", NameOf(s.now.state)},
          {"message", StatusText(s)},
          {"available_bytes", s.now.memory.available.n},
          {"critical_below_bytes", s.thresholds.critical_below.n},
          {"warning_below_bytes", s.thresholds.warning_below.n}};
}

Json StatsJson(const MemoryStats& s) {
  const SystemMemory& m = s.now.memory;
  Json j = {{"total_bytes", m.total.n},
            {"available_bytes", m.available.n},
            {"used_bytes", m.total.n - std::min(m.total.n, m.available.n)},
            {"percent_used", PercentUsed(m)},
            {"limit_bytes", m.limit ? Json(m.limit->n) : Json(nullptr)},
            {"reserved_bytes", s.now.reserved.n},
            {"status", NameOf(s.now.state)},
            {"refuses_sessions", s.refuses_sessions},
            {"model_loaded", !s.models.empty()},
            {"current_quantization", nullptr},
            {"model_requirements", nullptr},
            {"models", Json::array()},
            {"history", Json::array()}};
  if (!s.models.empty()) {
    const ModelMemory& newest = s.models.back();
    j["current_quantization"] = newest.rung.name;
    j["model_requirements"] = {{"need_bytes", newest.taken.n},
                               {"min_free_bytes", newest.rung.buffer.n},
                               {"threshold_bytes", (newest.taken + newest.rung.buffer).n}};
    if (!newest.rung.type.empty()) j["model_requirements"]["type"] = newest.rung.type;
  }
  for (const ModelMemory& model : s.models)
    j["models"].push_back({{"name", model.name},
                           {"quantization", model.rung.name},
                           {"taken_bytes", model.taken.n},
                           {"resident_bytes", model.resident.n},
                           {"sessions", model.sessions}});
  for (const MemorySample& sample : s.history) j["history"].push_back(SampleJson(sample));
  return j;
}

}  // namespace sotto
