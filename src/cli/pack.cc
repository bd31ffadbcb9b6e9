// sotto pack: a model in any number of bits; sotto inspect: what its files hold, tensor by tensor.
#include "engine/pack/pack.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/options.h"
#include "engine/pack/inspect.h"
#include "plan/machine.h"

namespace sotto::cli {
namespace {

struct Options {
  std::string model, size, memory;
  bool lossless_int8 = false, lossless = false, json = false;
  PackRequest request;
};

double Ratio(uint64_t a, uint64_t b) { return b == 0 ? 0 : static_cast<double>(a) / static_cast<double>(b); }

Json TensorJson(const PackedTensor& t) {
  const double bits = 8 * Ratio(t.bytes, t.elements);
  const bool packed = t.entropy > 0;
  return {{"name", t.name},
          {"shape", t.shape},
          {"scheme", t.scheme},
          {"bytes", t.bytes},
          {"bits_per_weight", bits},
          {"entropy_bits", packed ? Json(t.entropy) : Json()},
          {"error_db", packed && t.error_db > 0 ? Json(t.error_db) : Json()},
          {"ratio_over_int8", Ratio(t.elements, t.bytes)}};
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
  const double over_int8 = Ratio(done->packed_elements, done->packed_bytes);
  fmt::print("{}: {}, {:.3f} bits a weight in {} matrices, {:.2f}x below fp16, {:.2f}x below int8{}\n", r.out,
             Human({done->file_bytes}), done->bits(),
             std::count_if(done->tensors.begin(), done->tensors.end(), [](const auto& t) { return t.entropy > 0; }),
             2 * over_int8, over_int8, over_int8 < 1.005 && r.mode == PackMode::kInt8 ? ": no gain" : "");
  return 0;
}

int RunInspect(const std::string& model, bool json) {
  const Result<Packed> found = Inspect(model);
  if (!found.ok()) return Report(found.error(), json);
  if (json) {
    fmt::print("{}\n", PackedJson(*found).dump(-1, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  fmt::print("{:<52} {:>16} {:>6} {:>12} {:>7} {:>7} {:>8}\n", "tensor", "shape", "scheme", "bytes", "bits", "entropy",
             "error dB");
  for (const PackedTensor& t : found->tensors) {
    const std::string shape = fmt::format("{}", fmt::join(t.shape, "x"));
    const std::string entropy = t.entropy > 0 ? fmt::format("{:.3f}", t.entropy) : "";
    const std::string error = t.error_db > 0 ? fmt::format("{:.1f}", t.error_db) : t.entropy > 0 ? "none" : "";
    fmt::print("{:<52} {:>16} {:>6} {:>12} {:>7.3f} {:>7} {:>8}\n", t.name, shape, t.scheme, t.bytes,
               8 * Ratio(t.bytes, t.elements), entropy, error);
  }
  if (found->packed_elements > 0)
    fmt::print("packed: {:.3f} bits a weight, {:.2f}x below fp16, {:.2f}x below int8\n", found->bits(),
               2 * Ratio(found->packed_elements, found->packed_bytes),
               Ratio(found->packed_elements, found->packed_bytes));
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
  AddWriting(app, &o->request.force, &o->request.threads, &o->json);
  app->footer(
      "Examples:\n"
      "  sotto pack meta-llama/Llama-3.2-1B --bits 4.3 -o llama-4.3\n"
      "  sotto pack models/demo-asr --size 3MB -o demo-asr-3mb\n"
      "  sotto pack models/demo-lm --lossless -o demo-lm-lossless\n"
      "Exit: 0 done, 2 usage, 4 bad model, 130 interrupted. docs/format.md draws the file.");
  commands->push_back({app, [o] { return Run(*o); }});

  auto model = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  CLI::App* inspect =
      root->add_subcommand("inspect", "What a model's files hold: shape, bits, entropy, error of each tensor");
  inspect->add_option("MODEL", *model, "A directory of .safetensors files")->required();
  inspect->add_flag("--json", *json, "One JSON document on standard output");
  inspect->footer("Example:\n  sotto inspect llama-4.3");
  commands->push_back({inspect, [model, json] { return RunInspect(*model, *json); }});
}

}  // namespace sotto::cli
