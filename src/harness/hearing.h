// What a model makes of recordings whose content is known: word error rates, and how often the right sound is named. The cases are
// a file of lines, an audio (beside the file, or an absolute path), a tab, and what is heard in it.
//
//   const std::vector<HearingCase> cases = TRY(ReadHearingCases("heldout.tsv"));
//   Listener listener = TRY(Listener::Make(engine, "What is said?"));
//   const std::string heard = TRY(listener.Hear(cases[0].audio, StopFlag()));
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "engine/conversation.h"
#include "engine/transcribe.h"

namespace sotto {

struct HearingCase {
  std::string audio, text;
};

// Empty lines and lines that begin with # are left out. kBadInput names the line that is none.
Result<std::vector<HearingCase>> ReadHearingCases(const std::string& path);

// One audio at a time, each as if it were the first: transcribed, or put to an audio-language model with a question.
class Listener {
 public:
  // kUsage for a model that doesn't hear, or has no chat template to be asked through. The engine outlives this.
  static Result<Listener> Make(Engine& engine, std::string question, int64_t max_tokens);
  Result<std::string> Hear(const std::string& audio, const std::atomic<bool>& stop);

 private:
  std::unique_ptr<Transcriber> transcriber_;
  std::unique_ptr<Conversation> conversation_;
  std::string question_;
};

// Whether an answer names a sound: the class's words stand in it, one behind the other, and no other class's do.
bool NamesSound(std::string_view answer, std::string_view sound, const std::vector<std::string>& sounds);

}  // namespace sotto
