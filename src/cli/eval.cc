// sotto eval: how good a model is, measured: what a quantization or a smaller cache costs.
#include <fmt/format.h>

#include "cli/options.h"
#include "engine/report.h"
#include "harness/perplexity.h"

namespace sotto::cli {
namespace {

struct Options {
  SharedOptions shared;
  std::string model, input;
  PerplexityOptions perplexity;
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
