// When a model may be loaded beside what runs on a machine: rules as data, and arithmetic over them. Nothing is held
// and nothing is measured here (engine/admission.h does that).
//
//   const AdmissionRules rules = TRY(PlannedRules(dir, request));  // or LegacyRules()
//   const Rung* best = Recommended(rules, ReadSystemMemory());     // nullptr: nothing of it may be loaded
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/planning.h"
#include "plan/machine.h"

namespace sotto {

// One way of keeping a model's weights.
struct Rung {
  std::string name;  // "Q4_K_M"
  Bytes need;        // all that a load takes
  Bytes buffer;      // to be left free
  std::string type;  // the published word for it; "" where none was published
};

// When the share that stays free is tested.
enum class ShareTest {
  kBefore,  // what is free now, whatever the load takes of it
  kAfter,   // what the load leaves
  kAuto,  // what it leaves, unless that is the buffer twice over: a quarter of a large machine is more than anybody needs
};

// A row of a published table of recommendations; the first whose limits (both included) hold is the answer.
struct PublishedChoice {
  Bytes least_total, most_total, least_available, most_available;
  const char* rung;
};

struct AdmissionRules {
  std::string profile;  // "default", "legacy"
  std::string model;
  std::vector<Rung> rungs;                     // from the largest down; never empty
  std::string usual;                           // the rung that is meant where none is named
  std::span<const PublishedChoice> published;  // empty: the largest rung that may be loaded
  bool reserves = true;                        // a load counts before it is resident
  Bytes audio_overhead;                        // on top of every rung
  double keep_free = 0.25;                     // of the total; from 0 to 1
  ShareTest when = ShareTest::kAuto;
  std::optional<Bytes> critical_below, warning_below;  // default: the loaded model's buffer, and twice that
};

inline constexpr const char* kPublishedModel = "Qwen/Qwen2-Audio-7B-Instruct";
inline constexpr const char* kPublishedRungs[] = {"Q5_K_M", "Q4_K_M", "Q4_0"};

// The published rules for kPublishedModel with their flaws: sizes below the weights' own bytes, a table that recommends
// what the check then refuses, no reservations.
AdmissionRules LegacyRules();

// Each rung takes what its plan says. `names` are precisions of PlanRequest::weights; `ladder` adds those that `sotto
// plan` tries by itself and, for a model that generates text and is not quantized yet, kPublishedRungs. kBadModel,
// kUsage. REQUIRES: there are names, or a ladder.
Result<AdmissionRules> PlannedRules(const ModelDir& dir, const PlanRequest& request,
                                    std::vector<std::string> names = {}, bool ladder = true);

// The profile "default" or "legacy" for `model` ("": kPublishedModel with kPublishedRungs); `also`: rungs beside the
// usual ones. kUsage, kBadModel.
Result<AdmissionRules> MakeRules(const std::string& profile, const std::string& model, const PlanRequest& request,
                                 const std::vector<std::string>& also = {});

// "before", "after", "auto". kUsage.
Result<ShareTest> ParseShareTest(const std::string& text);
// "25%", "0". kUsage.
Result<double> ParseShare(const std::string& text);

// In any case of letters; "" is the usual one. kUsage names those that there are.
Result<Rung> FindRung(const AdmissionRules& rules, std::string_view name);

// The least available memory with which the rung may be loaded on a machine of `total`. Every check is this one
// comparison.
Bytes RoomFor(const AdmissionRules& rules, const Rung& rung, Bytes total);
inline bool MayLoad(const AdmissionRules& rules, const Rung& rung, const SystemMemory& memory) {
  return memory.available >= RoomFor(rules, rung, memory.total);
}
// nullptr: none.
const Rung* LargestThatFits(const AdmissionRules& rules, const SystemMemory& memory);
const Rung* Recommended(const AdmissionRules& rules, const SystemMemory& memory);

// The rung that needs the least room.
const Rung& Smallest(const AdmissionRules& rules, Bytes total);

// kOverBudget: the bytes missing, and the largest rung that would fit. `reserved` is what loads in progress have taken
// from memory.available. REQUIRES: !MayLoad(rules, rung, memory).
Error LoadRefusal(const AdmissionRules& rules, const Rung& rung, const SystemMemory& memory, Bytes reserved);

enum class MemoryState { kOk, kWarning, kCritical };
const char* NameOf(MemoryState state);  // "ok", "warning", "critical"
struct Thresholds {
  Bytes critical_below, warning_below;
};
// While a model with this buffer is loaded.
Thresholds ThresholdsOf(const AdmissionRules& rules, Bytes buffer);
MemoryState StateOf(Thresholds thresholds, Bytes available);

}  // namespace sotto
