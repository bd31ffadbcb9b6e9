// One matrix that lies in memory in the plane code, as `sotto pack` codes each matrix of a model. Not for models: every matrix is
// brought to the bits that are asked for by itself.
//
//   PackedBlock b = TRY(PackMatrix({data, FindGgmlType("F32"), rows, cols}, {.bits = 4.3}, threads));   // b.bytes: codec/planes.h
#pragma once
#include "codec/ggml_types.h"
#include "engine/pack/pack.h"

namespace sotto {

struct MatrixInMemory {
  const std::byte* data = nullptr;  // row-major
  const GgmlType* type = nullptr;   // F32, F16, BF16, or I8: coded as it stands, with a scale of 1
  int64_t rows = 0, cols = 0;
};

struct PackedBlock {
  std::vector<std::byte> bytes;
  double error_db =
      0;  // 10 log10(power of the weights / power of the error), of what the block decodes to; infinite: no error
  double max_error = 0;
};

// Of the request: mode, bits, scale_of_tensor, level. The bits count all that a block holds; what stands before its panels comes on
// top where there are fewer than 65,536 weights. kUsage.
Result<PackedBlock> PackMatrix(const MatrixInMemory& matrix, const PackRequest& request, Threads& threads);

// Planes and classes of "fast", "mid" or "archive". kUsage.
Result<PlanesLevel> LevelOf(const std::string& name);

}  // namespace sotto
