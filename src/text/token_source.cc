// Chooses the files, and reads the older set: vocab.json, merges.txt, and the added tokens of tokenizer_config.json, or
// of added_tokens.json with special_tokens_map.json, by the rules of transformers' from_pretrained. Beside a
// tokenizer.model only tokenizer_config.json counts.
#include "text/token_source.h"

#include <algorithm>
#include <array>

#include "base/file.h"
#include "text/token_events.h"
#include "text/utf8.h"

namespace sotto {
namespace {

constexpr size_t kMaxSpecials = 512;            // Whisper has 107
constexpr size_t kMaxSpecialBytes = 16 * 1024;  // all together

// A token that some file calls special, until the file that gives its id is met.
struct Special {
  std::string content;
  AddedToken token;
  bool found = false;
};
using Specials = std::vector<Special>;

Status Add(Specials& specials, const AddedToken& token, const std::string& path) {
  if (token.content.empty()) return {};  // Whisper large has "unk_token": ""
  size_t bytes = token.content.size();
  for (const Special& s : specials) {
    if (s.content == token.content) return {};
    bytes += s.content.size();
  }
  if (specials.size() == kMaxSpecials || bytes > kMaxSpecialBytes)
    return BadModel(fmt::format("{} names more than {} special tokens; fetch the file again", path, specials.size()));
  specials.push_back({std::string(token.content), token});
  return {};
}

Special* Find(Specials& specials, std::string_view content) {
  for (Special& s : specials)
    if (s.content == content) return &s;
  return nullptr;
}

Status Parse(const std::string& path, EventHandler& handler) {
  const File file = TRY(File::Open(path, Code::kBadModel));
  return SaxParse(file, 0, file.size(), handler, Code::kBadModel, {.bytes = kMaxTokenizerFileBytes});
}

// special_tokens_map.json and tokenizer_config.json: {"bos_token": "…" or {"content": …} or null,
// "additional_special_tokens": […], "extra_special_tokens": […] or {"audio_token": "…"}, "added_tokens_decoder":
// {"50257": {…}}}. Other keys are skipped.
class ConfigFile : public EventHandler {
 public:
  ConfigFile(const std::string& path, bool of_bytes, Specials& specials, TokenSink& sink)
      : path_(path), of_bytes_(of_bytes), specials_(specials), sink_(sink) {}
  bool has_decoder() const { return has_decoder_; }
  AddAround add() const { return add_; }

 private:
  enum Topic { kOther, kSpecial, kDecoder };

  Status On(const Event& event) override {
    if (depth() == 1 && event.kind == Event::kKey) {
      names_ = event.text == "extra_special_tokens";
      topic_ =
          event.text.ends_with("_token") || event.text == "additional_special_tokens" || names_ ? kSpecial : kOther;
      if (event.text == "added_tokens_decoder") {
        if (has_decoder_)
          return BadModel(fmt::format("{} has added_tokens_decoder twice; fetch the file again", path_));
        topic_ = kDecoder;
        has_decoder_ = true;
      }
      key_ = event.text;
      return {};
    }
    if (depth() == 1 && event.kind == Event::kBool && key_ == "add_bos_token") add_.bos = event.number != 0;
    if (depth() == 1 && event.kind == Event::kBool && key_ == "add_eos_token") add_.eos = event.number != 0;
    if (of_bytes_ && key_ == "add_prefix_space" && depth() == 1 && event.text == "true")
      return BadModel(fmt::format("{} asks for add_prefix_space, which is not supported; use another model", path_));
    if (topic_ == kOther || (depth() == 1 && event.kind == Event::kEndObject)) return {};
    if (in_token_) return Field(event);
    if (event.kind == Event::kStartObject && (depth() == 3 || (topic_ == kSpecial && !names_))) {
      in_token_ = true;
      token_depth_ = depth();
      fields_.Begin();
      return {};
    }
    if (topic_ == kDecoder && event.kind == Event::kKey) return Id(event.text);
    if (topic_ == kSpecial && event.kind == Event::kString)
      return Add(specials_, {.content = event.text, .special = true, .normalized = false}, path_);
    if (topic_ == kDecoder && depth() != 2)
      return BadModel(fmt::format("{} has an added_tokens_decoder of an unknown form; fetch the file again", path_));
    return {};
  }

