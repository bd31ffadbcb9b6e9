// Which way of keeping a model is best inside a budget: weights as they are stored, smaller ones made while loading, packed ones, each
// with all layers in memory or the fewest from the disk that make it fit, and each kind of cache. Memory is a plan that was laid out,
// quality the KL that engine/fit/quality.h predicts, speed what engine/speed.h predicts.
//
//   Fitter fitter = TRY(Fitter::Open(dir, request, progress));
//   Fitted fitted = TRY(fitter.At({kGiB}));
//   Planned planned = TRY(fitter.Plan(fitted.choice()));      // exactly that
//
// The choice: what is slower than a person reads (kReadingSpeed, or what was asked for) is left out, as is what is below a quality floor
// or, where that takes a measurement (figures.h), was never measured.
// Of the rest, those whose KL is within kSameKl nats or kSameShare of the best are equal, since nobody would notice; the fastest of
// these is taken. Where nothing is as fast as a person reads, a tenth of the fastest is fast enough.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "engine/fit/figures.h"
#include "engine/fit/quality.h"
#include "engine/planning.h"
#include "engine/speed.h"

namespace sotto {

inline constexpr double kReadingSpeed = 4, kSameKl = 0.005, kSameShare = 0.1;
inline constexpr double kLeastRate = 2.5, kMostRate = 8.5, kRateStep = 0.5;  // bits a weight that packing is tried with

struct FitRequest {
  PlanRequest plan;  // context, batch, audio; weights and cache where they are fixed. Not the budget. Mapped: only
                     // what is packed already is a choice, with all layers
  std::vector<std::string> packed;  // versions of the model that `sotto pack` has made
  bool rates = true;                // also those that it would make
  ByMeasure floors;                 // of quality: a KL may be predicted, the others must have been measured
  double least_speed = 0;           // tokens a second; 0: as above
  std::string sensitivities;        // a file; "": every weight does the same harm
};

struct Candidate {
  size_t source = 0;    // of the fitter's models
  std::string weights;  // "fp16", "q4_k_m", "packed 4.50 bits"
  double bits = 0;      // not 0: still to be packed
  Choice choice;
  int64_t context = 0;
  int layers = 0;  // of which choice.streamed come from the disk
  Bytes total;     // still to be packed: an upper bound
  double kl = 0;   // predicted, or measured of the weights
  ByMeasure measured;
  SpeedPrediction speed;
  bool pareto = false;  // nothing that fits is better in one of memory, quality, speed, and no worse in the others
};

struct Fitted {
  std::vector<Candidate> fitting;  // with one context; the best quality first
  size_t chosen = 0;
  size_t equals = 0;       // as good as the best
  size_t unmeasured = 0;   // left out because a floor is of what was never measured of them
  double least_speed = 0;  // that was asked of them
  const Candidate& choice() const { return fitting[chosen]; }
};

class Fitter {
 public:
  // kUsage, kBadModel; kInterrupted when `progress(done, total)` is false.
  static Result<Fitter> Open(const ModelDir& dir, const FitRequest& request,
                             const std::function<bool(size_t, size_t)>& progress);

  // kOverBudget: nothing fits, or nothing that is as good or as fast as was asked for. The sentence names the smallest budget that works.
  Result<Fitted> At(Bytes budget) const;

  // The candidate's own plan, all of it fixed. REQUIRES: candidate.bits == 0.
  Result<Planned> Plan(const Candidate& candidate) const;
  // The same when it has been packed into the directory.
  Result<Planned> Plan(const Candidate& candidate, const std::string& packed) const;

  // The machine's; nothing: never calibrated, speeds only compare choices and are not to be shown.
  const std::optional<MachineSpeed>& machine() const { return machine_; }
  bool measured() const { return !request_.sensitivities.empty(); }
  bool mapped() const { return request_.plan.mapped; }
  // Files with figures of other weights than those that are there now, which don't count.
  const std::vector<std::string>& stale() const { return stale_; }
  // Which measurements `count` choices lack, and what makes them; which files are stale. A clause, or "".
  std::string LackText(size_t count) const;
  const ModelDir& dir() const { return dir_; }

 private:
  struct Source {
    ModelDir dir;
    std::unique_ptr<Planned> planned;
    std::vector<Figure> figures = {};  // that hold
  };
  struct Entry {
    Candidate all;  // with all layers in memory
    Bytes least;    // with none
  };
  Status AddStored(const Quality& quality, std::span<const WeightKind> kinds);
  Status AddPacked(const Quality& quality);
  Status AddRates(const Original& original, const Quality& quality);
  Status Add(size_t source, const std::string& weights, double bits, const WeightKind& kind, double kl,
             const Quality& quality);
  Status TakeFigures(Source* source);
  ByMeasure Measured(const Source& source, const Choice& choice) const;
  bool Unmeasured(const Candidate& c) const;
  bool Meets(const Candidate& c) const;
  PlanRequest RequestOf(int64_t context) const;
  Result<std::optional<Candidate>> Within(const Entry& entry, Bytes budget) const;
  Error Refusal(Bytes budget) const;
  const MachineSpeed& speed() const { return machine_ ? *machine_ : nominal_; }

  ModelDir dir_;
  FitRequest request_;
  std::optional<MachineSpeed> machine_;
  MachineSpeed nominal_ = NominalSpeed();
  std::vector<Source> sources_;
  std::vector<int64_t> contexts_;  // the largest first
  std::vector<Entry> entries_;
  std::vector<std::string> stale_;
};

}  // namespace sotto
