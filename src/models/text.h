// Text decoders: a family says how its config becomes a TextConfig; that makes it a model of its own and a backbone that
// audio models stand on. One file a family, self-registered.
#pragma once
#include "models/blocks/text_decoder.h"
#include "models/class_config.h"

namespace sotto {

// A model that is planned and not run: its slots are declared, its description is all that is kept.
class PlannedModel final : public Model {
 public:
  explicit PlannedModel(ModelInfo info) { info_ = std::move(info); }
};

struct TextFamily {
  std::string_view model_type;
  Result<TextConfig> (*read)(const ClassConfig& config);
  TextFamily* next = nullptr;
  Architecture architecture{};  // the same as a model of its own
};

void RegisterTextFamily(TextFamily* family);

// A text decoder: weights below `root` and `head`, caches and buffers.
std::unique_ptr<Model> MakeText(const Scope& root, const Scope& head, const TextConfig& config,
                                const Workload& workload);

// By the config's model_type. kBadModel names those that are known.
Result<TextConfig> ReadText(const ClassConfig& config);

// What the forward pass needs besides: norms, activation, rotary positions. What isn't computed here stands in not_run.
Status ReadForward(const ClassConfig& config, TextConfig* c);

// What nearly every family names alike: widths, heads, vocabulary, context, tie. head_dim is d_model / heads unless given.
Result<TextConfig> ReadCommonText(const ClassConfig& config);

// Which layers slide: layer_types when the config has them, else `rule(layer)`. REQUIRES c.layers.
Result<std::vector<bool>> ReadSliding(const ClassConfig& config, int64_t layers,
                                      bool (*rule)(int64_t layer, int64_t pattern), int64_t pattern);

}  // namespace sotto
