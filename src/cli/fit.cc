// sotto fit: the best way to keep a model in a memory budget, and a plan file that runs it.
#include "engine/fit/fit.h"

#include <fmt/format.h>

#include "cli/options.h"
#include "engine/fit/plan_file.h"
#include "engine/report.h"
#include "harness/canvas.h"
#include "harness/pareto.h"
#include "plan/machine.h"

namespace sotto::cli {
namespace {

struct Options {
  SharedOptions shared;
  FitRequest request;
  std::string model, pack_to, out, plot, floors;
  CLI::Option* floors_option = nullptr;
};

constexpr size_t kMostRows = 16;  // of the table

std::string LayersText(const Candidate& c) {
  return c.choice.streamed > 0 ? fmt::format("{} of {}", c.layers - c.choice.streamed, c.layers) : "all";
}

std::string SpeedNumber(double tokens) { return fmt::format("{:.{}f}", tokens, tokens < 100 ? 1 : 0); }

std::string SpeedText(const Fitter& fitter, const Candidate& c) {
  return fitter.machine() && c.speed.tokens_per_second > 0 ? SpeedNumber(c.speed.tokens_per_second) : "-";
}

Json CandidateJson(const Fitter& fitter, const Candidate& c) {
  const bool known = fitter.machine() && c.speed.tokens_per_second > 0;
  Json predicted = known ? SpeedJson(c.speed) : Json{{"tokens_per_second", nullptr}};
  predicted["quality"] = c.kl;
  return {{"weights", c.weights},
          {"kv", c.choice.kv->name},
          {"residency", {{"layers", c.layers}, {"from_disk", c.choice.streamed}, {"mapped", fitter.mapped()}}},
          {"batch", c.choice.batch},
          {"context", c.context},
          {"total_bytes", c.total.n},
          {"predicted", std::move(predicted)},
          {"measured", MeasuredJson(c.measured)},
          {"pareto", c.pareto},
          {"bits_to_pack", c.bits > 0 ? Json(c.bits) : Json()}};
}

std::string Why(const Fitter& fitter, const Fitted& f) {
  const Candidate& best = *std::find_if(f.fitting.begin(), f.fitting.end(),
                                        [&](const Candidate& c) { return c.speed.tokens_per_second >= f.least_speed; });
  std::string why = fmt::format("of {} choices that fit{}, {} {} best {} quality (KL {:.2g} of {})", f.fitting.size(),
                                fitter.machine() ? fmt::format(" and make {:.2g} tokens/s", f.least_speed) : "",
                                f.equals, f.equals == 1 ? "has the" : "come within 0.005 nats or 10 % of the",
                                best.measured[kKl] ? "measured" : "predicted", best.kl, best.weights);
  if (f.equals == 1) return why;
  return why + (f.choice().bits > 0 || fitter.machine() ? "; this is the fastest of them"
                                                        : "; this is the one that reads the fewest bytes a token");
}

// What a tenth more memory would give; "" for nothing.
std::string NextText(const Fitter& fitter, const Fitted& now, const Result<Fitted>& next) {
  if (!next.ok()) return "";
  const Candidate &a = now.choice(), &b = next->choice();
  if (a.weights == b.weights && a.choice.streamed == b.choice.streamed && a.context == b.context) return "";
  std::string text =
      fmt::format("{}, {} layers in memory, KL {:.2g} instead of {:.2g}", b.weights, LayersText(b), b.kl, a.kl);
  if (b.context != a.context) text += fmt::format(", a context of {} instead of {}", b.context, a.context);
  if (fitter.machine()) text += fmt::format(", {} tokens/s instead of {}", SpeedText(fitter, b), SpeedText(fitter, a));
  return text;
}

std::string PackCommand(const Options& o, const Candidate& c) {
  return fmt::format("sotto pack {0} --bits {1:g}{2} -o packed-{1:g}", o.model, c.bits,
                     o.request.sensitivities.empty() ? "" : " --sensitivity " + o.request.sensitivities);
}

std::string Table(const Fitter& fitter, const Fitted& f, Bytes budget) {
  const Candidate& best = f.choice();
  std::string out = fmt::format("{} in {} bytes ({}), batch {}, context {}\n\n", fitter.dir().name, budget.n,
                                Human(budget), best.choice.batch, best.context);
  std::vector<Measure> columns;  // what was measured of something that fits, KL apart
  for (const Measure m : {kPerplexity, kWer, kAccuracy})
    if (std::any_of(f.fitting.begin(), f.fitting.end(), [&](const Candidate& c) { return c.measured[m].has_value(); }))
      columns.push_back(m);
  out +=
      fmt::format("  {:<18}{:<7}{:>10}{:>16}{:>12}{:>11}", "weights", "cache", "in memory", "total, bytes", "", "KL");
  for (const Measure m : columns) out += fmt::format("{:>12}", kMeasures[m].name);
  out += fmt::format("{:>11}\n", "tokens/s");
  size_t rows = 0, more = 0;
  for (size_t i = 0; i < f.fitting.size(); ++i) {
    const Candidate& c = f.fitting[i];
    if (!c.pareto && i != f.chosen) continue;
    if (rows == kMostRows && i != f.chosen) {
      ++more;
      continue;
    }
    rows += i == f.chosen ? 0 : 1;
    out += fmt::format("{} {:<18}{:<7}{:>10}{:>16}{:>12}{:>11}", i == f.chosen ? "*" : " ", c.weights,
                       c.choice.kv->name, LayersText(c), c.total.n, Human(c.total), fmt::format("{:.2g}", c.kl));
    for (const Measure m : columns)
      out += fmt::format("{:>12}", c.measured[m] ? fmt::format("{:.4g}", *c.measured[m]) : "-");
    out += fmt::format("{:>11}{}\n", SpeedText(fitter, c),
                       c.bits > 0        ? "  to be packed"
                       : c.measured[kKl] ? "  KL measured"
                                         : "");
  }
  if (more > 0) out += fmt::format("  and {} more; --json has all\n", more);
  return out + "* taken; the others are better in memory, quality or speed, and worse in another\n";
}

Result<Json> Finish(const Options& o, const Fitter& fitter, const Fitted& f, Bytes budget) {
  Json done = Json::object();
  const Candidate& c = f.choice();
  if (c.bits > 0 && !o.pack_to.empty()) {
    Bar bar(!o.shared.json);
    PackRequest request{.bits = c.bits, .out = o.pack_to, .threads = o.shared.threads};
    if (fitter.measured()) request.sensitivities = TRY(ReadSensitivities(o.request.sensitivities));
    TRY(Pack(fitter.dir(), request, [&](uint64_t read, uint64_t total) {
      bar.Show("packing", static_cast<double>(read), static_cast<double>(total));
      return !StopFlag().load();
    }));
    done["packed"] = o.pack_to;
  }
  if (!o.out.empty()) {
    const Planned planned = TRY(c.bits > 0 ? fitter.Plan(c, o.pack_to) : fitter.Plan(c));
    if (!planned.fits) return Refusal(planned);
    const Json about = CandidateJson(fitter, c);
    TRY(WritePlanFile(planned,
                      {{"predicted", about["predicted"]},
                       {"floors", MeasuredJson(o.request.floors)},
                       {"measured", about["measured"]}},
                      o.out));
    done["plan"] = o.out;
  }
  if (!o.plot.empty())
    TRY(DrawPareto(f, fmt::format("{}: what fits in {}", fitter.dir().name, Human(budget)), budget,
                   fitter.machine().has_value(), o.plot));
  return done;
}

Result<int> Run(Options o) {
  if (!o.plot.empty()) TRY(CheckPicturePath(o.plot, "--plot"));
  const PlanRequest asked = TRY(ToRequest(o.shared));
  const Bytes budget = asked.budget.value_or(AvailableMemory());
  o.request.plan = asked;
  if (!o.floors_option->empty()) o.request.floors = TRY(ParseFloors(o.floors));
  // What isn't packed yet can't be planned to run.
  if (!o.out.empty() && o.pack_to.empty()) o.request.rates = false;
  Bar bar(!o.shared.json);
  const Fitter fitter =
      TRY(Fitter::Open(TRY(FindModelOf(o.model, o.shared, ModelUse::kRun)), o.request, [&](size_t done, size_t total) {
        bar.Show("measuring", static_cast<double>(done), static_cast<double>(total));
        return !StopFlag().load();
      }));
  bar.Clear();
  const Fitted fitted = TRY(fitter.At(budget));
  const Candidate& choice = fitted.choice();
  const std::string next = NextText(fitter, fitted, fitter.At({budget.n + budget.n / 10}));
  const Json done = TRY(Finish(o, fitter, fitted, budget));
  if (o.shared.json) {
    Json alternatives = Json::array();
    for (const Candidate& c : fitted.fitting) alternatives.push_back(CandidateJson(fitter, c));
    Json document = {{"schema", "sotto.fit/1"},
                     {"model", fitter.dir().name},
                     {"budget_bytes", budget.n},
                     {"choice", CandidateJson(fitter, choice)},
                     {"alternatives", std::move(alternatives)},
                     {"why", Why(fitter, fitted)},
                     {"floors", MeasuredJson(o.request.floors)},
                     {"unmeasured", fitted.unmeasured},
                     {"stale", fitter.stale()},
                     {"next", next.empty() ? Json() : Json(next)},
                     {"sensitivities", fitter.measured() ? Json(o.request.sensitivities) : Json()},
                     {"calibrated", fitter.machine() ? Json(fitter.machine()->date) : Json()}};
    if (choice.bits > 0) document["pack"] = PackCommand(o, choice);
    document.update(done);
    fmt::print("{}\n", document.dump(-1, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  fmt::print("{}{}\n", Table(fitter, fitted, budget), Why(fitter, fitted));
  fmt::print("a tenth more memory: {}\n", next.empty() ? "the same" : next);
  if (const std::string lack = fitter.LackText(fitted.unmeasured); !lack.empty()) fmt::print("note: {}\n", lack);
  if (!fitter.measured())
    fmt::print("note: every weight counts the same; `sotto eval sensitivity` measures, --sensitivity takes it\n");
  if (!fitter.machine()) fmt::print("note: speeds compare choices only; `sotto calibrate` measures this machine\n");
  if (choice.bits > 0 && o.pack_to.empty()) fmt::print("to make it: {}\n", PackCommand(o, choice));
  if (!o.out.empty()) fmt::print("to run it: sotto run, chat or transcribe --plan {}\n", o.out);
  return 0;
}

}  // namespace

void AddFit(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  SharedOptions& s = o->shared;
  CLI::App* app =
      root->add_subcommand("fit", "The best way to keep a model in a memory budget, and a plan that runs it");
  app->add_option("MODEL", o->model, "A directory, a .gguf file, or owner/name in the Hugging Face cache")->required();
  app->add_option("--memory", s.memory,
                  "Budget: 512MiB, 2GiB, 6GB, 80% (of what is free), or bytes. Default: what is free")
      ->envname("SOTTO_MEMORY");
  app->add_option("--context", s.context,
                  "Decoder positions; default: the usual ones, or half of them where nothing fits")
      ->envname("SOTTO_CONTEXT");
  app->add_option("--batch", s.batch, "Sequences decoded side by side; default: 1")->envname("SOTTO_BATCH");
  app->add_option("--audio-seconds", s.audio_seconds, "Audio of each sequence; default: one window");
  app->add_option("--kv", s.kv, "Only this cache, as of sotto run")->envname("SOTTO_KV");
  app->add_option("--weights", s.weights, "Only these weights, which loading makes")->envname("SOTTO_WEIGHTS");
  app->add_option("--packed", o->request.packed,
                  "A version of the model that sotto pack has made (may be given several times)")
      ->allow_extra_args(false);
  app->add_flag("--mapped", s.mapped,
                "Only what is packed, used where it lies in its file (sotto run --help); a plan file keeps it");
  app->add_option("--pack-to", o->pack_to, "Where to pack the model if that is best; without, the command is printed");
  o->floors_option = app->add_option(
      "--quality-floor", o->floors,
      "The largest KL that is allowed, nats a token: 0.01; or kl=, perplexity=, wer= (at most), accuracy= (at "
      "least; both in percent), several with commas: all but KL must have been measured with --store");
  app->add_option("--min-speed", o->request.least_speed, "Tokens a second; default: 4, or a tenth of the fastest")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--sensitivity", o->request.sensitivities, "What sotto eval sensitivity has measured");
  app->add_option("-o,--output", o->out, "Write a plan file, which sotto run, chat and transcribe take with --plan");
  app->add_option("--plot", o->plot, "Draw memory, quality and speed of all that fits: FILE.svg or FILE.png");
  app->add_option("--threads,-t", s.threads, "Threads; default: the CPUs that this process may use")
      ->envname("SOTTO_THREADS");
  app->add_flag("--json", s.json, "One JSON document on standard output");
  app->footer(
      "Examples:\n"
      "  sotto fit meta-llama/Llama-3.2-1B --memory 1GiB\n"
      "  sotto fit meta-llama/Llama-3.2-1B --memory 900MiB --packed llama-4.3 --packed llama-3.5 -o plan.json\n"
      "  sotto fit models/demo-lm --memory 24MiB --quality-floor 0.01 --min-speed 50 --plot front.png\n"
      "  sotto fit models/demo-lm --packed lm-4.3 --quality-floor kl=0.2,perplexity=21\n"
      "  sotto run --plan plan.json 'What is the capital of Italy?'\n"
      "With -o and without --pack-to only what can run at once is chosen from. docs/fit.md says how.\n"
      "Exit: 0 done, 2 usage, 4 bad model, 5 nothing fits that is good and fast enough, 130 interrupted.");
  commands->push_back({app, [o] {
                         StopFlag();
                         Result<int> done = Run(*o);
                         return done.ok() ? *done : Report(done.error(), o->shared.json);
                       }});
}

}  // namespace sotto::cli
