#include "text/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/text.h"
#include "text/utf8.h"

namespace sotto::jinja {
namespace {

constexpr size_t kNone = std::string_view::npos;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// One kind of line break, and none at the very end.
std::string Normalized(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

// The text that a string literal between quotes stands for: Python's unicode-escape over the text's own backslash escapes.
class Unescaper {
 public:
  Unescaper(std::string_view raw, int line) : raw_(raw), line_(line) {}

  Result<std::string> Run() {
    while (at_ < raw_.size()) {
      if (raw_[at_] != '\\')
        out_.push_back(raw_[at_++]);
      else
        TRY(Escape());
    }
    return std::move(out_);
  }

 private:
  Status Escape() {
    const char c = raw_[++at_];  // a literal never ends with a lone backslash
    constexpr std::string_view kLetters = "\\'\"abfnrtv", kMeanings = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t i = kLetters.find(c); i != kNone) {
      out_.push_back(kMeanings[i]);
      ++at_;
    } else if (c == '\n') {
      ++at_;
    } else if (c >= '0' && c <= '7') {
      uint32_t code = 0;
      for (int n = 0; n < 3 && at_ < raw_.size() && raw_[at_] >= '0' && raw_[at_] <= '7'; ++n)
        code = code * 8 + static_cast<uint32_t>(raw_[at_++] - '0');
      AppendCharacter(code, &out_);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      ++at_;
      TRY(Hex(c == 'x' ? 2 : c == 'u' ? 4 : 8));
    } else if (c == 'N') {
      return BadTemplate(line_, "\\N{…} in a string isn't supported");
    } else if (static_cast<unsigned char>(c) >= 0x80) {  // Python escapes such a character first, and then sees "\\xe9"
      const Character character = CharacterAt(raw_, at_);
      const auto format = character.code < 0x100 ? "\\x{:02x}" : character.code < 0x10000 ? "\\u{:04x}" : "\\U{:08x}";
      out_ += fmt::format(fmt::runtime(format), character.code);
      at_ += character.bytes;
    } else {
      out_ += {'\\', c};
      ++at_;
    }
    return {};
  }

  Status Hex(int digits) {
    uint64_t code = 0;
    for (; digits > 0; --digits, ++at_) {
      const size_t value =
          at_ < raw_.size() ? std::string_view("0123456789abcdef").find(static_cast<char>(raw_[at_] | 0x20)) : kNone;
      if (value == kNone || raw_[at_] < '0') return BadTemplate(line_, "a string has a truncated escape");
      code = code * 16 + value;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      return BadTemplate(line_, fmt::format("a string has an escape for U+{:04X}, which is no character", code));
    AppendCharacter(static_cast<uint32_t>(code), &out_);
    return {};
  }

  std::string_view raw_;
  int line_;
  size_t at_ = 0;
  std::string out_;
};

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(Normalized(source)), s_(source_) {}

  Result<std::vector<Token>> Run() {
    while (at_ < s_.size()) {
      const size_t open = NextTag();
      if (open == kNone) {
        Add(Token::kData, std::string(s_.substr(at_)));
        break;
      }
      TRY(Tag(open));
    }
    Add(Token::kEnd, "");
    return std::move(tokens_);
  }

 private:
  char Peek(size_t at) const { return at < s_.size() ? s_[at] : '\0'; }
  bool Is(size_t at, std::string_view text) const { return at <= s_.size() && s_.substr(at).starts_with(text); }
  void Add(Token::Kind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  size_t AfterSpace(size_t at) const { return s_.size() - Strip(s_.substr(at), Side::kLeft).size(); }
  size_t AfterNewline(size_t at) const { return Peek(at) == '\n' ? at + 1 : at; }

  // Where "%}" or its like ends, with the white space that it takes, or kNone: "-%}" takes all, "+%}" none, "%}" a line break.
  size_t AfterEnd(size_t at, std::string_view end) const {
    if (Peek(at) == '-' && Is(at + 1, end)) return AfterSpace(at + 1 + end.size());
    if (end == "}}") return Is(at, end) ? at + 2 : kNone;
    if (Peek(at) == '+' && Is(at + 1, end)) return at + 1 + end.size();
    return Is(at, end) ? AfterNewline(at + end.size()) : kNone;
  }

  void MoveTo(size_t to) {
    line_ += static_cast<int>(
        std::count(s_.begin() + static_cast<std::ptrdiff_t>(at_), s_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    line_starts_ = to > at_ && s_[to - 1] == '\n';
    at_ = to;
  }

  size_t NextTag() const {
    for (size_t i = at_; (i = s_.find('{', i)) != kNone; ++i)
      if (Peek(i + 1) == '{' || Peek(i + 1) == '%' || Peek(i + 1) == '#') return i;
    return kNone;
  }

  // The text before a tag at `open`, whose sign is '-', '+' or another character.
  void Data(size_t open, char sign, bool variable) {
    std::string_view text = s_.substr(at_, open - at_);
    if (sign == '-') {
      text = Strip(text, Side::kRight);
    } else if (sign != '+' && !variable) {
      const size_t line = text.rfind('\n') + 1;  // 0 if there is no line break
      if ((line > 0 || line_starts_) && AllSpace(text.substr(line))) text = text.substr(0, line);
    }
    if (!text.empty()) Add(Token::kData, std::string(text));
    MoveTo(open);
  }

  Status Tag(size_t open) {
    const char kind = s_[open + 1], sign = Peek(open + 2);
    const size_t inside = open + 2 + (sign == '-' || sign == '+' ? 1 : 0);
    Data(open, sign, kind == '{');
    if (kind == '%') {
      size_t raw = AfterSpace(inside);
      if (Is(raw, "raw")) {
        raw = AfterSpace(raw + 3);
        if (Is(raw, "-%}")) return Raw(AfterSpace(raw + 3));
        if (Is(raw, "%}")) return Raw(raw + 2);
      }
    }
    if (kind == '#') return Comment(inside);
    Add(kind == '{' ? Token::kVariableBegin : Token::kBlockBegin, "");
    MoveTo(inside);
    return Inside(kind == '{' ? "}}" : "%}", kind == '{' ? Token::kVariableEnd : Token::kBlockEnd);
  }

  Status Comment(size_t begin) {
    MoveTo(begin);
    for (size_t i = begin; i < s_.size(); ++i)
      if (const size_t after = AfterEnd(i, "#}"); after != kNone) return MoveTo(after), Status();
    return begin == s_.size() ? Status() : BadTemplate(line_, "a comment has no end");
  }

  Status Raw(size_t begin) {
    MoveTo(begin);
    for (size_t i = begin; (i = s_.find("{%", i)) != kNone; ++i) {
      const char sign = Peek(i + 2);
      const size_t name = AfterSpace(i + 2 + (sign == '-' || sign == '+' ? 1 : 0));
      if (!Is(name, "endraw")) continue;
      const size_t after = AfterEnd(AfterSpace(name + 6), "%}");
      if (after == kNone) continue;
      Data(i, sign, false);
      MoveTo(after);
      return {};
    }
    return begin == s_.size() ? Status() : BadTemplate(line_, "a raw block has no end");
  }

  // The tokens of a tag, to its end. An end between brackets isn't one.
  Status Inside(std::string_view end, Token::Kind end_kind) {
    std::string open_brackets;
    while (at_ < s_.size()) {
      if (const size_t after = open_brackets.empty() ? AfterEnd(at_, end) : kNone; after != kNone) {
        Add(end_kind, "");
        MoveTo(after);
        return {};
      }
      const char c = s_[at_];
      if (const size_t after = AfterSpace(at_); after > at_) {
        MoveTo(after);
      } else if (IsDigit(c)) {
        Number();
      } else if (const size_t after_name = AfterName(at_); after_name > at_) {
        Take(Token::kName, after_name);
      } else if (c == '"' || c == '\'') {
        TRY(Text(c));
      } else {
        TRY(Operator(&open_brackets));
      }
    }
    return {};
  }

  size_t AfterName(size_t at) const {
    for (uint32_t allowed = kAlpha; at < s_.size(); allowed = kAlpha | kDecimal) {
      const Character c = CharacterAt(s_, at);
      if (c.code != '_' && !(ClassesOf(c.code) & allowed)) break;
      at += c.bytes;
    }
    return at;
  }

  void Take(Token::Kind kind, size_t to) {
    std::string text(s_.substr(at_, to - at_));
    if (kind == Token::kInteger || kind == Token::kFloat) std::erase(text, '_');
    Add(kind, std::move(text));
    MoveTo(to);
  }

  // After digits with single underscores between them; `at` itself if there are none.
  size_t Digits(size_t at) const {
    if (!IsDigit(Peek(at))) return at;
    while (IsDigit(Peek(at)) || (Peek(at) == '_' && IsDigit(Peek(at + 1)))) ++at;
    return at;
  }
  size_t Exponent(size_t at) const {
    if (Peek(at) != 'e' && Peek(at) != 'E') return kNone;
    const size_t digits = at + (Peek(at + 1) == '+' || Peek(at + 1) == '-' ? 2 : 1);
    const size_t to = Digits(digits);
    return to == digits ? kNone : to;
  }

  void Number() {
    const size_t whole = Digits(at_);
    if (at_ == 0 || s_[at_ - 1] != '.') {
      const size_t fraction = Peek(whole) == '.' && Digits(whole + 1) > whole + 1 ? Digits(whole + 1) : whole;
      if (const size_t to = Exponent(fraction); to != kNone) return Take(Token::kFloat, to);
      if (const size_t to = Exponent(whole); to != kNone) return Take(Token::kFloat, to);
      if (fraction > whole) return Take(Token::kFloat, fraction);
    }
    if (s_[at_] != '0') return Take(Token::kInteger, whole);
    const char base = static_cast<char>(Peek(at_ + 1) | 0x20);
    const std::string_view digits = base == 'x'   ? "0123456789abcdefABCDEF"
                                    : base == 'o' ? "01234567"
                                    : base == 'b' ? "01"
                                                  : "";
    size_t to = at_ + (digits.empty() ? 1 : 2);
    const std::string_view allowed = digits.empty() ? "0" : digits;
    const auto is_digit = [&](size_t i) { return Peek(i) != '\0' && allowed.find(Peek(i)) != kNone; };
    while (is_digit(to) || (Peek(to) == '_' && is_digit(to + 1))) ++to;
    Take(Token::kInteger, !digits.empty() && to == at_ + 2 ? at_ + 1 : to);
  }

  Status Text(char quote) {
    size_t to = at_ + 1;
    while (to < s_.size() && s_[to] != quote) to += s_[to] == '\\' ? 2 : 1;
    if (to >= s_.size()) return BadTemplate(line_, "a string has no end");
    std::string text = TRY(Unescaper(s_.substr(at_ + 1, to - at_ - 1), line_).Run());
    Add(Token::kString, std::move(text));
    MoveTo(to + 1);
    return {};
  }

  Status Operator(std::string* open_brackets) {
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    const auto* found = std::find_if(std::begin(kOperators), std::end(kOperators), [&](auto o) { return Is(at_, o); });
    if (found == std::end(kOperators))
      return BadTemplate(line_, fmt::format("'{}' has no meaning here", s_.substr(at_, CharacterAt(s_, at_).bytes)));
    const char c = (*found)[0];
    if (c == '(' || c == '[' || c == '{') open_brackets->push_back(c == '(' ? ')' : static_cast<char>(c + 2));
    if (c == ')' || c == ']' || c == '}') {
      if (open_brackets->empty() || open_brackets->back() != c)
        return BadTemplate(line_, fmt::format("'{}' closes nothing", c));
      open_brackets->pop_back();
    }
    Take(Token::kOperator, at_ + found->size());
    return {};
  }

  const std::string source_;
  const std::string_view s_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // what was read last ended with a line break
  std::vector<Token> tokens_;
};

}  // namespace

Error BadTemplate(int line, std::string_view what) {
  return BadModel(fmt::format("the chat template, line {}: {}", line, what));
}

Result<std::vector<Token>> Tokenize(std::string_view source) { return Lexer(source).Run(); }

}  // namespace sotto::jinja
