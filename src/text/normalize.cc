#include "text/normalize.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/normal_form.h"
#include "text/utf8.h"

namespace sotto {
namespace {

using Symbol = FunctionRef<size_t(std::string_view, size_t)>;

// The grapheme that begins at text[at], as far as a short one goes: `tokenizers` maps graphemes of up to 5 bytes as one,
// and what this leaves out (Hangul jamo, flags, joined emoji, Indic conjuncts, prepended marks) makes longer ones or has
// no rule in any published map.
size_t GraphemeEnd(std::string_view text, size_t at) {
  if (text.substr(at).starts_with("\r\n")) return at + 2;
  const Character first = CharacterAt(text, at);
  at += first.bytes;
  if (Classes(first.code) & kControl) return at;
  while (at < text.size()) {
    const Character c = CharacterAt(text, at);
    if (!(Classes(c.code) & kJoins)) break;
    at += c.bytes;
  }
  return at;
}

// As the crate spm_precompiled does it, and not SentencePiece: the shortest rule is taken, and for a grapheme as a whole.
void MapGraphemes(const Charsmap& map, std::string_view text, std::string* out) {
  constexpr size_t kShort = 5;
  for (size_t at = 0; at < text.size() && out->size() <= kMaxTextBytes;) {
    const size_t end = GraphemeEnd(text, at);
    if (end - at <= kShort)
      if (const auto rule = map.Shortest(text.substr(at, end - at)); rule.bytes != 0) {
        out->append(rule.text);
        at = end;
        continue;
      }
    while (at < end) {
      const std::string_view character = text.substr(at, CharacterAt(text, at).bytes);
      const auto rule = map.Shortest(character);
      out->append(rule.bytes != 0 ? rule.text : character);
      at += character.size();
    }
  }
}

// SentencePiece's Normalizer::Normalize. A byte that is not UTF-8 becomes U+FFFD, to which no rule applies.
void SentencePieceForm(const SpaceRules& spaces, const Charsmap& map, Symbol symbol, std::string_view text,
                       std::string* out) {
  const std::string_view space = spaces.escape ? kSpaceMark : " ";
  std::string_view piece;  // what the next bytes of the text become
  const auto next = [&](size_t at) -> size_t {
    if (const size_t n = symbol(text, at); n != 0) {
      piece = text.substr(at, n);
      return n;
    }
    if (const auto rule = map.Longest(text.substr(at)); rule.bytes != 0) {
      piece = rule.text;
      return rule.bytes;
    }
    const Character c = SafeCharacterAt(text, at);
    piece = c.code == 0xFFFD ? kReplacement : text.substr(at, c.bytes);
    return c.bytes;
  };
  size_t at = 0;
  if (spaces.remove_extra)
    while (at < text.size()) {
      const size_t n = next(at);
      if (piece != " ") break;
      at += n;
    }
  if (at == text.size()) return;
  if (spaces.add_prefix && !spaces.suffix) out->append(space);
  bool after_space = spaces.remove_extra;
  while (at < text.size() && out->size() <= kMaxTextBytes) {
    at += next(at);
    if (after_space) piece.remove_prefix(std::min(piece.find_first_not_of(' '), piece.size()));
    for (const char c : piece) c == ' ' ? out->append(space) : out->append(1, c);
    if (!piece.empty()) after_space = spaces.remove_extra && piece.ends_with(' ');
  }
  if (spaces.remove_extra)
    while (out->ends_with(space)) out->resize(out->size() - space.size());
  if (spaces.add_prefix && spaces.suffix) out->append(space);
}

void ReplaceAll(std::string_view from, std::string_view to, std::string_view text, std::string* out) {
  for (size_t at = 0; at <= text.size() && out->size() <= kMaxTextBytes;) {
    const size_t found = std::min(text.find(from, at), text.size());
    out->append(text.substr(at, found - at));
    if (found == text.size()) break;
    out->append(to);
    at = found + from.size();
  }
}

void ReplaceSpaces(std::string_view to, std::string_view text, std::string* out) {
  for (size_t at = 0; at < text.size();) {
    const size_t begin = std::min(text.find("  ", at), text.size());
    const size_t end = std::min(text.find_first_not_of(' ', begin), text.size());
    out->append(text.substr(at, begin - at));
    if (begin != text.size()) out->append(to);
    at = end;
  }
}

// Whether the normal form leaves the text as it is because of the range of its characters alone: all are below U+0300.
bool IsPlain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
}

}  // namespace

Status Normalize(const TokenSettings& settings, const Charsmap& map, Symbol symbol, std::string_view* text,
                 std::string* scratch) {
  for (const NormalStep& step : settings.normalizer) {
    std::string out;
    switch (step.kind) {
      case NormalStep::kNfc:
        if (IsPlain(*text)) continue;
        AppendNormalForm(*text, &out);
        break;
      case NormalStep::kPrepend:
        if (text->empty()) continue;
        out.reserve(step.to.count + text->size());
        out.append(step.to.view()).append(*text);
        break;
      case NormalStep::kReplace:
        if (text->find(step.from.view()) == text->npos) continue;
        ReplaceAll(step.from.view(), step.to.view(), *text, &out);
        break;
      case NormalStep::kReplaceSpaces: ReplaceSpaces(step.to.view(), *text, &out); break;
      case NormalStep::kStripLeft: text->remove_prefix(SpacesEnd(*text, 0)); continue;
      case NormalStep::kStripRight: *text = text->substr(0, SpacesBegin(*text, text->size())); continue;
      case NormalStep::kCharsmap: MapGraphemes(map, *text, &out); break;
      case NormalStep::kSentencePiece: SentencePieceForm(settings.spaces, map, symbol, *text, &out); break;
    }
    if (out.size() > kMaxTextBytes)
      return BadInput(
          fmt::format("the text grows beyond {} bytes when it is normalized; give it in parts", kMaxTextBytes));
    *scratch = std::move(out);
    *text = *scratch;
  }
  return {};
}

}  // namespace sotto
