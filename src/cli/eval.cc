// sotto eval: how good a model is, measured: what a quantization or a smaller cache costs.
#include <fmt/format.h>

#include "cli/options.h"
#include "engine/report.h"
#include "harness/perplexity.h"
#include "harness/recall.h"

namespace sotto::cli {
namespace {

struct Options {
  SharedOptions shared;
  std::string model, input;
  PerplexityOptions perplexity;
  RecallOptions recall;
  bool quiet = false;
};

Result<std::unique_ptr<Engine>> Open(const Options& o, Bar* bar) {
  TRY(OnlyPlanned(o.shared));
  PlanRequest request = TRY(ToRequest(o.shared));
  if (request.batch > 1) return Usage("--batch has no effect here: texts are measured one after the other");
  Planned planned = TRY(PlanModel(TRY(FindModel(o.model, ModelUse::kRun)), request));
  auto engine = Engine::Open(std::move(planned), [&](uint64_t done, uint64_t total) {
    bar->Show("loading", static_cast<double>(done), static_cast<double>(total));
    return !StopFlag().load();
  });
  bar->Clear();
  return engine;
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
  fmt::print("perplexity {:.4f}, {:.4f} bits per byte, over {} tokens ({} bytes){}\n", p.value(), p.bits_per_byte(),
             p.tokens, p.bytes, p.cut ? ", the beginning of the text" : "");
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
  const auto [perplexity, o] = add("perplexity", "How well a language model predicts a text", EvalPerplexity);
  perplexity->add_option("TEXT", o->input, "A file of UTF-8 text; - is standard input")->required();
  perplexity
      ->add_option(
          "--stride", o->perplexity.stride,
          "Tokens that a window counts; the others are what they are predicted from (default: half the context)")
      ->check(CLI::PositiveNumber);
  perplexity->add_option("--max-tokens,-n", o->perplexity.max_tokens, "So many tokens of the text; default: all")
      ->check(CLI::PositiveNumber);
  perplexity->footer(
      "Example:\n"
      "  sotto eval perplexity models/demo-lm book.txt --weights q8_0 --kv fp16 --context 1024\n"
      "Exit: 0 done, 2 usage, 3 bad text, 4 bad model, 5 does not fit, 130 interrupted.");
}

}  // namespace sotto::cli
