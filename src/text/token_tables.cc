#include "text/token_tables.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/check.h"
#include "text/byte_alphabet.h"

namespace sotto {
namespace {

constexpr uint64_t kEmptySlot = ~uint64_t{0};
constexpr int kMaxProbes = 4096;  // chance needs a few hundred; names made to collide would take quadratic time

uint64_t SlotCount(uint64_t entries) { return entries + entries / 3 + 1; }  // at most three quarters are taken

uint64_t Mix(uint64_t h) {  // the finalizer of MurmurHash3
  h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDull;
  h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53ull;
  return h >> 32;
}

size_t FirstSlot(uint64_t hash32, size_t slots) { return static_cast<size_t>(hash32 * slots >> 32); }
size_t NextSlot(size_t slot, size_t slots) { return slot + 1 == slots ? 0 : slot + 1; }

uint64_t HashBytes(std::string_view bytes, bool literal) {  // FNV-1a, mixed
  uint64_t h = 0xCBF29CE484222325ull ^ static_cast<uint64_t>(literal);
  for (const char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return Mix(h);
}

uint64_t PairKey(uint32_t left, uint32_t right) { return uint64_t{left} << 20 | right; }

std::string Shown(std::string_view name) {  // for a message: short and printable
  std::string text(name.substr(0, 40));
  std::erase_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  std::string whole;
  Utf8Repair repair;
  repair.Add(text, &whole);
  repair.Finish(&whole);
  return whole;
}

bool Precedes(const TokenTables& tables, const AddedEntry& a, const AddedEntry& b) {
  if (a.normalized != b.normalized) return a.normalized < b.normalized;
  return tables.Content(a) < tables.Content(b);
}

}  // namespace

static_assert(sizeof(AddedEntry) == 12);

uint64_t TokenizerSize::bytes() const {
  uint64_t n = RoundUp(4 * vocabulary, 8) + RoundUp(4 * SlotCount(tokens), 8) + 8 * SlotCount(merges);
  n += RoundUp(4 * merges, 8) + 4 * 256 + RoundUp(sizeof(AddedEntry) * added, 8);
  return n + RoundUp(2 * (tokens + added) + token_bytes + added_bytes, 8);
}

TokenTables::Entry TokenTables::EntryAt(uint32_t offset) const {
  uint16_t head;
  std::memcpy(&head, blob_.data() + offset, 2);
  return {{blob_.data() + offset + 2, static_cast<size_t>(head & kLength)},
          (head & kLiteral) != 0,
          (head & kSpecial) != 0,
          (head & kAdded) != 0};
}

uint32_t TokenTables::Find(std::string_view bytes, bool literal) const {
  const size_t slots = token_slots_.size();
  for (size_t s = FirstSlot(HashBytes(bytes, literal), slots); token_slots_[s] != kNone; s = NextSlot(s, slots)) {
    const Entry entry = At(token_slots_[s]);
    if (entry.literal == literal && entry.bytes == bytes) return token_slots_[s];
  }
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
  for (const bool normalized : {false, true}) {
    const auto all = added(normalized);
    const auto at = std::lower_bound(all.begin(), all.end(), content,
                                     [&](const AddedEntry& e, std::string_view c) { return Content(e) < c; });
    if (at != all.end() && Content(*at) == content) return at->id;
  }
  return kNone;
}

const AddedEntry* TokenTables::LongestAdded(bool normalized, std::string_view text, size_t at) const {
  // The sorted contents are walked like a trie: [low, high) are those that share `depth` bytes with the text.
  const auto all = added(normalized);
  const AddedEntry* longest = nullptr;
  auto low = all.begin(), high = all.end();
  for (size_t depth = 0; low != high; ++depth) {
    if (Content(*low).size() == depth) longest = &*low++;
    if (at + depth == text.size()) break;
    const auto c = static_cast<unsigned char>(text[at + depth]);
    const auto byte = [&](const AddedEntry& e) { return static_cast<unsigned char>(Content(e)[depth]); };
    low = std::partition_point(low, high, [&](const AddedEntry& e) { return byte(e) < c; });
    high = std::partition_point(low, high, [&](const AddedEntry& e) { return byte(e) == c; });
  }
  return longest;
}

Status TableCounter::Token(std::string_view name, uint64_t id) {
  ++size_.tokens;
  size_.token_bytes += FromAlphabet(name, nullptr).value_or(name.size());
  size_.vocabulary = std::max(size_.vocabulary, SatAdd(id, 1));
  return {};
}

Status TableCounter::Added(const AddedToken& token) {
  ++size_.added;
  size_.added_bytes += token.content.size();
  size_.vocabulary = std::max(size_.vocabulary, SatAdd(token.id, 1));
  return {};
}

Status TableCounter::Merge(std::string_view, std::string_view) {
  ++size_.merges;
  return {};
}

Result<TokenizerSize> TableCounter::Size(const std::string& where) const {
  if (size_.vocabulary > size_.tokens + size_.added)
    return BadModel("the tokenizer in " + where + " has fewer tokens than its largest id says; fetch its files again");
  if (size_.vocabulary > kMaxVocabulary || size_.merges > kMaxMerges)
    return BadModel("the tokenizer in " + where +
                    " has more than 1048576 tokens or 16777215 merges, the most that are supported; use another model");
  return size_;
}

TableFiller::TableFiller(const TokenizerSize& size, std::span<std::byte> memory, std::string where)
    : size_(size), where_(std::move(where)) {
  CHECK(memory.size() == size.bytes() && reinterpret_cast<uintptr_t>(memory.data()) % 8 == 0);
  const auto take = [&]<class T>(std::span<T>& out, uint64_t count, int fill) {
    out = {reinterpret_cast<T*>(memory.data()), static_cast<size_t>(count)};
    std::memset(memory.data(), fill, count * sizeof(T));
    memory = memory.subspan(RoundUp(count * sizeof(T), 8));
  };
  take(tables_.offsets_, size.vocabulary, 0xFF);
  take(tables_.token_slots_, SlotCount(size.tokens), 0xFF);
  take(tables_.merge_slots_, SlotCount(size.merges), 0xFF);
  take(tables_.merged_, size.merges, 0);
  take(tables_.byte_ids_, 256, 0);
  take(tables_.added_, size.added, 0);
  take(tables_.blob_, 2 * (size.tokens + size.added) + size.token_bytes + size.added_bytes, 0);
}

Error TableFiller::Bad(std::string_view what, std::string_view name) const {
  return BadModel("the tokenizer in " + where_ + " " + std::string(what) + " '" + Shown(name) +
                  "'; its files are damaged, fetch them again");
}

Error TableFiller::Changed() const {
  return BadModel("the tokenizer in " + where_ + " changed while it was read; do not write to a model in use");
}

// Writes an entry and gives its place in the blob.
Result<uint32_t> TableFiller::Append(std::string_view bytes, uint16_t flags) {
  if (bytes.size() > TokenTables::kLength) return Bad("has a token of more than 8191 bytes:", bytes);
  if (tables_.blob_.size() - blob_used_ < bytes.size() + 2) return Changed();
  const auto head = static_cast<uint16_t>(bytes.size() | flags);
  const auto offset = static_cast<uint32_t>(blob_used_);
  std::memcpy(tables_.blob_.data() + offset, &head, 2);
  if (!bytes.empty()) std::memcpy(tables_.blob_.data() + offset + 2, bytes.data(), bytes.size());
  blob_used_ += bytes.size() + 2;
  return offset;
}

// Enters a token into the hash table, once.
Status TableFiller::Place(uint32_t id) {
  const TokenTables::Entry entry = tables_.At(id);
  const size_t slots = tables_.token_slots_.size();
  size_t s = FirstSlot(HashBytes(entry.bytes, entry.literal), slots);
  for (int probes = 0; tables_.token_slots_[s] != TokenTables::kNone; s = NextSlot(s, slots)) {
    const TokenTables::Entry other = tables_.At(tables_.token_slots_[s]);
    if (other.literal == entry.literal && other.bytes == entry.bytes) return Bad("has two tokens", entry.bytes);
    if (++probes > kMaxProbes) return Bad("has names that were made to collide:", entry.bytes);
  }
  tables_.token_slots_[s] = id;
  return {};
}

Status TableFiller::Token(std::string_view name, uint64_t id) {
  if (id >= tables_.offsets_.size() || used_.tokens == size_.tokens) return Changed();
  if (tables_.offsets_[id] != TokenTables::kNone) return Bad("gives one id to two tokens; the second is", name);
  char bytes[kMaxNameBytes];
  if (name.size() > sizeof bytes) return Bad("has a token of more than 8191 bytes:", name);
  const std::optional<size_t> length = FromAlphabet(name, bytes);
  const std::string_view kept = length ? std::string_view(bytes, *length) : name;
  tables_.offsets_[id] = TRY(Append(kept, length ? 0 : TokenTables::kLiteral));
  ++used_.tokens;
  used_.token_bytes += kept.size();
  return Place(static_cast<uint32_t>(id));
}

Status TableFiller::Added(const AddedToken& token) {
  if (token.id >= tables_.offsets_.size() || used_.added == size_.added) return Changed();
  if (token.content.empty()) return Bad("has an added token without content:", token.content);
  const auto flags =
      static_cast<uint16_t>(TokenTables::kLiteral | TokenTables::kAdded | (token.special ? TokenTables::kSpecial : 0));
  const uint32_t content = TRY(Append(token.content, flags));
  tables_.added_[used_.added++] = {static_cast<uint32_t>(token.id),
                                   content,
                                   token.special,
                                   token.normalized,
                                   token.single_word,
                                   token.lstrip,
                                   token.rstrip};
  used_.added_bytes += token.content.size();
  return {};
}

// Looks up the vocabulary token that a merge names; `bytes` (room for kMaxNameBytes) receives what it stands for.
Result<uint32_t> TableFiller::FindName(std::string_view name, char* bytes, size_t* length, bool* literal) const {
  if (name.size() > kMaxNameBytes) return Bad("has a merge of more than 8191 bytes:", name);
  const std::optional<size_t> mapped = FromAlphabet(name, bytes);
  *literal = !mapped;
  if (!mapped) std::memcpy(bytes, name.data(), name.size());
  *length = mapped.value_or(name.size());
  const uint32_t id = tables_.Find({bytes, *length}, *literal);
  if (id == TokenTables::kNone) return Bad("has a merge with a token that is not in its vocabulary:", name);
  return id;
}

Status TableFiller::Merge(std::string_view left, std::string_view right) {
  if (used_.merges == size_.merges) return Changed();
  char bytes[2 * kMaxNameBytes];
  char spare[kMaxNameBytes];
  size_t left_bytes = 0, right_bytes = 0;
  bool left_literal = false, right_literal = false;
  const uint32_t a = TRY(FindName(left, bytes, &left_bytes, &left_literal));
  const uint32_t b = TRY(FindName(right, spare, &right_bytes, &right_literal));
  // A literal part makes a literal whole, which a word of bytes never reaches: such a merge could not apply.
  if (left_literal || right_literal)
    return Bad("merges a token outside of the byte alphabet:", left_literal ? left : right);
  std::memcpy(bytes + left_bytes, spare, right_bytes);
  const std::string_view whole(bytes, left_bytes + right_bytes);
  const uint32_t merged = tables_.Find(whole, false);
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

// Gives the added tokens their ids: that of the same token in the vocabulary, or one of their own.
Status TableFiller::LinkAdded() {
  for (const AddedEntry& added : tables_.added_) {
    const std::string_view content = tables_.Content(added);
    char bytes[kMaxNameBytes];
    const std::optional<size_t> mapped = FromAlphabet(content, bytes);
    const uint32_t known = tables_.Find(mapped ? std::string_view(bytes, *mapped) : content, !mapped);
    uint32_t& offset = tables_.offsets_[added.id];
    if (known == TokenTables::kNone && offset == TokenTables::kNone) {
      offset = added.content;
      continue;
    }
    if (known != added.id) return Bad("gives an added token an id that contradicts its vocabulary:", content);
    uint16_t head;
    std::memcpy(&head, tables_.blob_.data() + offset, 2);
    head |= static_cast<uint16_t>(TokenTables::kAdded | (added.special ? TokenTables::kSpecial : 0));
    std::memcpy(tables_.blob_.data() + offset, &head, 2);
  }
  return {};
}

Result<TokenTables> TableFiller::Finish() {
  used_.vocabulary = size_.vocabulary;
  if (used_ != size_) return Changed();
  std::sort(tables_.added_.begin(), tables_.added_.end(),
            [&](const AddedEntry& a, const AddedEntry& b) { return Precedes(tables_, a, b); });
  tables_.raw_added_ = static_cast<size_t>(std::partition_point(tables_.added_.begin(), tables_.added_.end(),
                                                                [](const AddedEntry& e) { return e.normalized == 0; }) -
                                           tables_.added_.begin());
  for (const AddedEntry& entry : tables_.added(true))
    if (const auto raw = tables_.added(false);
        std::binary_search(raw.begin(), raw.end(), entry, [&](const AddedEntry& a, const AddedEntry& b) {
          return tables_.Content(a) < tables_.Content(b);
        }))
      return Bad("has an added token twice:", tables_.Content(entry));
  for (size_t i = 1; i < tables_.added_.size(); ++i)
    if (!Precedes(tables_, tables_.added_[i - 1], tables_.added_[i]))
      return Bad("has an added token twice:", tables_.Content(tables_.added_[i]));
  TRY(LinkAdded());
  for (size_t id = 0; id < tables_.offsets_.size(); ++id)
    if (tables_.offsets_[id] == TokenTables::kNone) return Bad("has no token with the id", std::to_string(id));
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    tables_.byte_ids_[byte] = tables_.Find({&c, 1}, false);
    if (tables_.byte_ids_[byte] == TokenTables::kNone)
      return Bad("is not byte-level: its vocabulary has no token for the byte", std::to_string(byte));
  }
  return tables_;
}

}  // namespace sotto
