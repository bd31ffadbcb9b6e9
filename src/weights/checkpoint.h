// The headers of a model's safetensors files against the config that its anatomy was built from, for models whose tensors are
// counted, not loaded: files name the same modules in several ways, stack experts or don't, repeat tied heads, keep buffers, pack
// quantized weights. What is loaded is compared strictly (CheckHeaders, loader.h).
#pragma once
#include "base/json.h"
#include "weights/safetensors.h"
#include "weights/stored.h"

namespace sotto {

// What a config's quantization_config says: "gptq 4-bit", "fp8", "compressed-tensors pack-quantized" …; "" when it has none.
std::string QuantizationOf(const Json& config);

// Tensors that find their slot by name must have its shape, and all together must have as many elements as the anatomy: else kBadModel
// with both numbers, and the tensor where one can be named. With `quantization` tensors are counted by their bytes: each belongs to
// the module in front of its last dot, what belongs to none is spread over the slots that found none.
Result<StoredWeights> MatchHeaders(const ModelFiles& files, const Anatomy& anatomy, const std::string& quantization);

}  // namespace sotto
