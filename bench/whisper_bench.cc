// sotto_bench_whisper MODEL_DIR: how fast and how large Whisper is here, as JSON lines: encoder seconds of one window (mel given),
// milliseconds a greedy token, load seconds, peak memory. With --serve it is one contestant of bench/peers/run.py: a first line
// when loaded, then one round and one line of JSON for each line on stdin, so that rounds of several engines can be taken in
// turns.
#include <fmt/format.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>

#include "engine/decode.h"
#include "engine/engine.h"
#include "kv/store.h"
#include "plan/machine.h"

namespace sotto {
namespace {

struct Options {
  std::string model, weights = "int8", kv = "auto", mel;
  std::vector<int32_t> prompt{50258, 50259, 50359, 50363};  // <|startoftranscript|><|en|><|transcribe|><|notimestamps|>
  int threads = 2, rounds = 1, tokens = 100;
  bool serve = false, no_tokenizer = false, load_only = false;
};

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// A window of gliding tones and noise: what it says does not matter, but silence would be cheaper to some engine.
std::vector<float> Sound(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  uint32_t noise = 1;
  for (size_t i = 0; i < x.size(); ++i) {
    const double t = static_cast<double>(i) / 16000;
    noise = noise * 1664525u + 1013904223u;
    x[i] = static_cast<float>(0.2 * std::sin(1500 * t + 300 * std::sin(3 * t)) * std::sin(9 * t) +
                              0.02 * (static_cast<double>(noise >> 8) / (1 << 24) - 0.5));
  }
  return x;
}

// The mel that the other engines are given: float32 [n_mels, n_frames], no header.
Result<std::vector<float>> ReadMelFile(const std::string& path, size_t count) {
  std::vector<float> mel(count);
  std::ifstream in(path, std::ios::binary);
  in.read(reinterpret_cast<char*>(mel.data()), static_cast<std::streamsize>(count * sizeof(float)));
  if (!in || in.peek() != std::ifstream::traits_type::eof())
    return BadInput(fmt::format("{} is not {} floats: the mel of one window", path, count));
  return mel;
}

class Bench {
 public:
  Bench(const Options& o, std::unique_ptr<Engine> engine, std::vector<float> mel)
      : o_(o),
        engine_(std::move(engine)),
        mel_(std::move(mel)),
        sound_(Sound(engine_->planned().mel.n_samples)),
        decoder_(engine_->model(), engine_->ops(), none_, engine_->run(kGenerate), 1) {}

  Json Round() {
    Json j;
    const double start = Now();
    const View mel = engine_->ComputeMel(sound_);
    j["mel_s"] = Now() - start;
    for (int64_t t = 0; t < mel.rows && !mel_.empty(); ++t)
      for (int64_t c = 0; c < mel.cols; ++c) mel.F32(t)[c] = mel_[static_cast<size_t>(c * mel.rows + t)];

    const double encode = Now();
    engine_->model().Encode(engine_->ops(), engine_->run(kEncode), engine_->planned().mel.n_samples,
                            0);  // with the keys and values of cross-attention
    const double prompted = Now();
    j["encoder_s"] = prompted - encode;

    // The prompt, then `tokens` steps of one token each (the first id costs no step: the prompt's logits give it).
    ids_.clear();
    double first_token = 0;
    float logit = 0;
    decoder_.Greedy(
        0, o_.prompt, o_.tokens + 1, /*eot=*/-1,
        [&](std::span<const float> row) {
          logit = row[0];
          first_token = Now();
        },
        &ids_);
    j["ms_per_token"] = 1e3 * (Now() - first_token) / o_.tokens;
    j["prompt_s"] = first_token - prompted;
    j["logit0"] = logit;
    j["ids"] = std::vector<int32_t>(ids_.begin(), ids_.begin() + std::min<ptrdiff_t>(8, std::ssize(ids_)));
    j["peak_bytes"] = PeakResident().n;
    return j;
  }

