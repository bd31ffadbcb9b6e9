#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/filters.h"
#include "text/jinja/methods.h"
#include "text/jinja/text.h"
#include "text/utf8.h"

namespace sotto::jinja {
namespace {

using Reply = Result<Value>;
using R = Renderer;
using V = const Value&;
using A = Arguments&;

bool IsSafe(const Value& text) { return text.as<String>().safe; }

Reply InCase(R& r, V self, Case to) {
  const Value text = TRY(ToText(r.budget(), self));
  return r.budget().Text(Cased(text.text(), to), IsSafe(text));
}

// Words begin at the start and after white space and any of -({[<.
Reply Title(R& r, V self, A) {
  const Value value = TRY(ToText(r.budget(), self));
  const std::string_view text = value.text();
  const auto separates = [](uint32_t code) {
    return IsSpace(code) ||
           (code < 0x80 && std::string_view("-({[<").find(static_cast<char>(code)) != std::string_view::npos);
  };
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Character first = CharacterAt(text, at);
    size_t end = at + first.bytes;
    if (separates(first.code)) {
      out.append(text.substr(at, first.bytes));
    } else {
      while (end < text.size() && !separates(CharacterAt(text, end).code)) end += CharacterAt(text, end).bytes;
      out += Cased(text.substr(at, first.bytes), Case::kUpper);
      out += Cased(text.substr(at + first.bytes, end - at - first.bytes), Case::kLower);
    }
    at = end;
  }
  return r.budget().Text(std::move(out));
}

Reply Trim(R& r, V self, A a) {
  const Value text = TRY(ToText(r.budget(), self));
  if (!IsGiven(a.positional[0])) return r.budget().Text(std::string(Strip(text.text(), Side::kBoth)), IsSafe(text));
  const std::string_view unwanted = TRY(TextOf(a.positional[0], "what is trimmed"));
  TRY(r.budget().Spend(text.text().size() * unwanted.size() / 1024));
  return r.budget().Text(std::string(Strip(text.text(), Side::kBoth, unwanted)), IsSafe(text));
}

Reply Replace(R& r, V self, A a) {
  const Value text = TRY(ToText(r.budget(), self)), old = TRY(ToText(r.budget(), a.positional[0]));
  const Value fresh = TRY(ToText(r.budget(), a.positional[1]));
  const int64_t most = IsGiven(a.positional[2]) ? TRY(IntOf(a.positional[2], -1, "a count")) : -1;
  return Replaced(r, text, old.text(), fresh.text(), most);
}

Reply Join(R& r, V self, A a) {
  const Value separator = a.positional[0] ? TRY(ToText(r.budget(), a.positional[0])) : Constant("");
  const Getter get = TRY(Getter::Make(r, a.positional[1], Value(), false));
  const auto source = TRY(Iterate(r.budget(), self));
  std::string out;
  Value item;
  for (bool first = true; TRY(source->Next(&item)); first = false) {
    TRY(r.budget().Fits(out.size() + separator.text().size()));
    if (!first) out += separator.text();
    TRY(AppendText(r.budget(), TRY(get(r, std::move(item))), &out));
  }
  return r.budget().Text(std::move(out));
}

Reply Indent(R& r, V self, A a) {
  const auto& [width, first, blank] = std::tie(a.positional[0], a.positional[1], a.positional[2]);
  std::string text(TRY(TextOf(self, "what is indented")));
  if (IsSafe(self)) return BadInput("indent of safe text isn't supported in a chat template");
  std::string indentation;
  if (width && width.is(Kind::kString)) {
    indentation = width.text();
  } else {
    const int64_t count = TRY(IntOf(width, 4, "a width"));
    TRY(r.budget().Fits(static_cast<uint64_t>(std::max<int64_t>(count, 0))));
    indentation = std::string(static_cast<size_t>(std::max<int64_t>(count, 0)), ' ');
  }
  const std::vector<std::string_view> lines = SplitLines(text += '\n', false);
  std::string out = IsTrue(first) ? indentation : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    TRY(r.budget().Fits(out.size() + indentation.size() + lines[i].size()));
    if (i > 0) out += '\n';
    if (i > 0 && (IsTrue(blank) || !lines[i].empty())) out += indentation;
    out += lines[i];
  }
  return r.budget().Text(std::move(out));
}

