// Transcription of files, window by window: each window's mel, encoder and tokens, and nothing of the file beyond it. Memory does
// not depend on a file's length.
#pragma once
#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/decode.h"
#include "engine/engine.h"
#include "engine/transcript.h"

namespace sotto {

struct TranscribeOptions {
  std::string language;  // "en"; empty: detected from the first window of each file that is not silent
  bool translate = false;
  bool timestamps = true;  // off: windows follow each other without overlap, no times inside a window
  bool chunked = false;    // one file's windows, cut at quiet places, decoded side by side
  std::string initial_prompt;
  bool condition_on_previous = false;
  double no_speech_threshold = 0.6;  // OpenAI's: above it, and below the next, a window is silence
  double logprob_threshold = -1.0;
};

struct FileJob {
  std::string path;                          // or "-"
  std::function<Result<Transcript>()> open;  // called once the audio itself has been opened
};

struct FileResult {
  std::string path;
  Status status;
  std::string language;
  double seconds = 0;  // of audio
  int64_t windows = 0, segments = 0;
  std::vector<std::string> warnings;
  bool reported = false;  // a failure is already in the document on standard output
};

struct Progress {
  std::string path;
  double done = 0, total = 0;  // seconds; total 0: unknown
};

class Transcriber {
 public:
  // kUsage: a language, a task or a prompt that this model does not have.
  static Result<Transcriber> Make(Engine& engine, const TranscribeOptions& options);

  // One result a job, in order. A bad file does not stop the others; an interruption does. `finish(result)` gives what JSON
  // documents carry besides their text.
  std::vector<FileResult> Transcribe(const std::vector<FileJob>& jobs,
                                     const std::function<Json(const FileResult&)>& finish,
                                     const std::function<void(const Progress&)>& progress,
                                     const std::atomic<bool>& stop);

 private:
  struct Lane;
  Transcriber(Engine& engine, const TranscribeOptions& options);
  Status Begin(Lane* lane, const FileJob& job, FileResult* result);
  Status Prepare(Lane* lane, const std::atomic<bool>& stop);  // hears the lane's next window; sets lane->pending
  Status HearWindow(Lane* lane, std::span<const float> samples);
  Status Emit(Lane* lane, const Lane& heard);  // segments of one decoded window
  Status RunChunked(Lane* file, const std::atomic<bool>& stop);
  void BuildPrompt(Lane* lane);

  Engine* engine_;
  TranscribeOptions options_;
  std::vector<int32_t> initial_prompt_;
  std::function<void(const Progress&)> progress_;
  std::unique_ptr<WhisperDecoder> decoder_;
};

}  // namespace sotto
