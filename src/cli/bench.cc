// sotto bench: what a way to save memory saves, and what it costs, side by side with the model as it is.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "base/file.h"
#include "cli/options.h"
#include "codec/checksum.h"
#include "engine/fit/figures.h"
#include "engine/fit/record.h"
#include "engine/report.h"
#include "harness/lowmem.h"

namespace sotto::cli {
namespace {

struct Options {
  LowmemRequest request;
  std::string model, output;
  bool lossless = false, lossless_int8 = false, store = false, json = false;
};

constexpr char kPrompt[] =
    "The old harbour wakes before the sun does. Boats come in one after another, and people carry boxes of fish, ice "
    "and rope along the narrow street to the market. A woman who has sold bread there for thirty years opens her "
    "window, counts what is left of yesterday's flour and looks at the sky: it will rain before noon, she says, and "
    "then the square will be empty. A boy with a red cap asks her why the ships";

Json RunJson(const LowmemRun& r) {
  return {{"weights", r.weights},
          {"file_bytes", r.file_bytes},
          {"weight_bytes", r.weight_bytes},
          {"planned_bytes", r.planned_bytes},
          {"peak_bytes", r.peak_bytes},
          {"prompt_tokens_per_second", r.prompt_speed},
          {"tokens_per_second", r.speed},
          {"text", r.text},
          {"ids", r.ids}};
}

struct Verdicts {
  Verdict ratio, reduction;
  Verdict overall() const { return std::min(ratio, reduction); }
};

Verdicts VerdictsOn(const Lowmem& f) {
  return {Judge(f.ratio_over_int8(), kRatioBounds), Judge(f.reduction(), kReductionBounds)};
}

Json LowmemJson(const Lowmem& f, const std::string& packed) {
  Json error;
  if (f.error) {
    const double db = f.error->all.db();
    error = {{"max_relative", f.error->worst.relative()},
             {"worst", f.error->worst_name},
             {"db", std::isfinite(db) ? Json(db) : Json()}};
  }
  const Verdicts v = VerdictsOn(f);
  return {
      {"schema", "sotto.bench.lowmem/1"},
      {"model", f.model},
      {"packed_from", packed.empty() ? Json() : Json(packed)},
      {"linear_layers", f.linear_layers()},
      {"linear_layers_by_kind", f.linear},
      {"embeddings", f.embeddings},
      {"bits_per_weight", f.matrices.bits()},
      {"packed_weights", f.matrices.packed_elements},
      {"packed_weight_bytes", f.matrices.packed_bytes},
      {"ratio_over_int8", f.ratio_over_int8()},
      {"ratio_over_fp16", 2 * f.ratio_over_int8()},
      {"reconstruction_error", std::move(error)},
      {"baseline", RunJson(f.baseline)},
      {"packed", RunJson(f.packed)},
      {"reduction", f.reduction()},
      {"texts_equal", f.baseline.text == f.packed.text},
      {"same_tokens", f.same_tokens()},
      {"kl", f.kl},
      {"kl_tokens", f.kl_tokens},
      {"verdict",
       {{"ratio_over_int8", NameOf(v.ratio)}, {"reduction", NameOf(v.reduction)}, {"overall", NameOf(v.overall())}}}};
}

std::string Layers(const Lowmem& f) {
  std::vector<std::string> kinds;
  for (const auto& [kind, count] : f.linear) kinds.push_back(fmt::format("{} {}", count, kind));
  std::string text = fmt::format("{} Linear layers packed ({})", f.linear_layers(), fmt::join(kinds, ", "));
  if (f.embeddings > 0)
    text += f.embeddings == 1 ? " and an embedding" : fmt::format(" and {} embeddings", f.embeddings);
  return text;
}

std::string ErrorText(const Lowmem& f) {
  if (!f.error) return "not measured: the model's own weights are quantized";
  if (f.error->all.squares == 0) return "none: every weight is what it was";
  return fmt::format("max|error| / max|weight| {:.4f} ({}), {:.1f} dB below the weights", f.error->worst.relative(),
                     f.error->worst_name, f.error->all.db());
}

std::string Figure(const char* name, double value, const std::array<double, 3>& bounds) {
  return fmt::format("{:<17}{:.2f}x: {} (minimum {:g}x, good {:g}x, excellent {:g}x)\n", name, value,
                     NameOf(Judge(value, bounds)), bounds[0], bounds[1], bounds[2]);
}

std::string LowmemTable(const Lowmem& f) {
  const LowmemRun &a = f.baseline, &b = f.packed;
  std::string out =
      fmt::format("{}, {}\n\n{:<28}{:>18}{:>18}{:>10}\n", f.model, Layers(f), "", "as it is", "packed", "gain");
  const auto row = [&](const char* name, const auto& was, const auto& is, double ratio) {
    out += fmt::format("{:<28}{:>18}{:>18}{}\n", name, was, is, ratio > 0 ? fmt::format("{:>9.2f}x", ratio) : "");
  };
  const auto bytes = [&](const char* name, uint64_t was, uint64_t is) {
    row(name, Grouped(was), Grouped(is), static_cast<double>(was) / static_cast<double>(is));
  };
  const auto speed = [&](const char* name, double was, double is) {
    row(name, fmt::format("{:.1f}", was), fmt::format("{:.1f}", is), was > 0 ? is / was : 0);
  };
  row("weights", a.weights, fmt::format("{:.3f} bits", f.matrices.bits()), 0);
  bytes("files, bytes", a.file_bytes, b.file_bytes);
  bytes("weights in memory, bytes", a.weight_bytes, b.weight_bytes);
  bytes("planned peak, bytes", a.planned_bytes, b.planned_bytes);
  bytes("peak, bytes", a.peak_bytes, b.peak_bytes);
  speed("prompt, tokens/s", a.prompt_speed, b.prompt_speed);
  speed("answer, tokens/s", a.speed, b.speed);
  out += fmt::format("\nerror            {}\n", ErrorText(f));
  out += fmt::format("answers          {}; KL {:.3g} nats a token over {} tokens\n",
                     a.text == b.text ? fmt::format("equal, {} tokens", a.ids.size())
                                      : fmt::format("part after {} of {} tokens", f.same_tokens(), a.ids.size()),
                     f.kl, f.kl_tokens);
  out += fmt::format("ratio over FP16  {:.2f}x of the matrices packed\n", 2 * f.ratio_over_int8());
  out += Figure("ratio over INT8", f.ratio_over_int8(), kRatioBounds);
  out += Figure("peak's reduction", f.reduction(), kReductionBounds);
  return out + fmt::format("verdict          {}\n", NameOf(VerdictsOn(f).overall()));
}

// KL beside the packed model, where `sotto fit` looks.
Status StoreKl(const Options& o, const ModelDir& packed, const Lowmem& found) {
  const std::string& prompt = o.request.prompt;
  MeasuredOn on{"prompt and answer", static_cast<int64_t>(prompt.size()),
                ChecksumText(Checksum(std::as_bytes(std::span(prompt))))};
  if (!o.request.text.empty()) on = TRY(MeasuredOnFile(o.request.text));
  const std::string against = TRY(StateOfModel(TRY(FindModel(o.model, ModelUse::kRun))));
  return StoreFigure(packed, {kKl, found.kl, found.packed.weights, found.kv, on, found.kl_tokens, against});
}

Result<int> RunLowmem(Options o) {
  LowmemRequest& r = o.request;
  if (o.lossless_int8) r.pack.mode = PackMode::kInt8;
  if (o.lossless) r.pack.mode = PackMode::kHalves;
  if (r.pack.mode == PackMode::kRate && r.pack.bits == 0) r.pack.bits = 4.3;
  if (o.store && r.packed.empty()) return Usage("--store needs --packed: what is packed for this is thrown away");
  ModelDir packed;
  if (o.store) TRY(CheckStore(packed = TRY(FindModel(r.packed, ModelUse::kRun))));
  Bar bar(!o.json);
  const Lowmem found =
      TRY(MeasureLowmem(o.model, r, StopFlag(),
                        [&](const std::string& stage, double done, double total) { bar.Show(stage, done, total); }));
  bar.Clear();
  const std::string document = LowmemJson(found, r.packed).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (!o.output.empty()) TRY(WriteAtomically(o.output, document));
  if (o.store) TRY(StoreKl(o, packed, found));
  fmt::print("{}", o.json ? document : LowmemTable(found));
  if (o.store && !o.json) fmt::print("stored in {}\n", FiguresPath(packed));
  return 0;
}

}  // namespace

void AddBench(CLI::App* root, Commands* commands) {
  CLI::App* bench = root->add_subcommand("bench", "What a way to save memory saves and costs, measured side by side");
  bench->require_subcommand(1);
  auto o = std::make_shared<Options>();
  LowmemRequest& r = o->request;
  r.prompt = kPrompt;
  CLI::App* app =
      bench->add_subcommand("lowmem", "A language model as it is against itself packed: sizes, peak, speed");
  app->add_option("MODEL", o->model,
                  "A directory, a .gguf file (with --packed), or owner/name in the Hugging Face cache")
      ->required();
  auto* how = app->add_option_group("packed");
  how->add_option("--packed", r.packed, "What sotto pack has made of it; default: packed for this, and thrown away");
  how->add_option("--bits", r.pack.bits, "A weight, as sotto pack takes it; default: 4.3")->check(CLI::PositiveNumber);
  how->add_flag("--lossless-int8", o->lossless_int8, "Int8 weights, whose codes come out bit for bit");
  how->add_flag("--lossless", o->lossless, "fp16 or bf16 weights, bit for bit");
  how->require_option(0, 1);
  app->add_option("--prompt", r.prompt, "What both are asked; default: a paragraph to go on with");
  app->add_option("--max-tokens,-n", r.max_tokens, "Length of the answers")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--text", r.text, "A file of UTF-8 text for KL, its first 512 tokens; default: prompt and answer");
  app->add_option("--context", r.context, "Decoder positions; default: the model's maximum, at most 4096")
      ->envname("SOTTO_CONTEXT")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--kv", r.kv, "Cache of keys and values of both, as of sotto run")
      ->envname("SOTTO_KV")
      ->capture_default_str();
  app->add_option("--threads,-t", r.threads, "Threads; default: the CPUs that this process may use")
      ->envname("SOTTO_THREADS")
      ->check(CLI::Range(0, 256));
  app->add_flag("--store", o->store, "Keep KL beside what --packed names, for sotto fit --quality-floor");
  app->add_flag("--json", o->json, "One JSON document on standard output");
  app->add_option("-o,--output", o->output, "Write that document into a file, too");
  app->footer(
      "Examples:\n"
      "  sotto bench lowmem models/demo-lm\n"
      "  sotto bench lowmem meta-llama/Llama-3.2-1B --packed llama-4.3 --text book.txt\n"
      "  sotto bench lowmem models/demo-lm --lossless --json -o lossless.json\n"
      "Each runs alone in its own process. TMPDIR is where the packed model lies meanwhile. docs/bench.md says what "
      "the lines "
      "mean.\n"
      "Exit: 0 done (whatever the verdict), 2 usage, 3 bad text, 4 bad model, 5 does not fit, 130 interrupted.");
  commands->push_back({app, [o] {
                         StopFlag();
                         const Result<int> done = RunLowmem(*o);
                         return done.ok() ? *done : Report(done.error(), o->json);
                       }});
}

}  // namespace sotto::cli
