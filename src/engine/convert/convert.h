// A model, written again in another form: GGUF in any of its types and mixes, or a directory of safetensors with int8 weights
// (docs/int8.md). Tensors pass through a few rows at a time; nothing of the output is there before all of it is.
//
//   Converted c = TRY(Convert(dir, {.weights = "q4_k_m", .out = "model.gguf"}, progress));
//
// Not here: training, calibration, merging of adapters.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "weights/model_dir.h"

namespace sotto {

struct ConvertRequest {
  std::string weights;  // as ParseWeightKind takes it, f16 and f32, too
  std::string out;      // ….gguf, or a directory
  bool force = false;   // replaces what is there
  int threads = 0;      // 0: all CPUs of this process
};

struct Converted {
  uint64_t tensors = 0, tensor_bytes = 0, file_bytes = 0;  // file: of the .gguf or .safetensors
  std::map<std::string, uint64_t> by_type;                 // bytes of tensors: "q4_k", "f32" …
  std::vector<std::string> notes;                          // what the file cannot say, in sentences
};

using ConvertProgress = FunctionRef<bool(uint64_t done, uint64_t total)>;  // bytes read; false interrupts

// Whether the output may be made: kUsage when it is the model itself, there already without --force, or of the wrong kind.
Status CheckOut(const ModelDir& dir, const ConvertRequest& request, bool file);

// kUsage, kBadModel, kInterrupted; kFailed when the output cannot be written.
Result<Converted> Convert(const ModelDir& dir, const ConvertRequest& request, ConvertProgress progress);

}  // namespace sotto
