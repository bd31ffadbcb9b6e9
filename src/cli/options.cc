#include "cli/options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "engine/fit/plan_file.h"
#include "engine/report.h"
#include "plan/machine.h"

namespace sotto::cli {

void AddShared(CLI::App* app, SharedOptions* o) {
  app->add_option("--memory", o->memory,
                  "Budget: 512MiB, 2GiB, 6GB, 80% (of what is free), or bytes. Default: what is free now")
      ->envname("SOTTO_MEMORY");
  app->add_option(
         "--weights", o->weights,
         "fp32, fp16, bf16, int8, a GGUF type (q8_0, q4_0, q4_k ...) or mix (q4_k_m ...), or auto: as stored, or "
         "the most precise that fits")
      ->envname("SOTTO_WEIGHTS")
      ->capture_default_str();
  app->add_option("--mmproj", o->mmproj, "The audio half of a .gguf model: its mmproj file");
  app->add_option("--kv", o->kv,
                  "Cache of keys and values: fp32, fp16, bf16, packed to q8, q4, q3 or q2, "
                  "smart[:budget=0.25,bits=2/3/4/8,sinks=4,recent=8,rule=smart], or auto")
      ->envname("SOTTO_KV")
      ->capture_default_str();
  app->add_option(
         "--resident", o->resident,
         "Layers that stay in memory: all, auto (as many as fit) or a number; the others are read from the disk in "
         "every pass")
      ->envname("SOTTO_RESIDENT")
      ->capture_default_str();
  app->add_flag("--direct", o->direct, "Read those layers past the page cache");
  app->add_flag("--mapped", o->mapped,
                "Use the matrices of a packed model where they lie in its file: nearly nothing to load, and pages that "
                "processes share; they count like all memory");
  app->add_option("--context", o->context, "Decoder positions; default: the model's maximum, at most 4096")
      ->envname("SOTTO_CONTEXT");
  app->add_option("--batch", o->batch, "Sequences decoded side by side; default: as many as are useful and fit")
      ->envname("SOTTO_BATCH");
  app->add_option("--beam", o->beam, "Beams of each sequence (planned only)")->capture_default_str();
  app->add_option("--tp", o->tp, "Tensor-parallel ranks; figures are per rank (planned only)")->capture_default_str();
  app->add_option("--audio-seconds", o->audio_seconds,
                  "Audio of each sequence, whose tokens an audio-language model's cache holds; default: one window");
  app->add_option("--encoder-seq-length", o->encoder_seq_length,
                  "Encoder positions that cross-attention reads; default: the published window (planned only)");
  app->add_option("--threads,-t", o->threads, "Threads; default: the CPUs that this process may use")
      ->envname("SOTTO_THREADS");
  app->add_option("--device", o->device, "cpu")->envname("SOTTO_DEVICE")->capture_default_str();
  app->add_flag("--json", o->json, "One JSON document on standard output");
}

Result<ModelDir> FindModelOf(const std::string& model, const SharedOptions& options, ModelUse use) {
  ModelDir dir = TRY(FindModel(model, use));
  dir.mmproj_path = options.mmproj;
  return dir;
}

void AddPlanFile(CLI::App* app, SharedOptions* o) {
  app->add_option("--plan", o->plan,
                  "Run exactly what `sotto fit -o` wrote into this file, or refuse; MODEL is left out then");
}

Result<Wanted> WantedOf(const std::string& model, const SharedOptions& o) {
  if (o.plan.empty() && model.empty()) return Usage("name a MODEL, or a --plan");
  if (o.plan.empty()) return Wanted{TRY(FindModelOf(model, o, ModelUse::kRun)), TRY(ToRequest(o))};
  const PlanFile file = TRY(ReadPlanFile(o.plan));
  const PlanRequest& r = file.request;
  // What says the same is fine: it may stand in the environment.
  for (const auto& [differs, option] : {std::pair{!model.empty(), "MODEL"},
                                        {!o.memory.empty(), "--memory"},
                                        {!o.mmproj.empty(), "--mmproj"},
                                        {o.direct, "--direct"},
                                        {o.mapped && !r.mapped, "--mapped"},
                                        {o.weights != "auto" && o.weights != r.weights, "--weights"},
                                        {o.kv != "auto" && o.kv != r.kv, "--kv"},
                                        {o.resident != "all" && o.resident != r.resident, "--resident"},
                                        {o.context != 0 && o.context != r.context, "--context"},
                                        {o.batch != 0 && o.batch != r.batch, "--batch"},
                                        {o.threads != 0 && o.threads != r.threads, "--threads"}})
    if (differs) return Usage(fmt::format("{} is what {} says already; leave one of the two out", option, o.plan));
  return Wanted{file.dir, r};
}

Status OnlyPlanned(const SharedOptions& o) {
  if (o.beam != 1) return Usage(fmt::format("--beam {}: this version decodes greedily; leave it at 1", o.beam));
  if (o.tp != 1) return Usage(fmt::format("--tp {}: this version runs on one rank; leave it at 1", o.tp));
  if (o.encoder_seq_length != 0)
    return Usage("--encoder-seq-length: this version hears whole windows; `sotto plan` takes it");
  if (o.audio_seconds != 0) return Usage("--audio-seconds has no effect here: the audio itself is given");
  return {};
}

void AddWriting(CLI::App* app, bool* force, int* threads, bool* json) {
  app->add_flag("--force", *force, "Replace the output if it is there");
  app->add_option("--threads,-t", *threads, "Threads; default: the CPUs that this process may use")
      ->envname("SOTTO_THREADS")
      ->check(CLI::Range(0, 256));
  app->add_flag("--json", *json, "One JSON document on standard output");
}

Result<PlanRequest> ToRequest(const SharedOptions& o) {
  PlanRequest r;
  if (!o.memory.empty()) r.budget = TRY(ParseSize(o.memory, AvailableMemory()));
  if (o.device != "cpu")
    return Failed(fmt::format("--device {}: this build has no such device; use --device cpu", o.device.substr(0, 40)));
  r.weights = o.weights;
  r.kv = o.kv;
  r.resident = o.resident;
  r.direct = o.direct;
  r.mapped = o.mapped;
  r.context = o.context;
  r.beam = o.beam;
  r.tp = o.tp;
  r.audio_seconds = o.audio_seconds;
  r.encoder_positions = o.encoder_seq_length;
  r.batch = o.batch;
  r.threads = o.threads;
  return r;
}

int Report(const Error& error, bool json) {
  if (json)
    fmt::print("{}\n", Json{{"error", ErrorJson(error)}}.dump(-1, ' ', false, Json::error_handler_t::replace));
  else
    fmt::print(stderr, "sotto: {}\n", error.message);
  return error.code == Code::kInterrupted && StopSignal() != 0 ? 128 + StopSignal() : static_cast<int>(error.code);
}

namespace {
std::atomic<bool> g_stop{false};
volatile std::sig_atomic_t g_signal = 0;

void OnSignal(int signal) {
  if (g_stop.load()) _exit(128 + signal);  // asked twice: leave at once
  g_signal = signal;
  g_stop.store(true);
}

// Of a file that is mapped; what is no longer there can't be waited for.
void OnLostFile(int) {
  constexpr std::string_view kLost =
      "sotto: the model's file, which is used where it lies (--mapped), became shorter or can no longer be read; fetch "
      "it again, and replace such a file as a whole\n";
  const ssize_t ignored = ::write(STDERR_FILENO, kLost.data(), kLost.size());
  (void)ignored;
  _exit(static_cast<int>(Code::kBadModel));
}

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
}  // namespace

const std::atomic<bool>& StopFlag() {
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_handler = OnSignal;  // no SA_RESTART: a read from a pipe ends, too
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGBUS, OnLostFile);
    return true;
  }();
  (void)installed;
  return g_stop;
}

