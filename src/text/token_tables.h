// The tokenizer's tables: flat arrays in one block of memory that the plan counted beforehand.
//
//   offsets      uint32 [vocabulary]        where a token's entry lies in the blob
//   scores       double [vocabulary]        kScores and kUnigram only
//   merge_slots  uint64 [merges * 4/3 + 1]  hash table: left id (20 bits) | right id (20) | rank (24)
//   token_slots  uint32 [tokens * 4/3 + 1]  hash table: bytes of a vocabulary token -> id
//   sorted       uint32 [tokens]            ids ordered by bytes; kUnigram only
//   merged       uint32 [merges]            by rank: the id that the pair becomes
//   byte_ids     uint32 [256]               the token of a single byte
//   added        16 bytes [added]           tokens cut out of the text first, ordered by (stage, pattern)
//   charsmap     bytes                      charsmap.h
//   blob         entries: uint16 length, then the bytes
//   flags        uint8 [vocabulary]
//
// A token is kept as its file writes it, but with kBytes as the bytes that it stands for; there, one with a character
// outside of the byte alphabet, and an added token that the vocabulary lacks, is kept as written: literal.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "text/charsmap.h"
#include "text/token_source.h"

namespace sotto {

inline constexpr uint64_t kMaxVocabulary = 1 << 20;
inline constexpr uint64_t kMaxMerges = (1 << 24) - 1;

// What the tables hold, and with that their size.
struct TokenizerSize {
  TokenSettings settings;
  uint64_t vocabulary = 0;  // ids are 0 to vocabulary - 1
  uint64_t tokens = 0, added = 0, merges = 0;
  uint64_t blob_bytes = 0, charsmap_bytes = 0;

  uint64_t bytes() const;  // exactly what the tables take
  friend bool operator==(const TokenizerSize&, const TokenizerSize&) = default;
};

// What is looked for in the text before or beside the model, and when: before normalization, after it, or (user-defined
// symbols of SentencePiece) while normalizing and as a first symbol of byte pair encoding.
enum class Stage : uint8_t { kRaw, kNormalized, kSymbol };

struct AddedEntry {
  uint32_t id;
  uint32_t content, pattern;  // entries in the blob: as written, and as looked for
  Stage stage;
  uint8_t special : 1, single_word : 1, lstrip : 1, rstrip : 1, of_vocabulary : 1;
};

class TokenTables {
 public:
  static constexpr uint32_t kNone = ~uint32_t{0};
  enum Flag : uint8_t {
    kLiteral = 1,
    kSpecial = 2,
    kAdded = 4,
    kByte = 8,              // stands for one byte: <0x0A>
    kUserDefined = 16,      // is never joined with its neighbours
    kUnused = 32,           // only helps to make longer tokens
    kHidden = 64,           // the model does not find it in text
    kShownAsPattern = 128,  // an added token that is decoded as normalization writes it
  };

  uint32_t vocabulary() const { return static_cast<uint32_t>(offsets_.size()); }
  // REQUIRES id < vocabulary(), here and below.
  std::string_view Bytes(uint32_t id) const { return EntryAt(offsets_[id]); }
  bool Has(uint32_t id, int flags) const { return (flags_[id] & flags) != 0; }
  double Score(uint32_t id) const { return scores_[id]; }
  double lowest_score() const { return lowest_score_; }
  uint32_t unknown() const { return unknown_; }  // kNone when there is none
  bool has_unused() const { return has_unused_; }
  bool spaces_part_words() const { return spaces_part_words_; }  // no token has kSpaceMark behind another character
  uint32_t ByteId(unsigned char byte) const { return byte_ids_[byte]; }
  uint32_t Merged(uint32_t rank) const { return merged_[rank]; }
  const Charsmap& charsmap() const { return charsmap_; }
  std::string_view Pattern(const AddedEntry& added) const { return EntryAt(added.pattern); }
  std::span<const AddedEntry> added(Stage stage) const {
    return added_.subspan(stages_[static_cast<int>(stage)],
                          stages_[static_cast<int>(stage) + 1] - stages_[static_cast<int>(stage)]);
  }

