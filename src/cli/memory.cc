// sotto memory: may a model be loaded on this machine, or on one that is described.
#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "cli/options.h"
#include "engine/admission_report.h"

namespace sotto::cli {
namespace {

struct Options {
  std::string profile = "default", model, total, available, quant, loaded, min_free, keep_free, when, audio_overhead,
              critical_below, warning_below;
  std::string kv = "auto";
  int64_t context = 0;
  int threads = 0;
  bool json = false;
};

struct Asked {
  AdmissionRules rules;
  SystemMemory memory;
};

// "0" as a size that may be nothing.
Result<Bytes> ParseRoom(const std::string& text, Bytes of) { return text == "0" ? Bytes{} : ParseSize(text, of); }

Result<Asked> Prepare(const Options& o) {
  SystemMemory memory = ReadSystemMemory();
  if (!o.total.empty()) memory = {TRY(ParseSize(o.total, memory.total)), memory.available, std::nullopt};
  if (!o.available.empty()) memory.available = TRY(ParseRoom(o.available, memory.available));
  if (memory.available > memory.total) {
    if (!o.available.empty() || o.total.empty())
      return Usage(
          fmt::format("{} bytes available are more than the {} in all; give --total and --available that agree",
                      memory.available.n, memory.total.n));
    return Usage(
        fmt::format("--total {} is less than what this machine has available; give --available, too", o.total));
  }
  PlanRequest request;
  request.kv = o.kv;
  request.context = o.context;
  request.threads = o.threads;
  AdmissionRules rules = TRY(MakeRules(o.profile, o.model, request, {o.quant, o.loaded}));
  if (!o.min_free.empty()) {
    const Bytes buffer = TRY(ParseRoom(o.min_free, memory.total));
    for (Rung& r : rules.rungs) r.buffer = buffer;
  }
  if (!o.keep_free.empty()) rules.keep_free = TRY(ParseShare(o.keep_free));
  if (!o.when.empty()) rules.when = TRY(ParseShareTest(o.when));
  if (!o.audio_overhead.empty()) rules.audio_overhead = TRY(ParseRoom(o.audio_overhead, memory.total));
  if (!o.critical_below.empty()) rules.critical_below = TRY(ParseRoom(o.critical_below, memory.total));
  if (!o.warning_below.empty()) rules.warning_below = TRY(ParseRoom(o.warning_below, memory.total));
  return Asked{std::move(rules), memory};
}

void Print(const Json& document) { fmt::print("{}\n", document.dump(-1, ' ', false, Json::error_handler_t::replace)); }

// What a document says besides its answer: the error on stderr for people, and the exit code.
int CodeOf(const Json& document, bool json) {
  const auto error = document.find("error");
  if (error == document.end()) return 0;
  if (!json) fmt::print(stderr, "sotto: {}\n", (*error)["message"].get<std::string>());
  return static_cast<int>(Code::kOverBudget);
}

std::string Size(const Json& bytes) { return Human({bytes.get<uint64_t>()}); }

Result<int> Recommend(const Options& o) {
  const Asked a = TRY(Prepare(o));
  const Json j = RecommendJson(a.rules, a.memory);
  if (o.json) {
    Print(j);
    return CodeOf(j, true);
  }
  fmt::print("{}, {} available of {}: {}\n\n", a.rules.model, Human(a.memory.available), Human(a.memory.total),
             j["recommended"].is_null() ? "nothing fits" : j["recommended"].get<std::string>());
  fmt::print("  {:<10} {:>12} {:>12} {:>14}\n", "weights", "takes", "keeps free", "needs in all");
  for (const Json& r : j["rungs"])
    fmt::print("{} {:<10} {:>12} {:>12} {:>14}{}\n", r["name"] == j["recommended"] ? '*' : ' ',
               r["name"].get<std::string>(), Size(r["need_bytes"]),
               Size(r["required_bytes"].get<uint64_t>() - r["need_bytes"].get<uint64_t>()), Size(r["required_bytes"]),
               r["can_load"].get<bool>() ? "" : "  does not fit");
  std::fflush(stdout);
  return CodeOf(j, false);
}

Result<int> Check(const Options& o) {
  const Asked a = TRY(Prepare(o));
  const Json j = CheckJson(a.rules, TRY(FindRung(a.rules, o.quant)), a.memory, {});
  if (o.json)
    Print(j);
  else if (j["can_load"].get<bool>())
    fmt::print("{}\n", j["reason"].get<std::string>());
  return CodeOf(j, o.json);
}

// The statistics of a process that has --loaded, and nothing else.
Result<MemoryStats> StatsOf(const Options& o) {
  const Asked a = TRY(Prepare(o));
  MemoryManager manager(a.rules, [&a] { return a.memory; });
  Reservation loaded;
  if (!o.loaded.empty()) loaded = manager.Adopt(a.rules.model, TRY(FindRung(a.rules, o.loaded)));
  return manager.Stats();
}

Result<int> ShowStatus(const Options& o) {
  const Json j = StatusJson(TRY(StatsOf(o)));
  if (o.json)
    Print(j);
  else
    fmt::print("{}: {}\n", j["status"].get<std::string>(), j["message"].get<std::string>());
  return 0;
}

Result<int> ShowStats(const Options& o) {
  const MemoryStats s = TRY(StatsOf(o));
  if (o.json) {
    Print(StatsJson(s));
    return 0;
  }
  const SystemMemory& m = s.now.memory;
  const Bytes used{m.total.n - std::min(m.total.n, m.available.n)};
  fmt::print("total      {:>20}  {}\navailable  {:>20}  {}\nused       {:>20}  {}, {:.1f} %\nstate      {:>20}\n",
             m.total.n, Human(m.total), m.available.n, Human(m.available), used.n, Human(used), PercentUsed(m),
             NameOf(s.now.state));
  for (const ModelMemory& model : s.models)
    fmt::print("loaded     {:>20}  {}, {}\n", model.taken.n, model.name, model.rung.name);
  return 0;
}

}  // namespace

void AddMemory(CLI::App* root, Commands* commands) {
  CLI::App* app =
      root->add_subcommand("memory", "Which precision this machine's memory allows, and whether it may be loaded");
  app->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, const char* examples, Result<int> (*run)(const Options&)) {
    auto o = std::make_shared<Options>();
    CLI::App* ask = app->add_subcommand(name, what);
    ask->add_option("--profile", o->profile,
                    "default: a load takes what its plan says; legacy: the published table for Qwen2-Audio")
        ->capture_default_str();
    ask->add_option("--model", o->model, fmt::format("MODEL of sotto plan; default: {}", kPublishedModel));
    ask->add_option("--total", o->total, "Of a machine that is not this one: all its memory, such as 16GiB");
    ask->add_option("--available", o->available, "And what of it is free");
    ask->add_option("--min-free", o->min_free, "To stay free; default: 512MiB, 768MiB for Q5_K_M");
    ask->add_option("--audio-overhead", o->audio_overhead, "On top of the plan, for what a host holds beside it");
    ask->add_option("--context", o->context, "Decoder positions of the plan")->envname("SOTTO_CONTEXT");
    ask->add_option("--kv", o->kv, "Cache of keys and values of the plan, as of sotto run")
        ->envname("SOTTO_KV")
        ->capture_default_str();
    ask->add_option("--threads,-t", o->threads, "Threads of the plan")->envname("SOTTO_THREADS");
    ask->add_flag("--json", o->json, "One JSON document on standard output");
    ask->footer(examples);
    commands->push_back({ask, [o, run] {
                           Result<int> done = run(*o);
                           return done.ok() ? *done : Report(done.error(), o->json);
                         }});
    return std::pair(ask, o);
  };
  const auto share = [](const auto& command) {
    const auto& [ask, o] = command;
    ask->add_option("--keep-free", o->keep_free, "A share of the total that stays free; default 25%; 0: none");
    ask->add_option("--when", o->when,
                    "When that share is tested: before, after, or auto: after, unless twice --min-free stays free. "
                    "Default: auto; legacy: before");
  };
  const auto loaded = [](const auto& command) {
    const auto& [ask, o] = command;
    ask->add_option("--loaded", o->loaded, "The precision that is loaded; default: nothing is, and all is well");
    ask->add_option("--critical-below", o->critical_below, "Critical with less available; default: --min-free");
    ask->add_option("--warning-below", o->warning_below, "Warning with less available; default: twice that");
  };
  share(add("recommend", "The best precision that may be loaded",
            "Examples:\n"
            "  sotto memory recommend\n"
            "  sotto memory recommend --total 16GiB --available 10GiB --json\n"
            "  sotto memory recommend --model Qwen/Qwen2.5-7B --context 8192\n"
            "Exit: 0 done, 5 nothing may be loaded, 4 bad model, 2 usage.",
            Recommend));
  const auto check = add("check", "Whether a precision may be loaded, and why not",
                         "Examples:\n"
                         "  sotto memory check --quant Q5_K_M\n"
                         "  sotto memory check --quant Q4_0 --total 16GiB --available 7GiB --keep-free 0\n"
                         "  sotto memory check --profile legacy --quant Q4_0 --total 8GiB --available 4GiB\n"
                         "Exit: 0 it may, 5 it may not (the room that it needs is named), 4 bad model, 2 usage.",
                         Check);
  check.first->add_option("--quant", check.second->quant,
                          "Any precision of sotto plan --weights; default: Q4_K_M, or the best of --model");
  share(check);
  loaded(add("status", "ok, warning or critical, while something is loaded",
             "Examples:\n"
             "  sotto memory status --loaded Q4_K_M\n"
             "  sotto memory status --loaded Q4_K_M --total 16GiB --available 700MiB --json\n"
             "Exit: 0 done, whatever the status is, 4 bad model, 2 usage.",
             ShowStatus));
  loaded(add("stats", "Memory used and available, and what is loaded",
             "Examples:\n"
             "  sotto memory stats --loaded Q4_K_M --json\n"
             "Exit: 0 done, 4 bad model, 2 usage.",
             ShowStats));
}

}  // namespace sotto::cli
