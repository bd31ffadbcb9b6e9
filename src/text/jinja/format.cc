// Python's two ways of putting values into text: "%s %05.1f" % (a, b), and format specifications (">8", "+.2f").
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/jinja/operators.h"
#include "text/jinja/text.h"
#include "text/utf8.h"

namespace sotto::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20, kMaxPrecision = 1000;

struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', or '=' to fill between sign and digits
  char sign = '-';
  bool alternate = false;
  int64_t width = 0, precision = -1;
  char grouping = 0, type = 0;
};

std::string Padded(const Spec& spec, char otherwise, const std::string& sign, const std::string& body) {
  const int64_t missing = spec.width - Characters(sign) - Characters(body);
  if (missing <= 0) return sign + body;
  const auto fill = [&](int64_t n) { return Repeated(spec.fill, n); };
  switch (spec.align != 0 ? spec.align : otherwise) {
    case '<': return sign + body + fill(missing);
    case '=': return sign + fill(missing) + body;
    case '^': return fill(missing / 2) + sign + body + fill(missing - missing / 2);
    default: return fill(missing) + sign + body;
  }
}

std::string SignOf(const Spec& spec, bool negative) {
  return negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string Grouped(const Spec& spec, std::string digits) {
  if (spec.grouping == 0) return digits;
  for (int64_t i = static_cast<int64_t>(std::min(digits.find_first_not_of("0123456789"), digits.size())) - 3; i > 0;
       i -= 3)
    digits.insert(static_cast<size_t>(i), 1, spec.grouping);
  return digits;
}

std::string Whole(const Spec& spec, int64_t number) {
  const uint64_t size = number < 0 ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
  std::string digits, prefix;
  switch (spec.type) {
    case 'x': digits = fmt::format("{:x}", size), prefix = "0x"; break;
    case 'X': digits = fmt::format("{:X}", size), prefix = "0X"; break;
    case 'o': digits = fmt::format("{:o}", size), prefix = "0o"; break;
    case 'b': digits = fmt::format("{:b}", size), prefix = "0b"; break;
    default: digits = Grouped(spec, fmt::format("{}", size)); break;
  }
  if (static_cast<int64_t>(digits.size()) < spec.precision)
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  return Padded(spec, '>', SignOf(spec, number < 0) + (spec.alternate ? prefix : ""), digits);
}

std::string Fraction(const Spec& spec, double number) {
  const double size = std::abs(number);
  std::string digits;
  if (spec.type == 0 || spec.type == 'r') {
    digits = FloatText(size);
  } else if (!std::isfinite(size)) {
    digits = std::isnan(size) ? "nan" : "inf";
    if (spec.type == 'E' || spec.type == 'F' || spec.type == 'G') digits = Cased(digits, Case::kUpper);
  } else {
    const bool percent = spec.type == '%';
    const std::string format = fmt::format("{{:{}.{}{}}}", spec.alternate ? "#" : "",
                                           spec.precision < 0 ? 6 : spec.precision, percent ? 'f' : spec.type);
    digits = Grouped(spec, fmt::format(fmt::runtime(format), percent ? size * 100 : size)) + (percent ? "%" : "");
  }
  return Padded(spec, '>', SignOf(spec, std::signbit(number) && !std::isnan(number)), digits);
}

std::string Words(const Spec& spec, std::string_view text) {
  if (spec.precision >= 0 && spec.precision < Characters(text)) text = text.substr(0, OffsetOf(text, spec.precision));
  return Padded(spec, '<', "", std::string(text));
}

Error BadFormat(std::string_view what) { return BadInput(fmt::format("the format '{}' isn't supported", what)); }

// Reads digits at text[*at].
Result<int64_t> Number(std::string_view text, size_t* at, int64_t most) {
  int64_t n = 0;
  for (; *at < text.size() && text[*at] >= '0' && text[*at] <= '9'; ++*at) {
    n = n * 10 + (text[*at] - '0');
    if (n > most) return BadFormat(text);
  }
  return n;
}

bool IsOneOf(std::string_view text, size_t at, std::string_view characters) {
  return at < text.size() && characters.find(text[at]) != std::string_view::npos;
}

Result<Spec> ReadSpec(std::string_view text) {
  Spec spec;
  size_t at = 0;
  const size_t first = text.empty() ? 0 : CharacterAt(text, 0).bytes;
  if (IsOneOf(text, first, "<>=^") && first > 0) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    at = first + 1;
  } else if (IsOneOf(text, 0, "<>=^")) {
    spec.align = text[at++];
  }
  if (IsOneOf(text, at, "+- ")) spec.sign = text[at++];
  if (IsOneOf(text, at, "#")) spec.alternate = true, ++at;
  if (IsOneOf(text, at, "0")) {
    ++at;
    if (spec.align == 0) spec.fill = "0", spec.align = '=';
  }
  spec.width = TRY(Number(text, &at, kMaxWidth));
  if (IsOneOf(text, at, ",_")) spec.grouping = text[at++];
  if (IsOneOf(text, at, ".")) {
    const size_t digits = ++at;
    spec.precision = TRY(Number(text, &at, kMaxPrecision));
    if (at == digits) return BadFormat(text);
  }
  if (IsOneOf(text, at, "bcdeEfFgGnosxX%")) spec.type = text[at++];
  if (at != text.size() || (spec.grouping != 0 && spec.align == '=')) return BadFormat(text);
  return spec;
}

