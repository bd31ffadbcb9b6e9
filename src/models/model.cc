#include "models/model.h"

#include <fmt/format.h>

#include "models/config.h"

namespace sotto {
namespace {
const Architecture* g_first = nullptr;
}  // namespace

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
      fmt::format("config.json: model_type '{}' is not supported; sotto runs: {}", type.substr(0, 60), known));
}

}  // namespace sotto
