// Words to tokens, by byte pair encoding or as a unigram model.
//
// Not here: what makes words of a text (tokenizer.cc).
//
//   WordEncoder encoder(tables, settings, &ids);
//   for (each word of a text) encoder.Add(word);
#pragma once
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/token_tables.h"

namespace sotto {

// Encodes the words of one text, in order; `tables`, `settings` and `out` must outlive it.
class WordEncoder {
 public:
  static constexpr size_t kShortWord = 64;  // longer words take memory: kLongWordBytes for every byte
  static constexpr size_t kLongWordBytes = 28;

  WordEncoder(const TokenTables& tables, const TokenSettings& settings, std::vector<int32_t>* out)
      : tables_(tables), settings_(settings), out_(out) {}

  // Appends the tokens of a word, valid UTF-8 of less than 4 GiB.
  void Add(std::string_view word);

 private:
  // Byte pair encoding: beginning with its bytes or characters, the two neighbours whose join comes first in order are
  // joined, the leftmost of equals first, until none can be. Short words are scanned; long ones take a heap, O(n log n),
  // so that a run of 100,000 letters costs milliseconds.
  struct Join;
  void JoinShort(std::string_view word);
  void JoinLong(std::string_view word);
  template <class Begin>
  void EachSymbol(std::string_view word, const Begin& begin);
  Join JoinOf(uint32_t left, uint32_t right, std::string_view whole) const;
  void Note(uint32_t id, size_t left_bytes);
  void Say(uint32_t id, std::string_view text);
  void SayUnknown(std::string_view text);
  void TakeApart(std::string_view text, int depth);

  // Unigram: the cut whose scores add up to the most, by Viterbi's algorithm; of equals the one met first.
  template <class Score>
  void AddUnigram(std::string_view word);

  const TokenTables& tables_;
  const TokenSettings& settings_;
  std::vector<int32_t>* out_;
  bool after_unknown_ = false;
  std::unordered_map<uint32_t, uint32_t> left_bytes_;  // of joins that made a kUnused token
  struct Best {                                        // cut of a word's begin: its last token begins at `from`
    double score;
    uint32_t from, id;
  };
  std::vector<Best> best_;
  double score_ = 0;  // of all words before
};

}  // namespace sotto