// One conversion of Percent, its '%' and (name) already read.
Result<std::string> Convert(Budget& budget, std::string_view format, Spec spec, bool left, bool zero,
                            const Value& value) {
  const bool numeric = std::string_view("diueEfFgGxXo").find(spec.type) != std::string_view::npos;
  if (left) spec.align = '<';
  if (zero && !left && numeric) spec.fill = "0", spec.align = '=';
  if (!numeric) {
    if (spec.align == 0) spec.align = '>';
    std::string text;
    if (spec.type == 's')
      TRY(AppendText(budget, value, &text));
    else if (spec.type == 'r')
      TRY(AppendRepr(budget, value, &text));
    else
      return BadFormat(format);
    return Words(spec, text);
  }
  if (!value.IsNumber())
    return BadInput(fmt::format("the format '{}' needs a number, not {}", format, TypeName(value)));
  if (std::string_view("eEfFgG").find(spec.type) != std::string_view::npos) return Fraction(spec, value.number());
  if (value.IsInteger()) return Whole(spec, value.integer());
  if (std::string_view("xXo").find(spec.type) != std::string_view::npos || !(std::abs(value.number()) < 9e18))
    return BadFormat(format);
  return Whole(spec, static_cast<int64_t>(value.number()));
}

}  // namespace

Result<Value> Percent(Budget& budget, const Value& format, const Value& arguments) {
  const std::string& text = format.text();
  if (format.as<String>().safe) return BadInput("'%' isn't supported for safe text");
  TRY(budget.Spend(text.size() / 16));
  std::string out;
  size_t used = 0;
  bool named = false;
  const bool tuple = arguments.is(Kind::kTuple);
  const size_t given = tuple ? arguments.items().size() : 1;
  const auto next = [&]() -> Result<Value> {
    if (used >= given) return BadInput("there are fewer values than the format needs");
    ++used;
    return tuple ? arguments.items()[used - 1] : arguments;
  };
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '%') {
      out.push_back(text[at++]);
      continue;
    }
    const size_t begin = at++;
    if (IsOneOf(text, at, "%")) {
      out.push_back(text[at++]);
      continue;
    }
    Value value;
    if (IsOneOf(text, at, "(")) {
      const size_t close = text.find(')', at);
      if (close == std::string::npos || !arguments.is(Kind::kDict)) return BadInput("the format needs a mapping");
      const Value* found = arguments.dict().Find(std::string_view(text).substr(at + 1, close - at - 1));
      if (found == nullptr) return BadInput("the format names a key that isn't there");
      value = *found;
      at = close + 1;
      named = true;
    }
    Spec spec;
    bool left = false, zero = false;
    for (; IsOneOf(text, at, "-+ #0"); ++at) {
      if (text[at] == '-') left = true;
      if (text[at] == '0') zero = true;
      if (text[at] == '#') spec.alternate = true;
      if (text[at] == '+' || (text[at] == ' ' && spec.sign == '-')) spec.sign = text[at];
    }
    spec.width = TRY(Number(text, &at, kMaxWidth));
    if (IsOneOf(text, at, ".")) spec.precision = TRY(Number(text, &++at, kMaxPrecision));
    if (!IsOneOf(text, at, "diueEfFgGxXosr")) return BadFormat(std::string_view(text).substr(begin, at + 1 - begin));
    spec.type = text[at++];
    if (!value) value = TRY(next());
    out += TRY(Convert(budget, std::string_view(text).substr(begin, at - begin), spec, left, zero, value));
    TRY(budget.Fits(out.size()));
  }
  const bool has_items = arguments.is(Kind::kDict) || arguments.is(Kind::kList) || arguments.is(Kind::kRange) ||
                         arguments.is(Kind::kUndefined);  // Python takes it for a mapping, which need not be used up
  if (used < given && !named && !has_items) return BadInput("there are more values than the format needs");
  return budget.Text(std::move(out));
}

Result<std::string> FormatValue(Budget& budget, const Value& value, std::string_view text) {
  if (text.empty()) {
    std::string out;
    TRY(AppendText(budget, value, &out));
    return out;
  }
  const Spec spec = TRY(ReadSpec(text));
  TRY(budget.Fits(static_cast<uint64_t>(spec.width) * spec.fill.size()));
  const bool fraction = std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos && spec.type != 0;
  if (value.is(Kind::kString)) {
    if ((spec.type != 0 && spec.type != 's') || spec.sign != '-' || spec.alternate || spec.grouping != 0)
      return BadFormat(text);
    if (spec.align == '=') return BadFormat(text);
    return Words(spec, value.text());
  }
  if (value.IsNumber() && fraction) return Fraction(spec, value.number());
  if (value.IsInteger() && spec.precision < 0 &&
      std::string_view("\0bdoxX", 6).find(spec.type) != std::string_view::npos)
    return Whole(spec, value.integer());
  if (value.is(Kind::kFloat) && spec.type == 0 && spec.precision < 0) return Fraction(spec, value.number());
  return BadFormat(text);
}

}  // namespace sotto::jinja
