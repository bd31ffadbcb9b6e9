// Prompts with audio: a token of the text stands where an audio is heard, and the audio's vectors take its place in the sequence,
// window by window, so that memory does not depend on the audio's length but for the cache.
#pragma once
#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "audio/stream.h"
#include "audio/window.h"
#include "engine/text_session.h"

namespace sotto {

// The windows of one audio file, one after the other, in the engine's memory. One at a time. An audio-language model hears parts of
// one spectrogram, whose floor is the whole audio's: a file longer than a window is read twice, first for its loudest moment.
class AudioWindows {
 public:
  static Result<AudioWindows> Open(Engine& engine, const std::string& path);
  // The next window; without samples behind the last one that the model hears. Valid until the next call.
  Result<MelWindow> Next();
  // What was missing, damaged or not heard; complete after Next has been empty.
  std::vector<std::string> Warnings() const;

 private:
  AudioWindows(Engine& engine, std::string path) : engine_(&engine), path_(std::move(path)) {}
  Status Rewind();
  Result<MelWindow> Window();
  // Reads the whole audio for largest_; the first window is in memory.
  Status FindLargest(MelWindow window);

  Engine* engine_;
  std::string path_;
  std::unique_ptr<AudioStream> stream_;  // the window points to it
  std::unique_ptr<SlidingWindow> window_;
  int64_t heard_ = 0;    // windows
  float largest_ = -10;  // MelWindow::largest
  bool cut_ = false, loudness_unknown_ = false;
};

struct PromptCount {
  int64_t text = 0, audio = 0;  // positions
};

// Reads `ids`, hearing the next of `audios` at each token `placeholder`. Placeholders that are already repeated, one for each
// vector (as transformers' processors give them), stand for one audio, and must be as many as it has. kUsage: more or fewer
// audios than places; a full context. Warnings are appended.
Result<PromptCount> ReadPrompt(TextSession& session, Engine& engine, std::span<const int32_t> ids, int32_t placeholder,
                               std::span<const std::string> audios, const std::atomic<bool>& stop,
                               std::vector<std::string>* warnings);
// With every position's logits.
Result<PromptCount> ReadPrompt(TextSession& session, Engine& engine, std::span<const int32_t> ids, int32_t placeholder,
                               std::span<const std::string> audios, const std::atomic<bool>& stop,
                               std::vector<std::string>* warnings, TextSession::EachRow each);

// The token that stands for audio: audio_token_index or audio_token_id of config.json; nothing when it says none.
std::optional<int32_t> AudioPlaceholder(const Json& config);

}  // namespace sotto
