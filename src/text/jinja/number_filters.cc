#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "text/jinja/filters.h"
#include "text/jinja/text.h"
#include "text/utf8.h"

namespace sotto::jinja {
namespace {

using Reply = Result<Value>;
using R = Renderer;
using V = const Value&;
using A = Arguments&;

Error TooLarge() { return BadInput("a whole number doesn't fit in 64 bits"); }

// Removes white space around, and single underscores between digits; nothing when there are others.
std::optional<std::string> Digits(std::string_view text) {
  text = Strip(text, Side::kBoth);
  std::string out;
  const auto is_digit = [&](size_t i) { return i < text.size() && std::isalnum(static_cast<unsigned char>(text[i])); };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_')
      out.push_back(text[i]);
    else if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1))
      return std::nullopt;
  }
  return out;
}

// int(text, base): nothing where Python raises ValueError.
Result<std::optional<int64_t>> ParseInt(std::string_view text, int64_t base) {
  using Parsed = std::optional<int64_t>;
  const auto digits = Digits(text);
  if (!digits || (base != 0 && (base < 2 || base > 36))) return Parsed();
  std::string_view s = *digits;
  const bool negative = s.starts_with('-');
  if (negative || s.starts_with('+')) s.remove_prefix(1);
  const char mark = s.size() > 1 && s[0] == '0' ? static_cast<char>(s[1] | 0x20) : '\0';
  const int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
  if (marked != 0 && (base == marked || base == 0)) {
    s.remove_prefix(2);
    base = marked;
  } else if (base == 0) {
    if (s.starts_with('0') && s.find_first_not_of('0') != std::string_view::npos) return Parsed();
    base = 10;
  }
  if (s.empty() || s[0] == '-') return Parsed();
  const std::string number = (negative ? "-" : "") + std::string(s);
  int64_t value = 0;
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), value, static_cast<int>(base));
  if (end != number.data() + number.size()) return Parsed();
  if (error == std::errc::result_out_of_range) return TooLarge();
  return error == std::errc() ? Parsed(value) : Parsed();
}

// float(text)
std::optional<double> ParseFloat(std::string_view text) {
  const auto digits = Digits(text);
  if (!digits || digits->empty()) return std::nullopt;
  std::string_view s = *digits;
  const bool negative = s.starts_with('-');
  if (negative || s.starts_with('+')) s.remove_prefix(1);
  const std::string word = Cased(s, Case::kLower);
  double value = 0;
  if (word == "inf" || word == "infinity") {
    value = std::numeric_limits<double>::infinity();
  } else if (word == "nan") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    if (word.find_first_not_of("0123456789.e+-") != std::string::npos || word.empty() || word[0] == '-')
      return std::nullopt;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error == std::errc::invalid_argument || end != word.data() + word.size()) return std::nullopt;
    if (error == std::errc::result_out_of_range)
      value = word.find("e-") != std::string::npos ? 0 : std::numeric_limits<double>::infinity();
  }
  return negative ? -value : value;
}

Result<Value> Truncated(double number) {
  if (!(std::abs(number) < 9.2e18)) return TooLarge();
  return Value::Int(static_cast<int64_t>(number));
}

// Python reads the digits of any script as numbers.
Status NoOtherDigits(std::string_view text) {
  for (size_t i = 0; i < text.size(); i += CharacterAt(text, i).bytes)
    if (const uint32_t code = CharacterAt(text, i).code; code >= 0x80 && (ClassesOf(code) & kDecimal))
      return BadInput("numbers in digits beyond ASCII aren't supported in a chat template");
  return {};
}

Reply Int(R&, V self, A a) {
  const Value otherwise = a.positional[0] ? a.positional[0] : Value::Int(0);
  if (self.is(Kind::kUndefined)) return UndefinedError(self);
  if (self.IsInteger()) return Value::Int(self.integer());
  if (self.is(Kind::kFloat)) return std::isnan(self.number()) ? Reply(otherwise) : Truncated(self.number());
  if (!self.is(Kind::kString)) return otherwise;
  TRY(NoOtherDigits(self.text()));
  if (const auto number = TRY(ParseInt(self.text(), TRY(IntOf(a.positional[1], 10, "a base")))); number)
    return Value::Int(*number);
  const auto number = ParseFloat(self.text());
  return number && std::isfinite(*number) ? Truncated(*number) : otherwise;
}

Reply Float(R&, V self, A a) {
  const Value otherwise = a.positional[0] ? a.positional[0] : Value::Float(0);
  if (self.is(Kind::kUndefined)) return UndefinedError(self);
  if (self.IsNumber()) return Value::Float(self.number());
  if (!self.is(Kind::kString)) return otherwise;
  TRY(NoOtherDigits(self.text()));
  const auto number = ParseFloat(self.text());
  return number ? Value::Float(*number) : otherwise;
}

Reply Abs(R& r, V self, A) {
  if (!self.IsNumber()) return NoSuchOperation("abs", self, self);
  if (self.is(Kind::kFloat)) return Value::Float(std::abs(self.number()));
  return self.integer() < 0 ? Negative(r.budget(), self) : Value::Int(self.integer());
}

Reply Round(R& r, V self, A a) {
  const std::string_view method = a.positional[1] ? TRY(TextOf(a.positional[1], "a method")) : "common";
  const int64_t precision = TRY(IntOf(a.positional[0], 0, "a precision"));
  if (method != "common" && method != "ceil" && method != "floor")
    return BadInput("round knows common, ceil and floor");
  if (!self.IsNumber()) return NoSuchOperation("round", self, self);
  if (precision < 0) return BadInput("round to tens isn't supported in a chat template");
  if (method == "common") {
    if (self.IsInteger()) return Value::Int(self.integer());
    // Numbers from 2^53 on are whole, and no double has more than 1,074 digits behind the point.
    if (precision > 1074 || !(std::abs(self.number()) < 0x1p53)) return self;
    TRY(r.budget().Spend(static_cast<uint64_t>(precision)));
    const std::string digits = fmt::format("{:.{}f}", self.number(), precision);  // exact, halves to even: as Python
    double rounded = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), rounded);
    return Value::Float(rounded);
  }
  const double scale = std::pow(10.0, static_cast<double>(precision)), scaled = self.number() * scale;
  if (!std::isfinite(scaled)) return BadInput("the number can't be rounded");
  return Value::Float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

constexpr Native kFilters[] = {{"int", "?default ?base", Int},
                               {"float", "?default", Float},
                               {"abs", "", Abs},
                               {"round", "?precision ?method", Round}};

}  // namespace

std::span<const Native> NumberFilters() { return kFilters; }

}  // namespace sotto::jinja
