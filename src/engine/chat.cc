#include "engine/chat.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/json_stream.h"
#include "text/gguf_tokens.h"

namespace sotto {
namespace {

// Special tokens ("<s>", or {"content": "<s>", …}) and the template (a text, or a list of named ones) of a tokenizer's settings. The
// thousands of added tokens that stand beside them never become a tree.
class Settings : public SaxHandler {
 public:
  Json tokens = Json::object();
  std::optional<std::string> chat_template;

  Status StartObject() override { return Enter(); }
  Status StartArray() override { return Enter(); }
  Status EndArray() override { return Leave(); }
  Status EndObject() override {
    if (keys_.size() == 3 && keys_[0] == "chat_template" && name_ == "default") chat_template = std::move(text_);
    return Leave();
  }
  Status Key(std::string_view key) override { return keys_.back() = key, Status(); }
  Status String(std::string_view text) override {
    if (keys_.empty()) return {};
    const bool token = keys_[0].ends_with("_token"), is_template = keys_[0] == "chat_template";
    if (token && (keys_.size() == 1 || (keys_.size() == 2 && keys_[1] == "content"))) tokens[keys_[0]] = text;
    if (is_template && keys_.size() == 1) chat_template = text;
    if (is_template && keys_.size() == 3 && keys_[2] == "name") name_ = text;
    if (is_template && keys_.size() == 3 && keys_[2] == "template") text_ = text;
    return {};
  }

 private:
  Status Enter() { return keys_.emplace_back(), Status(); }
  Status Leave() { return keys_.pop_back(), Status(); }
  std::vector<std::string> keys_;  // of the objects around; "" for an array
  std::string name_, text_;        // of a named template
};

Result<Settings> ReadSettings(const std::string& path) {
  Settings settings;
  if (!FileExists(path)) return settings;
  const File file = TRY(File::Open(path, Code::kBadModel));
  TRY(SaxParse(file, 0, file.size(), settings, Code::kBadModel, {.token = ChatTemplate::kMaxSourceBytes}));
  return settings;
}

// What the processors of transformers look for in a text.
std::string AudioMarker(const Json& config) {
  const Json type = config.value("model_type", Json());
  if (type == "qwen2_audio") return "<|AUDIO|>";
  if (type == "voxtral") return "[AUDIO]";
  return std::string(kAudioMark);
}

// Pieces of `text` between the places of its audios.
std::vector<std::string_view> AroundAudios(std::string_view text, size_t audios) {
  std::vector<std::string_view> pieces;
  if (text.find(kAudioMark) == text.npos) pieces.resize(audios);
  for (size_t at; audios > 0 && (at = text.find(kAudioMark)) != text.npos; text.remove_prefix(at + kAudioMark.size()))
    pieces.push_back(text.substr(0, at));
  pieces.push_back(text);
  return pieces;
}

Json PartsMessage(std::string_view text, size_t audios) {
  Json parts = Json::array();
  const auto pieces = AroundAudios(text, audios);
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i > 0) parts.push_back({{"type", "audio"}, {"audio_url", "audio"}});
    if (!pieces[i].empty()) parts.push_back({{"type", "text"}, {"text", pieces[i]}});
  }
  return {{"role", "user"}, {"content", parts}};
}

// Whether the template makes of a part what the model hears by, and writes the text beside it.
bool TakesAudioParts(const ChatFormat& format) {
  const auto text = format.Render(Json::array({PartsMessage("kgzx", 1)}));
  return text.ok() && text->find(format.audio_marker) != text->npos && text->find("kgzx") != text->npos;
}

// What the tokenizer puts before a text: BOS, if anything. What it puts behind one has no place before an answer.
Status AddBegin(const Tokenizer& tokenizer, std::vector<int32_t>* ids) {
  std::vector<int32_t> around, plain;
  TRY(tokenizer.Encode("a", {.add_special = true}, &around));
  TRY(tokenizer.Encode("a", {}, &plain));
  const auto end = std::search(around.begin(), around.end(), plain.begin(), plain.end());
  ids->insert(ids->end(), around.begin(), end);
  return {};
}

}  // namespace

Result<std::string> ChatFormat::Render(Json messages) const {
  CHECK(chat_template);
  Json variables = tokens;
  variables["messages"] = std::move(messages);
  variables["add_generation_prompt"] = true;
  variables["tools"] = variables["documents"] = nullptr;  // as transformers gives them
  return chat_template->Render(variables, {.max_output_bytes = max_bytes, .max_memory_bytes = 4 * max_bytes});
}

Result<ChatFormat> MakeChatFormat(std::optional<std::string> source, Json tokens, std::string audio_marker,
                                  uint64_t max_bytes) {
  ChatFormat format{std::nullopt, std::move(tokens), std::move(audio_marker), max_bytes};
  if (!source) return format;
  format.chat_template = TRY(ChatTemplate::Parse(*source));
  if (!format.audio_marker.empty()) format.audio_parts = TakesAudioParts(format);
  return format;
}

Result<ChatFormat> ReadChatFormat(const Planned& planned) {
  Settings settings;
  if (const std::string& dir = planned.dir.path; !planned.gguf) {
    settings = TRY(ReadSettings(dir + "/tokenizer_config.json"));
    if (const std::string path = dir + "/chat_template.jinja"; FileExists(path))
      settings.chat_template = TRY(ReadSmallFile(path, ChatTemplate::kMaxSourceBytes, Code::kBadModel));
    else if (auto other = TRY(ReadSettings(dir + "/chat_template.json")); other.chat_template)
      settings.chat_template = std::move(other.chat_template);
  }
  if (planned.gguf) {
    GgufChat chat = TRY(ReadGgufChat(planned.gguf->text()));
    if (!chat.chat_template.empty()) settings.chat_template = std::move(chat.chat_template);
    for (const auto& [name, token] : chat.tokens) settings.tokens[name] = token.text;
  }
  const ModelInfo& info = planned.layout.model->info();
  return MakeChatFormat(std::move(settings.chat_template), std::move(settings.tokens),
                        info.type == "audio-llm" ? AudioMarker(planned.config) : "", MaxPromptBytes(info.context));
}

Json Message(std::string_view role, std::string_view text) { return {{"role", role}, {"content", text}}; }

Json UserMessage(const ChatFormat& format, std::string_view text, size_t audios) {
  if (audios > 0 && format.audio_parts) return PartsMessage(text, audios);
  std::string content;
  const auto pieces = AroundAudios(text, audios);
  const bool before = text.find(kAudioMark) == text.npos;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i > 0) content += format.audio_marker + (before ? "\n" : "");
    content += pieces[i];
  }
  return Message("user", content);
}

Status EncodePrompt(const Tokenizer& tokenizer, const ChatFormat& format, std::string_view text,
                    std::string_view marker, bool raw, std::vector<int32_t>* ids) {
  if (text.size() > format.max_bytes)
    return BadInput(fmt::format(
        "a prompt of {} bytes is longer than the {} that this context is planned for; give a part of it, or "
        "a larger --context",
        text.size(), format.max_bytes));
  if (raw) TRY(AddBegin(tokenizer, ids));
  ids->reserve(ids->size() + text.size());  // no second copy while it grows; only what is used becomes resident
  for (;;) {
    const size_t at = marker.empty() ? text.npos : text.find(marker);
    TRY(tokenizer.Encode(text.substr(0, at), {.parse_special = true}, ids));
    if (at == text.npos) return {};
    ids->push_back(kAudioPlace);
    text.remove_prefix(at + marker.size());
  }
}

}  // namespace sotto
