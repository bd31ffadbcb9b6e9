// sotto plan: what a model takes, before anything is taken.
#include <fmt/format.h>

#include "cli/options.h"
#include "engine/report.h"
#include "harness/timeline.h"

namespace sotto::cli {
namespace {

struct Options {
  SharedOptions shared;
  std::vector<std::string> models;
  std::string timeline, mmproj;
};

Result<Planned> PlanOne(const Options& o, const std::string& what) {
  PlanRequest request = TRY(ToRequest(o.shared));
  request.unbounded = true;
  ModelDir dir = TRY(FindModel(what, ModelUse::kPlan));
  dir.mmproj_path = o.mmproj;
  return PlanModel(dir, request);
}

int Run(const Options& o) {
  int worst = 0;
  if (!o.timeline.empty() && o.models.size() > 1)
    return Report(Usage("--timeline draws one model; name only one"), o.shared.json);
  if (!o.mmproj.empty() && o.models.size() > 1)
    return Report(Usage("--mmproj belongs to one model; name only one"), o.shared.json);
  Json all = Json::array();
  for (const std::string& what : o.models) {
    Result<Planned> planned = PlanOne(o, what);
    if (!planned.ok()) {
      worst = std::max(worst, static_cast<int>(planned.error().code));
      if (o.models.size() == 1) return Report(planned.error(), o.shared.json);
      if (o.shared.json)
        all.push_back({{"model", what}, {"error", ErrorJson(planned.error())}});
      else
        Report(planned.error(), false);
      continue;
    }
    const bool refused = !planned->fits && !o.shared.memory.empty();  // without a budget it is only said
    if (o.shared.json) {
      Json document = PlanJson(*planned);
      if (refused) document["error"] = ErrorJson(Refusal(*planned));
      all.push_back(std::move(document));
    } else {
      fmt::print("{}{}", &what == &o.models[0] ? "" : "\n", PlanTable(*planned));
    }
    if (refused) {
      worst = std::max(worst, static_cast<int>(Code::kOverBudget));
      if (!o.shared.json) {
        std::fflush(stdout);
        Report(Refusal(*planned), false);
      }
    }
    if (!o.timeline.empty())
      if (const Status drawn = DrawTimeline(*planned, o.timeline); !drawn.ok()) return Report(drawn.error(), false);
  }
  if (o.shared.json) {
    const Json& document = all.size() == 1 ? all[0] : all;
    fmt::print("{}\n", document.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  return worst;
}

}  // namespace

void AddPlan(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  CLI::App* app =
      root->add_subcommand("plan", "How much memory a model takes, component by component, and whether it fits");
  app->add_option("MODEL", o->models,
                  "A directory, a .gguf file, a config.json, or a published name such as openai/whisper-base")
      ->required();
  AddShared(app, &o->shared);
  app->add_option("--timeline", o->timeline, "Draw which tensors live when, phase by phase: FILE.svg or FILE.png");
  app->add_option("--mmproj", o->mmproj, "The audio half of a .gguf model: its mmproj file");
  app->footer(
      "Examples:\n"
      "  sotto plan openai/whisper-large-v3 --memory 2GiB\n"
      "  sotto plan models/demo-asr --weights int8 --json\n"
      "  sotto plan openai/whisper-tiny openai/whisper-base openai/whisper-small\n"
      "  sotto plan openai/whisper-base --timeline base.png\n"
      "  sotto plan ultravox.gguf --mmproj mmproj-ultravox.gguf\n"
      "Exit: 0 it fits, 5 it does not (the smallest budget that works is named), 4 bad model, 2 usage.");
  commands->push_back({app, [o] { return Run(*o); }});
}

}  // namespace sotto::cli
