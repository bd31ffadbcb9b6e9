// sotto convert: a model in another form.
#include "engine/convert/convert.h"

#include <fmt/format.h>

#include "cli/options.h"
#include "plan/machine.h"

namespace sotto::cli {
namespace {

struct Options {
  std::string model;
  ConvertRequest request;
  bool json = false;
};

int Run(const Options& o) {
  const Result<ModelDir> dir = FindModel(o.model, ModelUse::kRun);
  if (!dir.ok()) return Report(dir.error(), o.json);
  Bar bar(!o.json);
  const std::atomic<bool>& stop = StopFlag();
  const Result<Converted> done = Convert(*dir, o.request, [&](uint64_t read, uint64_t total) {
    bar.Show("converting", static_cast<double>(read), static_cast<double>(total));
    return !stop.load();
  });
  bar.Clear();
  if (!done.ok()) return Report(done.error(), o.json);
  for (const std::string& note : done->notes) fmt::print(stderr, "sotto: note: {}\n", note);
  if (o.json) {
    const Json document = {{"model", dir->name},
                           {"output", o.request.out},
                           {"weights", o.request.weights},
                           {"tensors", done->tensors},
                           {"tensor_bytes", done->tensor_bytes},
                           {"file_bytes", done->file_bytes},
                           {"bytes_by_type", done->by_type},
                           {"peak_bytes", PeakResident().n},
                           {"notes", done->notes}};
    fmt::print("{}\n", document.dump(-1, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  std::string types;
  for (const auto& [type, bytes] : done->by_type)
    types += fmt::format("{}{} {}", types.empty() ? "" : ", ", type, Human({bytes}));
  fmt::print("{}: {} in {} tensors ({})\n", o.request.out, Human({done->file_bytes}), done->tensors, types);
  return 0;
}

}  // namespace

void AddConvert(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  CLI::App* app = root->add_subcommand("convert", "A model as a GGUF file, or as a directory with int8 weights");
  app->add_option("MODEL", o->model, "A directory, a .gguf file, or owner/name in the Hugging Face cache")->required();
  app->add_option("-o,--output", o->request.out, "FILE.gguf; for int8 a directory")->required();
  app->add_option("--weights,--to", o->request.weights,
                  "f32, f16, bf16, a GGUF type (q8_0, q4_0, q5_1, q6_k ...), a mix of types as llama.cpp chooses them\n"
                  "(q4_k_m, q5_k_m, q3_k_l ...), or int8")
      ->required();
  AddWriting(app, &o->request.force, &o->request.threads, &o->json);
  app->footer(
      "Examples:\n"
      "  sotto convert meta-llama/Llama-3.2-1B --weights q4_k_m -o llama-3.2-1b.q4_k_m.gguf\n"
      "  sotto convert models/demo-asr --weights int8 -o demo-asr-int8\n"
      "GGUF: Llama, Mistral, Qwen2 and Qwen3. int8: every model that runs.");
  commands->push_back({app, [o] { return Run(*o); }});
}

}  // namespace sotto::cli
