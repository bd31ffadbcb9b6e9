#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/bytes.h"
#include "base/check.h"
#include "text/byte_alphabet.h"
#include "text/normalize.h"
#include "text/table_layout.h"
#include "text/token_tables.h"

namespace sotto {
namespace {

constexpr int kMaxProbes = 4096;  // chance needs a few hundred; names made to collide would take quadratic time

std::string Shown(std::string_view name) {  // for a message: short and printable
  std::string text(name.substr(0, 40));
  std::erase_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  std::string whole;
  Utf8Repair repair;
  repair.Add(text, &whole);
  repair.Finish(&whole);
  return whole;
}

bool NamesByte(std::string_view name) {  // like <0x0A>
  return name.size() == 6 && name.starts_with("<0x") && name.ends_with('>') &&
         name.substr(3, 2).find_first_not_of("0123456789ABCDEF") == name.npos;
}

bool Precedes(const TokenTables& tables, const AddedEntry& a, const AddedEntry& b) {
  if (a.stage != b.stage) return a.stage < b.stage;
  const int order = tables.Pattern(a).compare(tables.Pattern(b));
  return order != 0 ? order < 0 : a.of_vocabulary < b.of_vocabulary;
}

}  // namespace

TableFiller::TableFiller(const TokenizerSize& size, std::span<std::byte> memory, std::string where)
    : size_(size), where_(std::move(where)) {
  CHECK(memory.size() == size.bytes() && reinterpret_cast<uintptr_t>(memory.data()) % 8 == 0);
  const auto table_bytes = TableBytes(size);
  size_t next = 0;
  const auto take = [&]<class T>(std::span<T>& out, int fill) {
    const uint64_t bytes = table_bytes[next++];
    out = {reinterpret_cast<T*>(memory.data()), static_cast<size_t>(bytes / sizeof(T))};
    std::memset(memory.data(), fill, bytes);
    memory = memory.subspan(RoundUp(bytes, 8));
  };
  take(tables_.offsets_, 0xFF);
  take(tables_.scores_, 0);
  take(tables_.merge_slots_, 0xFF);
  take(tables_.token_slots_, 0xFF);
  take(tables_.sorted_, 0);
  take(tables_.merged_, 0);
  take(tables_.byte_ids_, 0xFF);
  take(tables_.added_, 0);
  take(tables_.charsmap_bytes_, 0);
  take(tables_.blob_, 0);
  take(tables_.flags_, 0);
}

Error TableFiller::Bad(std::string_view what, std::string_view name) const {
  return BadModel("the tokenizer in " + where_ + " " + std::string(what) + " '" + Shown(name) +
                  "'; its files are damaged, fetch them again");
}

Error TableFiller::Changed() const {
  return BadModel("the tokenizer in " + where_ + " changed while it was read; do not write to a model in use");
}

// Writes an entry and gives its place in the blob.
Result<uint32_t> TableFiller::Append(std::string_view bytes) {
  if (bytes.size() > kMaxNameBytes) return Bad("has a token of more than 8191 bytes:", bytes);
  if (tables_.blob_.size() - used_.blob_bytes < bytes.size() + 2) return Changed();
  const auto length = static_cast<uint16_t>(bytes.size());
  const auto offset = static_cast<uint32_t>(used_.blob_bytes);
  std::memcpy(tables_.blob_.data() + offset, &length, 2);
  if (!bytes.empty()) std::memcpy(tables_.blob_.data() + offset + 2, bytes.data(), bytes.size());
  used_.blob_bytes += bytes.size() + 2;
  return offset;
}

// Enters a token into the hash table, once.
Status TableFiller::Place(uint32_t id) {
  const std::string_view bytes = tables_.Bytes(id);
  const bool literal = tables_.Has(id, TokenTables::kLiteral);
  const size_t slots = tables_.token_slots_.size();
  size_t s = FirstSlot(HashBytes(bytes, literal), slots);
  for (int probes = 0; tables_.token_slots_[s] != TokenTables::kNone; s = NextSlot(s, slots)) {
    const uint32_t other = tables_.token_slots_[s];
    if (tables_.Has(other, TokenTables::kLiteral) == literal && tables_.Bytes(other) == bytes)
      return Bad("has two tokens", bytes);
    if (++probes > kMaxProbes) return Bad("has names that were made to collide:", bytes);
  }
  tables_.token_slots_[s] = id;
  return {};
}

Status TableFiller::Token(const VocabularyToken& token) {
  if (token.id >= tables_.offsets_.size() || used_.tokens == size_.tokens) return Changed();
  const auto id = static_cast<uint32_t>(token.id);
  if (tables_.offsets_[id] != TokenTables::kNone) return Bad("gives one id to two tokens; the second is", token.name);
  char bytes[kMaxNameBytes];
  if (token.name.size() > sizeof bytes) return Bad("has a token of more than 8191 bytes:", token.name);
  const auto mapped = this->bytes() ? FromAlphabet(token.name, bytes) : std::nullopt;
  tables_.offsets_[id] = TRY(Append(mapped ? std::string_view(bytes, *mapped) : token.name));
  uint8_t& flags = tables_.flags_[id];
  if (this->bytes() && !mapped) flags = TokenTables::kLiteral;
  switch (token.kind) {
    case TokenKind::kNormal: break;
    case TokenKind::kUnknown:
      if (tables_.unknown_ != TokenTables::kNone) return Bad("has two unknown tokens; the second is", token.name);
      tables_.unknown_ = id;
      flags |= TokenTables::kHidden;
      break;
    case TokenKind::kControl: flags |= TokenTables::kHidden | TokenTables::kSpecial; break;
    case TokenKind::kUserDefined: flags |= TokenTables::kUserDefined; break;
    case TokenKind::kUnused: flags |= TokenTables::kUnused; break;
    case TokenKind::kByte:
      if (!NamesByte(token.name)) return Bad("has a byte token that names no byte:", token.name);
      flags |= TokenTables::kHidden | TokenTables::kByte;
      break;
  }
  if (!tables_.scores_.empty()) tables_.scores_[id] = token.score;
  ++used_.tokens;
  TRY(Place(id));
  if (!IsAddedKind(token.kind)) return {};
  const bool symbol = token.kind == TokenKind::kUserDefined;
  return Enter({.id = id,
                .content = tables_.offsets_[id],
                .pattern = tables_.offsets_[id],
                .stage = symbol ? Stage::kSymbol : Stage::kRaw,
                .special = !symbol,
                .of_vocabulary = true});
}

Status TableFiller::Enter(const AddedEntry& added) {
  if (used_.added == size_.added) return Changed();
  if (tables_.Pattern(added).empty()) return Bad("has an added token without content:", "");
  tables_.added_[used_.added++] = added;
  return {};
}

Status TableFiller::Added(const AddedToken& token) {
  if (token.id >= tables_.offsets_.size()) return Changed();
  const uint32_t content = TRY(Append(token.content));
  return Enter({.id = static_cast<uint32_t>(token.id),
                .content = content,
                .pattern = content,
                .stage = token.normalized ? Stage::kNormalized : Stage::kRaw,
                .special = token.special,
                .single_word = token.single_word,
                .lstrip = token.lstrip,
                .rstrip = token.rstrip});
}

Status TableFiller::Charsmap(std::string_view bytes) {
  if (tables_.charsmap_bytes_.size() - used_.charsmap_bytes < bytes.size()) return Changed();
  if (!bytes.empty()) std::memcpy(tables_.charsmap_bytes_.data() + used_.charsmap_bytes, bytes.data(), bytes.size());
  used_.charsmap_bytes += bytes.size();
  return {};
}

// Looks up the vocabulary token that a merge names; `bytes` (room for kMaxNameBytes) receives how it is kept.
Result<uint32_t> TableFiller::FindName(std::string_view name, char* bytes, size_t* length) const {
  if (name.size() > kMaxNameBytes) return Bad("has a merge of more than 8191 bytes:", name);
  const std::optional<size_t> mapped = this->bytes() ? FromAlphabet(name, bytes) : std::nullopt;
  if (!mapped) std::memcpy(bytes, name.data(), name.size());
  *length = mapped.value_or(name.size());
  const uint32_t id = tables_.Find({bytes, *length}, this->bytes() && !mapped);
  if (id == TokenTables::kNone) return Bad("has a merge with a token that is not in its vocabulary:", name);
  // A literal part makes a literal whole, which a word of bytes never reaches: such a merge could not apply.
  if (tables_.Has(id, TokenTables::kLiteral)) return Bad("merges a token outside of the byte alphabet:", name);
  return id;
}

Status TableFiller::Merge(std::string_view left, std::string_view right) {
  if (used_.merges == size_.merges) return Changed();
  char bytes[2 * kMaxNameBytes];
  char spare[kMaxNameBytes];
  size_t left_bytes = 0, right_bytes = 0;
  const uint32_t a = TRY(FindName(left, bytes, &left_bytes));
  const uint32_t b = TRY(FindName(right, spare, &right_bytes));
  std::memcpy(bytes + left_bytes, spare, right_bytes);
  const std::string_view whole(bytes, left_bytes + right_bytes);
  const uint32_t merged = tables_.Find(whole);
  if (merged == TokenTables::kNone) return Bad("has a merge whose result is not in its vocabulary:", whole);
  const uint64_t key = PairKey(a, b);
  const size_t slots = tables_.merge_slots_.size();
  size_t s = FirstSlot(Mix(key), slots);
  for (int probes = 0; tables_.merge_slots_[s] != kEmptySlot; s = NextSlot(s, slots)) {
    if (tables_.merge_slots_[s] >> 24 == key) return Bad("has the same merge twice; it makes", whole);
    if (++probes > kMaxProbes) return Bad("has merges that were made to collide:", whole);
  }
  tables_.merge_slots_[s] = key << 24 | used_.merges;
  tables_.merged_[used_.merges++] = merged;
  return {};
}

// Added tokens that are looked for in normalized text are normalized themselves.
Status TableFiller::NormalizePatterns() {
  for (AddedEntry& added : tables_.added_) {
    if (added.stage != Stage::kNormalized || size_.settings.normalizer.empty()) continue;
    std::string_view text = tables_.Pattern(added);
    const size_t room = PatternRoom(text.size());
    std::string scratch;
    TRY(Normalize(
        size_.settings, tables_.charsmap_, [](std::string_view, size_t) { return size_t{0}; }, &text, &scratch));
    if (text == tables_.Pattern(added)) continue;
    if (text.empty() || text.size() > room)
      return Bad("has an added token that its normalizer makes empty or too long:", tables_.Pattern(added));
    added.pattern = TRY(Append(text));
    tables_.flags_[added.id] |= TokenTables::kShownAsPattern;
  }
  return {};
}

// Orders added tokens for LongestAdded. What the vocabulary calls special need not be listed again, but may be.
Status TableFiller::OrderAdded() {
  auto& all = tables_.added_;
  std::sort(all.begin(), all.end(), [&](const auto& a, const auto& b) { return Precedes(tables_, a, b); });
  const auto end = std::unique(all.begin(), all.end(), [&](const AddedEntry& a, const AddedEntry& b) {
    return b.of_vocabulary && a.id == b.id && a.stage == b.stage && tables_.Pattern(a) == tables_.Pattern(b);
  });
  all = all.first(static_cast<size_t>(end - all.begin()));
  for (size_t i = 1; i < all.size(); ++i)
    if (all[i - 1].stage == all[i].stage && tables_.Pattern(all[i - 1]) == tables_.Pattern(all[i]))
      return Bad("has an added token twice:", tables_.Pattern(all[i]));
  for (size_t stage = 0; stage < tables_.stages_.size(); ++stage)
    tables_.stages_[stage] = static_cast<size_t>(
        std::partition_point(all.begin(), all.end(),
                             [&](const AddedEntry& e) { return static_cast<size_t>(e.stage) < stage; }) -
        all.begin());
  const auto raw = tables_.added(Stage::kRaw);
  for (const AddedEntry& entry : tables_.added(Stage::kNormalized)) {
    const std::string_view content = tables_.EntryAt(entry.content);
    const auto at =
        std::partition_point(raw.begin(), raw.end(), [&](const AddedEntry& e) { return tables_.Pattern(e) < content; });
    if (at != raw.end() && tables_.Pattern(*at) == content) return Bad("has an added token twice:", content);
  }
  return {};
}

// Gives the added tokens their ids: that of the same token in the vocabulary, or one of their own.
Status TableFiller::LinkAdded() {
  for (const AddedEntry& added : tables_.added_) {
    uint8_t& flags = tables_.flags_[added.id];
    if (added.special) flags |= TokenTables::kHidden;
    if (added.of_vocabulary) continue;
    flags |= TokenTables::kAdded | (added.special ? TokenTables::kSpecial : 0);
    const std::string_view content = tables_.EntryAt(added.content);
    char bytes[kMaxNameBytes];
    const auto mapped = this->bytes() ? FromAlphabet(content, bytes) : std::nullopt;
    const uint32_t known = mapped ? tables_.Find({bytes, *mapped}) : tables_.Find(content, /*literal=*/this->bytes());
    uint32_t& offset = tables_.offsets_[added.id];
    if (known == TokenTables::kNone && offset == TokenTables::kNone) {
      offset = added.content;
      if (this->bytes()) flags |= TokenTables::kLiteral;
    } else if (known != added.id) {
      return Bad("gives an added token an id that contradicts its vocabulary:", content);
    }
  }
  return {};
}

// The tokens of single bytes: by what they stand for, or by their names.
Status TableFiller::FindBytes() {
  const bool needed = this->bytes() || size_.settings.byte_fallback;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const uint32_t id = this->bytes() ? tables_.Find({&c, 1}) : tables_.Find(fmt::format("<0x{:02X}>", byte));
    if (id == TokenTables::kNone && needed)
      return Bad("has no token in its vocabulary for the byte", std::to_string(byte));
    tables_.byte_ids_[byte] = id;
    if (id != TokenTables::kNone && size_.settings.decoding == Decoding::kPieces)
      tables_.flags_[id] |= TokenTables::kByte;
  }
  return {};
}

