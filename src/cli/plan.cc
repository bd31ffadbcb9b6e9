// sotto plan: what a model takes, before anything is taken, and the questions around it (docs/questions.md).
#include <fmt/format.h>

#include "base/file.h"
#include "cli/engines.h"
#include "cli/plan_output.h"
#include "engine/speed.h"
#include "harness/canvas.h"
#include "harness/page.h"
#include "harness/plot.h"
#include "harness/timeline.h"

namespace sotto::cli {
namespace {

struct Options {
  SharedOptions shared;
  std::vector<std::string> models;
  std::string solve, timeline, plot, csv, html;
  bool precisions = false, compat = false;
  EngineOptions engine;
};

// A model's answer.
struct Answered {
  Planned planned;
  std::optional<Solution> solution;
  std::optional<Precisions> precisions;
  bool refused() const { return !planned.fits && planned.request.budget; }  // without a budget it is only said
};

// What has no effect is an error.
Status Check(const Options& o) {
  const SharedOptions& s = o.shared;
  if (!o.engine.foreign() && !o.engine.settings.empty())
    return Usage("--engine-option belongs to another engine; name it with --engine");
  if (o.engine.foreign())
    for (const auto& [given, option] : {std::pair{!o.solve.empty(), "--solve"},
                                        {o.precisions, "--precisions"},
                                        {!o.timeline.empty(), "--timeline"},
                                        {!o.plot.empty(), "--plot"},
                                        {!o.csv.empty(), "--csv"},
                                        {!o.html.empty(), "--html"},
                                        {!o.shared.mmproj.empty(), "--mmproj"}})
      if (given) return Usage(fmt::format("{} is about sotto's own plan; leave --engine out", option));
  if (o.models.size() > 1)
    for (const auto& [given, option] : {std::pair{!o.solve.empty(), "--solve"},
                                        {o.precisions, "--precisions"},
                                        {!o.timeline.empty(), "--timeline"},
                                        {!o.shared.mmproj.empty(), "--mmproj"}})
      if (given) return Usage(fmt::format("{} is about one model; name only one", option));
  if (!o.solve.empty()) {
    const Variable variable = TRY(ParseVariable(o.solve));
    const std::pair<bool, const char*> fixed[] = {{s.context != 0, "--context"},
                                                  {s.audio_seconds != 0, "--audio-seconds"},
                                                  {s.batch != 0, "--batch"},
                                                  {s.beam != 1, "--beam"}};
    if (const auto& [given, option] = fixed[static_cast<size_t>(variable)]; given)
      return Usage(fmt::format("{} is what --solve {} looks for; leave it out", option, o.solve));
  }
  if (o.precisions && s.weights != "auto")
    return Usage("--weights has no effect with --precisions, which compares all of them; leave one of the two out");
  if (o.csv == "-" && s.json) return Usage("--csv - and --json both want standard output; write the CSV to a file");
  if (!o.timeline.empty()) TRY(CheckPicturePath(o.timeline, "--timeline"));
  if (!o.plot.empty()) TRY(CheckPicturePath(o.plot, "--plot"));
  return {};
}

Result<Answered> Ask(const Options& o, const std::string& what) {
  PlanRequest request = TRY(ToRequest(o.shared));
  const ModelDir dir = TRY(FindModelOf(what, o.shared, ModelUse::kPlan));
  Answered a;
  if (!o.solve.empty()) {
    a.solution = TRY(Solve(dir, request, TRY(ParseVariable(o.solve)), o.precisions));
    a.planned = std::move(a.solution->planned);
    return a;
  }
  request.unbounded = true;
  a.planned = TRY(PlanModel(dir, request));
  if (!o.precisions) return a;
  a.precisions = TRY(ComparePrecisions(a.planned));
  const Choice& best = a.precisions->rows[a.precisions->best.value_or(a.precisions->smallest)].choice;
  request.weights = best.weights.as_stored ? "auto" : NameOf(best.weights);
  request.kv = best.kv->name;
  const Bytes budget = a.planned.budget;  // what is free may have changed since the comparison
  a.planned = TRY(PlanModel(dir, request));
  a.planned.budget = budget;
  a.planned.fits = a.planned.layout.plan.total <= budget;
  return a;
}

Status WriteFiles(const Options& o, const std::vector<const Planned*>& plans) {
  const int64_t most = o.shared.context;
  if (plans.empty()) return {};
  if (!o.timeline.empty()) TRY(DrawTimeline(*plans[0], o.timeline));
  if (!o.plot.empty()) {
    if (plans.size() > kMostPlots) return Usage(fmt::format("--plot draws at most {} models; name fewer", kMostPlots));
    std::vector<Plot> plots;
    for (const Planned* p : plans) plots.push_back(TRY(MakePlot(*p, most)));
    TRY(DrawPlots(plots, o.plot));
  }
  if (!o.html.empty()) TRY(WritePage(plans, most, o.html));
  if (!o.csv.empty()) {
    std::string csv = CsvHeader();
    for (const Planned* p : plans) csv += CsvLines(*p, TRY(MakeGrid(*p, most, 1, {1, 2, 4, 8, 16, 32, 64})));
    if (o.csv == "-")
      fmt::print("{}", csv);
    else
      TRY(WriteAtomically(o.csv, csv));
  }
  return {};
}

Json DocumentOf(const Answered& a, bool compat) {
  Json document = PlanJson(a.planned);
  if (const auto speed = PredictSpeed(a.planned)) document["predicted"] = SpeedJson(speed->is);
  if (compat) document["report"]["image_memory_gb"] = document["report"]["audio_memory_gb"];
  if (a.solution) document["solve"] = SolveJson(*a.solution);
  if (a.precisions) document["precisions"] = PrecisionJson(*a.precisions, a.planned);
  return document;
}

std::string SpeedText(const CalibratedSpeed& s) {
  return fmt::format("predicted: {:.1f} tokens/s, {:.0f} of a prompt{} (calibrated {})\n", s.is.tokens_per_second,
                     s.is.prefill_tokens_per_second,
                     s.is.seconds_per_window > 0 ? fmt::format(", {:.2f} s a window", s.is.seconds_per_window) : "",
                     s.date);
}

std::string TextOf(const Answered& a) {
  if (a.solution) return SolveText(*a.solution, a.planned);
  if (a.precisions) return PrecisionText(*a.precisions, a.planned);
  const auto speed = PredictSpeed(a.planned);
  return PlanTable(a.planned) + (speed ? SpeedText(*speed) : "");
}

int Run(const Options& o) {
  const bool json = o.shared.json, alone = o.models.size() == 1;
  if (const Status status = Check(o); !status.ok()) return Report(status.error(), json);
  if (o.engine.foreign()) return RunForeign(o.shared, o.models, o.engine);
  std::vector<Result<Answered>> answers;
  std::vector<const Planned*> plans;
  answers.reserve(o.models.size());  // plans point into it
  for (const std::string& what : o.models) {
    answers.push_back(Ask(o, what));
    if (answers.back().ok()) plans.push_back(&answers.back()->planned);
  }
  if (alone && !answers[0].ok()) return Report(answers[0].error(), json);
  if (const Status written = WriteFiles(o, plans); !written.ok()) return Report(written.error(), json);

  if (json) {
    Json all = Json::array();
    for (size_t i = 0; i < answers.size(); ++i)
      all.push_back(answers[i].ok() ? DocumentOf(*answers[i], o.compat)
                                    : Json{{"model", o.models[i]}, {"error", ErrorJson(answers[i].error())}});
    fmt::print("{}\n", (alone ? all[0] : all).dump(-1, ' ', false, Json::error_handler_t::replace));
  } else if (o.csv != "-" && !plans.empty()) {
    fmt::print("{}", alone ? TextOf(*answers[0]) : CompareText(Compare(plans), TerminalWidth()));
  }
  std::fflush(stdout);
  int worst = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    const Result<Answered>& a = answers[i];
    if (a.ok() && !a->refused()) continue;
    Error error = a.ok() ? Refusal(a->planned) : a.error();
    if (!a.ok() && error.message.find(o.models[i]) == std::string::npos)
      error.message = fmt::format("{}: {}", o.models[i], error.message);
    worst = std::max(worst, static_cast<int>(error.code));
    if (!json) Report(error, false);
  }
  return worst;
}

}  // namespace

