#include <algorithm>
#include <array>
#include <iterator>

#include "text/jinja/text.h"
#include "text/utf8.h"

namespace sotto::jinja {
namespace {

// Characters first, first + stride … last become themselves + difference.
struct CaseRange {
  uint32_t first, last, stride;
  int32_t difference;
};
struct LongCase {
  uint32_t code;
  Case to;
  const char* text;
};
// kClassChanges: where the classes change, code << 10 | classes. kTitle: only what differs from kUpper.
#include "text/jinja/unicode.inc"

const CaseRange* RangeOf(const CaseRange* begin, const CaseRange* end, uint32_t code) {
  const CaseRange* at = std::lower_bound(begin, end, code, [](const CaseRange& r, uint32_t c) { return r.last < c; });
  return at != end && at->first <= code && (code - at->first) % at->stride == 0 ? at : nullptr;
}

void AppendCased(uint32_t code, Case to, std::string* out) {
  if (code < 0x80) {
    const bool changes = to == Case::kLower ? code >= 'A' && code <= 'Z' : code >= 'a' && code <= 'z';
    out->push_back(static_cast<char>(changes ? code ^ 0x20 : code));
    return;
  }
  const auto is_before = [](const LongCase& l, std::pair<uint32_t, Case> c) {
    return l.code != c.first ? l.code < c.first : l.to > c.second;  // within a character: title, upper
  };
  const LongCase* several =
      std::lower_bound(std::begin(kLongCases), std::end(kLongCases), std::pair(code, to), is_before);
  if (several != std::end(kLongCases) && several->code == code && several->to == to) {
    out->append(several->text);
    return;
  }
  const CaseRange* range = nullptr;
  if (to == Case::kTitle) range = RangeOf(std::begin(kTitle), std::end(kTitle), code);
  if (to == Case::kTitle && range == nullptr) return AppendCased(code, Case::kUpper, out);
  if (to == Case::kUpper) range = RangeOf(std::begin(kUpper), std::end(kUpper), code);
  if (to == Case::kLower) range = RangeOf(std::begin(kLower), std::end(kLower), code);
  AppendCharacter(range != nullptr ? static_cast<uint32_t>(static_cast<int32_t>(code) + range->difference) : code, out);
}

uint32_t Searched(uint32_t code) {
  const uint32_t* after = std::upper_bound(std::begin(kClassChanges), std::end(kClassChanges), code << 10 | 1023);
  return after == std::begin(kClassChanges) ? 0 : after[-1] & 1023;
}

const auto g_ascii = [] {
  std::array<uint16_t, 128> classes{};
  for (uint32_t c = 0; c < 128; ++c) classes[c] = static_cast<uint16_t>(Searched(c));
  return classes;
}();

constexpr uint32_t kSigma = 0x3A3, kFinalSigma = 0x3C2;

// The capital sigma at text[at] ends a word: a cased character before it and none after it, ignoring what can be ignored.
bool EndsWord(std::string_view text, size_t at) {
  const auto cased = [&](size_t i) { return ClassesOf(CharacterAt(text, i).code); };
  size_t before = at;
  bool follows = false;
  while (before > 0 && !follows) {
    do --before;
    while ((text[before] & 0xC0) == 0x80);
    const uint32_t classes = cased(before);
    if (classes & kCased) follows = true;
    if (!(classes & (kCased | kCaseIgnorable))) break;
  }
  if (!follows) return false;
  for (size_t i = at + 2; i < text.size(); i += CharacterAt(text, i).bytes) {
    const uint32_t classes = cased(i);
    if (classes & kCased) return false;
    if (!(classes & kCaseIgnorable)) break;
  }
  return true;
}

void AppendLower(std::string_view text, size_t at, uint32_t code, std::string* out) {
  if (code == kSigma && EndsWord(text, at))
    AppendCharacter(kFinalSigma, out);
  else
    AppendCased(code, Case::kLower, out);
}

}  // namespace

uint32_t ClassesOf(uint32_t code) { return code < 128 ? g_ascii[code] : Searched(code); }

std::string Cased(std::string_view text, Case to) {
  std::string out;
  out.reserve(text.size());
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const Character c = CharacterAt(text, i);
    if (to == Case::kLower || (to == Case::kTitle && in_word))
      AppendLower(text, i, c.code, &out);
    else
      AppendCased(c.code, to, &out);
    if (to == Case::kTitle) in_word = ClassesOf(c.code) & kCased;
    i += c.bytes;
  }
  return out;
}

std::string Capitalized(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const Character c = CharacterAt(text, i);
    if (i == 0)
      AppendCased(c.code, Case::kTitle, &out);
    else
      AppendLower(text, i, c.code, &out);
    i += c.bytes;
  }
  return out;
}

bool All(std::string_view text, uint32_t classes) {
  for (size_t i = 0; i < text.size();) {
    const Character c = CharacterAt(text, i);
    if (!(ClassesOf(c.code) & classes)) return false;
    i += c.bytes;
  }
  return !text.empty();
}

bool AllSpace(std::string_view text) { return !text.empty() && Strip(text, Side::kBoth).empty(); }

bool AllCased(std::string_view text, uint32_t wanted) {
  const uint32_t unwanted = (kUpperCase | kLowerCase | kTitleCase) & ~wanted;
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    const Character c = CharacterAt(text, i);
    const uint32_t classes = ClassesOf(c.code);
    if (classes & unwanted) return false;
    any |= (classes & wanted) != 0;
    i += c.bytes;
  }
  return any;
}

}  // namespace sotto::jinja