 private:
  const Options& o_;
  std::unique_ptr<Engine> engine_;
  std::vector<float> mel_, sound_;
  const WhisperTokens none_{};
  WhisperDecoder decoder_;
  std::vector<int32_t> ids_;
};

Status Main(const Options& o) {
  if (o.tokens < 1 || o.rounds < 1 || o.prompt.empty())
    return Usage("--tokens, --rounds and --prompt must not be empty");
  PlanRequest request;
  request.weights = o.weights;
  request.kv = o.kv;
  request.threads = o.threads;
  request.tokenizer = !o.no_tokenizer;
  const double start = Now();
  const ModelDir dir = TRY(FindModel(o.model, ModelUse::kRun));
  Planned planned = TRY(PlanModel(dir, request));
  const double planned_at = Now();
  std::unique_ptr<Engine> engine = TRY(Engine::Open(std::move(planned), [](uint64_t, uint64_t) { return true; }));
  const double loaded = Now();
  const ModelInfo& info = engine->model().info();
  Json common{{"engine", "sotto"},
              {"version", SOTTO_VERSION},
              {"weights", std::string(NameOf(engine->layout().choice.weights))},
              {"kv", std::string(engine->layout().choice.kv->name)},
              {"isa", std::string(NameOf(engine->planned().isa))},
              {"threads", engine->planned().threads},
              {"load_s", loaded - start},
              {"plan_s", planned_at - start},
              {"planned_bytes", engine->layout().plan.total.n}};
  if (o.load_only) {
    common["peak_bytes"] = PeakResident().n;
    fmt::print("{}\n", common.dump());
    return {};
  }
  if (static_cast<int64_t>(o.prompt.size()) + o.tokens > info.context)
    return Usage(fmt::format("--tokens {} is too many for {} positions", o.tokens, info.context));
  for (const int32_t id : o.prompt)
    if (id < 0 || id >= info.vocab_size)
      return Usage(fmt::format("--prompt: {} is not a token id below {}", id, info.vocab_size));
  std::vector<float> mel;
  if (!o.mel.empty()) mel = TRY(ReadMelFile(o.mel, static_cast<size_t>(info.n_mels * info.n_frames)));
  Bench bench(o, std::move(engine), std::move(mel));
  if (o.serve) {
    fmt::print("{}\n", common.dump());
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
      fmt::print("{}\n", bench.Round().dump());
      std::fflush(stdout);
    }
    return {};
  }
  for (int i = 0; i < o.rounds; ++i) {
    Json line = common;
    line.update(bench.Round());
    fmt::print("{}\n", line.dump());
  }
  return {};
}

}  // namespace
}  // namespace sotto

int main(int argc, char** argv) {
  mallopt(M_ARENA_MAX, 1);  // as the sotto command has it
  mallopt(M_TRIM_THRESHOLD, 256 << 10);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  sotto::Options o;
  CLI::App app{"Speed and memory of Whisper in sotto, as JSON lines"};
  app.add_option("MODEL", o.model, "A model directory")->required();
  app.add_option("--weights", o.weights, "fp32, fp16, bf16 or int8");
  app.add_option("--kv", o.kv, "fp32, fp16, bf16 or auto");
  app.add_option("--threads", o.threads);
  app.add_option("--rounds", o.rounds, "Measure so many times, one line each");
  app.add_option("--tokens", o.tokens, "Greedy tokens after the prompt; the end of text is ignored");
  app.add_option("--prompt", o.prompt, "Token ids, with commas")->delimiter(',');
  app.add_option("--mel", o.mel, "Raw float32 [n_mels, n_frames] to encode instead of the built-in sound's");
  app.add_flag("--serve", o.serve, "One line when loaded, then one round for each line on stdin");
  app.add_flag("--no-tokenizer", o.no_tokenizer, "Do not read the tokenizer");
  app.add_flag("--load-only", o.load_only, "Load, print, end");
  CLI11_PARSE(app, argc, argv);
  const sotto::Status done = sotto::Main(o);
  if (done.ok()) return 0;
  fmt::print(stderr, "{}\n", done.error().message);
  return static_cast<int>(done.error().code);
}
