#include <fmt/format.h>

#include "base/json.h"
#include "engine/foreign/foreign.h"

namespace sotto {
namespace {

template <class T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::string Missing(const ForeignPlan& plan) {
  std::string names;
  for (const ForeignTerm& t : plan.terms)
    if (!t.bytes && !t.at_most) names += (names.empty() ? "" : ", ") + t.name;
  return names;
}

}  // namespace

Json ForeignJson(const ForeignPlan& plan) {
  Json terms = Json::array();
  for (const ForeignTerm& t : plan.terms) {
    Json term = {{"name", t.name},
                 {"bytes", OrNull(t.bytes)},
                 {"at_most_bytes", OrNull(t.at_most)},
                 {"place", NameOf(t.place)},
                 {"moment", NameOf(t.moment)},
                 {"transient", t.transient},
                 {"inside", t.inside},
                 {"rule", t.rule},
                 {"source", t.source}};
    terms.push_back(std::move(term));
  }
  return {{"name", plan.engine},
          {"version", plan.version},
          {"terms", terms},
          {"total_bytes", OrNull(plan.total_bytes)},
          {"known_bytes", plan.known_bytes},
          {"known_device_bytes", plan.known_on_device},
          {"budget_bytes", OrNull(plan.budget_bytes)},
          {"fits", plan.Refused() ? Json(false) : Json(nullptr)}};
}

std::string ForeignTable(const Planned& planned, const ForeignPlan& plan) {
  std::string out = fmt::format("{} in {} {}: {} parameters{}\n{}\n\n{:<34}{:>16} {:>13}  {:<7}{:<9}{}\n",
                                planned.dir.name, plan.engine, plan.version, planned.layout.anatomy->Parameters(),
                                planned.request.tp > 1 ? " on each rank" : "", plan.workload, "term", "bytes", "",
                                "where", "when", "rule (its source: --json)");
  for (const ForeignTerm& t : plan.terms) {
    const std::string bytes = t.bytes ? std::to_string(*t.bytes) : "unknown";
    const std::string human = t.bytes ? Human({*t.bytes}) : t.at_most ? "<= " + Human({*t.at_most}) : "";
    out += fmt::format("{:<34}{:>16} {:>13}  {:<7}{:<9}{}\n", t.name, bytes, human, NameOf(t.place),
                       t.moment == Moment::kAlways ? "" : NameOf(t.moment), t.rule);
  }
  if (plan.total_bytes)
    out += fmt::format("\ntotal: {} bytes ({}); known are", *plan.total_bytes, Human({*plan.total_bytes}));
  else
    out += fmt::format("\ntotal: unknown ({});", Missing(plan));
  out += fmt::format(" at least {} bytes ({})", plan.known_bytes, Human({plan.known_bytes}));
  if (plan.known_on_device < plan.known_bytes && plan.known_on_device > 0)
    out += fmt::format(", {} ({}) of them on the device", plan.known_on_device, Human({plan.known_on_device}));
  return out + "\n";
}

Error ForeignRefusal(const Planned& planned, const ForeignPlan& plan) {
  CHECK(plan.Refused());
  Error e{Code::kOverBudget, ""};
  e.required_bytes = plan.Needed();
  e.budget_bytes = *plan.budget_bytes;
  e.message = fmt::format(
      "{} does not fit in {}: what is known of it takes at least {} bytes ({}), and {} bytes ({}) are there; choose "
      "smaller weights, a shorter context or a larger device",
      planned.dir.name, plan.engine, plan.Needed(), Human({plan.Needed()}), *plan.budget_bytes,
      Human({*plan.budget_bytes}));
  return e;
}

}  // namespace sotto
