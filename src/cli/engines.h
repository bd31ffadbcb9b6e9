// sotto plan --engine: the same model in transformers, vLLM, llama.cpp or whisper.cpp.
#pragma once
#include <string>
#include <vector>

#include "cli/options.h"
#include "engine/foreign/foreign.h"

namespace sotto::cli {

struct EngineOptions {
  std::string engine = "sotto";
  std::vector<std::string> settings;
  bool foreign() const { return engine != "sotto"; }
};

void AddEngine(CLI::App* app, EngineOptions* options);

// One table or document a model. 5 when what is known of one does not fit in --memory.
int RunForeign(const SharedOptions& shared, const std::vector<std::string>& models, const EngineOptions& options);

}  // namespace sotto::cli
