// What the same model takes in another engine, by that engine's own documented rules (docs/engines_sources.md). It is an
// estimate of somebody else's allocator, never a MemoryPlan. A term for which no rule is published is unknown, and so is the
// total then: what is known is a lower bound.
//
//   const Planned planned = TRY(PlanModel(dir, request));
//   const ForeignPlan plan = TRY(PlanForeign(planned, {"vllm", {"block_size=32"}, Bytes{24 * kGiB}}));
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "engine/planning.h"

namespace sotto {

inline constexpr const char* kForeignEngines[] = {"transformers", "vllm", "llama.cpp"};  // beside "sotto"

struct ForeignRequest {
  std::string engine;                 // one of kForeignEngines
  std::vector<std::string> settings;  // KEY=VALUE by the engine's own names
  std::optional<Bytes> memory;        // of the device, all of it
};

enum class Place : uint8_t { kDevice, kHost };
std::string_view NameOf(Place place);

// When a term is there: always, or in one of the moments, which follow each other.
enum class Moment : uint8_t { kAlways, kEncode, kPrefill, kStep };
std::string_view NameOf(Moment moment);

struct ForeignTerm {
  std::string name;
  std::optional<uint64_t> bytes;    // nothing: unknown
  std::string rule;                 // one line, with the numbers filled in
  std::string source;               // words of docs/engines_sources.md
  std::optional<uint64_t> at_most;  // a bound on what is unknown
  Place place = Place::kDevice;
  Moment moment = Moment::kAlways;
  bool transient = false;  // comes and goes: of a moment's transients only the largest counts
  bool inside = false;     // lies in another term, which counts
};

struct ForeignPlan {
  std::string engine, version;
  std::string workload;  // one line for people: precision, batch, context
  std::vector<ForeignTerm> terms;
  std::optional<uint64_t> total_bytes;            // nothing: a term is unknown
  uint64_t known_bytes = 0, known_on_device = 0;  // the largest moment's: at least
  std::optional<uint64_t> budget_bytes;           // what the engine gives itself of ForeignRequest::memory
  uint64_t Needed() const { return known_on_device > 0 ? known_on_device : known_bytes; }  // of budget_bytes
  bool Refused() const { return budget_bytes && Needed() > *budget_bytes; }  // for certain; else nobody knows
};

// kUsage for settings and precisions that the engine doesn't have, with those that it has.
Result<ForeignPlan> PlanForeign(const Planned& planned, const ForeignRequest& request);

// The "engine" object of `plan --json`, the table, and the refusal. REQUIRES of the last: Refused().
Json ForeignJson(const ForeignPlan& plan);
std::string ForeignTable(const Planned& planned, const ForeignPlan& plan);
Error ForeignRefusal(const Planned& planned, const ForeignPlan& plan);

}  // namespace sotto
