#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "text/bpe.h"
#include "text/byte_alphabet.h"
#include "text/pretokenize.h"

namespace sotto {
namespace {

constexpr uint64_t kMaxTextBytes = kGiB;  // positions in a word are 32 bits wide

bool TouchesWord(std::string_view text, size_t begin, size_t end) {
  if (end < text.size() && Classes(CharacterAt(text, end).code) & kWord) return true;
  if (begin == 0) return false;
  size_t before = begin - 1;
  while ((static_cast<unsigned char>(text[before]) & 0xC0) == 0x80) --before;
  return (Classes(CharacterAt(text, before).code) & kWord) != 0;
}

size_t SpacesBegin(std::string_view text, size_t end) {  // of the white space that ends at `end`
  for (size_t at = end; at > 0;) {
    do --at;
    while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
    if (!(Classes(CharacterAt(text, at).code) & kSpace)) break;
    end = at;
  }
  return end;
}

size_t SpacesEnd(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Character c = CharacterAt(text, at);
    if (!(Classes(c.code) & kSpace)) break;
    at += c.bytes;
  }
  return at;
}

}  // namespace

uint64_t Tokenizer::BytesBound(uint64_t vocab_size) { return SatAdd(SatMul(vocab_size, 40), 4 * kKiB); }

Result<TokenizerSize> Tokenizer::Measure(const std::string& model_dir) {
  TableCounter counter;
  TRY(ReadTokens(model_dir, counter));
  return counter.Size(model_dir);
}

Result<Tokenizer> Tokenizer::Open(const std::string& model_dir, std::span<std::byte> memory) {
  return Open(model_dir, TRY(Measure(model_dir)), memory);
}

Result<Tokenizer> Tokenizer::Open(const std::string& model_dir, const TokenizerSize& size,
                                  std::span<std::byte> memory) {
  if (memory.size() != size.bytes())
    return BadModel(
        fmt::format("the tokenizer in {} takes {} bytes but {} were planned; do not write to a model in use", model_dir,
                    size.bytes(), memory.size()));
  TableFiller filler(size, memory, model_dir);
  const TokenSettings settings = TRY(ReadTokens(model_dir, filler));
  return Tokenizer(TRY(filler.Finish()), settings);
}

Tokenizer::Tokenizer(const TokenTables& tables, const TokenSettings& settings) : tables_(tables), settings_(settings) {
  for (const bool normalized : {false, true})
    for (const AddedEntry& added : tables_.added(normalized))
      begins_added_[normalized][static_cast<unsigned char>(tables_.Content(added).front())] = true;
}

template <class Rest>
void Tokenizer::CutAdded(bool normalized, std::string_view text, bool parse_special, std::vector<int32_t>* out,
                         const Rest& rest) const {
  // Follows AddedVocabulary::find_matches of `tokenizers`: matches are leftmost, then longest, and do not overlap; one
  // that is discarded is passed over as a whole.
  const bool* begins = begins_added_[normalized];
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedEntry* added =
        begins[static_cast<unsigned char>(text[at])] ? tables_.LongestAdded(normalized, text, at) : nullptr;
    if (added == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + tables_.Content(*added).size();
    at = end;
    if (added->special && !parse_special) continue;
    if (added->single_word && TouchesWord(text, begin, end)) continue;
    if (added->lstrip) begin = std::max(SpacesBegin(text, begin), done);
    if (added->rstrip) end = SpacesEnd(text, end);
    if (done < begin) rest(text.substr(done, begin - done));
    out->push_back(static_cast<int32_t>(added->id));
    done = end;
  }
  if (done < text.size()) rest(text.substr(done));
}

void Tokenizer::EncodeWords(std::string_view text, std::vector<int32_t>* out) const {
  for (size_t at = 0; at < text.size();) {
    const std::string_view word = text.substr(at, WordLength(settings_.splitting, text, at));
    at += word.size();
    if (settings_.ignore_merges)
      if (const uint32_t id = tables_.Find(word, false); id != TokenTables::kNone) {
        out->push_back(static_cast<int32_t>(id));
        continue;
      }
    MergeWord(tables_, word, kShortWord, out);
  }
}

Status Tokenizer::Encode(std::string_view text, bool parse_special, std::vector<int32_t>* out) const {
  if (text.size() > kMaxTextBytes)
    return BadInput(fmt::format("the text has {} bytes, more than the {} that are encoded at once; give it in parts",
                                text.size(), kMaxTextBytes));
  std::string repaired;
  if (!IsUtf8(text)) {
    repaired.reserve(text.size());
    Utf8Repair repair;
    repair.Add(text, &repaired);
    repair.Finish(&repaired);
    text = repaired;
  }
  CutAdded(false, text, parse_special, out, [&](std::string_view piece) {
    CutAdded(true, piece, parse_special, out, [&](std::string_view words) { EncodeWords(words, out); });
  });
  return {};
}

std::optional<int32_t> Tokenizer::IdOf(std::string_view token) const {
  uint32_t id = tables_.FindAdded(token);
  if (id == TokenTables::kNone) id = tables_.Find(token, false);
  if (id == TokenTables::kNone) id = tables_.Find(token, true);
  return id == TokenTables::kNone ? std::nullopt : std::optional(static_cast<int32_t>(id));
}

std::string_view Tokenizer::Token(int32_t id) const {
  return Exists(id) ? tables_.At(static_cast<uint32_t>(id)).bytes : std::string_view();
}

bool Tokenizer::IsSpecial(int32_t id) const { return Exists(id) && tables_.At(static_cast<uint32_t>(id)).special; }

void Tokenizer::DecodeTo(int32_t id, bool skip_special, Utf8Repair& repair, std::string* out) const {
  if (!Exists(id)) return;
  const TokenTables::Entry token = tables_.At(static_cast<uint32_t>(id));
  if (token.special && skip_special) return;
  // `tokenizers` reads every token in the byte alphabet when decoding, added ones as well, unless a character is
  // foreign.
  if (!token.literal || !FromAlphabet(token.bytes, nullptr)) return repair.Add(token.bytes, out);
  for (size_t at = 0; at < token.bytes.size();) {
    const Character c = CharacterAt(token.bytes, at);
    repair.Add(static_cast<unsigned char>(ByteOf(c.code)), out);
    at += c.bytes;
  }
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string out;
  Utf8Repair repair;
  for (const int32_t id : ids) DecodeTo(id, skip_special, repair, &out);
  repair.Finish(&out);
  return out;
}

}  // namespace sotto
