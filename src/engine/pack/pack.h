// A model with its matrices in the plane code (docs/format.md): any number of bits a weight, spent where it hurts least, or lossless.
//
//   Packed p = TRY(Pack(dir, {.bits = 4.3, .out = "model-4.3"}, progress));
//
// Rate-controlled: every matrix is quantized uniformly, and of all matrices whose noise does the same harm for a weight, the steps are the
// same (reverse water-filling). Without measurements the harm of noise is taken to be its power relative to the matrix's own: steps
// are one multiple of each matrix's root mean square. That multiple is searched until the real code lengths meet the size.
#pragma once
#include <string>
#include <vector>

#include "codec/planes.h"
#include "engine/convert/convert.h"

namespace sotto {

enum class PackMode { kRate, kInt8, kHalves };

struct PackRequest {
  PackMode mode = PackMode::kRate;
  double bits = 0;               // kRate: a weight of all packed matrices, all that the blocks hold counted; or
  uint64_t size = 0;             // bytes of model.safetensors
  bool scale_of_tensor = false;  // kInt8: one scale a matrix, not one a row
  std::string level;             // fast, mid, archive: how many planes; "": fast, of kHalves archive
  std::string out;               // a directory
  bool force = false;
  int threads = 0;  // 0: all CPUs of this process
};

// What became of one matrix; also what `sotto inspect` shows.
struct PackedTensor {
  std::string name, scheme;  // "step", "int8", "fp16", "bf16"; "F32" … for what is not packed
  std::vector<int64_t> shape;
  uint64_t elements = 0, bytes = 0;
  double entropy = 0;   // bits a weight, order 0; 0 where it is not packed
  double error_db = 0;  // 10 log10(power of the weights / power of the error); 0: no error
  double step = 0;      // of kRate
};

struct Packed {
  std::vector<PackedTensor> tensors;
  uint64_t packed_elements = 0, packed_bytes = 0, file_bytes = 0;
  double bits() const { return 8.0 * static_cast<double>(packed_bytes) / static_cast<double>(packed_elements); }
};

// kUsage, kBadModel, kInterrupted; kFailed when the output cannot be written.
Result<Packed> Pack(const ModelDir& dir, const PackRequest& request, ConvertProgress progress);

}  // namespace sotto
