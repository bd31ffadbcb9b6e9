#include "base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "text/jinja/operators.h"
#include "text/jinja/renderer.h"
#include "text/jinja/text.h"
#include "text/utf8.h"

namespace sotto::jinja {
namespace {

void AppendEscaped(std::string_view text, bool ascii, std::string* out) {
  constexpr std::string_view kNamed = "\"\\\b\f\n\r\t", kNames = "\"\\bfnrt";
  const auto plain = [&](char byte) {
    const auto c = static_cast<unsigned char>(byte);
    return c >= 0x20 && c != '"' && c != '\\' && (!ascii || c < 0x7F);
  };
  out->push_back('"');
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && plain(text[end])) ++end;
    out->append(text.substr(i, end - i));
    if (end == text.size()) break;
    const Character c = CharacterAt(text, end);
    if (const size_t at = kNamed.find(text[end]); at != std::string_view::npos)
      *out += {'\\', kNames[at]};
    else if (c.code < 0x10000)
      *out += fmt::format("\\u{:04x}", c.code);
    else
      *out += fmt::format("\\u{:04x}\\u{:04x}", 0xD7C0 + (c.code >> 10), 0xDC00 + (c.code & 0x3FF));
    i = end + c.bytes;
  }
  out->push_back('"');
}

std::string NumberText(double number) {
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
  return FloatText(number);
}

Result<std::string> KeyText(const Value& key) {
  switch (key.kind()) {
    case Kind::kString: return key.text();
    case Kind::kInt: return fmt::format("{}", key.integer());
    case Kind::kFloat: return NumberText(key.number());
    case Kind::kBool: return std::string(key.integer() != 0 ? "true" : "false");
    case Kind::kNone: return std::string("null");
    default: return BadInput(fmt::format("a {} can't be a key in JSON", TypeName(key)));
  }
}

void NewLine(const JsonStyle& style, int level, std::string* out) {
  if (!style.lines) return;
  *out += '\n';
  for (int i = 0; i < level; ++i) *out += style.indent;
}

Status AppendObject(Budget& budget, const Dict& dict, const JsonStyle& style, int level, std::string* out) {
  if (dict.items.empty()) return *out += "{}", Status();
  std::vector<const std::pair<Value, Value>*> items;
  for (const auto& item : dict.items) items.push_back(&item);
  if (style.sort_keys) {
    Status failed;
    std::stable_sort(items.begin(), items.end(), [&](const auto* a, const auto* b) {
      const auto less = Ordered(budget, '<', a->first, b->first);
      if (!less.ok()) failed = less.error();
      return less.ok() && *less;
    });
    TRY(failed);
  }
  *out += '{';
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) *out += style.comma;
    NewLine(style, level + 1, out);
    AppendEscaped(TRY(KeyText(items[i]->first)), style.ascii, out);
    *out += style.colon;
    TRY(AppendJson(budget, items[i]->second, style, level + 1, out));
  }
  NewLine(style, level, out);
  *out += '}';
  return {};
}

}  // namespace

Status AppendJson(Budget& budget, const Value& value, const JsonStyle& style, int level, std::string* out) {
  TRY(budget.Spend(1));
  TRY(budget.Fits(out->size() + style.indent.size() * static_cast<size_t>(level + 1)));
  switch (value.kind()) {
    case Kind::kNone: *out += "null"; return {};
    case Kind::kBool: *out += value.integer() != 0 ? "true" : "false"; return {};
    case Kind::kInt: *out += fmt::format("{}", value.integer()); return {};
    case Kind::kFloat: *out += NumberText(value.number()); return {};
    case Kind::kString:
      TRY(budget.Spend(value.text().size() / 16));
      AppendEscaped(value.text(), style.ascii, out);
      return {};
    case Kind::kList:
    case Kind::kTuple: {
      if (value.items().empty()) return *out += "[]", Status();
      *out += '[';
      for (size_t i = 0; i < value.items().size(); ++i) {
        if (i > 0) *out += style.comma;
        NewLine(style, level + 1, out);
        TRY(AppendJson(budget, value.items()[i], style, level + 1, out));
      }
      NewLine(style, level, out);
      *out += ']';
      return {};
    }
    case Kind::kDict: return AppendObject(budget, value.dict(), style, level, out);
    case Kind::kUndefined: return UndefinedError(value);
    default: return BadInput(fmt::format("a {} can't be written as JSON", TypeName(value)));
  }
}

// ParseJson bounded the depth of `json`.
Result<Value> FromJson(Budget& budget, const Json& json) {
  switch (json.type()) {
    case Json::value_t::null: return Value::None();
    case Json::value_t::boolean: return Value::Bool(json.get<bool>());
    case Json::value_t::number_integer: return Value::Int(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) return BadInput("a whole number doesn't fit in 64 bits");
      return Value::Int(json.get<int64_t>());
    case Json::value_t::number_float: return Value::Float(json.get<double>());
    case Json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (!IsUtf8(text)) return BadInput("a text among the variables is not UTF-8");
      return budget.Text(text);
    }
    case Json::value_t::array: {
      std::vector<Value> items;
      for (const Json& item : json) items.push_back(TRY(FromJson(budget, item)));
      return budget.List(std::move(items));
    }
    case Json::value_t::object: {
      std::vector<std::pair<Value, Value>> items;
      for (const auto& [key, item] : json.items())
        items.emplace_back(TRY(FromJson(budget, Json(key))), TRY(FromJson(budget, item)));
      return budget.MakeDict(std::move(items));
    }
    default: return BadInput("a variable is not JSON");
  }
}

}  // namespace sotto::jinja
