#include "cli/engines.h"

#include <fmt/format.h>

#include "engine/report.h"

namespace sotto::cli {
namespace {

struct Answer {
  Planned planned;
  ForeignPlan plan;
};

Result<Answer> PlanOne(const SharedOptions& shared, const std::string& what, const EngineOptions& o) {
  PlanRequest request = TRY(ToRequest(shared));
  const ForeignRequest foreign{o.engine, o.settings, request.budget};
  request.unbounded = true;
  request.budget.reset();  // it is the other engine's device
  const ModelDir dir = TRY(FindModel(what, ModelUse::kPlan));
  Planned planned = TRY(PlanModel(dir, request));
  ForeignPlan plan = TRY(PlanForeign(planned, foreign));
  return Answer{std::move(planned), std::move(plan)};
}

}  // namespace

void AddEngine(CLI::App* app, EngineOptions* o) {
  app->add_option("--engine", o->engine,
                  "Whose memory: sotto, or by their own rules transformers, vllm, llama.cpp (whisper.cpp for Whisper)")
      ->check(CLI::IsMember({"sotto", "transformers", "vllm", "llama.cpp"}))
      ->capture_default_str();
  app->add_option(
         "--engine-option", o->settings,
         "KEY=VALUE of that engine, such as gpu_memory_utilization=0.9; a wrong key is answered with all of them")
      ->allow_extra_args(false);
}

int RunForeign(const SharedOptions& shared, const std::vector<std::string>& models, const EngineOptions& o) {
  int worst = 0;
  Json all = Json::array();
  for (const std::string& what : models) {
    const Result<Answer> answer = PlanOne(shared, what, o);
    std::optional<Error> error;
    if (!answer.ok())
      error = answer.error();
    else if (answer->plan.Refused())
      error = ForeignRefusal(answer->planned, answer->plan);
    if (shared.json) {
      Json document = answer.ok() ? PlanJson(answer->planned) : Json{{"model", what}};
      if (answer.ok()) document["engine"] = ForeignJson(answer->plan);
      if (error) document["error"] = ErrorJson(*error);
      if (error && answer.ok()) document["error"]["smallest_budget_bytes"] = nullptr;  // nobody knows it
      if (!answer.ok() && models.size() == 1) document.erase("model");
      all.push_back(std::move(document));
    } else if (answer.ok()) {
      fmt::print("{}{}", &what == &models[0] ? "" : "\n", ForeignTable(answer->planned, answer->plan));
      std::fflush(stdout);
    }
    if (!error) continue;
    worst = std::max(worst, static_cast<int>(error->code));
    if (!shared.json) Report(*error, false);
  }
  if (shared.json)
    fmt::print("{}\n", (all.size() == 1 ? all[0] : all).dump(-1, ' ', false, Json::error_handler_t::replace));
  return worst;
}

}  // namespace sotto::cli