int StopSignal() { return g_signal; }
void ClearStop() { g_stop.store(false); }

Bar::Bar(bool enabled) : enabled_(enabled && isatty(STDERR_FILENO) != 0) {}

Bar::~Bar() { Clear(); }

void Bar::Show(const std::string& label, double done, double total) {
  if (!enabled_) return;
  const double now = Now();
  if (label != label_) {
    label_ = label;
    started_ = now;
    first_done_ = done;
  } else if (now - last_ < 0.1 && done < total) {
    return;
  }
  last_ = now;
  std::string line = label.size() > 40 ? "..." + label.substr(label.size() - 37) : label;
  if (total > 0) {
    constexpr int kWidth = 24;
    const double share = std::min(done / total, 1.0);
    const int full = static_cast<int>(share * kWidth);
    line += " [" + std::string(static_cast<size_t>(full), '#') + std::string(static_cast<size_t>(kWidth - full), '.') +
            "] " + fmt::format("{:3.0f} %", share * 100);
    const double rate = (done - first_done_) / std::max(now - started_, 1e-3);
    if (rate > 0 && now - started_ > 0.5) {
      const auto left = static_cast<int64_t>((total - done) / rate);
      line += fmt::format(", {}:{:02}:{:02} left", left / 3600, left / 60 % 60, left % 60);
    }
  } else {
    line += fmt::format(" {:.0f} s", done);
  }
  fmt::print(stderr, "\r\033[K{}", line);
  std::fflush(stderr);
  shown_ = true;
}

void Bar::Clear() {
  if (shown_) fmt::print(stderr, "\r\033[K");
  shown_ = false;
}

}  // namespace sotto::cli
