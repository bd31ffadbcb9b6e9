// What fewer bits do to a model, before it is run: KL of its next token from the model as it is stored, nats a token,
//
//   sum over matrices of sensitivity * (power of the noise / power of the matrix)
//
// The noise is measured: a sample of each matrix's rows is really quantized. Sensitivities come from `sotto eval sensitivity`, or every
// weight does the same harm. Activations that products quantize count as noise of the matrix. It orders choices; its figures are as
// good as its sensitivities (docs/fit.md).
//
//   Quality quality = TRY(Quality::Measure(original, kinds, sensitivities, threads, progress));
//   quality.Of(0)                  // all matrices as kinds[0]
//   quality.AtBits(4.5).kl         // as sotto pack --bits 4.5 makes them
#pragma once
#include <functional>

#include "engine/convert/original.h"
#include "engine/pack/pack.h"
#include "engine/pack/sensitivity.h"
#include "kv/store.h"
#include "weights/recipe.h"

namespace sotto {

// Nats for noise as strong as all weights, where no sensitivities were measured: about what models/demo-lm has.
inline constexpr double kDefaultHarm = 20;

class Quality {
 public:
  // `sensitivities`: nullptr for none. kBadInput when they lack a matrix, kBadModel, kInterrupted. `progress(done, total)` matrices.
  static Result<Quality> Measure(const Original& original, std::vector<WeightKind> kinds,
                                 const Sensitivities* sensitivities, Threads& threads,
                                 const std::function<bool(size_t, size_t)>& progress);

  double Of(size_t kind) const;
  // Of a model that was packed, by the errors that it states.
  double Of(const Packed& packed) const;
  double OfCache(const KvPolicy& kv) const;

  // A rate that `sotto pack` would make. Bytes by slot, none too few together: packing meets the rate, and what goes to which
  // matrix is predicted with room to spare.
  struct Rate {
    double bits = 0, kl = 0;
    std::vector<uint64_t> bytes;
  };
  Rate AtBits(double bits) const;

 private:
  struct Curve {  // at kMultiples steps, in matrices' root mean squares
    std::vector<double> bits, noise;
  };
  struct Matrix {
    uint32_t id = 0;
    std::string name;
    double weights = 0, harm = 0;
    double spacing = 1;         // of its step to the others': sqrt(weights / harm)
    std::vector<double> noise;  // by kind, relative to its power
    Curve curve;
  };
  static Status MeasureMatrix(const Original& original, std::span<const WeightKind> kinds, const MixModel& mix,
                              Matrix* m);
  Status SetHarm(const Sensitivities* sensitivities);

  std::vector<Matrix> matrices_;
  size_t slots_ = 0;
};

}  // namespace sotto