  // The id of a vocabulary token, or kNone.
  uint32_t Find(std::string_view bytes, bool literal = false) const;
  // The rank of the merge of two tokens, or kNone. Smaller ranks go first.
  uint32_t Rank(uint32_t left, uint32_t right) const;
  // The id of the added token with this content, or kNone.
  uint32_t FindAdded(std::string_view content) const;
  // The longest added token of one stage that text[at, …) begins with, or null.
  const AddedEntry* LongestAdded(Stage stage, std::string_view text, size_t at) const;
  // found(id, length) for every vocabulary token that text[at, …) begins with, the shortest first. kUnigram only.
  template <class Found>
  void EachPrefix(std::string_view text, size_t at, const Found& found) const;

 private:
  friend class TableFiller;
  std::string_view EntryAt(uint32_t offset) const;

  std::span<uint32_t> offsets_, token_slots_, merged_, byte_ids_, sorted_;
  std::span<uint64_t> merge_slots_;
  std::span<double> scores_;
  std::span<AddedEntry> added_;
  std::span<char> charsmap_bytes_, blob_;
  std::span<uint8_t> flags_;
  Charsmap charsmap_;
  std::array<size_t, 4> stages_{};           // where each stage begins in added_, and its end
  std::array<uint32_t, 257> first_bytes_{};  // where the tokens with a first byte begin in sorted_
  double lowest_score_ = 0;
  uint32_t unknown_ = kNone;
  bool has_unused_ = false, spaces_part_words_ = false;
};

template <class Found>
void TokenTables::EachPrefix(std::string_view text, size_t at, const Found& found) const {
  const auto first = static_cast<unsigned char>(text[at]);
  size_t low = first_bytes_[first], high = first_bytes_[first + 1];
  for (size_t depth = 1; low < high; ++depth) {  // [low, high) share `depth` bytes with the text
    if (Bytes(sorted_[low]).size() == depth) found(sorted_[low++], depth);
    if (low == high || at + depth == text.size()) return;
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(Bytes(sorted_[i])[depth]); };
    const auto c = static_cast<unsigned char>(text[at + depth]);
    if (byte(low) == c && byte(high - 1) == c) continue;
    const auto bound = [&](auto below) {  // the first in [low, high) that is not `below`
      size_t from = low;
      for (size_t n = high - low; n > 0;) {
        const size_t half = n / 2;
        if (below(byte(from + half))) {
          from += half + 1;
          n -= half + 1;
        } else {
          n = half;
        }
      }
      return from;
    };
    low = bound([&](unsigned char b) { return b < c; });
    high = bound([&](unsigned char b) { return b == c; });
  }
}

// Counts what the files hold. Size() refuses ids with gaps and tables beyond the bounds.
class TableCounter : public TokenSink {
 public:
  Status Token(const VocabularyToken& token) override;
  Status Added(const AddedToken& token) override;
  Status Merge(std::string_view left, std::string_view right) override;
  Status Charsmap(std::string_view bytes) override;
  Result<TokenizerSize> Size(const TokenSettings& settings, const std::string& where) const;

 private:
  TokenizerSize size_;                             // its blob without tokens
  uint64_t written_bytes_ = 0, mapped_bytes_ = 0;  // of tokens, as they are written and as kBytes keeps them
  uint64_t pattern_bytes_ = 0;                     // room for what normalizers make of added tokens
};

// Fills `memory`, exactly size.bytes() and aligned to 8 bytes, which must outlive the tables.
class TableFiller : public TokenSink {
 public:
  TableFiller(const TokenizerSize& size, std::span<std::byte> memory, std::string where);
  Status Token(const VocabularyToken& token) override;
  Status Added(const AddedToken& token) override;
  Status Merge(std::string_view left, std::string_view right) override;
  Status Charsmap(std::string_view bytes) override;
  Result<TokenTables> Finish(const TokenSettings& settings);

 private:
  Error Bad(std::string_view what, std::string_view name) const;
  Error Changed() const;
  bool bytes() const { return size_.settings.model == TokenModel::kBytes; }
  Result<uint32_t> Append(std::string_view bytes);
  Result<uint32_t> FindName(std::string_view name, char* bytes, size_t* length) const;
  Status Place(uint32_t id);
  Status Enter(const AddedEntry& added);
  Status NormalizePatterns();
  Status OrderAdded();
  Status LinkAdded();
  Status FindBytes();
  Status FindUnknown();
  void SortTokens();
  void LookAtTokens();

  TokenizerSize size_, used_;
  std::string where_;
  TokenTables tables_;
};

}  // namespace sotto