Status TableFiller::FindUnknown() {
  const TokenSettings& settings = size_.settings;
  if (settings.unknown_id) {
    if (*settings.unknown_id >= tables_.vocabulary())
      return Bad("has an unknown token outside of its vocabulary:", std::to_string(*settings.unknown_id));
    tables_.unknown_ = *settings.unknown_id;
  }
  if (!settings.unknown.empty()) {
    tables_.unknown_ = tables_.Find(settings.unknown.view());
    if (tables_.unknown_ == TokenTables::kNone)
      return Bad("has an unknown token that is not in its vocabulary:", settings.unknown.view());
  }
  const bool may_lack = this->bytes() || settings.byte_fallback || settings.model == TokenModel::kMerges;
  if (tables_.unknown_ != TokenTables::kNone || may_lack) return {};
  return BadModel("the tokenizer in " + where_ + " has no unknown token; fetch its files again");
}

void TableFiller::SortTokens() {
  auto& sorted = tables_.sorted_;
  size_t n = 0;
  for (uint32_t id = 0; id < tables_.vocabulary(); ++id)
    if (n < sorted.size() && tables_.Find(tables_.Bytes(id)) == id) sorted[n++] = id;
  std::sort(sorted.begin(), sorted.end(), [&](uint32_t a, uint32_t b) { return tables_.Bytes(a) < tables_.Bytes(b); });
  for (size_t byte = 0; byte < 257; ++byte)
    tables_.first_bytes_[byte] = static_cast<uint32_t>(
        std::partition_point(sorted.begin(), sorted.end(),
                             [&](uint32_t id) {
                               const std::string_view bytes = tables_.Bytes(id);
                               return bytes.empty() || static_cast<unsigned char>(bytes[0]) < byte;
                             }) -
        sorted.begin());
}