  Status Field(const Event& event) {
    if (event.kind == Event::kKey) {
      fields_.Key(event.text);
      return {};
    }
    if (event.kind != Event::kEndObject || depth() != token_depth_) return fields_.Value(event, path_);
    in_token_ = false;
    AddedToken token = TRY(fields_.Token(path_, false));
    if (topic_ == kDecoder) {
      token.id = id_;
      if (!of_bytes_) token.normalized = false;  // transformers cuts all of them out before SentencePiece sees the text
      return sink_.Added(token);
    }
    token.special = true;
    return Add(specials_, token, path_);
  }

  Status Id(std::string_view text) {
    id_ = 0;
    for (const char c : text) {
      if (c < '0' || c > '9' || text.size() > 10)
        return BadModel(
            fmt::format("{} has an added token with the id '{}', which is not a number; fetch the file again", path_,
                        text.substr(0, 40)));
      id_ = 10 * id_ + static_cast<uint64_t>(c - '0');
    }
    return {};
  }

  const std::string& path_;
  bool of_bytes_;
  Specials& specials_;
  TokenSink& sink_;
  AddedTokenFields fields_;
  Topic topic_ = kOther;
  std::string key_;
  AddAround add_;
  bool has_decoder_ = false, in_token_ = false;
  bool names_ = false;  // the topic may be an object of names and tokens
  int token_depth_ = 0;
  uint64_t id_ = 0;
};

// vocab.json, or added_tokens.json when `added`.
class VocabularyFile : public EventHandler {
 public:
  VocabularyFile(const std::string& path, bool added, Specials& specials, TokenSink& sink)
      : path_(path), added_(added), specials_(specials), sink_(sink) {}

 private:
  Status On(const Event& event) override {
    if (event.kind == Event::kKey) {
      entry_.Key(event.text);
      return {};
    }
    if (depth() == 1 && (event.kind == Event::kStartObject || event.kind == Event::kEndObject)) return {};
    if (depth() != 1)
      return BadModel(fmt::format("{} is not an object of token names and ids; fetch the file again", path_));
    const uint64_t id = TRY(entry_.Id(event, path_));
    if (!added_) TRY(sink_.Token({.name = entry_.name(), .id = id}));
    Special* special = Find(specials_, entry_.name());
    if (special == nullptr && !added_) return {};
    if (special != nullptr && special->found && !added_) return {};  // added_tokens.json has had it
    AddedToken token = special != nullptr ? special->token : AddedToken{};
    token.content = entry_.name();
    token.id = id;
    if (special != nullptr) special->found = true;
    return sink_.Added(token);
  }

  const std::string& path_;
  bool added_;
  Specials& specials_;
  TokenSink& sink_;
  NameToId entry_;
};

// merges.txt: "left right" a line, in order of rank; lines that begin with #version are no merges.
class MergesFile {
 public:
  MergesFile(const std::string& path, TokenSink& sink) : path_(path), sink_(sink) {}

  Status Read() {
    const File file = TRY(File::Open(path_, Code::kBadModel));
    if (file.size() > kMaxTokenizerFileBytes)
      return BadModel(fmt::format("{} has {} bytes, more than the {} allowed; it is not what it claims to be", path_,
                                  file.size(), kMaxTokenizerFileBytes));
    std::array<char, 16 * kKiB> buffer;
    for (uint64_t at = 0; at < file.size();) {
      const size_t n = static_cast<size_t>(std::min<uint64_t>(buffer.size(), file.size() - at));
      TRY(file.ReadAt(at, std::as_writable_bytes(std::span(buffer.data(), n))));
      at += n;
      TRY(Feed({buffer.data(), n}));
    }
    return line_.empty() ? Status() : Line();
  }

 private:
  Status Feed(std::string_view text) {
    for (size_t end; (end = text.find('\n')) != std::string_view::npos; text.remove_prefix(end + 1)) {
      TRY(Append(text.substr(0, end)));
      TRY(Line());
    }
    return Append(text);
  }

  Status Append(std::string_view part) {
    if (line_.size() + part.size() > kMaxNameBytes)
      return BadModel(fmt::format("{} has a line of more than {} bytes; fetch the file again", path_, kMaxNameBytes));
    line_.append(part);
    return {};
  }

