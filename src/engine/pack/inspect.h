// What the .safetensors files of a model hold, tensor by tensor.
#pragma once
#include "engine/pack/pack.h"

namespace sotto {

// Entropy and error are those that packing wrote down. kBadModel.
Result<Packed> Inspect(const std::string& model);

}  // namespace sotto
