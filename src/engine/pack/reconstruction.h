// How far packed matrices are from what they were made of: measured on what the blocks decode to, not taken from the packer.
//
//   const Reconstruction r = TRY(CompareWithOriginal(model, packed, threads, progress));
//   r.worst.relative(), r.all.db()
#pragma once
#include <span>
#include <string>

#include "base/function_ref.h"
#include "engine/pack/sources.h"

namespace sotto {

struct Deviation {
  double squares = 0, power = 0;  // summed: of the errors, of the weights
  double most = 0, largest = 0;   // magnitudes
  void Add(float want, float got);
  void Add(const Deviation& other);
  double relative() const { return largest > 0 ? most / largest : most; }  // max|error| / max|weight|
  double db() const;  // 10 log10(power of the weights / power of the errors); infinite: no error
};

// REQUIRES: CheckPlanes(block, m.rows, m.cols, …).ok(). The same whatever threads there are.
Result<Deviation> Compare(const PackedMatrix& m, const std::byte* block, Threads& threads);

struct Reconstruction {
  Deviation all, worst;    // worst: by relative()
  std::string worst_name;  // of the matrix
};

// All packed matrices of a directory against `model`, which holds plain numbers in safetensors. A matrix is in memory at a time.
// kUsage when `packed` was made of another model; kBadModel, kInterrupted.
Result<Reconstruction> CompareWithOriginal(const ModelDir& model, const ModelDir& packed, Threads& threads,
                                           ConvertProgress progress);

}  // namespace sotto
