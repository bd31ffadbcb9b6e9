#include "text/jinja/text.h"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>

#include "text/utf8.h"

namespace sotto::jinja {
namespace {

// The character that ends before text[end].
Character CharacterBefore(std::string_view text, size_t end) {
  size_t at = end - 1;
  while ((text[at] & 0xC0) == 0x80) --at;
  return CharacterAt(text, at);
}

template <class Test>
std::string_view StripIf(std::string_view text, Side side, Test unwanted) {
  if (side != Side::kRight)
    while (!text.empty()) {
      const Character c = CharacterAt(text, 0);
      if (!unwanted(c.code)) break;
      text.remove_prefix(c.bytes);
    }
  if (side != Side::kLeft)
    while (!text.empty()) {
      const Character c = CharacterBefore(text, text.size());
      if (!unwanted(c.code)) break;
      text.remove_suffix(c.bytes);
    }
  return text;
}

// Where the first character with IsSpace() == `space` begins, from `at` on.
size_t NextSpace(std::string_view text, size_t at, bool space) {
  while (at < text.size()) {
    const Character c = CharacterAt(text, at);
    if (IsSpace(c.code) == space) break;
    at += c.bytes;
  }
  return at;
}

size_t PreviousSpace(std::string_view text, size_t end, bool space) {
  while (end > 0) {
    const Character c = CharacterBefore(text, end);
    if (IsSpace(c.code) == space) break;
    end -= c.bytes;
  }
  return end;
}

}  // namespace

int64_t Characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

size_t OffsetOf(std::string_view text, int64_t character) {
  size_t at = 0;
  for (; character > 0; --character) at += CharacterAt(text, at).bytes;
  return at;
}

void AppendCharacter(uint32_t code, std::string* out) {
  const auto add = [&](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  const auto tail = [&](int shift) { add(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) {
    add(code);
  } else if (code < 0x800) {
    add(0xC0 | code >> 6), tail(0);
  } else if (code < 0x10000) {
    add(0xE0 | code >> 12), tail(6), tail(0);
  } else {
    add(0xF0 | code >> 18), tail(12), tail(6), tail(0);
  }
}

std::string Repeated(std::string_view text, int64_t count) {
  if (text.size() == 1) return std::string(static_cast<size_t>(std::max<int64_t>(count, 0)), text[0]);
  std::string out;
  for (; count > 0; --count) out += text;
  return out;
}

bool IsSpace(uint32_t code) {
  if (code < 0x80) return (code >= 9 && code <= 13) || (code >= 0x1C && code <= 0x20);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

std::string_view Strip(std::string_view text, Side side) { return StripIf(text, side, IsSpace); }

std::string_view Strip(std::string_view text, Side side, std::string_view characters) {
  return StripIf(text, side, [&](uint32_t code) {
    std::string character;
    AppendCharacter(code, &character);
    return characters.find(character) != std::string_view::npos;
  });
}

std::vector<std::string_view> Split(std::string_view text, int64_t most, bool from_right) {
  std::vector<std::string_view> parts;
  if (from_right) {
    size_t end = PreviousSpace(text, text.size(), false);
    while (end > 0) {
      const size_t begin = most-- == 0 ? 0 : PreviousSpace(text, end, true);
      parts.push_back(text.substr(begin, end - begin));
      end = PreviousSpace(text, begin, false);
    }
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t begin = NextSpace(text, 0, false);
  while (begin < text.size()) {
    const size_t end = most-- == 0 ? text.size() : NextSpace(text, begin, true);
    parts.push_back(text.substr(begin, end - begin));
    begin = NextSpace(text, end, false);
  }
  return parts;
}

std::vector<std::string_view> Split(std::string_view text, std::string_view separator, int64_t most, bool from_right) {
  std::vector<std::string_view> parts;
  if (from_right) {  // from the left, with everything turned round: a search from the right has no linear bound
    const std::string turned(text.rbegin(), text.rend()), mark(separator.rbegin(), separator.rend());
    for (const std::string_view part : Split(turned, mark, most, false)) {
      const size_t end = text.size() - static_cast<size_t>(part.data() - turned.data());
      parts.push_back(text.substr(end - part.size(), part.size()));
    }
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t begin = 0;
  while (most-- != 0) {
    const size_t at = Find(text, separator, begin);
    if (at == std::string_view::npos) break;
    parts.push_back(text.substr(begin, at - begin));
    begin = at + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin, next = text.size();
    while (end < text.size()) {
      const Character c = CharacterAt(text, end);
      const bool ends = (c.code >= 10 && c.code <= 13) || (c.code >= 0x1C && c.code <= 0x1E) || c.code == 0x85 ||
                        c.code == 0x2028 || c.code == 0x2029;
      if (ends) {
        next = end + c.bytes + (text.substr(end, 2) == "\r\n" ? 1 : 0);
        break;
      }
      end += c.bytes;
    }
    lines.push_back(text.substr(begin, (keep_ends ? next : end) - begin));
    begin = next;
  }
  return lines;
}

size_t Find(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (part.empty()) return from;
  const void* at = ::memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return at == nullptr ? std::string_view::npos : static_cast<size_t>(static_cast<const char*>(at) - text.data());
}

size_t FindLast(std::string_view text, std::string_view part) {
  const size_t at = Find(std::string(text.rbegin(), text.rend()), std::string(part.rbegin(), part.rend()), 0);
  return at == std::string_view::npos ? at : text.size() - at - part.size();
}

void AppendQuoted(std::string_view text, std::string* out) {
  const bool has_single = text.find('\'') != std::string_view::npos,
             has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  out->push_back(quote);
  for (size_t i = 0; i < text.size();) {
    const Character c = CharacterAt(text, i);
    if (c.code == static_cast<uint32_t>(quote) || c.code == '\\')
      *out += {'\\', text[i]};
    else if (c.code == '\n' || c.code == '\r' || c.code == '\t')
      *out += {'\\', c.code == '\n' ? 'n' : c.code == '\r' ? 'r' : 't'};
    else if (ClassesOf(c.code) & kPrintable)
      out->append(text.substr(i, c.bytes));
    else if (c.code < 0x100)
      *out += fmt::format("\\x{:02x}", c.code);
    else
      *out += c.code < 0x10000 ? fmt::format("\\u{:04x}", c.code) : fmt::format("\\U{:08x}", c.code);
    i += c.bytes;
  }
  out->push_back(quote);
}

std::string FloatText(double number) {
  std::string text = fmt::format("{}", number);  // the shortest digits that read back the same, as Python
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text == "-nan" ? "nan" : text;
}

std::string HtmlEscaped(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&#39;"; break;
      case '"': out += "&#34;"; break;
      default: out.push_back(c);
    }
  return out;
}

}  // namespace sotto::jinja
