// sotto eval: how good a model is, measured: what a quantization or a smaller cache costs.
#include <fmt/format.h>

#include <cmath>

#include "cli/options.h"
#include "engine/fit/figures.h"
#include "engine/report.h"
#include "harness/hearing.h"
#include "harness/perplexity.h"
#include "harness/recall.h"
#include "harness/sensitivity.h"
#include "harness/word_errors.h"

namespace sotto::cli {
namespace {

struct Options {
  SharedOptions shared;
  std::string model, input;
  PerplexityOptions perplexity;
  RecallOptions recall;
  Calibration calibration;
  std::string output;
  std::string question;
  int64_t max_tokens = 200;
  bool verbose = false;
  bool quiet = false;
  bool store = false;
};

using Planning = FunctionRef<Result<Planned>(const ModelDir&, const PlanRequest&)>;
Result<std::unique_ptr<Engine>> Open(const Options& o, Bar* bar, Planning plan) {
  TRY(OnlyPlanned(o.shared));
  PlanRequest request = TRY(ToRequest(o.shared));
  if (request.batch > 1) return Usage("--batch has no effect here: texts are measured one after the other");
  Planned planned = TRY(plan(TRY(FindModelOf(o.model, o.shared, ModelUse::kRun)), request));
  if (o.store && o.input == "-") return Usage("--store names the text that was read; give a file, not standard input");
  if (o.store) TRY(CheckStore(planned.dir));
  auto engine = Engine::Open(std::move(planned), [&](uint64_t done, uint64_t total) {
    bar->Show("loading", static_cast<double>(done), static_cast<double>(total));
    return !StopFlag().load();
  });
  bar->Clear();
  return engine;
}

Result<std::unique_ptr<Engine>> Open(const Options& o, Bar* bar) {
  return Open(o, bar, [](const ModelDir& dir, const PlanRequest& request) { return PlanModel(dir, request); });
}

// What every measurement says of the engine that it was made on.
Json About(const Options& o, const Engine& engine) {
  const Planned& p = engine.planned();
  return {{"model", p.dir.name},
          {"weights", WeightsName(p, p.layout.choice)},
          {"kv", p.layout.choice.kv->name},
          {"context", p.layout.model->info().context},
          {"input", o.input},
          {"ledger", LedgerJson(MakeLedger(engine))}};
}

// With --store: beside the model, where `sotto fit` looks. A line for people that says where.
Result<std::string> Store(const Options& o, const Engine& engine, Measure measure, double value, int64_t count) {
  if (!o.store) return std::string();
  const Planned& p = engine.planned();
  const MeasuredOn on = TRY(MeasuredOnFile(o.input));
  const Choice& c = p.layout.choice;
  const Figure figure{measure, value, WeightsName(p, c), std::string(c.kv->name), on, count};
  TRY(StoreFigure(p.dir, figure));
  return fmt::format("stored in {}\n", FiguresPath(p.dir));
}

Result<int> EvalPerplexity(const Options& o) {
  Bar bar(!o.quiet);
  const std::unique_ptr<Engine> engine = TRY(Open(o, &bar));
  if (engine->model().info().type == "encoder-decoder")
    return Usage(fmt::format("perplexity has no meaning here: {} is given speech, not text; use: sotto eval wer",
                             engine->planned().dir.name));
  const Perplexity p =
      TRY(MeasurePerplexity(*engine, o.input, o.perplexity, StopFlag(), [&](uint64_t done, uint64_t all) {
        bar.Show("reading", static_cast<double>(done), static_cast<double>(all));
      }));
  bar.Clear();
  const std::string stored = TRY(Store(o, *engine, kPerplexity, p.value(), static_cast<int64_t>(p.tokens)));
  if (o.shared.json) {
    Json j = About(o, *engine);
    j.update({{"tokens", p.tokens},
              {"bytes", p.bytes},
              {"nll", p.nll / static_cast<double>(p.tokens)},
              {"perplexity", p.value()},
              {"bits_per_byte", p.bits_per_byte()}});
    fmt::print("{}\n", j.dump());
    return 0;
  }
  fmt::print("perplexity {:.4f}, {:.4f} bits per byte, over {} tokens ({} bytes){}\n{}", p.value(), p.bits_per_byte(),
             p.tokens, p.bytes, p.cut ? ", the beginning of the text" : "", stored);
  return 0;
}

Result<int> EvalSensitivity(const Options& o) {
  Bar bar(!o.quiet);
  const auto engine = TRY(Open(o, &bar, [&](const ModelDir& dir, const PlanRequest& request) {
    return PlanSensitivity(dir, request, o.calibration);
  }));
  const Sensitivities s = TRY(MeasureSensitivity(*engine, o.calibration, StopFlag(),
                                                 [&](double done, double all) { bar.Show("measuring", done, all); }));
  bar.Clear();
  Json j = SensitivitiesJson(s);
  if (!o.output.empty()) TRY(WriteAtomically(o.output, j.dump(1, ' ', false, Json::error_handler_t::replace) + "\n"));
  if (o.shared.json) {
    const Json about = About(o, *engine);
    for (auto& [key, value] : about.items()) j[key] = value;
    j.erase("input");
    fmt::print("{}\n", j.dump(-1, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  fmt::print("{:<52} {:>12} {:>12}\n", "matrix", "sensitivity", "KL, nats");
  for (const Sensitivity& t : s.tensors) fmt::print("{:<52} {:>12.4g} {:>12.3g}\n", t.name, t.value, t.kl);
  fmt::print("{} matrices, each with noise {:g} dB below it, over {} tokens\n", s.tensors.size(),
             -10 * std::log10(s.noise), s.tokens);
  return 0;
}

Result<int> EvalRecall(const Options& o) {
  Bar bar(!o.quiet);
  const std::unique_ptr<Engine> engine = TRY(Open(o, &bar));
  if (engine->model().info().type == "encoder-decoder")
    return Usage(fmt::format("recall has no meaning here: {} is given speech, not text", engine->planned().dir.name));
  const std::vector<RecallRow> rows = TRY(
      MeasureRecall(*engine, o.recall, StopFlag(), [&](double done, double all) { bar.Show("asking", done, all); }));
  bar.Clear();
  if (o.shared.json) {
    Json j = About(o, *engine);
    for (const RecallRow& r : rows)
      j["lengths"].push_back({{"length", r.length},
                              {"asked", r.asked},
                              {"right", r.right},
                              {"recall", static_cast<double>(r.right) / static_cast<double>(r.asked)},
                              {"passkeys", r.passkeys},
                              {"passkeys_found", r.found}});
    fmt::print("{}\n", j.dump());
    return 0;
  }
  fmt::print("{:>8}  {:>18}  {:>14}\n", "tokens", "recall", "passkeys found");
  for (const RecallRow& r : rows)
    fmt::print("{:>8}  {:>7.1f}% of {:>5}  {:>8} of {:>2}\n", r.length,
               100.0 * static_cast<double>(r.right) / static_cast<double>(r.asked), r.asked, r.found, r.passkeys);
  return 0;
}

// Each case of o.input to `judge(case, what was heard)`.
Result<std::unique_ptr<Engine>> ListenToAll(const Options& o, const std::vector<HearingCase>& cases,
                                            FunctionRef<Status(const HearingCase&, const std::string&)> judge) {
  Bar bar(!o.quiet);
  std::unique_ptr<Engine> engine = TRY(Open(o, &bar));
  Listener listener = TRY(Listener::Make(*engine, o.question, o.max_tokens));
  double done = 0;
  for (const HearingCase& c : cases) {
    const std::string heard = TRY(listener.Hear(c.audio, StopFlag()));
    TRY(judge(c, heard));
    bar.Show("listening", ++done, static_cast<double>(cases.size()));
  }
  bar.Clear();
  return engine;
}

Result<int> EvalWer(const Options& o) {
  const std::vector<HearingCase> cases = TRY(ReadHearingCases(o.input));
  WordErrors sum;
  Json each = Json::array();
  const auto engine = TRY(ListenToAll(o, cases, [&](const HearingCase& c, const std::string& heard) -> Status {
    const WordErrors e = TRY(CountWordErrors(Normalized(c.text), Normalized(heard)));
    sum += e;
    if (o.verbose) each.push_back({{"audio", c.audio}, {"said", c.text}, {"heard", heard}, {"wer", e.rate()}});
    if (o.verbose && !o.shared.json) fmt::print("{:6.1f}%  {}\t{}\n", 100 * e.rate(), c.audio, heard);
    return {};
  }));
  const std::string stored = TRY(Store(o, *engine, kWer, 100 * sum.rate(), sum.words));
  if (o.shared.json) {
    Json j = About(o, *engine);
    j.update({{"files", cases.size()},
              {"words", sum.words},
              {"substituted", sum.substituted},
              {"deleted", sum.deleted},
              {"inserted", sum.inserted},
              {"wer", sum.rate()}});
    if (o.verbose) j["cases"] = each;
    fmt::print("{}\n", j.dump(-1, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  fmt::print("word error rate {:.1f}%: {} substituted, {} deleted, {} inserted of {} words in {} files\n{}",
             100 * sum.rate(), sum.substituted, sum.deleted, sum.inserted, sum.words, cases.size(), stored);
  return 0;
}

Result<int> EvalSounds(const Options& o) {
  const std::vector<HearingCase> cases = TRY(ReadHearingCases(o.input));
  std::vector<std::string> sounds;
  for (const HearingCase& c : cases)
    if (std::find(sounds.begin(), sounds.end(), c.text) == sounds.end()) sounds.push_back(c.text);
  std::vector<std::pair<int64_t, int64_t>> right(sounds.size());  // of each sound: named, heard
  int64_t named = 0;
  const auto engine = TRY(ListenToAll(o, cases, [&](const HearingCase& c, const std::string& heard) -> Status {
    const bool is_right = NamesSound(heard, c.text, sounds);
    auto& [yes, all] = right[static_cast<size_t>(std::find(sounds.begin(), sounds.end(), c.text) - sounds.begin())];
    yes += is_right;
    ++all;
    named += is_right;
    if (o.verbose && !o.shared.json) fmt::print("{}  {}\t{}\n", is_right ? "right" : "wrong", c.audio, heard);
    return {};
  }));
  const double accuracy = static_cast<double>(named) / static_cast<double>(cases.size());
  const std::string stored = TRY(Store(o, *engine, kAccuracy, 100 * accuracy, static_cast<int64_t>(cases.size())));
  if (o.shared.json) {
    Json j = About(o, *engine);
    j.update({{"files", cases.size()}, {"accuracy", accuracy}});
    for (size_t i = 0; i < sounds.size(); ++i)
      j["sounds"][sounds[i]] = {{"right", right[i].first}, {"files", right[i].second}};
    fmt::print("{}\n", j.dump(-1, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  for (size_t i = 0; i < sounds.size(); ++i)
    fmt::print("{:>5} of {:>5}  {}\n", right[i].first, right[i].second, sounds[i]);
  fmt::print("accuracy {:.1f}% over {} files\n{}", 100 * accuracy, cases.size(), stored);
  return 0;
}

}  // namespace

void AddEval(CLI::App* root, Commands* commands) {
  CLI::App* app = root->add_subcommand("eval", "Measure how good a model is, at any precision of weights and cache");
  app->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, Result<int> (*run)(const Options&)) {
    auto o = std::make_shared<Options>();
    CLI::App* measure = app->add_subcommand(name, what);
    measure->add_option("MODEL", o->model, "A directory, a .gguf file, or owner/name in the Hugging Face cache")
        ->required();
    AddShared(measure, &o->shared);
    measure->add_flag("--quiet,-q", o->quiet, "No progress bar");
    commands->push_back({measure, [o, run] {
                           StopFlag();
                           Result<int> done = run(*o);
                           return done.ok() ? *done : Report(done.error(), o->shared.json);
                         }});
    return std::pair(measure, o);
  };
  const auto stores = [](CLI::App* measure, const std::shared_ptr<Options>& o) {
    measure->add_flag("--store", o->store, "Keep the figure beside the model, for sotto fit --quality-floor");
  };
  const auto hears = [&](const char* name, const char* what, const char* question, Result<int> (*run)(const Options&)) {
    const auto [measure, o] = add(name, what, run);
    o->question = question;
    measure->add_option("LIST", o->input, "Lines of an audio file, a tab, and what is heard in it")->required();
    measure->add_option("--question", o->question, "What an audio-language model is asked")->capture_default_str();
    measure->add_option("--max-tokens,-n", o->max_tokens, "Longest answer of an audio-language model")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    measure->add_flag("--verbose,-v", o->verbose, "Print each answer");
    stores(measure, o);
    measure->footer(
        fmt::format("Example:\n"
                    "  sotto eval {} models/demo-audio-lm heldout.tsv --memory 64MiB\n"
                    "Exit: 0 done, 2 usage, 3 bad list or audio, 4 bad model, 5 does not fit, 130 interrupted.",
                    name));
  };
  hears("wer", "Word error rate of what a model hears", "What is said?", EvalWer);
  hears("sounds", "How often a model names the right sound", "Which sound is heard?", EvalSounds);
  const auto [recall, asked] = add("recall", "What a language model finds again in its context", EvalRecall);
  recall
      ->add_option("--lengths", asked->recall.lengths,
                   "Of the sequences, in tokens; what is above the context is left out")
      ->delimiter(',')
      ->capture_default_str();
  recall->add_option("--queries", asked->recall.queries, "Keys asked for at each length")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  recall->add_option("--passkeys", asked->recall.passkeys, "Pass keys hidden in prose at each length")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  recall->add_option("--prose", asked->recall.prose, "A file of UTF-8 text to stand between (default: some sentences)");
  recall->add_option("--seed", asked->recall.seed, "Of keys, values and places")->capture_default_str();
  recall->footer(
      "Example:\n"
      "  sotto eval recall models/demo-lm --kv fp16 --lengths 512,1024,2048\n"
      "Exit: 0 done, 2 usage, 3 bad text, 4 bad model, 5 does not fit, 130 interrupted.");
  const auto [sensitivity, s] =
      add("sensitivity", "How much harm noise in each matrix does: what `sotto pack` spends bits by", EvalSensitivity);
  Calibration& c = s->calibration;
  sensitivity->add_option("--text", c.text, "A file of UTF-8 text, for models that read");
  sensitivity->add_option("--audio", c.audios, "Audio files, for models that hear; what they say of it is the text");
  sensitivity->add_option("--question", c.question, "What an audio-language model is asked")->capture_default_str();
  sensitivity->add_option("--tokens,-n", c.tokens, "Positions that count, at most; every matrix takes a pass over them")
      ->capture_default_str();
  sensitivity->add_option("--noise", c.noise, "Power relative to the matrix's; 0.01 is what 3.5 bits a weight do")
      ->capture_default_str();
  sensitivity->add_option("-o,--output", s->output, "FILE.json, for sotto pack --sensitivity");
  sensitivity->footer(
      "Examples:\n"
      "  sotto eval sensitivity models/demo-lm --text book.txt -o demo-lm.json\n"
      "  sotto eval sensitivity models/demo-asr --audio a.wav b.flac -o demo-asr.json\n"
      "Weights are held in fp32, or in the files' own halves where memory is short.\n"
      "Exit: 0 done, 2 usage, 3 bad text or audio, 4 bad model, 5 does not fit, 130 interrupted.");
  const auto [perplexity, o] = add("perplexity", "How well a language model predicts a text", EvalPerplexity);
  perplexity->add_option("TEXT", o->input, "A file of UTF-8 text; - is standard input")->required();
  perplexity
      ->add_option(
          "--stride", o->perplexity.stride,
          "Tokens that a window counts; the others are what they are predicted from (default: half the context)")
      ->check(CLI::PositiveNumber);
  perplexity->add_option("--max-tokens,-n", o->perplexity.max_tokens, "So many tokens of the text; default: all")
      ->check(CLI::PositiveNumber);
  stores(perplexity, o);
  perplexity->footer(
      "Example:\n"
      "  sotto eval perplexity models/demo-lm book.txt --weights q8_0 --kv fp16 --context 1024\n"
      "Exit: 0 done, 2 usage, 3 bad text, 4 bad model, 5 does not fit, 130 interrupted.");
}

}  // namespace sotto::cli
