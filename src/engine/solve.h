// Questions that a person asks a plan: how far does one number go in a budget, what does each precision take, how does memory
// grow with context and batch. Every answer is a plan that was laid out (engine/planning.h); nothing is computed by another
// formula, and nothing is printed.
//
//   Solution s = TRY(Solve(dir, request, Variable::kContext, false));
//   s.answers[s.best].value      // the largest context; s.planned is the plan with it
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/planning.h"
#include "engine/report.h"

namespace sotto {

enum class Variable { kContext, kAudio, kBatch, kBeam };
Result<Variable> ParseVariable(const std::string& name);  // context, audio, batch, beam; kUsage
std::string_view NameOf(Variable variable);
std::string_view UnitOf(Variable variable);  // positions, seconds, sequences, beams

// What ends a variable. kNothing: memory doesn't grow with it.
enum class Limit { kMemory, kModel, kNothing };

// How far a variable goes with one choice of precisions.
struct Answer {
  Choice choice;
  Limit limit = Limit::kMemory;
  std::optional<int64_t> value;  // none: not even the least fits (kMemory), or any does (kNothing)
  Bytes total;                   // at `value`; without one, at the least
  std::optional<Bytes> next;     // at `value` + 1, which does not fit; none when memory is not the limit
};

// Where a variable begins, where the model (or what sotto plans) ends it, and why there.
struct Range {
  int64_t least = 1, most = 1;
  bool endless = false;  // memory doesn't grow; `most` is without meaning
  std::string why;
};

struct Solution {
  Variable variable;
  Range range;
  int64_t usual = 1;            // what a plan holds when it isn't asked: the default context, one window, one sequence
  std::vector<Answer> answers;  // from the most precise down
  size_t best = 0;
  Planned planned;  // answers[best], planned anew; at the least value when nothing fits
};

// The largest value that fits, for each precision that the request leaves open (`every`: for all of Precisions()). The best is
// the most precise that holds what a plan holds when the variable isn't asked for; if none does, the one that goes furthest.
// Without a budget: what is free now. kUsage when the variable means nothing to the model.
Result<Solution> Solve(const ModelDir& dir, PlanRequest request, Variable variable, bool every);

// The same for one choice, in the budget of `planned`. REQUIRES: the variable is not the request's to fix.
Result<Range> RangeOf(const Planned& planned, Variable variable);
Result<Answer> Reach(const Planned& planned, Variable variable, const Range& range, const Choice& choice);

// What each precision takes at the asked workload, from the most precise down.
struct PrecisionRow {
  Choice choice;
  Sums sums;
  bool fits = false;
  bool above_stored = false;  // more precise than the files: memory without a gain, so never the best
};
struct Precisions {
  std::vector<PrecisionRow> rows;
  std::optional<size_t> best;  // the most precise that fits
  size_t smallest = 0;
};
Result<Precisions> ComparePrecisions(const Planned& planned);

// Plans over contexts and batches, with the precisions of `planned`: powers of two from the least context that holds the audio
// up to `most` (0: the model's maximum), which is the last; `steps` contexts for each doubling. The plan's own context and batch
// are always among them.
struct Grid {
  std::vector<int64_t> contexts, batches;
  std::vector<Sums> points;  // batch by batch, in each context by context
  size_t own_context = 0, own_batch = 0;
  const Sums& at(size_t batch, size_t context) const { return points[batch * contexts.size() + context]; }
};
Result<Grid> MakeGrid(const Planned& planned, int64_t most, int steps, std::vector<int64_t> batches);

}  // namespace sotto
