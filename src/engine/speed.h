// How fast a plan is, before it is run: what it reads and multiplies in a pass, against what this machine does in a second. A prediction,
// not a promise: docs/fit.md has its error.
//
//   const SpeedPrediction p = PredictSpeed(planned.layout, *FindMachineSpeed(planned.isa, planned.threads));
#pragma once
#include <optional>

#include "engine/machine_speed.h"
#include "engine/planning.h"

namespace sotto {

struct SpeedPrediction {
  double tokens_per_second = 0;          // decoded, of all sequences together, with half of the context read
  double prefill_tokens_per_second = 0;  // of a prompt, from there on
  double seconds_per_window = 0;         // of audio; 0: the model doesn't hear
};

// One decoder pass of `rows` tokens, each of a sequence of its own that has read `depth` positions.
//   matrices: the longer of reading their bytes and multiplying their weights, one after the other
//   attention: the same of keys and values
//   layers from the disk: read while others compute, so the longer of all reading and all computing
double DecodeSeconds(const Layout& layout, const MachineSpeed& machine, int64_t rows, int64_t depth);

// REQUIRES: the model runs. 0 where layers come from a disk that was not measured.
SpeedPrediction PredictSpeed(const Layout& layout, const MachineSpeed& machine);

// Of a plan, on this machine; nothing where it was not calibrated or the model is not run as it was planned.
struct CalibratedSpeed {
  SpeedPrediction is;
  std::string date;  // of the calibration
};
std::optional<CalibratedSpeed> PredictSpeed(const Planned& planned);
Json SpeedJson(const SpeedPrediction& speed);  // "predicted" of documents

}  // namespace sotto
