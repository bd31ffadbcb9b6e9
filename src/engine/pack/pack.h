// A model with its matrices in the plane code (docs/format.md): any number of bits a weight, spent where it hurts least, or lossless.
//
//   Packed p = TRY(Pack(dir, {.bits = 4.3, .out = "model-4.3"}, progress));
//
// Rate-controlled: every matrix is quantized uniformly, and one weight more or less costs the same harm in all of them (reverse
// water-filling): with the sensitivities s of matrices of n weights, noise is n / s times one number, relative to the matrix's power. Without
// measurements a weight's harm is taken to be the same everywhere, and steps are one multiple of each matrix's root mean square. That
// number is searched until the real code lengths meet the size.
//
// What is interrupted stays in OUT.partial, and the same request goes on there (engine/pack/record.h): the result is the same, byte by byte.
#pragma once
#include <string>
#include <vector>

#include "codec/planes.h"
#include "engine/convert/convert.h"
#include "engine/pack/sensitivity.h"

namespace sotto {

enum class PackMode { kRate, kInt8, kHalves };

struct PackRequest {
  PackMode mode = PackMode::kRate;
  double bits = 0;               // kRate: a weight of all packed matrices, all that the blocks hold counted; or
  uint64_t size = 0;             // bytes of model.safetensors
  bool scale_of_tensor = false;  // kInt8: one scale a matrix, not one a row
  Sensitivities sensitivities;   // kRate: of every matrix; none measured: empty
  std::string level;             // fast, mid, archive: how many planes; "": fast, of kHalves archive
  std::string out;               // a directory
  bool force = false;
  int threads = 0;  // 0: all CPUs of this process
};

// What became of one matrix; also what `sotto inspect` shows.
struct PackedTensor {
  std::string name, scheme;  // "step", "int8", "fp16", "bf16"; "F32" … for what is not packed
  std::vector<int64_t> shape;
  uint64_t elements = 0, bytes = 1;
  double entropy = 0;   // bits a weight, order 0; 0 where it is not packed
  double error_db = 0;  // 10 log10(power of the weights / power of the error); 0: no error
  double step = 0;      // of kRate
  // With sensitivities: nats for noise as strong as the matrix, and those for the noise that packing makes; else below 0.
  double sensitivity = -1, predicted_kl = -1;
  bool packed() const { return !scheme.empty() && scheme[0] >= 'a'; }
  // Bits a weight of what `scheme` codes without loss, and how many times larger that is; 0 of others.
  int base_bits() const { return scheme == "int8" ? 8 : scheme == "fp16" || scheme == "bf16" ? 16 : 0; }
  double ratio() const { return base_bits() / 8.0 * static_cast<double>(elements) / static_cast<double>(bytes); }
  double bound() const { return entropy > 0 ? base_bits() / entropy : 0; }  // of the ratio
};

struct Packed {
  std::vector<PackedTensor> tensors;
  uint64_t packed_elements = 0, packed_bytes = 0, file_bytes = 0;
  double predicted_kl = -1;  // of all matrices; below 0: nothing was measured
  uint64_t resumed = 0;      // matrices that an interrupted run had made
  void Add(PackedTensor t);
  double bits() const { return 8.0 * static_cast<double>(packed_bytes) / static_cast<double>(packed_elements); }
};

// kUsage, kBadInput (sensitivities of another model), kBadModel, kInterrupted; kFailed when the output cannot be written.
Result<Packed> Pack(const ModelDir& dir, const PackRequest& request, ConvertProgress progress);

}  // namespace sotto
