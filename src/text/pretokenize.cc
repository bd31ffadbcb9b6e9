#include "text/pretokenize.h"

#include <algorithm>

#include "text/utf8.h"

namespace sotto {
namespace {

constexpr uint16_t kLetterOrNumber = kLetter | kNumber;

struct Known {
  std::string_view regex;
  Splitting splitting;
};
constexpr Known kKnown[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", Splitting::kGpt2},
    {R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", Splitting::kGpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Splitting::kLlama3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Splitting::kQwen2},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Splitting::kTekken},
    {R"(\p{N})", Splitting::kNumber},
    {R"(\p{N}+)", Splitting::kNumbers},
    {R"([0-9][0-9][0-9])", Splitting::kThreeDigits},
    {R"([\p{P}\$\+<=>\^~\|]+)", Splitting::kSymbols},
};

// A character with its classes; at the end of the text a character of no class and no bytes.
struct Seen {
  uint32_t code = 0, bytes = 0;
  uint16_t classes = 0;
  bool Is(uint16_t wanted) const { return (classes & wanted) != 0; }
  bool IsOther() const { return bytes != 0 && !Is(kLetterOrNumber | kSpace); }
  bool IsLineEnd() const { return code == '\n' || code == '\r'; }
};

Seen Look(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const Character c = CharacterAt(text, at);
  return {c.code, c.bytes, Classes(c.code)};
}

// The end of the run of characters of `wanted` classes that begins at `at`, at most `limit` characters.
size_t RunEnd(std::string_view text, size_t at, uint16_t wanted, size_t limit = SIZE_MAX) {
  for (Seen c = Look(text, at); limit > 0 && c.Is(wanted); c = Look(text, at), --limit) at += c.bytes;
  return at;
}

size_t OtherEnd(std::string_view text, size_t at) {
  for (Seen c = Look(text, at); c.IsOther(); c = Look(text, at)) at += c.bytes;
  return at;
}

// Bytes of 's 't 're 've 'm 'll 'd at text[at], or 0. Without case also 'ſ (U+017F), which folds to s.
size_t Contraction(std::string_view text, size_t at, bool any_case) {
  if (text[at] != '\'' || at + 1 >= text.size()) return 0;
  const auto lower = [&](size_t i) {
    const char c = i < text.size() ? text[i] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = lower(at + 1), second = lower(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  if (any_case && text.substr(at + 1, 2) == "\xC5\xBF") return 3;
  return 0;
}

// \s+(?!\S)|\s+ : a run of spaces without its last character when text follows, so that the last one can join a word.
size_t Spaces(std::string_view text, size_t at) {
  size_t end = at, last = at;
  for (Seen c = Look(text, end); c.Is(kSpace); c = Look(text, end)) {
    last = end;
    end += c.bytes;
  }
  return end == text.size() || last == at ? end : last;
}

size_t Gpt2End(std::string_view text, size_t at) {
  if (const size_t n = Contraction(text, at, false)) return at + n;
  const size_t body = at + (text[at] == ' ' ? 1 : 0);
  const Seen c = Look(text, body);
  if (c.Is(kLetter)) return RunEnd(text, body, kLetter);
  if (c.Is(kNumber)) return RunEnd(text, body, kNumber);
  if (c.IsOther()) return OtherEnd(text, body);
  return Spaces(text, at);
}

// The last alternatives of Llama 3's pattern and of those like it. `marks`: what besides line ends follows symbols.
size_t SymbolsOrSpaces(std::string_view text, size_t at, bool slashes) {
  const size_t body = at + (text[at] == ' ' ? 1 : 0);
  if (Look(text, body).IsOther()) {
    size_t end = OtherEnd(text, body);
    for (Seen c = Look(text, end); c.IsLineEnd() || (slashes && c.code == '/'); c = Look(text, end)) ++end;
    return end;
  }
  size_t after_line_end = at;
  size_t end = at;
  for (Seen c = Look(text, end); c.Is(kSpace); c = Look(text, end)) {
    end += c.bytes;
    if (c.IsLineEnd()) after_line_end = end;
  }
  return after_line_end != at ? after_line_end : Spaces(text, at);
}

size_t Llama3End(std::string_view text, size_t at, size_t digits) {
  if (const size_t n = Contraction(text, at, true)) return at + n;
  const Seen first = Look(text, at);
  if (first.Is(kLetter)) return RunEnd(text, at, kLetter);
  if (!first.IsLineEnd() && !first.Is(kNumber) && Look(text, at + first.bytes).Is(kLetter))
    return RunEnd(text, at + first.bytes, kLetter);
  if (first.Is(kNumber)) return RunEnd(text, at, kNumber, digits);
  return SymbolsOrSpaces(text, at, false);
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and [\p{Ll}\p{Lm}\p{Lo}\p{M}]: they share letters without case, and marks.
bool IsUpper(Seen c) { return c.Is(kLetter | kMark) && !c.Is(kLower); }
bool IsLower(Seen c) { return c.Is(kLetter | kMark) && !c.Is(kUpper); }

// The end of IsUpper* IsLower+ from `at`, or `at`: as much of the first class as leaves one of the second.
size_t CasedEnd(std::string_view text, size_t at) {
  size_t end = at, shared = at;
  Seen c = Look(text, end);
  for (; IsUpper(c); c = Look(text, end)) {
    end += c.bytes;
    if (IsLower(c)) shared = end;
  }
  if (!IsLower(c)) return shared;
  for (; IsLower(c); c = Look(text, end)) end += c.bytes;
  return end;
}

size_t TekkenEnd(std::string_view text, size_t at) {
  const Seen first = Look(text, at);
  const size_t body = at + (first.IsLineEnd() || first.Is(kLetterOrNumber) ? 0 : first.bytes);
  if (const size_t end = CasedEnd(text, body); end != body) return end;
  if (const size_t end = CasedEnd(text, at); end != at)
    return end;  // a mark is no letter before others, but one itself
  size_t upper = body;
  for (Seen c = Look(text, upper); IsUpper(c); c = Look(text, upper)) upper += c.bytes;
  if (upper != body) return upper;
  if (first.Is(kNumber)) return at + first.bytes;
  return SymbolsOrSpaces(text, at, true);
}

// [\p{P}\$\+<=>\^~\|]
bool IsSymbol(Seen c) {
  constexpr std::string_view kOthers = "$+<=>^~|";
  return c.Is(kPunctuation) || (c.code < 128 && kOthers.find(static_cast<char>(c.code)) != kOthers.npos);
}

// The end of the match that begins at text[at], or `at` when there is none.
size_t MatchEnd(Splitting splitting, std::string_view text, size_t at) {
  switch (splitting) {
    case Splitting::kGpt2: return Gpt2End(text, at);
    case Splitting::kLlama3: return Llama3End(text, at, 3);
    case Splitting::kQwen2: return Llama3End(text, at, 1);
    case Splitting::kTekken: return TekkenEnd(text, at);
    case Splitting::kNumber: return RunEnd(text, at, kNumber, 1);
    case Splitting::kNumbers: return RunEnd(text, at, kNumber);
    case Splitting::kThreeDigits: {
      size_t end = at;
      while (end < text.size() && end < at + 3 && text[end] >= '0' && text[end] <= '9') ++end;
      return end == at + 3 ? end : at;
    }
    case Splitting::kSymbols: {
      size_t end = at;
      for (Seen c = Look(text, end); IsSymbol(c); c = Look(text, end)) end += c.bytes;
      return end;
    }
    case Splitting::kSpaces: return RunEnd(text, at, kSpace);
    default: return at;
  }
}

}  // namespace

std::optional<Splitting> SplittingOf(std::string_view regex) {
  for (const Known& known : kKnown)
    if (regex == known.regex) return known.splitting;
  return std::nullopt;
}

size_t WordLength(Splitting splitting, std::string_view text, size_t at) {
  if (splitting == Splitting::kBeforeSpaceMark || splitting == Splitting::kBeforeSpaceMarks) {
    size_t end = at;
    while (text.substr(end).starts_with(kSpaceMark) && (end == at || splitting == Splitting::kBeforeSpaceMarks))
      end += kSpaceMark.size();
    return std::min(text.find(kSpaceMark, std::max(end, at + 1)), text.size()) - at;
  }
  if (const size_t end = MatchEnd(splitting, text, at); end != at) return end - at;
  size_t end = at;  // up to the next match
  do end += Look(text, end).bytes;
  while (end < text.size() && MatchEnd(splitting, text, end) == end);
  return end - at;
}

bool IsDropped(Splitting splitting, std::string_view word) {
  return splitting == Splitting::kSpaces && Look(word, 0).Is(kSpace);
}

}  // namespace sotto
