// What messages become as a prompt: the model's own chat template over them, and ids of its text, with places for audio.
//
//   const ChatFormat format = TRY(ReadChatFormat(planned));
//   const std::string text = TRY(format.Render(Json::array({UserMessage(format, "What is said?", 1)})));
//   TRY(EncodePrompt(tokenizer, format, text, format.audio_marker, false, &ids));   // ids, with kAudioPlace where an audio goes
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/planning.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace sotto {

// Stands in a prompt's ids where an audio is heard.
inline constexpr int32_t kAudioPlace = INT32_MAX;
// Where a person says that an audio is heard, whatever the model calls it.
inline constexpr std::string_view kAudioMark = "<|audio|>";

struct ChatFormat {
  std::optional<ChatTemplate> chat_template;  // nothing: the model only continues texts
  Json tokens = Json::object();               // bos_token, eos_token … as the template's variables
  std::string audio_marker;                   // the text where an audio is heard; "" for a model that doesn't hear
  uint64_t max_bytes = 0;                     // of a prompt's text: MaxPromptBytes
  bool audio_parts = false;  // the template takes audios as parts of a message; else markers stand in its text

  // The prompt up to where the model answers. kBadInput when the template refuses the messages. REQUIRES: chat_template.
  Result<std::string> Render(Json messages) const;
};

// From a template's text, wherever it was read; kBadModel when it can't be parsed.
Result<ChatFormat> MakeChatFormat(std::optional<std::string> source, Json tokens, std::string audio_marker,
                                  uint64_t max_bytes);

// chat_template.jinja of the model's directory, or chat_template of chat_template.json or tokenizer_config.json (a text, or a list
// of which "default" is taken), and the special tokens of tokenizer_config.json; of a GGUF file what its settings say.
Result<ChatFormat> ReadChatFormat(const Planned& planned);

Json Message(std::string_view role, std::string_view text);
// Audios stand where `text` says kAudioMark; before it, where it doesn't.
Json UserMessage(const ChatFormat& format, std::string_view text, size_t audios);

// Appends ids; each `marker` becomes kAudioPlace. Special tokens in the text are special, as transformers has them: it is a
// template's output. `raw`: the text is none, so what the tokenizer puts around a text (BOS) is put there. kBadInput for more than
// format.max_bytes.
Status EncodePrompt(const Tokenizer& tokenizer, const ChatFormat& format, std::string_view text,
                    std::string_view marker, bool raw, std::vector<int32_t>* ids);

}  // namespace sotto
