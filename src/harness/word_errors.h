// Word error rates: the least substitutions, deletions and insertions that make the words heard out of the words said.
//
//   WordErrors e = CountWordErrors(Normalized("It's 5 o'clock."), Normalized("its five o'clock"));
//   e.rate()    // of one text, or of several added up
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sotto {

// Lower case; everything but ASCII letters, digits and apostrophes, and bytes of other scripts, becomes a space, one between words.
std::string Normalized(std::string_view text);

struct WordErrors {
  int64_t words = 0, substituted = 0, deleted = 0, inserted = 0;  // words: of the reference
  double rate() const;                                            // 0 for no errors; errors alone count as 1
  WordErrors& operator+=(const WordErrors& other);
};

// Words stand apart by single spaces. kBadInput for more than 100,000 words in one text.
Result<WordErrors> CountWordErrors(std::string_view said, std::string_view heard);

}  // namespace sotto
