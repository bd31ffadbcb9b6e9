// The option table that plan, transcribe and logits (later fit, run, serve) share, and how commands end.
#pragma once
#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "engine/generate.h"
#include "engine/planning.h"

namespace sotto::cli {

struct SharedOptions {
  std::string memory, weights = "auto", kv = "auto", resident = "all", device = "cpu", mmproj, plan;
  int64_t context = 0, batch = 0, beam = 1, tp = 1, encoder_seq_length = 0;
  double audio_seconds = 0;
  int threads = 0;
  bool json = false, direct = false, mapped = false;
};

// Adds them to a command, each with its SOTTO_ variable.
void AddShared(CLI::App* app, SharedOptions* options);

// kUsage for what cannot be read or has no effect here.
Result<PlanRequest> ToRequest(const SharedOptions& options);

// --plan, of a command whose MODEL may then be left out.
void AddPlanFile(CLI::App* app, SharedOptions* options);

// What a command runs: MODEL as the options say, or what --plan says.
struct Wanted {
  ModelDir dir;
  PlanRequest request;
};
Result<Wanted> WantedOf(const std::string& model, const SharedOptions& options);

// FindModel, with the audio half that --mmproj names.
Result<ModelDir> FindModelOf(const std::string& model, const SharedOptions& options, ModelUse use);

// kUsage for what can be planned but not run.
Status OnlyPlanned(const SharedOptions& options);

// --force, --threads and --json of a command that writes a model.
void AddWriting(CLI::App* app, bool* force, int* threads, bool* json);

// How tokens are chosen and where an answer ends.
void AddSampling(CLI::App* app, SamplerSettings* sampler, GenerateOptions* generate);

struct ModelOptions {
  SharedOptions shared;
  SamplerSettings sampler;
  std::string model, system;
  bool quiet = false;
};
// Loads a model that answers to text, behind a bar; one that `hears` if that is asked for.
Result<std::unique_ptr<Engine>> OpenModel(const ModelOptions& options, bool hears);

// Prints an error as the contract says (one sentence on stderr; with `json` the error document on stdout) and returns its exit code.
int Report(const Error& error, bool json);

// Registration of commands: each file adds its own, main runs the one that was asked for.
struct Command {
  CLI::App* app;
  std::function<int()> run;
};
using Commands = std::vector<Command>;
void AddPlan(CLI::App* root, Commands* commands);
void AddTranscribe(CLI::App* root, Commands* commands);
void AddRun(CLI::App* root, Commands* commands);
void AddChat(CLI::App* root, Commands* commands);
void AddEval(CLI::App* root, Commands* commands);
void AddLogits(CLI::App* root, Commands* commands);
void AddTokenize(CLI::App* root, Commands* commands);
void AddConvert(CLI::App* root, Commands* commands);
void AddPack(CLI::App* root, Commands* commands);
void AddFit(CLI::App* root, Commands* commands);
void AddCalibrate(CLI::App* root, Commands* commands);
void AddPull(CLI::App* root, Commands* commands);
void AddMemory(CLI::App* root, Commands* commands);
void AddWatch(CLI::App* root, Commands* commands);
void AddBench(CLI::App* root, Commands* commands);
void AddKv(CLI::App* root, Commands* commands);

// Set by SIGINT and SIGTERM; what signal it was.
const std::atomic<bool>& StopFlag();
int StopSignal();
void ClearStop();  // when a reply was stopped, and more are to come

// A bar on a terminal's stderr, nothing elsewhere: label, share, time left.
class Bar {
 public:
  explicit Bar(bool enabled);
  ~Bar();
  void Show(const std::string& label, double done, double total);
  void Clear();

 private:
  bool enabled_, shown_ = false;
  std::string label_;
  double started_ = 0, last_ = 0, first_done_ = 0;
};

}  // namespace sotto::cli
