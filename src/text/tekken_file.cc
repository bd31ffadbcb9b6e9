// tekken.json of Mistral (Voxtral has nothing else): {"config": {"pattern": …, "default_vocab_size": …,
// "default_num_special_tokens": …}, "vocab": [{"rank": …, "token_bytes": base64}, …], "special_tokens": [{"rank": …,
// "token_str": …, "is_control": …}, …]}. The special tokens have the first ids; what is joined first is what has the
// lowest rank. Source: mistral-common, tokens/tokenizers/tekken.py.
#include <array>
#include <charconv>

#include "text/byte_alphabet.h"
#include "text/token_events.h"
#include "text/token_tables.h"

namespace sotto {
namespace {

class TekkenFile : public EventHandler {
 public:
  TekkenFile(const std::string& path, TokenSink& sink) : path_(path), sink_(sink), config_(path) {
    for (uint32_t code = 0; code < 0x144; ++code)
      if (const int byte = ByteOf(code); byte >= 0) AppendUtf8(code, &names_[static_cast<size_t>(byte)]);
  }
  Result<TokenSettings> Finish();

 private:
  Status On(const Event& event) override;
  Status BeginLists();
  Status EndElement();
  Error Malformed(std::string_view what) const {
    return BadModel(fmt::format("{} is not a tokenizer of Mistral: {}; fetch the file again", path_, what));
  }

  const std::string& path_;
  TokenSink& sink_;
  Settings config_;
  std::array<std::string, 256> names_;  // bytes in the byte alphabet
  std::string top_, key_;               // keys at depth 1 and of an element
  std::string bytes_, text_;            // of the element
  std::optional<uint64_t> rank_;
  bool control_ = true;
  uint64_t specials_ = 0, ranks_ = 0;  // how many ids of each kind there are
  uint64_t listed_ = 0;                // special tokens that have been named
  std::optional<int32_t> bos_;
};

Status TekkenFile::On(const Event& event) {
  if (depth() == 1) {
    if (event.kind == Event::kKey) top_ = event.text;
    return {};
  }
  if (top_ == "config") {
    if (depth() == 2 && event.kind == Event::kStartObject) config_.Begin("config");
    return config_.Add(event);
  }
  if ((top_ != "vocab" && top_ != "special_tokens") || depth() > 3) return {};
  if (depth() == 2) return BeginLists();
  switch (event.kind) {
    case Event::kStartObject:
      rank_.reset();
      bytes_.clear();
      text_.clear();
      control_ = true;
      return {};
    case Event::kKey: key_ = event.text; return {};
    case Event::kUnsigned:
      if (key_ == "rank") rank_ = event.number;
      return {};
    case Event::kBool:
      if (key_ == "is_control") control_ = event.number != 0;
      return {};
    case Event::kString:
      if (key_ == "token_bytes") bytes_ = event.text;
      if (key_ == "token_str") text_ = event.text;
      return {};
    case Event::kEndObject: return EndElement();
    default: return {};
  }
}

// Ids depend on "config", which stands before the lists.
Status TekkenFile::BeginLists() {
  const auto number = [&](const char* name) {
    const std::string_view text = config_.Get(name);
    uint64_t n = 0;
    return std::from_chars(text.begin(), text.end(), n).ec == std::errc() ? n : 0;
  };
  specials_ = number("config.default_num_special_tokens");
  const uint64_t all = number("config.default_vocab_size");
  if (specials_ == 0 || all <= specials_ || all > kMaxVocabulary) return Malformed("its config contradicts itself");
  ranks_ = all - specials_;
  return {};
}

Status TekkenFile::EndElement() {
  if (!rank_) return Malformed("a token has no rank");
  if (top_ == "special_tokens") {
    if (*rank_ != listed_ || *rank_ >= specials_) return Malformed("its special tokens are not in order");
    ++listed_;
    if (text_ == "<s>") bos_ = static_cast<int32_t>(*rank_);
    return sink_.Added({.content = text_, .id = *rank_, .special = control_, .normalized = false});
  }
  if (*rank_ >= ranks_) return {};  // the file has more tokens than the model
  const std::optional<std::string> bytes = FromBase64(bytes_);
  if (!bytes) return Malformed("a token is not base64");
  text_.clear();
  for (const char c : *bytes) text_ += names_[static_cast<unsigned char>(c)];
  return sink_.Token({.name = text_, .id = specials_ + *rank_});
}

Result<TokenSettings> TekkenFile::Finish() {
  if (listed_ == 0) return Malformed("it lists no special tokens");
  for (; listed_ < specials_; ++listed_) {
    const std::string name = fmt::format("<SPECIAL_{}>", listed_);
    TRY(sink_.Added({.content = name, .id = listed_, .special = true, .normalized = false}));
  }
  const std::string_view regex = config_.Get("config.pattern");
  const std::optional<Splitting> splitting = SplittingOf(regex);
  if (!splitting)
    return BadModel(fmt::format("{} splits text by the expression '{}', which is not a known one; use another model",
                                path_, regex.substr(0, 200)));
  TokenSettings out;
  out.splittings.Add(*splitting);
  out.ignore_merges = out.by_rank = true;
  if (bos_) out.before.Add(*bos_);
  return out;
}

}  // namespace

Result<TokenSettings> ReadTekken(const std::string& path, TokenSink& sink) {
  const File file = TRY(File::Open(path, Code::kBadModel));
  TekkenFile handler(path, sink);
  TRY(SaxParse(file, 0, file.size(), handler, Code::kBadModel, {.bytes = kMaxTokenizerFileBytes}));
  return handler.Finish();
}

}  // namespace sotto
