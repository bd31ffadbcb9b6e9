#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "text/gguf_tokens.h"
#include "text/normalize.h"
#include "text/pretokenize.h"

namespace sotto {
namespace {

bool TouchesWord(std::string_view text, size_t begin, size_t end) {
  if (end < text.size() && Classes(SafeCharacterAt(text, end).code) & kWord) return true;
  if (begin == 0) return false;
  size_t before = begin - 1;
  while (before > 0 && !BeginsCharacter(text, before)) --before;
  return (Classes(SafeCharacterAt(text, before).code) & kWord) != 0;
}

bool IsSentencePiece(const TokenSettings& settings) {
  return !settings.normalizer.empty() && settings.normalizer.begin()->kind == NormalStep::kSentencePiece;
}

}  // namespace

uint64_t Tokenizer::BytesBound(uint64_t vocab_size) { return SatAdd(SatMul(vocab_size, 64), 4 * kKiB); }

Result<TokenizerSize> Tokenizer::Measure(TokenSource source, const std::string& where) {
  TableCounter counter;
  const TokenSettings settings = TRY(source(counter));
  return counter.Size(settings, where);
}

Result<TokenizerSize> Tokenizer::Measure(const std::string& model_dir) {
  return Measure([&](TokenSink& sink) { return ReadTokens(model_dir, sink); }, model_dir);
}

Result<TokenizerSize> Tokenizer::Measure(const GgufFiles& gguf) {
  return Measure([&](TokenSink& sink) { return ReadGgufTokens(gguf, sink); }, gguf.file(0).path());
}

Result<Tokenizer> Tokenizer::Open(TokenSource source, const TokenizerSize& size, std::span<std::byte> memory,
                                  const std::string& where) {
  if (memory.size() != size.bytes())
    return BadModel(
        fmt::format("the tokenizer in {} takes {} bytes but {} were planned; do not write to a model in use", where,
                    size.bytes(), memory.size()));
  TableFiller filler(size, memory, where);
  const TokenSettings settings = TRY(source(filler));
  return Tokenizer(TRY(filler.Finish(settings)), settings);
}

Result<Tokenizer> Tokenizer::Open(const std::string& model_dir, const TokenizerSize& size,
                                  std::span<std::byte> memory) {
  return Open([&](TokenSink& sink) { return ReadTokens(model_dir, sink); }, size, memory, model_dir);
}

Result<Tokenizer> Tokenizer::Open(const GgufFiles& gguf, const TokenizerSize& size, std::span<std::byte> memory) {
  return Open([&](TokenSink& sink) { return ReadGgufTokens(gguf, sink); }, size, memory, gguf.file(0).path());
}

Result<Tokenizer> Tokenizer::Open(const std::string& model_dir, std::span<std::byte> memory) {
  return Open(model_dir, TRY(Measure(model_dir)), memory);
}

Tokenizer::Tokenizer(const TokenTables& tables, const TokenSettings& settings) : tables_(tables), settings_(settings) {
  for (const Stage stage : {Stage::kRaw, Stage::kNormalized, Stage::kSymbol})
    for (const AddedEntry& added : tables_.added(stage))
      begins_added_[static_cast<int>(stage)][static_cast<unsigned char>(tables_.Pattern(added).front())] = true;
}

template <class Rest>
void Tokenizer::CutAdded(Stage stage, std::string_view text, bool parse_special, std::vector<int32_t>* out,
                         const Rest& rest) const {
  // Follows AddedVocabulary::find_matches of `tokenizers`: matches are leftmost, then longest, and do not overlap; one
  // that is discarded is passed over as a whole.
  const bool* begins = begins_added_[static_cast<int>(stage)];
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedEntry* added =
        begins[static_cast<unsigned char>(text[at])] ? tables_.LongestAdded(stage, text, at) : nullptr;
    if (added == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + tables_.Pattern(*added).size();
    at = end;
    if (added->special && !parse_special) continue;
    if (added->single_word && TouchesWord(text, begin, end)) continue;
    if (added->lstrip) begin = std::max(SpacesBegin(text, begin), done);
    if (added->rstrip) end = SpacesEnd(text, end);
    if (done < begin) rest(text.substr(done, begin - done), done);
    out->push_back(static_cast<int32_t>(added->id));
    done = end;
  }
  if (done < text.size()) rest(text.substr(done), done);
}

// The pre-tokenizer Metaspace, on a word of the splittings before it.
void Tokenizer::MarkSpaces(std::string_view text, bool first, WordEncoder& words) const {
  std::string marked;
  const bool prefix =
      settings_.metaspace.prefix == Prefix::kAlways || (settings_.metaspace.prefix == Prefix::kFirst && first);
  if (prefix && !text.starts_with(' ') && !text.starts_with(kSpaceMark)) marked = kSpaceMark;
  for (const char c : text) c == ' ' ? marked.append(kSpaceMark) : marked.append(1, c);
  const auto splitting = settings_.metaspace.split ? Splitting::kBeforeSpaceMark : Splitting::kBeforeSpaceMarks;
  text = marked;
  if (!settings_.metaspace.split && !tables_.spaces_part_words()) return words.Add(text);
  for (size_t at = 0, n = 0; at < text.size(); at += n) {
    n = WordLength(splitting, text, at);
    words.Add(text.substr(at, n));
  }
}

// Applies the splittings from `step` on.
void Tokenizer::Split(std::string_view text, size_t step, bool first, WordEncoder& words) const {
  if (step == settings_.splittings.count) {
    if (settings_.metaspace.on) return MarkSpaces(text, first, words);
    // Where no token reaches across a space, the words between spaces can be encoded one by one.
    if (step != 0 || !tables_.spaces_part_words()) return words.Add(text);
    for (size_t at = 0, n = 0; at < text.size(); at += n) {
      n = WordLength(Splitting::kBeforeSpaceMarks, text, at);
      words.Add(text.substr(at, n));
    }
    return;
  }
  const Splitting splitting = settings_.splittings.items[step];
  for (size_t at = 0, n = 0; at < text.size(); at += n) {
    n = WordLength(splitting, text, at);
    const std::string_view word = text.substr(at, n);
    if (!IsDropped(splitting, word)) Split(word, step + 1, first && at == 0, words);
  }
}

void Tokenizer::EncodePiece(std::string_view text, bool first, std::vector<int32_t>* out) const {
  WordEncoder words(tables_, settings_, out);
  Split(text, 0, first, words);
}

Status Tokenizer::Encode(std::string_view text, EncodeOptions options, std::vector<int32_t>* out) const {
  if (text.size() > kMaxTextBytes)
    return BadInput(fmt::format("the text has {} bytes, more than the {} that are encoded at once; give it in parts",
                                text.size(), kMaxTextBytes));
  std::string repaired;
  if (!IsSentencePiece(settings_) && !IsUtf8(text)) {  // SentencePiece's normalizer repairs while it maps
    repaired.reserve(text.size());
    Utf8Repair repair;
    repair.Add(text, &repaired);
    repair.Finish(&repaired);
    text = repaired;
  }
  if (options.add_special) out->insert(out->end(), settings_.before.begin(), settings_.before.end());
  const auto symbol = [&](std::string_view in, size_t at) -> size_t {
    if (!begins_added_[static_cast<int>(Stage::kSymbol)][static_cast<unsigned char>(in[at])]) return 0;
    const AddedEntry* found = tables_.LongestAdded(Stage::kSymbol, in, at);
    return found == nullptr ? 0 : tables_.Pattern(*found).size();
  };
  Status status;
  CutAdded(Stage::kRaw, text, options.parse_special, out, [&](std::string_view piece, size_t begin) {
    std::string scratch;
    if (status.ok()) status = Normalize(settings_, tables_.charsmap(), symbol, &piece, &scratch);
    if (!status.ok()) return;
    CutAdded(Stage::kNormalized, piece, options.parse_special, out,
             [&](std::string_view words, size_t at) { EncodePiece(words, begin == 0 && at == 0, out); });
  });
  TRY(status);
  if (options.add_special) out->insert(out->end(), settings_.after.begin(), settings_.after.end());
  return {};
}

std::optional<int32_t> Tokenizer::IdOf(std::string_view token) const {
  uint32_t id = tables_.FindAdded(token);
  if (id == TokenTables::kNone) id = tables_.Find(token, false);
  if (id == TokenTables::kNone) id = tables_.Find(token, true);
  return id == TokenTables::kNone ? std::nullopt : std::optional(static_cast<int32_t>(id));
}

std::string_view Tokenizer::Token(int32_t id) const {
  return Exists(id) ? tables_.Bytes(static_cast<uint32_t>(id)) : std::string_view();
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return Exists(id) && tables_.Has(static_cast<uint32_t>(id), TokenTables::kSpecial);
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string out;
  StreamDecoder say(*this, skip_special);
  for (const int32_t id : ids) say.Push(id, &out);
  say.Finish(&out);
  return out;
}

}  // namespace sotto
