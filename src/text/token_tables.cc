#include "text/token_tables.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "text/byte_alphabet.h"
#include "text/table_layout.h"

namespace sotto {

static_assert(sizeof(AddedEntry) == 16);

uint64_t TokenizerSize::bytes() const {
  uint64_t n = 0;
  for (const uint64_t bytes : TableBytes(*this)) n += RoundUp(bytes, 8);
  return n;
}

std::string_view TokenTables::EntryAt(uint32_t offset) const {
  uint16_t length;
  std::memcpy(&length, blob_.data() + offset, 2);
  return {blob_.data() + offset + 2, length};
}

uint32_t TokenTables::Find(std::string_view bytes, bool literal) const {
  const size_t slots = token_slots_.size();
  for (size_t s = FirstSlot(HashBytes(bytes, literal), slots); token_slots_[s] != kNone; s = NextSlot(s, slots))
    if (Has(token_slots_[s], kLiteral) == literal && Bytes(token_slots_[s]) == bytes) return token_slots_[s];
  return kNone;
}

uint32_t TokenTables::Rank(uint32_t left, uint32_t right) const {
  const uint64_t key = PairKey(left, right);
  const size_t slots = merge_slots_.size();
  for (size_t s = FirstSlot(Mix(key), slots); merge_slots_[s] != kEmptySlot; s = NextSlot(s, slots))
    if (merge_slots_[s] >> 24 == key) return static_cast<uint32_t>(merge_slots_[s] & 0xFFFFFF);
  return kNone;
}

uint32_t TokenTables::FindAdded(std::string_view content) const {
  for (const Stage stage : {Stage::kRaw, Stage::kNormalized})
    for (const AddedEntry& entry : added(stage))
      if (EntryAt(entry.content) == content) return entry.id;
  return kNone;
}

const AddedEntry* TokenTables::LongestAdded(Stage stage, std::string_view text, size_t at) const {
  // The sorted patterns are walked like a trie: [low, high) are those that share `depth` bytes with the text.
  const auto all = added(stage);
  const AddedEntry* longest = nullptr;
  auto low = all.begin(), high = all.end();
  for (size_t depth = 0; low != high; ++depth) {
    if (Pattern(*low).size() == depth) longest = &*low++;
    if (at + depth == text.size()) break;
    const auto c = static_cast<unsigned char>(text[at + depth]);
    const auto byte = [&](const AddedEntry& e) { return static_cast<unsigned char>(Pattern(e)[depth]); };
    low = std::partition_point(low, high, [&](const AddedEntry& e) { return byte(e) < c; });
    high = std::partition_point(low, high, [&](const AddedEntry& e) { return byte(e) == c; });
  }
  return longest;
}

Status TableCounter::Token(const VocabularyToken& token) {
  ++size_.tokens;
  written_bytes_ += 2 + token.name.size();
  mapped_bytes_ += 2 + FromAlphabet(token.name, nullptr).value_or(token.name.size());
  size_.vocabulary = std::max(size_.vocabulary, SatAdd(token.id, 1));
  if (IsAddedKind(token.kind)) ++size_.added;
  return {};
}

Status TableCounter::Added(const AddedToken& token) {
  ++size_.added;
  size_.blob_bytes += 2 + token.content.size();
  if (token.normalized) pattern_bytes_ += 2 + PatternRoom(token.content.size());
  size_.vocabulary = std::max(size_.vocabulary, SatAdd(token.id, 1));
  return {};
}

Status TableCounter::Merge(std::string_view, std::string_view) {
  ++size_.merges;
  return {};
}

Status TableCounter::Charsmap(std::string_view bytes) {
  size_.charsmap_bytes += bytes.size();
  return {};
}

Result<TokenizerSize> TableCounter::Size(const TokenSettings& settings, const std::string& where) const {
  TokenizerSize size = size_;
  if (size.vocabulary > size.tokens + size.added)
    return BadModel("the tokenizer in " + where + " has fewer tokens than its largest id says; fetch its files again");
  if (size.vocabulary > kMaxVocabulary || size.merges > kMaxMerges || size.charsmap_bytes > kMaxCharsmapBytes)
    return BadModel("the tokenizer in " + where +
                    " has more than 1048576 tokens, 16777215 merges or 1 MiB of character map, the most that are "
                    "supported; use another model");
  size.settings = settings;
  size.blob_bytes += settings.model == TokenModel::kBytes ? mapped_bytes_ : written_bytes_;
  if (!settings.normalizer.empty()) size.blob_bytes += pattern_bytes_;
  return size;
}

}  // namespace sotto
