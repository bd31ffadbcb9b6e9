// A model as it is against the same model packed: what both take and give. Each runs alone in a process of its own, so that its peak is
// its own, with the same prompt, context, cache and threads, greedily; logits of both go through files, so that the two models are
// never in memory together.
//
//   const Lowmem found = TRY(MeasureLowmem("models/demo-lm", {.pack = {.bits = 4.3}}, StopFlag(), stage));
//   found.reduction(), found.packed.text == found.baseline.text, found.kl
//
// Not here: how good either model is (`sotto eval`), and models without a prompt.
#pragma once
#include <array>
#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "engine/pack/pack.h"
#include "engine/pack/reconstruction.h"

namespace sotto {

struct LowmemRequest {
  std::string
      packed;  // what sotto pack has made of the model; "": made by `pack`, in a directory that is gone afterwards
  PackRequest pack;
  std::string prompt;
  std::string text;  // a file over which KL is measured; "": prompt and answer
  int64_t max_tokens = 64, context = 0;
  std::string kv = "auto";
  int threads = 0;
};

struct LowmemRun {
  std::string weights;  // as the plan names them
  uint64_t file_bytes = 0, weight_bytes = 0, planned_bytes = 0, peak_bytes = 0;
  double prompt_speed = 0, speed = 0;  // tokens a second: of the prompt, of the answer
  std::string text;
  std::vector<int32_t> ids;  // of the answer
};

struct Lowmem {
  std::string model, kv;  // the cache of both
  LowmemRun baseline, packed;
  Packed matrices;
  std::map<std::string, int> linear;    // packed Linear layers by kind: "q_proj"
  int embeddings = 0;                   // packed, too
  std::optional<Reconstruction> error;  // unless the model's own weights are quantized
  double kl = 0;                        // of the packed model's next token against the baseline's, nats, mean
  int64_t kl_tokens = 0;

  int linear_layers() const;
  double ratio_over_int8() const;  // of all packed matrices
  double reduction() const;        // of the peak
  int64_t same_tokens() const;     // before the answers part
};

// What people of this field ask of a method.
enum class Verdict { kBelow, kMinimum, kGood, kExcellent };
inline constexpr std::array<double, 3> kRatioBounds = {1.2, 1.33, 1.4}, kReductionBounds = {1.5, 2, 3};
Verdict Judge(double value, const std::array<double, 3>& bounds);
const char* NameOf(Verdict verdict);

// `progress(what is being done, done, of all)`; of all 0: done are seconds. kUsage: a model that takes no prompt, a directory that was
// not packed from it; kBadModel, kBadInput, kOverBudget, kInterrupted.
using LowmemProgress = FunctionRef<void(const std::string& stage, double done, double total)>;
Result<Lowmem> MeasureLowmem(const std::string& model, const LowmemRequest& request, const std::atomic<bool>& stop,
                             LowmemProgress progress);

}  // namespace sotto
