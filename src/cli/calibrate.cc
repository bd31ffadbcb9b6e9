// sotto calibrate: what this machine does in a second, so that plans can say how fast they are.
#include "engine/calibrate.h"

#include <fmt/format.h>

#include <filesystem>

#include "cli/options.h"

namespace sotto::cli {
namespace {

struct Options {
  CalibrateOptions what;
  bool json = false;
};

std::string Table(const MachineSpeed& m) {
  std::string out = fmt::format("{}, {}, {} threads, {}\n\n", m.cpu, m.isa, m.threads, m.date);
  const auto row = [&](std::string_view name, double value, std::string_view unit) {
    out += fmt::format("{:<34}{:>10.2f} {}\n", name, value, unit);
  };
  row("memory, read", m.memory / 1e9, "GB/s");
  if (m.disk > 0)
    row("disk, read past the page cache", m.disk / 1e9, "GB/s");
  else
    out += "disk: has no reads past the page cache, not measured\n";
  row("keys and values, one row", m.attention / 1e9, "GB/s");
  row("attention, one row", m.attention_row / 1e9, "G products/s");
  row("attention, a prompt", m.attention_rows / 1e9, "G products/s");
  row("an operation, at least", m.call * 1e6, "us");
  out += fmt::format("\n{:<10}{:>22}{:>22}{:>22}\n", "weights", "G/s, one row", "from caches", "times rows, a prompt");
  for (const FormSpeed& f : m.forms)
    out += fmt::format("{:<10}{:>22.2f}{:>22.2f}{:>22.1f}\n", f.form, f.decode / 1e9, f.cached / 1e9, f.prefill / 1e9);
  return out;
}

Status Run(const Options& o) {
  const std::string path = MachineSpeedPath();
  CalibrateOptions what = o.what;
  what.temporary = path;
  std::error_code error;
  if (const auto folder = std::filesystem::path(path).parent_path(); !folder.empty())
    std::filesystem::create_directories(folder, error);
  Bar bar(!o.json);
  const MachineSpeed m = TRY(Calibrate(what, [&](int done, int total) {
    bar.Show("measuring", done, total);
    return !StopFlag().load();
  }));
  bar.Clear();
  TRY(SaveMachineSpeed(m, path));
  if (o.json)
    fmt::print("{}\n", MachineSpeedJson(m).dump(-1, ' ', false, Json::error_handler_t::replace));
  else
    fmt::print("{}\nkept in {}\n", Table(m), path);
  return {};
}

}  // namespace

void AddCalibrate(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  CLI::App* app = root->add_subcommand("calibrate", "Measure this machine, so that plans say how fast they are");
  app->add_option("--disk", o->what.disk,
                  "A file of the disk that models lie on, of at least 256 MiB; default: one is written, and removed");
  app->add_option("--threads,-t", o->what.threads, "Threads; default: the CPUs that this process may use")
      ->envname("SOTTO_THREADS");
  app->add_flag("--json", o->json, "One JSON document on standard output");
  app->footer(
      "It takes about ten seconds and 64 MiB for weights. What it finds is kept in $SOTTO_MACHINE, or in\n"
      "~/.cache/sotto/machine.json, and holds for this CPU, these kernels (SOTTO_ISA) and this number of threads.\n"
      "Examples:\n"
      "  sotto calibrate\n"
      "  sotto calibrate --disk llama/model.safetensors --threads 4\n"
      "Exit: 0 done, 2 usage, 3 the file cannot be read, 130 interrupted.");
  commands->push_back({app, [o] {
                         StopFlag();
                         const Status done = Run(*o);
                         return done.ok() ? 0 : Report(done.error(), o->json);
                       }});
}

}  // namespace sotto::cli