// What the models want to know about all tokens together.
void TableFiller::LookAtTokens() {
  double lowest = std::numeric_limits<double>::max();
  for (const uint32_t id : tables_.sorted_) {
    const int odd = TokenTables::kUserDefined | TokenTables::kUnused;
    if (!tables_.Has(id, odd)) lowest = std::min(lowest, tables_.Score(id));
  }
  tables_.lowest_score_ = lowest;
  const bool scored = !tables_.scores_.empty();
  tables_.spaces_part_words_ =
      !this->bytes() && (size_.settings.byte_fallback || scored || tables_.Find(kSpaceMark) != TokenTables::kNone);
  for (uint32_t id = 0; id < tables_.vocabulary(); ++id) {
    if (tables_.Has(id, TokenTables::kUnused)) tables_.has_unused_ = true;
    if (this->bytes() || tables_.Has(id, TokenTables::kHidden)) continue;
    std::string_view rest = tables_.Bytes(id);
    while (rest.starts_with(kSpaceMark)) rest.remove_prefix(kSpaceMark.size());
    if (rest.find(kSpaceMark) != rest.npos) tables_.spaces_part_words_ = false;
  }
  if (tables_.has_unused_) tables_.spaces_part_words_ = false;  // how one is taken apart depends on the whole text
}

Result<TokenTables> TableFiller::Finish(const TokenSettings& settings) {
  if (used_.tokens != size_.tokens || used_.added != size_.added || used_.merges != size_.merges ||
      used_.charsmap_bytes != size_.charsmap_bytes || settings != size_.settings)
    return Changed();
  if (size_.charsmap_bytes != 0)
    tables_.charsmap_ = TRY(Charsmap::Open({tables_.charsmap_bytes_.data(), tables_.charsmap_bytes_.size()}, where_));
  TRY(NormalizePatterns());
  TRY(OrderAdded());
  TRY(LinkAdded());
  for (size_t id = 0; id < tables_.offsets_.size(); ++id)
    if (tables_.offsets_[id] == TokenTables::kNone) return Bad("has no token with the id", std::to_string(id));
  for (const auto* ids : {&settings.before, &settings.after})
    for (const int32_t id : *ids)
      if (static_cast<uint32_t>(id) >= tables_.vocabulary())
        return Bad("puts a token around texts that it does not have:", std::to_string(id));
  TRY(FindBytes());
  TRY(FindUnknown());
  SortTokens();
  LookAtTokens();
  return tables_;
}

}  // namespace sotto