  Status Line() {
    ++number_;
    if (line_.ends_with('\r')) line_.pop_back();
    const std::string where = fmt::format("{}, line {},", path_, number_);
    if (!IsUtf8(line_)) return BadModel(fmt::format("{} is not UTF-8; fetch the file again", where));
    if (!line_.starts_with("#version")) {
      const auto [left, right] = TRY(SplitMerge(line_, where));
      TRY(sink_.Merge(left, right));
    }
    line_.clear();
    return {};
  }

  const std::string& path_;
  TokenSink& sink_;
  std::string line_;
  uint64_t number_ = 0;
};

Result<TokenSettings> ReadVocabularyAndMerges(const std::string& dir, TokenSink& sink) {
  Specials specials;
  bool has_decoder = false;
  for (const char* name : {"/special_tokens_map.json", "/tokenizer_config.json"}) {
    const std::string path = dir + name;
    if (!FileExists(path)) continue;
    ConfigFile config(path, /*of_bytes=*/true, specials, sink);
    TRY(Parse(path, config));
    has_decoder |= config.has_decoder();
  }
  if (has_decoder) specials.clear();  // the decoder lists every added token, with its flags
  if (const std::string path = dir + "/added_tokens.json"; !has_decoder && FileExists(path)) {
    VocabularyFile added(path, true, specials, sink);
    TRY(Parse(path, added));
  }
  const std::string vocabulary_path = dir + "/vocab.json", merges_path = dir + "/merges.txt";
  VocabularyFile vocabulary(vocabulary_path, false, specials, sink);
  TRY(Parse(vocabulary_path, vocabulary));
  for (const Special& s : specials)
    if (!s.found)
      return BadModel(
          fmt::format("{} names the special token '{}', which neither vocab.json nor added_tokens.json has; fetch "
                      "the tokenizer's files again",
                      dir, s.content.substr(0, 40)));
  TRY(MergesFile(merges_path, sink).Read());
  TokenSettings settings;
  settings.splittings.Add(Splitting::kGpt2);
  return settings;
}

Result<TokenSettings> ReadModelFile(const std::string& dir, const std::string& path, TokenSink& sink) {
  Specials specials;
  AddAround add;
  if (const std::string beside = dir + "/tokenizer_config.json"; FileExists(beside)) {
    ConfigFile config(beside, /*of_bytes=*/false, specials, sink);
    TRY(Parse(beside, config));
    add = config.add();
  }
  return ReadSentencePiece(path, add, sink);
}

enum class Files { kNone, kJson, kVocabularyAndMerges, kTekken, kModel, kSpiece };

Files FilesIn(const std::string& dir) {
  const auto has = [&](const char* name) { return FileExists(dir + name); };
  if (has("/tokenizer.json")) return Files::kJson;
  if (has("/vocab.json") && has("/merges.txt")) return Files::kVocabularyAndMerges;
  if (has("/tekken.json")) return Files::kTekken;
  if (has("/tokenizer.model")) return Files::kModel;
  return has("/spiece.model") ? Files::kSpiece : Files::kNone;
}

}  // namespace

bool HasTokenizer(const std::string& model_dir) { return FilesIn(model_dir) != Files::kNone; }

Result<TokenSettings> ReadTokens(const std::string& model_dir, TokenSink& sink) {
  switch (FilesIn(model_dir)) {
    case Files::kJson: return ReadTokenizerJson(model_dir + "/tokenizer.json", sink);
    case Files::kVocabularyAndMerges: return ReadVocabularyAndMerges(model_dir, sink);
    case Files::kTekken: return ReadTekken(model_dir + "/tekken.json", sink);
    case Files::kModel: return ReadModelFile(model_dir, model_dir + "/tokenizer.model", sink);
    case Files::kSpiece: return ReadModelFile(model_dir, model_dir + "/spiece.model", sink);
    case Files::kNone: break;
  }
  return BadModel(fmt::format(
      "{} has no tokenizer: neither tokenizer.json, vocab.json with merges.txt, tekken.json nor tokenizer.model; "
      "fetch it from where the model came",
      model_dir));
}

}  // namespace sotto
