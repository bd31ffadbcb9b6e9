#include "harness/hearing.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "harness/word_errors.h"

namespace sotto {
namespace {

constexpr uint64_t kMostCases = 16 * kMiB;  // bytes of the file

bool HasWords(std::string_view text, std::string_view words) {
  return (" " + std::string(text) + " ").find(" " + std::string(words) + " ") != std::string::npos;
}

}  // namespace

Result<std::vector<HearingCase>> ReadHearingCases(const std::string& path) {
  const std::string text = TRY(ReadSmallFile(path, kMostCases, Code::kBadInput));
  const size_t slash = path.rfind('/');
  const std::string beside = slash == path.npos ? "" : path.substr(0, slash + 1);
  std::vector<HearingCase> cases;
  std::string_view rest = text;
  for (int64_t number = 1; !rest.empty(); ++number) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    const size_t tab = line.find('\t');
    if (tab == line.npos || tab == 0)
      return BadInput(fmt::format("line {} of {} is not an audio file, a tab and a text", number, path));
    const std::string audio(line.substr(0, tab));
    cases.push_back({audio.starts_with('/') ? audio : beside + audio, std::string(line.substr(tab + 1))});
  }
  if (cases.empty()) return BadInput(path + " lists no audio; each line is an audio file, a tab and a text");
  return cases;
}

Result<Listener> Listener::Make(Engine& engine, std::string question, int64_t max_tokens) {
  Listener listener;
  listener.question_ = std::move(question);
  const std::string& type = engine.model().info().type;
  const std::string& name = engine.planned().dir.name;
  if (type == "encoder-decoder") {
    listener.transcriber_ = std::make_unique<Transcriber>(TRY(Transcriber::Make(engine, {})));
    return listener;
  }
  if (type != "audio-llm") return Usage(name + " reads text only; this measures what a model hears");
  ChatFormat format = TRY(ReadChatFormat(engine.planned()));
  if (!format.chat_template)
    return Usage(name + " has no chat template, so it can't be asked; take the model that was made to answer");
  listener.conversation_ = std::make_unique<Conversation>(
      TRY(Conversation::Make(engine, std::move(format), {{}, {.max_tokens = max_tokens}, false, ""})));
  return listener;
}

Result<std::string> Listener::Hear(const std::string& audio, const std::atomic<bool>& stop) {
  if (conversation_) {
    conversation_->Clear();
    const Reply reply = TRY(conversation_->Ask(question_, {audio}, stop, [](std::string_view) {}));
    if (reply.answer.end == Generated::End::kInterrupted) return Error{Code::kInterrupted, "interrupted"};
    return reply.answer.text;
  }
  std::string text;
  const std::vector<FileResult> results = transcriber_->Transcribe(
      {{audio, [&]() -> Result<Transcript> { return Transcript::Into(&text); }}},
      [](const FileResult&) { return Json(); }, [](const Progress&) {}, stop);
  for (const FileResult& r : results)
    if (!r.status.ok()) return r.status.error();
  return text;
}

bool NamesSound(std::string_view answer, std::string_view sound, const std::vector<std::string>& sounds) {
  const std::string said = Normalized(answer), wanted = Normalized(sound);
  if (!HasWords(said, wanted)) return false;
  return std::none_of(sounds.begin(), sounds.end(), [&](const std::string& other) {
    const std::string name = Normalized(other);
    return !HasWords(wanted, name) && HasWords(said, name);
  });
}

}  // namespace sotto
