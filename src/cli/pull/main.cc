// sotto-pull: what `sotto pull` turns into (cli/pull.h says why it is a program of its own).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <string_view>

#include "base/json.h"
#include "cli/pull/client.h"

namespace {

using sotto::Error;
using sotto::Json;

// The contract of the command line: one sentence on stderr, or with --json one document on stdout; the exit code.
int Report(const Error& error, bool json) {
  if (json)
    fmt::print("{}\n", Json{{"error", {{"code", sotto::CodeName(error.code)}, {"message", error.message}}}}.dump(
                           2, ' ', false, Json::error_handler_t::replace));
  else
    fmt::print(stderr, "sotto pull: {}\n", error.message);
  return static_cast<int>(error.code);
}

void Print(const sotto::pull::PullReport& report, bool json) {
  if (!json) {
    fmt::print("{}\n", report.path);
    return;
  }
  Json files = Json::array();
  for (const auto& f : report.files) files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"cached", f.was_cached}});
  const Json document = {{"schema", "sotto.pull/1"}, {"model", report.repo}, {"revision", report.revision},
                         {"commit", report.commit},  {"path", report.path},  {"files", std::move(files)}};
  fmt::print("{}\n", document.dump(2, ' ', false, Json::error_handler_t::replace));
}

int Main(int argc, char** argv) {
  bool json = false;
  for (int i = 1; i < argc; ++i) json |= std::string_view(argv[i]) == "--json";
  auto from_environment = sotto::pull::OptionsFromEnvironment();
  if (!from_environment.ok()) return Report(from_environment.error(), json);
  sotto::pull::PullOptions options = std::move(from_environment).value();

  CLI::App app{
      "Downloads a model from the Hugging Face Hub into the Hugging Face cache, where sotto and transformers find it."};
  app.name("sotto pull");
  app.add_option("MODEL", options.model,
                 "owner/name, owner/name@revision, or a size of Whisper (tiny … large-v3-turbo)")
      ->required();
  app.add_option("--revision", options.revision, "branch, tag or commit (main)");
  app.add_option("--include", options.include,
                 "files to fetch, as a pattern with * and ?, instead of what a model needs; "
                 "may be given several times")
      ->allow_extra_args(false);
  app.add_flag("--offline", options.offline, "do not use the network [HF_HUB_OFFLINE]");
  app.add_flag("--quiet,-q", options.quiet, "no progress");
  app.add_flag("--json", json, "one JSON document on stdout");
  app.add_option("--attempts", options.hub.attempts, "in a row without a byte, before it gives up (5)")
      ->check(CLI::Range(1, 1000));
  app.add_option("--timeout", options.hub.timeout_seconds, "seconds without a byte (30)")->check(CLI::Range(1, 3600));
  app.add_option("--wait", options.hub.wait_seconds, "seconds before the second attempt, then doubled up to 30 (1)")
      ->check(CLI::Range(0.0, 30.0));
  app.footer(
      "HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and HTTPS_PROXY mean what they mean to "
      "huggingface_hub.\nExample: sotto pull openai/whisper-tiny && sotto transcribe openai/whisper-tiny speech.wav");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return Report(sotto::Usage(fmt::format("{}; see sotto pull --help", e.what())), json);
  }
  const auto report = sotto::pull::Pull(options);
  if (!report.ok()) return Report(report.error(), json);
  Print(report.value(), json);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a server that hangs up is an error of the write
  try {
    return Main(argc, argv);
  } catch (const std::exception& e) {  // libraries'
    return Report(sotto::Failed(fmt::format("unexpected: {}", e.what())), false);
  }
}