Reply Truncate(R& r, V self, A a) {
  const Value end = a.positional[2] ? a.positional[2] : Constant("...");
  TRY(TextOf(end, "an ellipsis"));
  const int64_t length = TRY(IntOf(a.positional[0], 255, "a length")), mark = end.as<String>().length;
  const int64_t leeway = IsGiven(a.positional[3]) ? TRY(IntOf(a.positional[3], 5, "a leeway")) : 5;
  if (length < mark || leeway < 0) return BadInput("truncate has a length or leeway that is too small");
  if (TRY(Length(self)) <= length + leeway) return self;
  TRY(TextOf(self, "what is truncated"));
  const std::string& text = self.text();
  std::string kept = text.substr(0, OffsetOf(text, length - mark));
  if (!IsTrue(a.positional[1])) kept = kept.substr(0, kept.rfind(' '));
  return r.budget().Text(kept + end.text());
}

Reply Escape(R& r, V self, A) {
  const Value text = TRY(ToText(r.budget(), self));
  if (IsSafe(text)) return text;
  TRY(r.budget().Fits(text.text().size() * 6));
  return r.budget().Text(HtmlEscaped(text.text()), true);
}

Reply ForceEscape(R& r, V self, A) {
  const Value text = TRY(ToText(r.budget(), self));
  TRY(r.budget().Fits(text.text().size() * 6));
  return r.budget().Text(HtmlEscaped(text.text()), true);
}

Reply Format(R& r, V self, A a) {
  if (!a.positional.empty() && !a.named.empty())
    return BadInput("format takes arguments with or without names, not both");
  const Value format = TRY(ToText(r.budget(), self));
  if (a.named.empty()) return Percent(r.budget(), format, TRY(r.budget().Tuple(std::move(a.positional))));
  std::vector<std::pair<Value, Value>> items;
  for (auto& [name, value] : a.named) items.emplace_back(TRY(r.budget().Text(name)), std::move(value));
  return Percent(r.budget(), format, TRY(r.budget().MakeDict(std::move(items))));
}

Result<JsonStyle> StyleOf(const Arguments& a) {
  const auto& [ascii, indent, separators, sort_keys] =
      std::tie(a.positional[0], a.positional[1], a.positional[2], a.positional[3]);
  JsonStyle style;
  style.ascii = IsTrue(ascii);
  style.sort_keys = IsTrue(sort_keys);
  if (IsGiven(indent)) {
    style.lines = true;
    style.comma = ",";
    const int64_t spaces = indent.is(Kind::kString) ? 0 : TRY(IntOf(indent, 0, "an indent"));
    if (spaces > 1000) return BadInput("an indent is too wide");
    style.indent =
        indent.is(Kind::kString) ? indent.text() : std::string(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' ');
  }
  if (IsGiven(separators)) {
    if (!separators.IsSequence() || separators.items().size() != 2) return BadInput("separators are not a pair");
    style.comma = TRY(TextOf(separators.items()[0], "a separator"));
    style.colon = TRY(TextOf(separators.items()[1], "a separator"));
  }
  return style;
}

Reply ToJson(R& r, V self, A a) {
  const JsonStyle style = TRY(StyleOf(a));
  std::string out;
  TRY(AppendJson(r.budget(), self, style, 0, &out));
  return r.budget().Text(std::move(out));
}

constexpr Native kFilters[] = {
    {"upper", "", [](R& r, V s, A) -> Reply { return InCase(r, s, Case::kUpper); }},
    {"lower", "", [](R& r, V s, A) -> Reply { return InCase(r, s, Case::kLower); }},
    {"capitalize", "",
     [](R& r, V s, A) -> Reply {
       const Value text = TRY(ToText(r.budget(), s));
       return r.budget().Text(Capitalized(text.text()), IsSafe(text));
     }},
    {"title", "", Title},
    {"trim", "?chars", Trim},
    {"replace", "old new ?count", Replace},
    {"join", "?d ?attribute", Join},
    {"indent", "?width ?first ?blank", Indent},
    {"truncate", "?length ?killwords ?end ?leeway", Truncate},
    {"center", "?width",
     [](R& r, V s, A a) -> Reply {
       const Value text = TRY(ToText(r.budget(), s));
       return Aligned(r, text, TRY(IntOf(a.positional[0], 80, "a width")), " ", Side::kBoth);
     }},
    {"string", "", [](R& r, V s, A) -> Reply { return ToText(r.budget(), s); }},
    {"safe", "",
     [](R& r, V s, A) -> Reply {
       const Value text = TRY(ToText(r.budget(), s));
       return r.budget().Text(text.text(), true);
     }},
    {"escape", "", Escape},
    {"e", "", Escape},
    {"forceescape", "", ForceEscape},
    {"format", "*", Format},
    {"tojson", "?ensure_ascii ?indent ?separators ?sort_keys", ToJson},
};

}  // namespace

std::span<const Native> TextFilters() { return kFilters; }

}  // namespace sotto::jinja
