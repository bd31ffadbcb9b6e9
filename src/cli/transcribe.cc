// sotto transcribe: audio to text inside a budget.
#include "engine/transcribe.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "cli/options.h"
#include "engine/report.h"

namespace sotto::cli {
namespace {

struct Options {
  SharedOptions shared;
  std::string model, format, out_dir, task = "transcribe";
  std::vector<std::string> audio;
  TranscribeOptions what;
  bool no_timestamps = false, resume = false, ledger = false, quiet = false;
};

// "talk.wav" twice from two folders must not become one file.
std::string StemOf(const std::string& path, const std::vector<std::string>& all) {
  const std::filesystem::path p(path == "-" ? "stdin" : path);
  const auto same = std::count_if(all.begin(), all.end(), [&](const std::string& other) {
    return std::filesystem::path(other).stem() == p.stem();
  });
  std::string stem = same > 1 ? p.string() : p.stem().string();
  std::replace(stem.begin(), stem.end(), '/', '_');
  return stem;
}

// Names what a resumed transcript must have been made from.
std::string SourceOf(const std::string& audio, const Options& o, const Planned& planned) {
  std::error_code ec;
  const auto size = std::filesystem::file_size(audio, ec);
  return fmt::format("{} {} bytes, {} {}, {} {} timestamps {} chunked {} prompt {}", audio, ec ? 0 : size,
                     planned.dir.path, NameOf(planned.layout.choice.weights), o.task, o.what.language,
                     o.what.timestamps, o.what.chunked, o.what.initial_prompt);
}

Result<std::unique_ptr<Engine>> Open(const Options& o) {
  TRY(OnlyPlanned(o.shared));
  auto [dir, request] = TRY(WantedOf(o.model, o.shared));
  // A batch is of files, or of one file's windows.
  request.useful_batch = o.what.chunked ? 8 : std::min<int64_t>(static_cast<int64_t>(o.audio.size()), 8);
  if (!o.what.chunked && request.batch > static_cast<int64_t>(o.audio.size()))
    return Usage(
        fmt::format("--batch {} has no effect on {} file(s); give more files, or --chunked to batch one file's windows",
                    request.batch, o.audio.size()));
  Planned planned = TRY(PlanModel(dir, request));
  if (const std::string& type = planned.layout.model->info().type; type != "encoder-decoder")
    return BadModel(fmt::format(
        "{} is of type {}, and transcribe needs an encoder-decoder such as Whisper; ask it with: sotto run {}",
        dir.name, type, o.model));
  Bar bar(!o.quiet);
  return Engine::Open(std::move(planned), [&](uint64_t done, uint64_t total) {
    bar.Show("loading", static_cast<double>(done), static_cast<double>(total));
    return !StopFlag().load();
  });
}

Result<int> Transcribe(const Options& o) {
  if (o.audio.empty()) return Usage("AUDIO is required");
  const std::vector<TextFormat> formats =
      TRY(ParseFormats(o.format.empty() ? (o.shared.json ? "json" : "txt") : o.format));
  const bool to_directory = !o.out_dir.empty();
  if (!to_directory && formats.size() > 1) return Usage("several --format need -o DIR to write the files to");
  if (!to_directory && o.resume) return Usage("--resume needs -o DIR, where the interrupted transcript lies");
  if (o.shared.json && !to_directory && formats[0] != TextFormat::kJson)
    return Usage("--json prints a JSON document; write other formats to files with -o DIR");
  if (std::count(o.audio.begin(), o.audio.end(), "-") > 1) return Usage("standard input can be read only once");
  if (to_directory) {
    std::error_code ec;
    std::filesystem::create_directories(o.out_dir, ec);
    if (ec)
      return Failed(fmt::format("cannot make the folder {}: {}; choose another with -o", o.out_dir, ec.message()));
  }
  std::unique_ptr<Engine> engine = TRY(Open(o));
  Transcriber transcriber = TRY(Transcriber::Make(*engine, o.what));

  std::vector<FileJob> jobs;
  for (const std::string& audio : o.audio)
    jobs.push_back({audio, [&, audio]() -> Result<Transcript> {
                      if (!to_directory) return Transcript::OnStdout(formats[0]);
                      return Transcript::InDirectory(o.out_dir, StemOf(audio, o.audio), formats,
                                                     SourceOf(audio, o, engine->planned()), o.resume);
                    }});
  const auto extra = [&](const FileResult& r) -> Json {
    Json j = {{"language", r.language}, {"file", r.path}, {"seconds", r.seconds}, {"warnings", r.warnings}};
    if (!r.status.ok()) j["error"] = ErrorJson(r.status.error());
    j["plan"] = PlanJson(engine->planned());
    j["ledger"] = LedgerJson(MakeLedger(*engine));
    return j;
  };
  Bar bar(!o.quiet && !(isatty(STDOUT_FILENO) != 0 && !to_directory));
  const std::vector<FileResult> results = transcriber.Transcribe(
      jobs, extra, [&](const Progress& p) { bar.Show(p.path, p.done, p.total); }, StopFlag());
  bar.Clear();

  int worst = 0;
  for (const FileResult& r : results) {
    for (const std::string& w : r.warnings) fmt::print(stderr, "sotto: warning: {}\n", w);
    if (r.status.ok()) continue;
    // One file's error on stdout would spoil the other files' documents.
    worst = std::max(worst, r.reported ? static_cast<int>(r.status.error().code)
                                       : Report(r.status.error(), o.shared.json && results.size() == 1));
    if (r.status.error().code == Code::kInterrupted) break;
  }
  if (o.shared.json && to_directory && !(results.size() == 1 && worst != 0)) {
    Json files = Json::array();
    for (const FileResult& r : results)
      files.push_back({{"file", r.path},
                       {"language", r.language},
                       {"seconds", r.seconds},
                       {"segments", r.segments},
                       {"error", r.status.ok() ? Json(nullptr) : ErrorJson(r.status.error())}});
    fmt::print(
        "{}\n",
        Json{{"files", files}, {"plan", PlanJson(engine->planned())}, {"ledger", LedgerJson(MakeLedger(*engine))}}
            .dump());
  }
  if (o.ledger) {
    std::fflush(stdout);
    fmt::print(stderr, "{}", LedgerTable(MakeLedger(*engine)));
  }
  return worst;
}

int Run(const Options& o) {
  StopFlag();  // installs the handlers
  Result<int> done = Transcribe(o);
  return done.ok() ? *done : Report(done.error(), o.shared.json);
}

}  // namespace

void AddTranscribe(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  CLI::App* app =
      root->add_subcommand("transcribe", "Speech to text inside a memory budget, in the same memory for any length");
  app->add_option("MODEL", o->model, "A directory, or owner/name in the Hugging Face cache");
  app->add_option("AUDIO", o->audio, "wav, flac, ogg, opus, mp3 files; - is standard input");
  AddPlanFile(app, &o->shared);
  AddShared(app, &o->shared);
  app->add_option("--format,-f", o->format, "txt, srt, vtt, tsv, json, several with commas, or all")
      ->envname("SOTTO_FORMAT");
  app->add_option("-o,--output-dir", o->out_dir, "Write NAME.txt … into this folder instead of standard output");
  app->add_option("--language,-l", o->what.language, "Language code such as en; default: detected")
      ->envname("SOTTO_LANGUAGE");
  app->add_option("--task", o->task, "transcribe, or translate (to English)")
      ->check(CLI::IsMember({"transcribe", "translate"}))
      ->capture_default_str();
  app->add_option("--prompt", o->what.initial_prompt, "Text that the model takes as spoken before: names, spellings");
  app->add_flag("--condition-on-previous", o->what.condition_on_previous,
                "Each window sees the text of the one before");
  app->add_flag("--no-timestamps", o->no_timestamps, "Text without times inside a window");
  app->add_flag("--chunked", o->what.chunked,
                "Cut one file at quiet places and decode its windows side by side (--batch)");
  app->add_option("--no-speech-threshold", o->what.no_speech_threshold,
                  "Probability above which an unsure window is silence")
      ->capture_default_str();
  app->add_flag("--resume", o->resume, "Go on with an interrupted transcript in -o DIR");
  app->add_flag("--ledger", o->ledger, "Print planned against actual memory on standard error");
  app->add_flag("--quiet,-q", o->quiet, "No progress bar");
  app->footer(
      "Examples:\n"
      "  sotto transcribe models/demo-asr talk.wav --memory 64MiB\n"
      "  sotto transcribe openai/whisper-base *.mp3 -o out --format srt,txt --memory 512MiB\n"
      "  ffmpeg -i film.mkv -f wav - | sotto transcribe openai/whisper-small - --memory 1GiB\n"
      "  sotto transcribe openai/whisper-base day.flac -o out --resume\n"
      "Exit: 0 done, 2 usage, 3 bad audio, 4 bad model, 5 does not fit, 130 interrupted.");
  commands->push_back({app, [o] {
                         if (!o->shared.plan.empty() && !o->model.empty())
                           o->audio.insert(o->audio.begin(), std::exchange(o->model, ""));
                         o->what.translate = o->task == "translate";
                         o->what.timestamps = !o->no_timestamps;
                         return Run(*o);
                       }});
}

}  // namespace sotto::cli
