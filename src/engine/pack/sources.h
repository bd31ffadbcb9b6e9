// Matrices as PlanesSource: rows of a tensor, quantized as they are read.
#pragma once
#include <atomic>
#include <memory>

#include "codec/planes.h"
#include "engine/convert/original.h"

namespace sotto {

// One matrix of the model and what one reading of it tells.
struct PackedMatrix {
  uint32_t id = 0;
  const Slot* slot = nullptr;
  WeightOrigin origin;
  int64_t rows = 0, cols = 0, taps = 1;
  double power = 0;   // mean square
  float largest = 0;  // magnitude
  double spread = 1;  // its step, relative to its root mean square, as a multiple of all matrices' common one
  std::vector<float> row_largest;
  std::array<uint64_t, 256> tops{};   // with `halves`: of bits 7 … 14
  const std::byte* memory = nullptr;  // where its rows lie, instead of origin's file
  uint64_t elements() const { return static_cast<uint64_t>(rows * cols); }
};

// Fills in what the matrix's numbers tell, with `halves` the bits of F16 or BF16, too; passes them by `meter`.
Status Survey(PackedMatrix* m, bool halves, Threads& threads, Meter& meter);

// Errors of reading and of quantizing, from all threads.
class SourceState {
 public:
  void Fail(Status why);
  void AddError(double squares);
  Status status() const { return failed_; }
  double squares() const { return squares_; }

 private:
  std::mutex mutex_;
  Status failed_;
  double squares_ = 0;
};

// Rows [first, first + count) as numbers, in the order that slots have, in the thread's own buffer until its next call. What cannot be
// read is zeros and `state` says so.
const float* WideRows(const PackedMatrix& m, int64_t first, int64_t count, SourceState* state);

// `state` and `m` must outlive the source.
PlanesSource StepSource(const PackedMatrix& m, float step, SourceState* state);
PlanesSource Int8Source(const PackedMatrix& m, bool one_scale, SourceState* state);
PlanesSource HalvesSource(const PackedMatrix& m, SourceState* state);  // REQUIRES: the origin is F16 or BF16

}  // namespace sotto
