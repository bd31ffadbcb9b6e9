// sotto logits: the network's raw numbers, for anyone who compares engines, and for our own goldens.
#include <fmt/format.h>

#include "base/npy.h"
#include "cli/options.h"
#include "engine/audio_prompt.h"
#include "engine/decode.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "ops/row.h"

namespace sotto::cli {
namespace {

struct Options {
  SharedOptions shared;
  std::string model, audio, out, stage;
  std::vector<int32_t> ids;
  int64_t greedy = 0;
  bool ignore_eos = false;
};

Status WriteStage(const std::string& path, const View& x, bool transposed) {
  if (!transposed) {
    NpyWriter npy = TRY(NpyWriter::Create(path, x.rows, x.cols));
    for (int64_t r = 0; r < x.rows; ++r) TRY(npy.Append({x.F32(r), static_cast<size_t>(x.cols)}));
    return npy.Commit();
  }
  NpyWriter npy = TRY(NpyWriter::Create(path, x.cols, x.rows));
  std::vector<float> row(static_cast<size_t>(x.rows));
  for (int64_t c = 0; c < x.cols; ++c) {
    for (int64_t r = 0; r < x.rows; ++r) row[static_cast<size_t>(r)] = x.F32(r)[c];
    TRY(npy.Append(row));
  }
  return npy.Commit();
}

// What the decoder says to o.ids: a row of logits for each, and what it goes on with.
using Reader = FunctionRef<Status(FunctionRef<void(std::span<const float>)> each, std::vector<int32_t>* continuation)>;
Status WriteLogits(const Options& o, int64_t vocab_size, Reader read) {
  std::optional<NpyWriter> npy;
  if (!o.out.empty()) npy.emplace(TRY(NpyWriter::Create(o.out, static_cast<int64_t>(o.ids.size()), vocab_size)));
  Status written;
  std::vector<int32_t> continuation;
  TRY(read(
      [&](std::span<const float> row) {
        if (npy && written.ok()) written = npy->Append(row);
      },
      &continuation));
  TRY(std::move(written));
  if (npy) TRY(npy->Commit());
  fmt::print("{}\n", Json{{"ids", continuation}}.dump());
  return {};
}

bool Ends(const Options& o, std::span<const int32_t> end_tokens, int32_t id) {
  return !o.ignore_eos && std::find(end_tokens.begin(), end_tokens.end(), id) != end_tokens.end();
}

// Every window's vectors (or states), one below the other.
Status WriteStages(const Options& o, Engine& engine) {
  std::optional<NpyWriter> npy;
  int64_t rows = 0, cols = 0;
  for (const bool counting : {true, false}) {  // a .npy file begins with its shape
    AudioWindows windows = TRY(AudioWindows::Open(engine, o.audio));
    if (!counting) npy.emplace(TRY(NpyWriter::Create(o.out, rows, cols)));
    for (;;) {
      const MelWindow window = TRY(windows.Next());
      if (window.samples.empty()) break;
      const View vectors = TRY(engine.Hear(window, 0));
      const View x = o.stage == "encoder" ? engine.model().States(engine.run(kEncode)) : vectors;
      rows += counting ? x.rows : 0;
      cols = x.cols;
      for (int64_t r = 0; npy && r < x.rows; ++r) TRY(npy->Append({x.F32(r), static_cast<size_t>(x.cols)}));
    }
  }
  return npy->Commit();
}

Status DecoderLogits(const Options& o, Engine& engine) {
  const bool hears = engine.model().info().type == "audio-llm";
  if (!hears && (!o.audio.empty() || !o.stage.empty()))
    return Usage("--audio and --stage have no effect here: this model reads text only");
  if (!o.stage.empty()) {
    if (o.audio.empty()) return Usage("--audio is missing: what --stage shows is made from it");
    return WriteStages(o, engine);
  }
  const std::vector<int32_t> end_tokens = TRY(EndTokens(engine.planned()));
  const int32_t placeholder = AudioPlaceholder(engine.planned().config).value_or(-1);
  const std::vector<std::string> audios(o.audio.empty() ? 0 : 1, o.audio);
  TextSession session(engine);
  return WriteLogits(o, engine.model().info().vocab_size, [&](auto each, std::vector<int32_t>* ids) -> Status {
    std::vector<std::string> warnings;
    TRY(ReadPrompt(session, engine, o.ids, placeholder, audios, StopFlag(), &warnings, each));
    for (const std::string& w : warnings) fmt::print(stderr, "sotto: warning: {}\n", w);
    while (static_cast<int64_t>(ids->size()) < o.greedy) {
      const std::span<float> logits = session.logits();
      ids->push_back(static_cast<int32_t>(ArgMax(logits.data(), static_cast<int64_t>(logits.size()))));
      if (Ends(o, end_tokens, ids->back()) || session.room() == 0) break;
      TRY(session.Read({&ids->back(), 1}, StopFlag()));
    }
    return {};
  });
}

Status Logits(const Options& o) {
  const bool stage = !o.stage.empty();
  if (stage && (!o.ids.empty() || o.greedy != 0))
    return Usage("--stage takes no --ids and no --greedy; it ends before the decoder");
  if (!stage && o.ids.empty())
    return Usage("--ids is missing: the decoder's token ids, with commas, e.g. --ids 50258,50259,50359");
  if (o.out.empty() && (stage || o.greedy == 0)) return Usage("-o FILE.npy is missing: where the numbers go");
  TRY(OnlyPlanned(o.shared));
  PlanRequest request = TRY(ToRequest(o.shared));
  request.tokenizer = false;
  request.batch = 1;
  const ModelDir dir = TRY(FindModelOf(o.model, o.shared, ModelUse::kRun));
  Planned planned = TRY(PlanModel(dir, request));
  std::unique_ptr<Engine> engine =
      TRY(Engine::Open(std::move(planned), [](uint64_t, uint64_t) { return !StopFlag().load(); }));
  const ModelInfo& info = engine->model().info();
  for (const int32_t id : o.ids)
    if (id < 0 || id >= info.vocab_size)
      return Usage(fmt::format("--ids: {} is not a token id below {}", id, info.vocab_size));
  const auto length = static_cast<int64_t>(o.ids.size());
  if (length > info.context || o.greedy < 0 || o.greedy > info.context - length + 1)
    return Usage(fmt::format("{} ids and {} greedy ones do not fit in {} positions", length, o.greedy, info.context));

  if (info.type != "encoder-decoder" && o.stage != "mel") return DecoderLogits(o, *engine);
  if (o.audio.empty()) return Usage("--audio is missing: this model's decoder listens to an audio window");
  AudioWindows windows = TRY(AudioWindows::Open(*engine, o.audio));
  const MelWindow window = TRY(windows.Next());  // the rest is not heard
  if (o.stage == "projector") return Usage("--stage projector has no effect here: an encoder-decoder has none");
  if (o.stage == "mel") return WriteStage(o.out, engine->ComputeMel(window), /*transposed=*/true);
  const View states = TRY(engine->Hear(window, 0));
  if (o.stage == "encoder") return WriteStage(o.out, states, /*transposed=*/false);

  const WhisperTokens none{};
  WhisperDecoder decoder(engine->model(), engine->ops(), none, engine->run(kGenerate), 1);
  const std::vector<int32_t> end_tokens = TRY(EndTokens(engine->planned()));
  const int32_t eot = o.ignore_eos || end_tokens.empty() ? -1 : end_tokens[0];
  return WriteLogits(o, info.vocab_size, [&](auto each, std::vector<int32_t>* ids) -> Status {
    decoder.Greedy(0, o.ids, o.greedy, eot, each, ids);
    return {};
  });
}

}  // namespace

void AddLogits(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  o->shared.kv = "fp32";
  CLI::App* app =
      root->add_subcommand("logits", "Decoder logits, log-mel or encoder states as .npy, to compare engines");
  app->add_option("MODEL", o->model, "A directory, or owner/name in the Hugging Face cache")->required();
  AddShared(app, &o->shared);
  app->add_option("--audio,-a", o->audio, "Audio file; its first window is heard (not for models of text alone)");
  app->add_option("--ids", o->ids, "Decoder token ids, with commas")->delimiter(',');
  app->add_option("--greedy", o->greedy, "Continue by argmax for so many ids; printed as {\"ids\": [...]}");
  app->add_flag("--ignore-eos", o->ignore_eos, "Do not stop at the end of text");
  app->add_option(
         "--stage", o->stage,
         "Instead of logits: mel [n_mels, frames] of the first window, encoder [positions, d_model], or projector\n"
         "[vectors, d_model]")
      ->check(CLI::IsMember({"mel", "encoder", "projector"}));
  app->add_option("-o,--output", o->out, "FILE.npy: float32 [positions, vocabulary]");
  app->footer(
      "Examples:\n"
      "  sotto logits models/demo-asr --audio talk.wav --ids 1,2,3 --greedy 20 -o logits.npy\n"
      "  sotto logits meta-llama/Llama-3.2-1B --ids 1,2,3 --greedy 20\n"
      "Weights are as stored and the cache is fp32 unless told otherwise.");
  commands->push_back({app, [o] {
                         const Status done = Logits(*o);
                         return done.ok() ? 0 : Report(done.error(), o->shared.json);
                       }});
}

}  // namespace sotto::cli
