// The tokenizer's tables: flat arrays in one block of memory that the plan counted beforehand.
//
//   offsets      uint32 [vocabulary]        where a token's entry lies in the blob
//   token_slots  uint32 [tokens * 4/3 + 1]  hash table: bytes of a vocabulary token -> id
//   merge_slots  uint64 [merges * 4/3 + 1]  hash table: left id (20 bits) | right id (20) | rank (24)
//   merged       uint32 [merges]            by rank: the id that the pair becomes
//   byte_ids     uint32 [256]               the token of a single byte
//   added        12 bytes [added]           tokens cut out of the text first, ordered by (normalized, content)
//   blob         entries: uint16 (length 13 bits, literal, special, added), then the bytes
//
// A token of the vocabulary is kept as the bytes it stands for. One with a character outside of the byte alphabet, and
// an added token that the vocabulary lacks, is kept as written: literal.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "text/token_source.h"

namespace sotto {

inline constexpr uint64_t kMaxVocabulary = 1 << 20;
inline constexpr uint64_t kMaxMerges = (1 << 24) - 1;

// What the tables hold, and with that their size.
struct TokenizerSize {
  uint64_t vocabulary = 0;  // ids are 0 to vocabulary - 1
  uint64_t tokens = 0, token_bytes = 0;
  uint64_t added = 0, added_bytes = 0;
  uint64_t merges = 0;

  uint64_t bytes() const;  // exactly what the tables take
  friend bool operator==(const TokenizerSize&, const TokenizerSize&) = default;
};

struct AddedEntry {
  uint32_t id;
  uint32_t content;  // of its entry in the blob
  uint8_t special, normalized, single_word : 1, lstrip : 1, rstrip : 1;
};

class TokenTables {
 public:
  static constexpr uint32_t kNone = ~uint32_t{0};
  struct Entry {
    std::string_view bytes;
    bool literal, special, added;
  };

  uint32_t vocabulary() const { return static_cast<uint32_t>(offsets_.size()); }
  Entry At(uint32_t id) const { return EntryAt(offsets_[id]); }  // REQUIRES id < vocabulary()
  uint32_t ByteId(unsigned char byte) const { return byte_ids_[byte]; }
  uint32_t Merged(uint32_t rank) const { return merged_[rank]; }
  std::string_view Content(const AddedEntry& added) const { return EntryAt(added.content).bytes; }
  std::span<const AddedEntry> added(bool normalized) const {
    return normalized ? added_.subspan(raw_added_) : added_.first(raw_added_);
  }

  // The id of a vocabulary token, or kNone.
  uint32_t Find(std::string_view bytes, bool literal) const;
  // The rank of the merge of two tokens, or kNone. Smaller ranks go first.
  uint32_t Rank(uint32_t left, uint32_t right) const;
  // The id of the added token with this content, or kNone.
  uint32_t FindAdded(std::string_view content) const;
  // The longest added token of one kind that text[at, …) begins with, or null.
  const AddedEntry* LongestAdded(bool normalized, std::string_view text, size_t at) const;

 private:
  friend class TableFiller;
  static constexpr uint16_t kLength = 0x1FFF, kLiteral = 0x2000, kSpecial = 0x4000, kAdded = 0x8000;
  Entry EntryAt(uint32_t offset) const;

  std::span<uint32_t> offsets_, token_slots_, merged_, byte_ids_;
  std::span<uint64_t> merge_slots_;
  std::span<AddedEntry> added_;
  size_t raw_added_ = 0;  // how many of added_ are not normalized; they come first
  std::span<char> blob_;
};

// Counts what the files hold. Size() refuses ids with gaps and tables beyond the bounds.
class TableCounter : public TokenSink {
 public:
  Status Token(std::string_view name, uint64_t id) override;
  Status Added(const AddedToken& token) override;
  Status Merge(std::string_view left, std::string_view right) override;
  Result<TokenizerSize> Size(const std::string& where) const;

 private:
  TokenizerSize size_;
};

// Fills `memory`, exactly size.bytes() and aligned to 8 bytes, which must outlive the tables.
class TableFiller : public TokenSink {
 public:
  TableFiller(const TokenizerSize& size, std::span<std::byte> memory, std::string where);
  Status Token(std::string_view name, uint64_t id) override;
  Status Added(const AddedToken& token) override;
  Status Merge(std::string_view left, std::string_view right) override;
  Result<TokenTables> Finish();

 private:
  Error Bad(std::string_view what, std::string_view name) const;
  Error Changed() const;
  Result<uint32_t> Append(std::string_view bytes, uint16_t flags);
  Result<uint32_t> FindName(std::string_view name, char* bytes, size_t* length, bool* literal) const;
  Status Place(uint32_t id);
  Status LinkAdded();

  TokenizerSize size_, used_;
  size_t blob_used_ = 0;
  std::string where_;
  TokenTables tables_;
};

}  // namespace sotto
