// The unigram model: of all cuts into tokens the one whose scores add up to the most.
#include <cmath>

#include "text/utf8.h"
#include "text/words.h"

namespace sotto {
namespace {

constexpr uint32_t kNone = TokenTables::kNone;
constexpr double kUnknownPenalty = 10;   // below the lowest score of all
constexpr double kLargeScore = 100'000;  // where SentencePiece begins to count from 0 again

}  // namespace

// Viterbi as both references do it: from left to right, a later candidate must be better to win. SentencePiece counts in
// float over the whole text, `tokenizers` in double over a word; sums are rounded as theirs so that ties fall the same.
template <class Score>
void WordEncoder::AddUnigram(std::string_view word) {
  best_.assign(word.size() + 1, {0, kNone, kNone});
  if (settings_.sentencepiece) best_[0].score = score_;
  const Score unknown = static_cast<Score>(tables_.lowest_score()) - static_cast<Score>(kUnknownPenalty);
  size_t reached = 0;
  for (size_t at = 0, bytes = 0; at < word.size(); at += bytes) {
    bytes = CharacterAt(word, at).bytes;
    auto before = static_cast<Score>(best_[at].score);
    if (settings_.sentencepiece && std::abs(before) > static_cast<Score>(kLargeScore)) {
      for (size_t i = at; i <= reached; ++i)
        if (i == at || best_[i].from != kNone) best_[i].score = static_cast<Score>(best_[i].score) - before;
      before = 0;
    }
    const auto offer = [&](size_t end, Score score, uint32_t id) {
      reached = std::max(reached, end);
      Best& best = best_[end];
      if (best.from == kNone || score > static_cast<Score>(best.score)) best = {score, static_cast<uint32_t>(at), id};
    };
    bool single = false;
    tables_.EachPrefix(word, at, [&](uint32_t id, size_t length) {
      if (tables_.Has(id, TokenTables::kHidden | TokenTables::kUnused)) return;
      const double score =
          tables_.Has(id, TokenTables::kUserDefined) ? 0.1 * static_cast<double>(length - 1) : tables_.Score(id);
      offer(at + length, static_cast<Score>(score) + before, id);
      single = single || length == bytes;
    });
    if (!single) offer(at + bytes, unknown + before, kNone);
  }
  score_ = best_[word.size()].score;
  // Turns the links around, so that they lead from the word's begin to its end.
  uint32_t next = kNone;
  for (auto at = static_cast<uint32_t>(word.size()); at != kNone;) {
    const uint32_t from = best_[at].from;
    best_[at].from = next;
    next = at;
    at = from;
  }
  for (uint32_t at = 0; best_[at].from != kNone;) {
    const uint32_t end = best_[at].from;
    Say(best_[end].id, word.substr(at, end - at));
    at = end;
  }
}

template void WordEncoder::AddUnigram<float>(std::string_view);
template void WordEncoder::AddUnigram<double>(std::string_view);

}  // namespace sotto
