#include "engine/transcribe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "audio/stream.h"
#include "audio/window.h"
#include "base/json.h"

namespace sotto {
namespace {

constexpr double kFrameSeconds = 0.01;
constexpr double kCutSeconds = 5;  // --chunked looks for a quiet place in the last five seconds of a window

}  // namespace

// One sequence of the batch: the file that it reads and the window that it decodes.
struct Transcriber::Lane {
  int32_t sequence = 0;
  DecodeLane decode;
  FileResult* result = nullptr;
  const FileJob* job = nullptr;
  std::optional<AudioStream> stream;
  std::optional<SlidingWindow> window;
  std::optional<Transcript> transcript;
  int64_t seek = 0;               // samples from the file's start: a multiple of the hop
  int32_t language = -1;          // token
  std::vector<int32_t> previous;  // tokens of the last window, for condition_on_previous
  bool pending = false;           // a window has been heard and waits for its tokens
  int64_t frames = 0;             // of the pending window
  int64_t window_start = 0;       // of the pending window, samples

  bool active() const { return result != nullptr; }
};

Transcriber::Transcriber(Engine& engine, const TranscribeOptions& options) : engine_(&engine), options_(options) {
  decoder_ = std::make_unique<WhisperDecoder>(engine.model(), engine.ops(), engine.tokens(), engine.run(kGenerate),
                                              engine.layout().choice.batch);
}

Result<Transcriber> Transcriber::Make(Engine& engine, const TranscribeOptions& options) {
  const WhisperTokens& tokens = engine.tokens();
  if (!options.language.empty() && !tokens.multilingual && options.language != "en")
    return Usage(fmt::format("--language {}: this model knows English only", options.language.substr(0, 20)));
  if (!options.language.empty() && tokens.multilingual && !tokens.LanguageId(options.language)) {
    std::string known;
    for (const auto& l : tokens.languages) known += (known.empty() ? "" : " ") + l.code;
    return Usage(fmt::format("--language {} is not one that this model knows; it knows: {}",
                             options.language.substr(0, 20), known));
  }
  if (options.translate && (!tokens.multilingual || !tokens.translate))
    return Usage("--task translate needs a multilingual model, and this one is English only");
  Transcriber t(engine, options);
  if (!options.initial_prompt.empty()) {
    if (!tokens.prev) return Usage("--prompt needs a model with the token <|startofprev|>");
    const size_t first = options.initial_prompt.find_first_not_of(" \n\t");
    const size_t last = options.initial_prompt.find_last_not_of(" \n\t");
    if (first == std::string::npos) return t;
    TRY(engine.tokenizer().Encode(" " + options.initial_prompt.substr(first, last - first + 1), {},
                                  &t.initial_prompt_));
  }
  return t;
}

void Transcriber::BuildPrompt(Lane* lane) {
  const WhisperTokens& tokens = engine_->tokens();
  DecodeLane& d = lane->decode;
  d.prompt.clear();
  // Earlier text fills at most half of the context, its end is kept (published: max_target_positions / 2 - 1).
  const auto room = static_cast<size_t>(std::max<int64_t>(engine_->model().info().context / 2 - 1, 0));
  std::vector<int32_t> before = initial_prompt_;
  if (options_.condition_on_previous) before.insert(before.end(), lane->previous.begin(), lane->previous.end());
  if (!before.empty() && tokens.prev) {
    const size_t count = std::min(before.size(), room - std::min<size_t>(room, 1));
    d.prompt.push_back(*tokens.prev);
    d.prompt.insert(d.prompt.end(), before.end() - static_cast<ptrdiff_t>(count), before.end());
  }
  d.sot_index = d.prompt.size();
  d.prompt.push_back(tokens.sot);
  if (tokens.multilingual) {
    if (lane->language >= 0) d.prompt.push_back(lane->language);
    const std::optional<int32_t> task = options_.translate ? tokens.translate : tokens.transcribe;
    if (task) d.prompt.push_back(*task);
  }
  if (!options_.timestamps) d.prompt.push_back(tokens.no_timestamps);
  d.timestamps = options_.timestamps;
}

Status Transcriber::Begin(Lane* lane, const FileJob& job, FileResult* result) {
  const EngineSlots& slots = engine_->layout().slots;
  const Run run = engine_->run(kRunning);
  const auto i = static_cast<size_t>(lane->sequence);
  lane->job = &job;
  lane->result = result;
  AudioLimits limits;
  if (engine_->layout().choice.batch > 1) limits.max_coded_channels = 2;  // what RuntimeBound() counts with
  lane->stream.emplace(TRY(AudioStream::Open(job.path, run[slots.stream[i]], limits)));
  const std::span<std::byte> memory = run[slots.window[i]];
  lane->window.emplace(*lane->stream, std::span(reinterpret_cast<float*>(memory.data()), memory.size() / sizeof(float)),
                       engine_->planned().mel.n_samples);
  lane->transcript.emplace(TRY(job.open()));
  const Checkpoint& from = lane->transcript->checkpoint();
  lane->seek = std::llround(from.seconds / kFrameSeconds) * engine_->planned().mel.hop;
  lane->language = -1;
  lane->previous.clear();
  lane->pending = false;
  const std::string known = options_.language.empty() ? from.language : options_.language;
  if (engine_->tokens().multilingual && !known.empty())
    lane->language = engine_->tokens().LanguageId(known).value_or(-1);
  return {};
}

Status Transcriber::HearWindow(Lane* lane, std::span<const float> samples) {
  const WhisperTokens& tokens = engine_->tokens();
  TRY(engine_->Hear({samples}, lane->sequence));
  if (tokens.multilingual && lane->language < 0 && !tokens.languages.empty())
    lane->language = decoder_->DetectLanguage(lane->sequence);
  BuildPrompt(lane);
  lane->pending = true;
  return {};
}

// Finds the lane's next window that is not silent. At the end of the audio nothing is pending.
Status Transcriber::Prepare(Lane* lane, const std::atomic<bool>& stop) {
  const MelParams& mel = engine_->planned().mel;
  while (!stop.load(std::memory_order_relaxed)) {
    const std::span<const float> samples = TRY(lane->window->At(lane->seek));
    lane->frames = static_cast<int64_t>(samples.size()) / mel.hop;
    lane->window_start = lane->seek;
    if (lane->frames == 0) return {};  // less than one frame is left
    if (!IsSilent(samples)) return HearWindow(lane, samples);
    lane->seek += lane->frames * mel.hop;  // silence gives no text: the network is not asked
    ++lane->result->windows;
  }
  return Error{Code::kInterrupted, "interrupted"};
}

Status Transcriber::Emit(Lane* file, const Lane& heard) {
  const WhisperTokens& tokens = engine_->tokens();
  const DecodeLane& d = heard.decode;
  const double offset = static_cast<double>(heard.window_start) / kSampleRate;
  ++file->result->windows;
  WhisperCut cut = CutSegments(tokens, d.tokens, heard.frames);
  const bool silence = d.no_speech > options_.no_speech_threshold && d.AverageLogprob() < options_.logprob_threshold;
  if (silence) cut = {{}, heard.frames};
  for (const WhisperSegment& s : cut.segments) {
    const std::span<const int32_t> all = std::span(d.tokens).subspan(s.first, s.count);
    std::vector<int32_t> text;
    for (const int32_t id : all)
      if (id < tokens.eot) text.push_back(id);
    const double end =
        std::min(s.end, static_cast<double>(heard.frames) * kFrameSeconds);  // zeros after the audio are no time
    const Segment segment{offset + s.start, offset + std::max(end, s.start), engine_->tokenizer().Decode(text, true)};
    if (segment.text.find_first_not_of(" \n") == std::string::npos) continue;
    TRY(file->transcript->Add(segment));
    ++file->result->segments;
  }
  file->previous.assign(d.tokens.begin(), d.tokens.end());
  if (!options_.chunked) file->seek = heard.window_start + cut.advance * engine_->planned().mel.hop;
  const double done = options_.chunked ? offset + static_cast<double>(heard.frames) * kFrameSeconds
                                       : static_cast<double>(file->seek) / kSampleRate;
  std::string language;
  for (const auto& l : tokens.languages)
    if (l.id == file->language) language = l.code;
  file->result->language = tokens.multilingual ? language : "en";
  TRY(file->transcript->Commit({done, language}));
  if (progress_) progress_({file->job->path, done, std::max(file->stream->info().seconds(), 0.0)});
  return {};
}

Status Transcriber::RunChunked(Lane* file, const std::atomic<bool>& stop) {
  const MelParams& mel = engine_->planned().mel;
  const int64_t batch = engine_->layout().choice.batch;
  std::vector<Lane> heard(static_cast<size_t>(batch));
  std::vector<DecodeLane*> decode;
  for (bool more = true; more;) {
    decode.clear();
    size_t count = 0;
    while (count < heard.size()) {
      if (stop.load()) return Error{Code::kInterrupted, "interrupted"};
      std::span<const float> samples = TRY(file->window->At(file->seek));
      if (static_cast<int64_t>(samples.size()) < mel.hop) {
        more = false;
        break;
      }
      if (static_cast<int64_t>(samples.size()) == mel.n_samples) {  // a full window is cut where it is quiet
        const int64_t to = mel.n_samples, from = to - std::min(to / 2, static_cast<int64_t>(kCutSeconds * kSampleRate));
        const int64_t cut = std::max<int64_t>(QuietestCut(samples, from, to) / mel.hop, 1) * mel.hop;
        samples = samples.first(static_cast<size_t>(cut));
      }
      Lane& lane = heard[count];
      lane.sequence = static_cast<int32_t>(count);
      lane.window_start = file->seek;
      lane.frames = static_cast<int64_t>(samples.size()) / mel.hop;
      file->seek += lane.frames * mel.hop;
      if (IsSilent(samples)) {
        ++file->result->windows;
        continue;
      }
      lane.language = file->language;
      TRY(HearWindow(&lane, samples));
      file->language = lane.language;
      ++count;
    }
    for (size_t i = 0; i < count; ++i) decode.push_back(&heard[i].decode);
    for (size_t i = 0; i < count; ++i) heard[i].decode.sequence = static_cast<int32_t>(i);
    TRY(decoder_->Decode(decode, engine_->tokens().max_length, stop));
    for (size_t i = 0; i < count; ++i) TRY(Emit(file, heard[i]));
  }
  return {};
}

std::vector<FileResult> Transcriber::Transcribe(const std::vector<FileJob>& jobs,
                                                const std::function<Json(const FileResult&)>& finish,
                                                const std::function<void(const Progress&)>& progress,
                                                const std::atomic<bool>& stop) {
  progress_ = progress;
  std::vector<FileResult> results(jobs.size());
  for (size_t i = 0; i < jobs.size(); ++i) results[i].path = jobs[i].path;
  const auto end = [&](Lane* lane, Status status) {  // the lane's file is over, well or not
    FileResult& r = *lane->result;
    if (lane->stream) {
      r.warnings = lane->stream->warnings();
      r.seconds = static_cast<double>(lane->stream->samples_read()) / kSampleRate;
    }
    r.status = std::move(status);
    if (lane->transcript) {
      if (r.status.ok())
        r.status = lane->transcript->Finish(finish(r));
      else
        r.reported = lane->transcript->Abandon(finish(r));
    }
    lane->transcript.reset();
    lane->window.reset();
    lane->stream.reset();
    lane->result = nullptr;
  };

  std::vector<Lane> lanes(options_.chunked ? 1 : static_cast<size_t>(engine_->layout().choice.batch));
  for (size_t i = 0; i < lanes.size(); ++i) lanes[i].sequence = lanes[i].decode.sequence = static_cast<int32_t>(i);
  size_t next = 0;
  std::vector<DecodeLane*> decode;
  for (;;) {
    decode.clear();
    for (Lane& lane : lanes) {
      // Fill the lane with a window: of its file, or of the next file when that one has ended.
      while (!lane.pending) {
        if (!lane.active()) {
          if (next == jobs.size() || stop.load()) break;
          const size_t i = next++;
          if (Status begun = Begin(&lane, jobs[i], &results[i]); !begun.ok()) {
            end(&lane, std::move(begun));
            continue;
          }
        }
        if (options_.chunked) {
          end(&lane, RunChunked(&lane, stop));
          continue;
        }
        Status prepared = Prepare(&lane, stop);
        if (!prepared.ok() || !lane.pending) end(&lane, std::move(prepared));
      }
      if (lane.pending) decode.push_back(&lane.decode);
    }
    if (decode.empty()) break;
    const Status decoded = decoder_->Decode(decode, engine_->tokens().max_length, stop);
    for (Lane& lane : lanes) {
      if (!lane.pending) continue;
      lane.pending = false;
      Status emitted = decoded.ok() ? Emit(&lane, lane) : Status(decoded.error());
      if (!emitted.ok()) end(&lane, std::move(emitted));
    }
  }
  for (size_t i = next; i < jobs.size(); ++i)
    results[i].status = Error{Code::kInterrupted, "interrupted before it began"};
  return results;
}

}  // namespace sotto
