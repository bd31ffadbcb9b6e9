#include "harness/word_errors.h"

#include <algorithm>
#include <vector>

namespace sotto {
namespace {

constexpr size_t kMostWords = 100'000;

std::vector<std::string_view> Words(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t space = std::min(text.find(' '), text.size());
    if (space > 0) words.push_back(text.substr(0, space));
    text.remove_prefix(std::min(space + 1, text.size()));
  }
  return words;
}

// The errors of the best alignment of prefixes: compared by their sum.
struct Cost {
  int32_t substituted = 0, deleted = 0, inserted = 0;
  int32_t sum() const { return substituted + deleted + inserted; }
};

}  // namespace

std::string Normalized(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool upper = c >= 'A' && c <= 'Z';
    const bool kept = upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '\'' || (c & 0x80) != 0;
    if (kept)
      out += upper ? static_cast<char>(c + 32) : c;
    else if (!out.empty() && out.back() != ' ')
      out += ' ';
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

double WordErrors::rate() const {
  const int64_t errors = substituted + deleted + inserted;
  if (words == 0) return errors > 0 ? 1 : 0;
  return static_cast<double>(errors) / static_cast<double>(words);
}

WordErrors& WordErrors::operator+=(const WordErrors& other) {
  words += other.words;
  substituted += other.substituted;
  deleted += other.deleted;
  inserted += other.inserted;
  return *this;
}

Result<WordErrors> CountWordErrors(std::string_view said, std::string_view heard) {
  const std::vector<std::string_view> a = Words(said), b = Words(heard);
  if (std::max(a.size(), b.size()) > kMostWords)
    return BadInput("a text has more than 100,000 words; compare it in pieces");
  std::vector<Cost> row(b.size() + 1);  // of the reference's first i words against the first j heard
  for (size_t j = 1; j <= b.size(); ++j) row[j].inserted = static_cast<int32_t>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    Cost before = row[0];
    row[0].deleted = static_cast<int32_t>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      Cost best = before;  // both words
      best.substituted += a[i - 1] != b[j - 1];
      before = row[j];
      if (Cost c = before; c.sum() + 1 < best.sum()) best = c, ++best.deleted;
      if (Cost c = row[j - 1]; c.sum() + 1 < best.sum()) best = c, ++best.inserted;
      row[j] = best;
    }
  }
  const Cost& c = row[b.size()];
  return WordErrors{static_cast<int64_t>(a.size()), c.substituted, c.deleted, c.inserted};
}

}  // namespace sotto
