// The character map of a SentencePiece model (precompiled_charsmap): which sequences of characters are written how.
//
//   uint32 n | n bytes: double-array trie of uint32 units (Darts) | texts, each ended by a NUL
//
//   unit of a node:  bits 0-7 the byte that leads here, 8 has a value, 9-30 where its children are
//   unit of a value: bit 31 set, 0-30 where its text begins
//
// Both bytes and units are little-endian. Every number is checked when it is used: a damaged map maps nonsense, no more.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace sotto {

inline constexpr uint64_t kMaxCharsmapBytes = 1 << 20;  // nmt_nfkc_cf has 300 kB

class Charsmap {
 public:
  struct Rule {
    size_t bytes = 0;  // of the text that it replaces; 0: no rule applies
    std::string_view text;
  };

  Charsmap() = default;  // has no rules
  // `bytes` must outlive the map. kBadModel.
  static Result<Charsmap> Open(std::string_view bytes, const std::string& where);

  bool empty() const { return trie_.empty(); }
  // The rule for the longest or shortest begin of `text`. Texts that are UTF-8 stay so.
  Rule Longest(std::string_view text) const { return Find(text, true); }
  Rule Shortest(std::string_view text) const { return Find(text, false); }

 private:
  Rule Find(std::string_view text, bool longest) const;
  uint32_t Unit(size_t index) const;

  std::string_view trie_, texts_;
};

}  // namespace sotto
