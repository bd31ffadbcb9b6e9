// The sotto command: argument parsing and printing, nothing else.
#include <fmt/format.h>
#include <malloc.h>

#include "cli/options.h"

namespace {

// One heap, and no hoard of freed pages: what the process takes beside its arena must stay below a fixed bound.
void KeepTheHeapSmall() {
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TRIM_THRESHOLD, 256 << 10);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
}

bool WantsJson(int argc, char** argv) {
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]) == "--json") return true;
  return false;
}

int Main(int argc, char** argv) {
  CLI::App app{"sotto plans, loads and runs audio-language models inside a memory budget, and never goes over."};
  app.name("sotto");
  app.set_version_flag("--version,-V", std::string("sotto ") + SOTTO_VERSION);
  app.require_subcommand(1);
  app.footer("sotto COMMAND --help shows a command's options and examples.");
  sotto::cli::Commands commands;
  sotto::cli::AddPlan(&app, &commands);
  sotto::cli::AddTranscribe(&app, &commands);
  sotto::cli::AddRun(&app, &commands);
  sotto::cli::AddChat(&app, &commands);
  sotto::cli::AddEval(&app, &commands);
  sotto::cli::AddLogits(&app, &commands);
  sotto::cli::AddTokenize(&app, &commands);
  sotto::cli::AddConvert(&app, &commands);
  sotto::cli::AddPack(&app, &commands);
  sotto::cli::AddFit(&app, &commands);
  sotto::cli::AddCalibrate(&app, &commands);
  sotto::cli::AddPull(&app, &commands);
  sotto::cli::AddMemory(&app, &commands);
  sotto::cli::AddWatch(&app, &commands);
  sotto::cli::AddBench(&app, &commands);
  sotto::cli::AddKv(&app, &commands);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help, --version
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return sotto::cli::Report(sotto::Usage(fmt::format("{}; see sotto --help", e.what())), WantsJson(argc, argv));
  }
  for (const auto& c : commands)
    if (c.app->parsed()) return c.run();
  return static_cast<int>(sotto::Code::kUsage);
}

}  // namespace

int main(int argc, char** argv) {
  KeepTheHeapSmall();
  try {
    return Main(argc, argv);
  } catch (const std::exception& e) {  // libraries'
    return sotto::cli::Report(sotto::Failed(fmt::format("unexpected: {}", e.what())), WantsJson(argc, argv));
  }
}
