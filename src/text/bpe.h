// Byte pair encoding of one word.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/token_tables.h"

namespace sotto {

// Appends the tokens of a word: beginning with its bytes, the two neighbours whose merge has the smallest rank are
// joined, the leftmost of equals first, until none can be. Words up to `short_word` bytes (at most 64) are scanned;
// longer ones take a heap, O(n log n), so that a run of 100,000 letters costs milliseconds.
void MergeWord(const TokenTables& tables, std::string_view word, size_t short_word, std::vector<int32_t>* out);

}  // namespace sotto
