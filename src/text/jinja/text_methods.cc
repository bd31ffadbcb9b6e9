#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"
#include "text/utf8.h"

namespace sotto::jinja {
namespace {

using Reply = Result<Value>;

bool Given(const Value& v) { return v && !v.is(Kind::kNone); }
bool IsSafe(const Value& v) { return v.as<String>().safe; }

// markupsafe escapes the arguments of a safe text's methods; no template needs it.
Status MustBePlain(const Value& self, std::string_view method) {
  if (IsSafe(self)) return BadInput(fmt::format("{}() of safe text isn't supported in a chat template", method));
  return {};
}

Reply Texts(Renderer& r, const Value& self, const std::vector<std::string_view>& parts, Kind kind = Kind::kList) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(TRY(r.budget().Text(std::string(part), IsSafe(self))));
  return r.budget().Items(kind, std::move(items));
}

Reply Stripped(Renderer& r, const Value& self, Arguments& a, Side side) {
  const std::string& text = self.text();
  const Value& characters = a.positional[0];
  if (!Given(characters)) return r.budget().Text(std::string(Strip(text, side)), IsSafe(self));
  const std::string_view unwanted = TRY(TextOf(characters, "what is stripped"));
  TRY(r.budget().Spend(text.size() * unwanted.size() / 1024));
  return r.budget().Text(std::string(Strip(text, side, unwanted)), IsSafe(self));
}

Reply Pieces(Renderer& r, const Value& self, Arguments& a, bool from_right) {
  const int64_t most = TRY(IntOf(a.positional[1], -1, "maxsplit"));
  const std::string& text = self.text();
  if (!Given(a.positional[0])) {
    TRY(r.budget().Fits(text.size() * 8));
    return Texts(r, self, Split(text, most, from_right));
  }
  const std::string_view separator = TRY(TextOf(a.positional[0], "a separator"));
  if (separator.empty()) return BadInput("a separator is empty");
  TRY(r.budget().Fits(text.size() / separator.size() * sizeof(std::string_view)));
  return Texts(r, self, Split(text, separator, most, from_right));
}

Reply Halves(Renderer& r, const Value& self, Arguments& a, bool from_right) {
  TRY(MustBePlain(self, "partition"));
  const std::string_view text = self.text(), separator = TRY(TextOf(a.positional[0], "a separator"));
  if (separator.empty()) return BadInput("a separator is empty");
  const size_t at = from_right ? FindLast(text, separator) : Find(text, separator, 0);
  if (at == std::string_view::npos)
    return from_right ? Texts(r, self, {"", "", text}, Kind::kTuple) : Texts(r, self, {text, "", ""}, Kind::kTuple);
  return Texts(r, self, {text.substr(0, at), separator, text.substr(at + separator.size())}, Kind::kTuple);
}

// The part of a text between two places in characters, as slices have them, and where it begins.
struct Window {
  Value text;
  int64_t start = 0;
  bool possible = true;  // false: it begins behind the end, where not even "" is found
};
Result<Window> WindowOf(Renderer& r, const Value& self, const Arguments& a) {
  Window window{self};
  const int64_t length = self.as<String>().length;
  if (!Given(a.positional[1]) && !Given(a.positional[2])) return window;
  window.start = TRY(IntOf(Given(a.positional[1]) ? a.positional[1] : Value(), 0, "a start"));
  window.possible = window.start <= length;
  if (window.start < 0) window.start = std::max<int64_t>(0, window.start + length);
  window.text = TRY(Slice(r.budget(), self, a.positional[1], a.positional[2], Value()));
  return window;
}

// find, rfind, index, rindex.
Reply Place(Renderer& r, const Value& self, Arguments& a, bool from_right, bool must) {
  const std::string_view part = TRY(TextOf(a.positional[0], "what is looked for"));
  const Window window = TRY(WindowOf(r, self, a));
  const std::string_view text = window.text.text();
  const size_t at = !window.possible ? std::string_view::npos : from_right ? FindLast(text, part) : Find(text, part, 0);
  if (at != std::string_view::npos) return Value::Int(window.start + Characters(text.substr(0, at)));
  return must ? Reply(BadInput("the text isn't found")) : Value::Int(-1);
}

Reply Count(Renderer& r, const Value& self, Arguments& a) {
  const std::string_view part = TRY(TextOf(a.positional[0], "what is counted"));
  const Window window = TRY(WindowOf(r, self, a));
  const std::string_view text = window.text.text();
  if (!window.possible) return Value::Int(0);
  if (part.empty()) return Value::Int(Characters(text) + 1);
  int64_t count = 0;
  for (size_t at = 0; (at = Find(text, part, at)) != std::string_view::npos; at += part.size()) ++count;
  return Value::Int(count);
}

Reply Affix(Renderer& r, const Value& self, Arguments& a, bool at_end) {
  const Window window = TRY(WindowOf(r, self, a));
  const std::string_view text = window.text.text();
  const auto matches = [&](const Value& v) -> Result<bool> {
    const std::string_view affix = TRY(TextOf(v, "a prefix or suffix"));
    return window.possible && (at_end ? text.ends_with(affix) : text.starts_with(affix));
  };
  if (!a.positional[0].is(Kind::kTuple)) return Value::Bool(TRY(matches(a.positional[0])));
  for (const Value& affix : a.positional[0].items())
    if (TRY(matches(affix))) return Value::Bool(true);
  return Value::Bool(false);
}

Reply Removed(Renderer& r, const Value& self, Arguments& a, bool at_end) {
  TRY(MustBePlain(self, "removeprefix"));
  std::string_view text = self.text();
  const std::string_view affix = TRY(TextOf(a.positional[0], "a prefix or suffix"));
  if (at_end && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!at_end && text.starts_with(affix)) text.remove_prefix(affix.size());
  return r.budget().Text(std::string(text));
}

Reply Joined(Renderer& r, const Value& self, Arguments& a) {
  TRY(MustBePlain(self, "join"));
  const auto source = TRY(Iterate(r.budget(), a.positional[0]));
  std::string out;
  Value item;
  for (bool first = true; TRY(source->Next(&item)); first = false) {
    const std::string_view text = TRY(TextOf(item, "what is joined"));
    TRY(r.budget().Fits(out.size() + self.text().size() + text.size()));
    if (!first) out += self.text();
    out += text;
  }
  return r.budget().Text(std::move(out));
}

Reply Adjusted(Renderer& r, const Value& self, Arguments& a, Side side) {
  TRY(MustBePlain(self, "center"));
  const std::string_view fill = a.positional[1] ? TRY(TextOf(a.positional[1], "a fill character")) : " ";
  if (Characters(fill) != 1) return BadInput("a fill character isn't one character");
  return Aligned(r, self, TRY(IntOf(a.positional[0], 0, "a width")), fill, side);
}

Reply ZeroFilled(Renderer& r, const Value& self, Arguments& a) {
  TRY(MustBePlain(self, "zfill"));
  const std::string& text = self.text();
  const int64_t missing = TRY(IntOf(a.positional[0], 0, "a width")) - self.as<String>().length;
  if (missing <= 0) return self;
  TRY(r.budget().Fits(static_cast<uint64_t>(missing)));
  const size_t sign = text.starts_with('+') || text.starts_with('-') ? 1 : 0;
  return r.budget().Text(text.substr(0, sign) + std::string(static_cast<size_t>(missing), '0') + text.substr(sign));
}

Reply InCase(Renderer& r, const Value& self, Case to) { return r.budget().Text(Cased(self.text(), to), IsSafe(self)); }

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

using R = Renderer;
using V = const Value&;
using A = Arguments&;

constexpr Native kMethods[] = {
    {"strip", "?.chars", [](R& r, V s, A a) -> Reply { return Stripped(r, s, a, Side::kBoth); }},
    {"lstrip", "?.chars", [](R& r, V s, A a) -> Reply { return Stripped(r, s, a, Side::kLeft); }},
    {"rstrip", "?.chars", [](R& r, V s, A a) -> Reply { return Stripped(r, s, a, Side::kRight); }},
    {"split", "?sep ?maxsplit", [](R& r, V s, A a) -> Reply { return Pieces(r, s, a, false); }},
    {"rsplit", "?sep ?maxsplit", [](R& r, V s, A a) -> Reply { return Pieces(r, s, a, true); }},
    {"partition", ".sep", [](R& r, V s, A a) -> Reply { return Halves(r, s, a, false); }},
    {"rpartition", ".sep", [](R& r, V s, A a) -> Reply { return Halves(r, s, a, true); }},
    {"splitlines", "?keepends",
     [](R& r, V s, A a) -> Reply {
       TRY(r.budget().Fits(s.text().size() * sizeof(std::string_view)));
       return Texts(r, s, SplitLines(s.text(), a.positional[0] && Truth(a.positional[0])));
     }},
    {"find", ".sub ?.start ?.end", [](R& r, V s, A a) -> Reply { return Place(r, s, a, false, false); }},
    {"rfind", ".sub ?.start ?.end", [](R& r, V s, A a) -> Reply { return Place(r, s, a, true, false); }},
    {"index", ".sub ?.start ?.end", [](R& r, V s, A a) -> Reply { return Place(r, s, a, false, true); }},
    {"rindex", ".sub ?.start ?.end", [](R& r, V s, A a) -> Reply { return Place(r, s, a, true, true); }},
    {"count", ".sub ?.start ?.end", Count},
    {"startswith", ".prefix ?.start ?.end", [](R& r, V s, A a) -> Reply { return Affix(r, s, a, false); }},
    {"endswith", ".suffix ?.start ?.end", [](R& r, V s, A a) -> Reply { return Affix(r, s, a, true); }},
    {"removeprefix", ".prefix", [](R& r, V s, A a) -> Reply { return Removed(r, s, a, false); }},
    {"removesuffix", ".suffix", [](R& r, V s, A a) -> Reply { return Removed(r, s, a, true); }},
    {"replace", ".old .new ?.count",
     [](R& r, V s, A a) -> Reply {
       TRY(MustBePlain(s, "replace"));
       const auto& p = a.positional;
       return Replaced(r, s, TRY(TextOf(p[0], "what is replaced")), TRY(TextOf(p[1], "a replacement")),
                       TRY(IntOf(p[2], -1, "a count")));
     }},
    {"join", ".iterable", Joined},
    {"format", "*",
     [](R& r, V s, A a) -> Reply {
       TRY(MustBePlain(s, "format"));
       return Formatted(r, s, a);
     }},
    {"format_map", ".mapping",
     [](R& r, V s, A a) -> Reply {
       TRY(MustBePlain(s, "format_map"));
       if (!a.positional[0].is(Kind::kDict)) return BadInput("format_map() needs a dict");
       Arguments named;
       for (const auto& [key, value] : a.positional[0].dict().items)
         if (key.is(Kind::kString)) named.named.emplace_back(key.text(), value);
       return Formatted(r, s, named);
     }},
    {"upper", "", [](R& r, V s, A) -> Reply { return InCase(r, s, Case::kUpper); }},
    {"lower", "", [](R& r, V s, A) -> Reply { return InCase(r, s, Case::kLower); }},
    {"title", "", [](R& r, V s, A) -> Reply { return InCase(r, s, Case::kTitle); }},
    {"capitalize", "", [](R& r, V s, A) -> Reply { return r.budget().Text(Capitalized(s.text()), IsSafe(s)); }},
    {"center", ".width ?.fillchar", [](R& r, V s, A a) -> Reply { return Adjusted(r, s, a, Side::kBoth); }},
    {"ljust", ".width ?.fillchar", [](R& r, V s, A a) -> Reply { return Adjusted(r, s, a, Side::kLeft); }},
    {"rjust", ".width ?.fillchar", [](R& r, V s, A a) -> Reply { return Adjusted(r, s, a, Side::kRight); }},
    {"zfill", ".width", ZeroFilled},
    {"isalpha", "", [](R&, V s, A) -> Reply { return Value::Bool(All(s.text(), kAlpha)); }},
    {"isdigit", "", [](R&, V s, A) -> Reply { return Value::Bool(All(s.text(), kDigit)); }},
    {"isdecimal", "", [](R&, V s, A) -> Reply { return Value::Bool(All(s.text(), kDecimal)); }},
    {"isnumeric", "", [](R&, V s, A) -> Reply { return Value::Bool(All(s.text(), kNumeric)); }},
    {"isalnum", "",
     [](R&, V s, A) -> Reply { return Value::Bool(All(s.text(), kAlpha | kDecimal | kDigit | kNumeric)); }},
    {"isspace", "", [](R&, V s, A) -> Reply { return Value::Bool(AllSpace(s.text())); }},
    {"isupper", "", [](R&, V s, A) -> Reply { return Value::Bool(AllCased(s.text(), kUpperCase)); }},
    {"islower", "", [](R&, V s, A) -> Reply { return Value::Bool(AllCased(s.text(), kLowerCase)); }},
    {"isprintable", "", [](R&, V s, A) -> Reply { return Value::Bool(s.text().empty() || All(s.text(), kPrintable)); }},
    {"isascii", "", [](R&, V s, A) -> Reply { return Value::Bool(IsAscii(s.text())); }},
};

}  // namespace