void AddPlan(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  CLI::App* app =
      root->add_subcommand("plan", "How much memory a model takes, component by component, and whether it fits");
  app->add_option("MODEL", o->models,
                  "A directory, a .gguf file, a config.json, or a published name such as openai/whisper-base; several "
                  "are compared")
      ->required();
  AddShared(app, &o->shared);
  AddEngine(app, &o->engine);
  app->add_option("--solve", o->solve, "The largest context, audio (seconds), batch or beam that fits");
  app->add_flag("--precisions", o->precisions, "What each precision takes, and which of them fit");
  app->add_option("--plot", o->plot, "Draw memory against context and batch: FILE.svg or FILE.png");
  app->add_option("--timeline", o->timeline, "Draw which tensors live when, phase by phase: FILE.svg or FILE.png");
  app->add_flag("--compat", o->compat,
                "In JSON, image_memory_gb repeats audio_memory_gb, as other calculators have it");
  app->add_option("--csv", o->csv, "Write a plan for each context and batch as CSV; - is standard output");
  app->add_option("--html", o->html, "Write one page with tables, pictures and a calculator, which needs no network");
  app->footer(
      "Examples:\n"
      "  sotto plan openai/whisper-large-v3 --memory 2GiB\n"
      "  sotto plan models/demo-asr --weights int8 --json\n"
      "  sotto plan openai/whisper-tiny openai/whisper-base openai/whisper-small\n"
      "  sotto plan Qwen/Qwen2-Audio-7B --solve context --memory 12GiB\n"
      "  sotto plan Qwen/Qwen2-Audio-7B --precisions --memory 6GiB\n"
      "  sotto plan Qwen/Qwen2-Audio-7B --memory 24GiB --plot memory.png --csv memory.csv --html memory.html\n"
      "  sotto plan Qwen/Qwen2-Audio-7B --engine vllm --memory 24GiB\n"
      "  sotto plan ultravox.gguf --mmproj mmproj-ultravox.gguf\n"
      "Exit: 0 it fits, 5 it does not (the smallest budget that works is named), 4 bad model, 2 usage.");
  commands->push_back({app, [o] { return Run(*o); }});
}

}  // namespace sotto::cli
