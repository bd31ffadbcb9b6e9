#include "models/model.h"

#include <fmt/format.h>

#include "models/config.h"

namespace sotto {
namespace {
const Architecture* g_first = nullptr;
}  // namespace

View Model::Mel(const Run&, int64_t) const { return CHECK(runs()), View{}; }
View Model::Encode(Backend&, const Run&, int64_t, int32_t) { return CHECK(runs()), View{}; }
View Model::States(const Run&) const { return CHECK(runs()), View{}; }
void Model::Step(Backend&, const Run&, BatchRows, std::span<const int32_t>) { CHECK(runs()); }
View Model::Logits(Backend&, const Run&, int64_t, int64_t) { return CHECK(runs()), View{}; }
int64_t Model::max_rows() const { return CHECK(runs()), 0; }

void RegisterArchitecture(Architecture* architecture) {
  architecture->next = g_first;
  g_first = architecture;
}

Result<std::unique_ptr<Model>> BuildModel(const Json& config, const Workload& workload, Anatomy& anatomy) {
  const std::string type = TRY(ConfigString(config, "model_type"));
  std::string known;
  for (const Architecture* a = g_first; a != nullptr; a = a->next) {
    if (a->model_type == type) return a->build(config, workload, anatomy);
    known += (known.empty() ? "" : ", ") + std::string(a->model_type);
  }
  return BadModel(
      fmt::format("config.json: model_type '{}' is not one that sotto knows; it knows {}", type.substr(0, 60), known));
}

}  // namespace sotto