std::span<const Native> TextMethods() { return kMethods; }

Result<Value> Replaced(Renderer& r, const Value& text, std::string_view old, std::string_view fresh, int64_t most) {
  const std::string_view from = text.text();
  std::string out;
  size_t begin = 0;
  for (size_t at = 0; most != 0 && (at = Find(from, old, at)) != std::string_view::npos; --most) {
    TRY(r.budget().Spend(1));
    TRY(r.budget().Fits(out.size() + fresh.size() + from.size()));
    out.append(from.substr(begin, at - begin)).append(fresh);
    begin = at + old.size();
    if (old.empty() && at == from.size()) break;
    at = old.empty() ? at + CharacterAt(from, at).bytes : begin;
  }
  return r.budget().Text(out.append(from.substr(begin)));
}

Result<Value> Aligned(Renderer& r, const Value& text, int64_t width, std::string_view fill, Side side) {
  const int64_t missing = width - text.as<String>().length;
  if (missing <= 0) return text;
  TRY(r.budget().Fits(static_cast<uint64_t>(missing) * fill.size()));
  // CPython puts the odd one to the left when the width is odd, too.
  const int64_t left = side == Side::kLeft ? 0 : side == Side::kRight ? missing : missing / 2 + (missing & width & 1);
  return r.budget().Text(Repeated(fill, left) + text.text() + Repeated(fill, missing - left));
}

}  // namespace sotto::jinja
