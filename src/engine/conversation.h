// Turns of a person and a model on one sequence. What the last turn left in the cache is not read again: a prompt is compared with
// the ids that were read, and only what follows their common beginning is prefilled, audio included.
//
//   Conversation chat(engine, format, {.sampler = …});
//   Reply reply = TRY(chat.Ask("What is the capital of Italy?", {}, stop, say));
#pragma once
#include <deque>
#include <string>
#include <vector>

#include "engine/audio_prompt.h"
#include "engine/chat.h"
#include "engine/generate.h"

namespace sotto {

struct Reply {
  Generated answer;
  int64_t prompt = 0, cached = 0, audio = 0;  // positions of the prompt; of them, not read again; of them, audio
  int64_t dropped = 0;                        // turns that were forgotten to make room
  std::vector<std::string> warnings;          // about the audio
};

class Conversation {
 public:
  struct Settings {
    SamplerSettings sampler;
    GenerateOptions generate;
    bool shift = false;  // forget the oldest turns when the context is full
    std::string system;
  };

  // REQUIRES: format.chat_template, CheckSampler(settings.sampler). The engine outlives this.
  static Result<Conversation> Make(Engine& engine, ChatFormat format, Settings settings);

  // The reply's text goes to `say` as it comes. After an error the turn is as if it had not been asked. kUsage: the context is
  // full; kInterrupted: before the reply began (a reply that is interrupted stays, as far as it went).
  Result<Reply> Ask(std::string text, std::vector<std::string> audios, const std::atomic<bool>& stop,
                    FunctionRef<void(std::string_view)> say);

  void SetSystem(std::string text) { settings_.system = std::move(text); }
  const std::string& system() const { return settings_.system; }
  void Clear();
  size_t turns() const { return turns_.size(); }
  int64_t length() const { return session_.length(); }  // positions in the cache

 private:
  struct Audio {
    std::string path;
    int64_t positions = 0;  // once it was heard
  };
  // An answer that has not come yet is empty, and not part of the prompt.
  struct Turn {
    std::string text, answer;
    std::vector<int32_t> audios;  // places in audios_
  };

  Conversation(Engine& engine, ChatFormat format, Settings settings, std::vector<int32_t> end_tokens);
  Result<std::vector<int32_t>> PromptIds() const;
  // Makes the session's positions those of `ids`: false when the context is full before. Counts into `reply`.
  Result<bool> Read(std::span<const int32_t> ids, const std::atomic<bool>& stop, Reply* reply);
  Result<bool> ReadNew(std::span<const int32_t> ids, const std::atomic<bool>& stop, Reply* reply);
  // Prefills the turns and the beginning of an answer, without the oldest turns if that must be and may be.
  Status Prefill(std::span<const int32_t> answer, int64_t room, const std::atomic<bool>& stop, Reply* reply);
  Result<Reply> Answer(const std::atomic<bool>& stop, FunctionRef<void(std::string_view)> say);
  int64_t Positions(std::span<const int32_t> ids) const;

  Engine* engine_;
  ChatFormat format_;
  Settings settings_;
  std::vector<int32_t> end_tokens_;
  TextSession session_;
  Sampler sampler_;
  std::deque<Turn> turns_;
  std::vector<Audio> audios_;
  std::vector<int32_t> read_;  // what the session has read: ids of tokens, and -1 - i for the audio i
};

}  // namespace sotto
