#include "text/normal_form.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <vector>

#include "text/utf8.h"

namespace sotto {
namespace {

struct Pair {
  uint32_t code, first, second;
};
#include "text/normal_tables.inc"

// Hangul syllables are computed: Unicode 15, section 3.12.
constexpr uint32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr uint32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28, kSyllableCount = 11172;
constexpr uint32_t kFirstChange = 0xC0, kFirstComposing = 0x300;

const Pair* Decomposed(uint32_t code) {
  const Pair* at = std::lower_bound(std::begin(kCanonical), std::end(kCanonical), code,
                                    [](const Pair& pair, uint32_t c) { return pair.code < c; });
  return at != std::end(kCanonical) && at->code == code ? at : nullptr;
}

uint32_t CombiningClass(uint32_t code) {
  if (code < kFirstComposing) return 0;
  return std::upper_bound(std::begin(kCombining), std::end(kCombining), code << 8 | 0xFF)[-1] & 0xFF;
}

std::optional<uint32_t> Compose(uint32_t first, uint32_t second) {
  if (second < kFirstComposing) return std::nullopt;
  if (first - kLeads < kLeadCount && second - kVowels < kVowelCount)
    return kSyllables + ((first - kLeads) * kVowelCount + second - kVowels) * kTailCount;
  if (first - kSyllables < kSyllableCount && (first - kSyllables) % kTailCount == 0 && second > kTails &&
      second < kTails + kTailCount)
    return first + second - kTails;
  const auto* at = std::lower_bound(std::begin(kComposing), std::end(kComposing), second, [&](uint16_t i, uint32_t) {
    const Pair& p = kCanonical[i];
    return p.first != first ? p.first < first : p.second < second;
  });
  if (at == std::end(kComposing) || kCanonical[*at].first != first || kCanonical[*at].second != second)
    return std::nullopt;
  return kCanonical[*at].code;
}

// Takes decomposed characters, puts marks in order and composes: Unicode 15, section 3.11.
class Composer {
 public:
  explicit Composer(std::string* out) : out_(out) {}

  void Add(uint32_t code) {
    const uint32_t order = CombiningClass(code);
    if (order != 0) return marks_.push_back({order, code});
    ComposeMarks();
    if (starter_ && marks_.empty())
      if (const auto whole = Compose(*starter_, code)) {
        starter_ = whole;
        return;
      }
    Flush();
    starter_ = code;
  }
  void Finish() {
    ComposeMarks();
    Flush();
  }

 private:
  struct Mark {
    uint32_t order, code;
  };

  // Joins marks to the starter; what is left of them cannot be joined.
  void ComposeMarks() {
    std::stable_sort(marks_.begin(), marks_.end(), [](Mark a, Mark b) { return a.order < b.order; });
    if (!starter_) return;
    size_t kept = 0;
    for (const Mark mark : marks_) {
      const bool blocked = kept > 0 && marks_[kept - 1].order == mark.order;
      const auto whole = blocked ? std::nullopt : Compose(*starter_, mark.code);
      if (whole)
        starter_ = whole;
      else
        marks_[kept++] = mark;
    }
    marks_.resize(kept);
  }
  void Flush() {
    if (starter_) AppendUtf8(*starter_, out_);
    for (const Mark mark : marks_) AppendUtf8(mark.code, out_);
    marks_.clear();
  }

  std::string* out_;
  std::optional<uint32_t> starter_;
  std::vector<Mark> marks_;
};

void Decompose(uint32_t code, Composer& into) {
  if (code < kFirstChange) return into.Add(code);
  if (code - kSyllables < kSyllableCount) {
    const uint32_t n = code - kSyllables, tail = n % kTailCount;
    into.Add(kLeads + n / (kVowelCount * kTailCount));
    into.Add(kVowels + n / kTailCount % kVowelCount);
    if (tail != 0) into.Add(kTails + tail);
    return;
  }
  const Pair* pair = Decomposed(code);
  if (pair == nullptr) return into.Add(code);
  Decompose(pair->first, into);  // at most four deep: the table's longest chain
  if (pair->second != 0) Decompose(pair->second, into);
}

}  // namespace

void AppendNormalForm(std::string_view text, std::string* out) {
  Composer composer(out);
  for (size_t at = 0; at < text.size();) {
    const Character c = CharacterAt(text, at);
    at += c.bytes;
    Decompose(c.code, composer);
  }
  composer.Finish();
}

}  // namespace sotto
