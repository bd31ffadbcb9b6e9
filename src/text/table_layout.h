// What counting and filling the tables share: their sizes, and the hash tables' arithmetic.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "text/token_tables.h"

namespace sotto {

inline constexpr uint64_t kEmptySlot = ~uint64_t{0};

inline uint64_t SlotCount(uint64_t entries) { return entries + entries / 3 + 1; }  // at most three quarters are taken

inline uint64_t Mix(uint64_t h) {  // the finalizer of MurmurHash3
  h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDull;
  h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53ull;
  return h >> 32;
}

inline size_t FirstSlot(uint64_t hash32, size_t slots) { return static_cast<size_t>(hash32 * slots >> 32); }
inline size_t NextSlot(size_t slot, size_t slots) { return slot + 1 == slots ? 0 : slot + 1; }

inline uint64_t HashBytes(std::string_view bytes, bool literal) {  // FNV-1a, mixed
  uint64_t h = 0xCBF29CE484222325ull ^ static_cast<uint64_t>(literal);
  for (const char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return Mix(h);
}

inline uint64_t PairKey(uint32_t left, uint32_t right) { return uint64_t{left} << 20 | right; }

// Tokens of SentencePiece that are looked for in the text as well.
inline bool IsAddedKind(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown || kind == TokenKind::kUserDefined;
}

inline uint64_t PatternRoom(uint64_t content) { return 4 * content + 16; }  // of an added token, normalized

// Bytes of the tables, in their order.
inline std::array<uint64_t, 11> TableBytes(const TokenizerSize& size) {
  const bool unigram = size.settings.model == TokenModel::kUnigram;
  const bool scored = unigram || size.settings.model == TokenModel::kScores;
  return {4 * size.vocabulary,
          scored ? 8 * size.vocabulary : 0,
          8 * SlotCount(size.merges),
          4 * SlotCount(size.tokens),
          unigram ? 4 * size.tokens : 0,
          4 * size.merges,
          uint64_t{4} * 256,
          sizeof(AddedEntry) * size.added,
          size.charsmap_bytes,
          size.blob_bytes,
          size.vocabulary};
}

}  // namespace sotto
