// sotto pack: a model in any number of bits; sotto inspect: what its files hold, tensor by tensor.
#include "engine/pack/pack.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/options.h"
#include "engine/pack/inspect.h"
#include "harness/canvas.h"
#include "harness/packed_picture.h"
#include "harness/sensitivity.h"
#include "plan/machine.h"

namespace sotto::cli {
namespace {

struct Options {
  std::string model, size, memory, sensitivity;
  std::vector<std::string> calibration;
  bool lossless_int8 = false, lossless = false, json = false;
  PackRequest request;
};

double Ratio(uint64_t a, uint64_t b) { return b == 0 ? 0 : static_cast<double>(a) / static_cast<double>(b); }

Json TensorJson(const PackedTensor& t) {
  const double bits = 8 * Ratio(t.bytes, t.elements);
  const bool packed = t.packed(), lossless = t.base_bits() > 0;
  return {{"name", t.name},
          {"shape", t.shape},
          {"scheme", t.scheme},
          {"bytes", t.bytes},
          {"bits_per_weight", bits},
          {"entropy_bits", packed ? Json(t.entropy) : Json()},
          {"error_db", packed && t.error_db > 0 ? Json(t.error_db) : Json()},
          {"ratio_over_int8", Ratio(t.elements, t.bytes)},
          {"ratio", lossless ? Json(t.ratio()) : Json()},
          {"bound", lossless ? Json(t.bound()) : Json()},
          {"gain", lossless ? Json(t.ratio() > 1) : Json()},
          {"sensitivity", t.sensitivity >= 0 ? Json(t.sensitivity) : Json()},
          {"predicted_kl", t.predicted_kl >= 0 ? Json(t.predicted_kl) : Json()}};
}

void PrintTensors(const Packed& p) {
  fmt::print("{:<52} {:>16} {:>6} {:>12} {:>7} {:>7} {:>8} {:>7} {:>7} {:>9}\n", "tensor", "shape", "scheme", "bytes",
             "bits", "entropy", "error dB", "ratio", "bound", "KL");
  for (const PackedTensor& t : p.tensors) {
    const bool packed = t.packed(), lossless = t.base_bits() > 0;
    const std::string error = t.error_db > 0 ? fmt::format("{:.1f}", t.error_db) : packed ? "none" : "";
    const auto figure = [](bool shown, const char* how, double value) {
      return shown ? fmt::format(fmt::runtime(how), value) : "";
    };
    const std::string line =
        fmt::format("{:<52} {:>16} {:>6} {:>12} {:>7.3f} {:>7} {:>8} {:>7} {:>7} {:>9}", t.name,
                    fmt::format("{}", fmt::join(t.shape, "x")), t.scheme, t.bytes, 8 * Ratio(t.bytes, t.elements),
                    figure(packed, "{:.3f}", t.entropy), error, figure(lossless, "{:.3f}x", t.ratio()),
                    figure(lossless, "{:.3f}x", t.bound()), figure(t.predicted_kl >= 0, "{:.2e}", t.predicted_kl));
    fmt::print("{}{}\n", line.substr(0, line.find_last_not_of(' ') + 1), lossless && t.ratio() <= 1 ? "  no gain" : "");
  }
}

// Of all that is packed, in a sentence's parts.
std::string Totals(const Packed& p) {
  const double over_int8 = Ratio(p.packed_elements, p.packed_bytes);
  std::string text =
      fmt::format("{:.3f} bits a weight in {} matrices, {:.3f}x over FP16, {:.3f}x over INT8", p.bits(),
                  std::count_if(p.tensors.begin(), p.tensors.end(), [](const auto& t) { return t.packed(); }),
                  2 * over_int8, over_int8);
  if (p.predicted_kl >= 0) text += fmt::format(", predicted KL {:.4f} nats a token", p.predicted_kl);
  return text;
}

Json PackedJson(const Packed& p) {
  Json tensors = Json::array();
  uint64_t elements = 0, bytes = 0;
  for (const PackedTensor& t : p.tensors) {
    tensors.push_back(TensorJson(t));
    elements += t.elements;
    bytes += t.bytes;
  }
  return {{"total_ratio", Ratio(2 * elements, bytes)},
          {"ratio_over_int8", Ratio(p.packed_elements, p.packed_bytes)},
          {"ratio_over_fp16", Ratio(2 * p.packed_elements, p.packed_bytes)},
          {"bits_per_weight", p.packed_elements == 0 ? Json() : Json(p.bits())},
          {"predicted_kl", p.predicted_kl >= 0 ? Json(p.predicted_kl) : Json()},
          {"file_bytes", p.file_bytes},
          {"tensors", std::move(tensors)}};
}

// The size of the file with which the process stays inside the budget: what the plan takes beside the weights is the same for all sizes.
Result<uint64_t> SizeFor(const ModelDir& dir, const std::string& memory) {
  PlanRequest request;
  request.weights = "int8";
  request.budget = TRY(ParseSize(memory, AvailableMemory()));
  const Planned planned = TRY(PlanModel(dir, request));
  uint64_t weights = 0, plain = 0;
  const auto slots = planned.layout.anatomy->slots();
  for (uint32_t id = 0; id < slots.size(); ++id) {
    if (slots[id].role != Role::kWeight) continue;
    const uint64_t bytes = planned.layout.plan.at[id].bytes;
    weights += bytes;
    plain += slots[id].form == Form::kMatrix ? 0 : bytes;
  }
  const uint64_t rest = planned.layout.plan.total.n - weights + plain + kSlotAlign * slots.size();
  if (request.budget->n <= rest)
    return Usage(fmt::format("--memory {} is not enough: {} bytes go to what is not packed", memory, rest));
  return request.budget->n - rest + plain;
}

// Sensitivities by a text or by audio, what the model takes. The engine is gone before packing begins.
Result<Sensitivities> Calibrate(const ModelDir& dir, const Options& o) {
  Calibration c;
  PlanRequest request;
  request.threads = o.request.threads;
  const bool hears = TRY(PlanModel(dir, request)).layout.model->info().n_mels > 0;
  if (hears) c.audios = o.calibration;
  if (!hears) c.text = o.calibration[0];
  if (!hears && o.calibration.size() > 1) return Usage(dir.name + " reads text: --calibration takes one file for it");
  Planned planned = TRY(PlanSensitivity(dir, request, c));
  if (!planned.fits)
    return Error{Code::kOverBudget,
                 fmt::format("{}; --calibration holds the model unpacked: measure on a larger machine with sotto "
                             "eval sensitivity -o FILE, and pack with --sensitivity FILE",
                             Refusal(planned).message)};
  Bar bar(!o.json);
  const auto engine = TRY(Engine::Open(std::move(planned), [&](uint64_t done, uint64_t all) {
    bar.Show("loading", static_cast<double>(done), static_cast<double>(all));
    return !StopFlag().load();
  }));
  return MeasureSensitivity(*engine, c, StopFlag(), [&](double done, double all) { bar.Show("measuring", done, all); });
}

int Run(Options o) {
  const Result<ModelDir> dir = FindModel(o.model, ModelUse::kRun);
  if (!dir.ok()) return Report(dir.error(), o.json);
  PackRequest& r = o.request;
  if (o.lossless_int8) r.mode = PackMode::kInt8;
  if (o.lossless) r.mode = PackMode::kHalves;
  if (!o.size.empty()) {
    const Result<Bytes> size = ParseSize(o.size, Bytes{});
    if (!size.ok()) return Report(size.error(), o.json);
    r.size = size->n;
  }
  if (!o.memory.empty()) {
    const Result<uint64_t> size = SizeFor(*dir, o.memory);
    if (!size.ok()) return Report(size.error(), o.json);
    r.size = *size;
  }
  if (!o.sensitivity.empty() || !o.calibration.empty()) {
    Result<Sensitivities> s = o.calibration.empty() ? ReadSensitivities(o.sensitivity) : Calibrate(*dir, o);
    if (!s.ok()) return Report(s.error(), o.json);
    r.sensitivities = *std::move(s);
  }
  Bar bar(!o.json);
  const std::atomic<bool>& stop = StopFlag();
  const Result<Packed> done = Pack(*dir, r, [&](uint64_t read, uint64_t total) {
    bar.Show("packing", static_cast<double>(read), static_cast<double>(total));
    return !stop.load();
  });
  bar.Clear();
  if (!done.ok()) return Report(done.error(), o.json);
  if (o.json) {
    Json document = PackedJson(*done);
    document["model"] = dir->name;
    document["output"] = r.out;
    document["peak_bytes"] = PeakResident().n;
    fmt::print("{}\n", document.dump(-1, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  if (r.mode != PackMode::kRate) PrintTensors(*done);
  fmt::print("{}: {}, {}{}\n", r.out, Human({done->file_bytes}), Totals(*done),
             done->resumed == 0 ? "" : fmt::format("; {} matrices were there already", done->resumed));
  return 0;
}

Result<int> RunInspect(const std::string& model, const std::string& plot, bool json) {
  if (!plot.empty()) TRY(CheckPicturePath(plot, "--plot"));
  const Packed found = TRY(Inspect(model));
  if (!plot.empty()) TRY(DrawPacked(found, model, plot));
  if (json) {
    fmt::print("{}\n", PackedJson(found).dump(-1, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  PrintTensors(found);
  if (found.packed_elements > 0) fmt::print("packed: {}\n", Totals(found));
  return 0;
}

}  // namespace

void AddPack(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  CLI::App* app = root->add_subcommand("pack", "A model in any number of bits a weight, or without loss");
  app->add_option("MODEL", o->model, "A directory, or owner/name in the Hugging Face cache")->required();
  app->add_option("-o,--output", o->request.out, "A directory, which every command then takes")->required();
  auto* how = app->add_option_group("how small");
  how->add_option("--bits", o->request.bits, "A weight of the matrices, all that their blocks hold counted: 2 to 12")
      ->check(CLI::PositiveNumber);
  how->add_option("--size", o->size, "Of the .safetensors file: 900MB, 1.2GiB");
  how->add_option("--memory", o->memory, "Of the process that runs it, as its plan will say with the default context");
  how->add_flag("--lossless-int8", o->lossless_int8, "Int8 weights, whose codes come out bit for bit");
  how->add_flag("--lossless", o->lossless, "fp16 or bf16 weights, bit for bit");
  how->require_option(1);
  app->add_option(
      "--level", o->request.level,
      "fast: decodes at the speed of memory; mid: 0.1 to 0.15 bits fewer; archive: as few as the code has.\n"
      "Default: fast, with --lossless archive");
  app->add_flag("--int8-scale-of-tensor", o->request.scale_of_tensor,
                "With --lossless-int8: one scale a matrix instead of one a row");
  auto* sensitivity = app->add_option("--sensitivity", o->sensitivity,
                                      "What `sotto eval sensitivity -o FILE` measured: bits go where they help most");
  app->add_option("--calibration", o->calibration,
                  "Measure that first: a text, or audio files for a model that hears. The model is held unpacked then")
      ->excludes(sensitivity);
  AddWriting(app, &o->request.force, &o->request.threads, &o->json);
  app->footer(
      "Examples:\n"
      "  sotto pack meta-llama/Llama-3.2-1B --bits 4.3 -o llama-4.3\n"
      "  sotto pack models/demo-asr --size 3MB -o demo-asr-3mb\n"
      "  sotto pack models/demo-lm --lossless -o demo-lm-lossless\n"
      "  sotto pack models/demo-lm --bits 3.5 --calibration book.txt -o demo-lm-3.5\n"
      "What is interrupted stays in OUT.partial; the same command goes on there.\n"
      "Exit: 0 done, 2 usage, 4 bad model, 130 interrupted. docs/format.md draws the file.");
  commands->push_back({app, [o] { return Run(*o); }});

  auto model = std::make_shared<std::string>(), plot = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  CLI::App* inspect =
      root->add_subcommand("inspect", "What a model's files hold: shape, bits, entropy, error of each tensor");
  inspect->add_option("MODEL", *model, "A directory of .safetensors files")->required();
  inspect->add_option("--plot", *plot, "FILE.svg or FILE.png: a picture of bits, entropy and error by layer");
  inspect->add_flag("--json", *json, "One JSON document on standard output");
  inspect->footer(
      "Examples:\n"
      "  sotto inspect llama-4.3\n"
      "  sotto inspect llama-4.3 --plot llama-4.3.svg");
  commands->push_back({inspect, [=] {
                         const Result<int> done = RunInspect(*model, *plot, *json);
                         return done.ok() ? *done : Report(done.error(), *json);
                       }});
}

}  // namespace sotto::cli
