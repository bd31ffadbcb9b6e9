// The parts of a GGUF file that a conversion writes: what stands in its settings, what in its vocabulary.
#pragma once
#include <string>
#include <vector>

#include "engine/convert/original.h"
#include "models/text.h"
#include "weights/gguf_writer.h"
#include "weights/recipe.h"

namespace sotto {

// general.architecture of a text decoder's model_type; "" when it has none here.
std::string_view ArchitectureOf(std::string_view model_type);

// general.* and {architecture}.*, from config.json. `divisors`: what rope_freqs.weight must hold, or nothing. `notes`: what the
// format cannot say.
Status WriteSettings(const Original& original, const TextConfig& text, const WeightKind& weights, GgufHeader* header,
                     std::vector<float>* divisors, std::vector<std::string>* notes);

// tokenizer.*, from the tokenizer's files beside the weights. One token for each of `vocab_size` ids.
Status WriteVocabulary(const Original& original, int64_t vocab_size, GgufHeader* header,
                       std::vector<std::string>* notes);

// The whole file.
Result<Converted> WriteGguf(const Original& original, const WeightKind& weights, const ConvertRequest& request,
                            ConvertProgress progress);

}  // namespace sotto
