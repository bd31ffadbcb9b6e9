#include "text/token_events.h"

#include <algorithm>

namespace sotto {
namespace {
constexpr size_t kMaxSettings = 256;            // a tokenizer's pipeline has some dozens
constexpr size_t kMaxSettingBytes = 16 * 1024;  // all together
}  // namespace

void Settings::Begin(std::string_view root) {
  at_ = root;
  open_.clear();
}

void Settings::NextElement() {
  if (open_.empty() || open_.back().next < 0) return;
  at_.resize(open_.back().prefix);
  at_ += fmt::format(".{}", open_.back().next++);
}

Status Settings::Add(const Event& event) {
  switch (event.kind) {
    case Event::kKey:
      at_.resize(open_.back().prefix);
      at_.append(".").append(event.text);
      return {};
    case Event::kEndObject:
    case Event::kEndArray: open_.pop_back(); return {};
    default: break;
  }
  NextElement();
  std::string value(event.text);
  if (event.kind == Event::kUnsigned) value = std::to_string(event.number);
  if (event.kind == Event::kStartObject) value = "{}";
  if (event.kind == Event::kStartArray) value = "[]";
  size_t bytes = at_.size() + value.size();
  for (const auto& [path, text] : values_) {
    bytes += path.size() + text.size();
    if (path == at_) return BadModel(fmt::format("{} gives {} twice; fetch the file again", path_, at_));
  }
  if (values_.size() == kMaxSettings || bytes > kMaxSettingBytes)
    return BadModel(
        fmt::format("{} describes a pipeline too large to be supported, at {}; use another model", path_, at_));
  values_.emplace_back(at_, std::move(value));
  if (event.kind == Event::kStartObject) open_.push_back({at_.size(), -1});
  if (event.kind == Event::kStartArray) open_.push_back({at_.size(), 0});
  return {};
}

std::string_view Settings::Get(std::string_view path) const {
  for (const auto& [at, value] : values_)
    if (at == path) return value;
  return {};
}

Status Settings::Expect(std::string_view path, std::initializer_list<std::string_view> allowed) const {
  const std::string_view value = Get(path);
  if (value.empty() || value == "null" || std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return {};
  return BadModel(
      fmt::format("{} asks for {} = {}, which is not supported; use another model", path_, path, value.substr(0, 80)));
}

Status AddedTokenFields::Value(const Event& event, const std::string& where) {
  const auto once = [&](auto& field, auto value, Event::Kind kind) -> Status {
    if (event.kind != kind || field)
      return BadModel(fmt::format(
          "{} has an added token whose {} is of the wrong kind or given twice; fetch the file again", where, key_));
    field = value;
    return {};
  };
  if (key_ == "id") return once(id_, event.number, Event::kUnsigned);
  if (key_ == "content") return once(content_, std::string(event.text), Event::kString);
  const bool on = event.number != 0;
  if (key_ == "special") return once(special_, on, Event::kBool);
  if (key_ == "single_word") return once(single_word_, on, Event::kBool);
  if (key_ == "lstrip") return once(lstrip_, on, Event::kBool);
  if (key_ == "rstrip") return once(rstrip_, on, Event::kBool);
  if (key_ == "normalized") return once(normalized_, on, Event::kBool);
  if (event.kind == Event::kStartObject || event.kind == Event::kStartArray)
    return BadModel(fmt::format("{} has an added token with a container in it; fetch the file again", where));
  return {};
}

Result<AddedToken> AddedTokenFields::Token(const std::string& where, bool need_id) const {
  if (!content_ || (need_id && !id_))
    return BadModel(
        fmt::format("{} has an added token without {}; fetch the file again", where, content_ ? "an id" : "content"));
  AddedToken token{.content = *content_, .id = id_.value_or(0), .special = special_.value_or(false)};
  token.single_word = single_word_.value_or(false);
  token.lstrip = lstrip_.value_or(false);
  token.rstrip = rstrip_.value_or(false);
  token.normalized = normalized_.value_or(!token.special);
  return token;
}

Result<uint64_t> NameToId::Id(const Event& event, const std::string& where) const {
  if (event.kind != Event::kUnsigned || event.number > 0xFFFFFFFF)
    return BadModel(
        fmt::format("{} gives the token '{}' an id that is not a whole number from 0 to 4294967295; fetch the "
                    "file again",
                    where, name_.substr(0, 40)));
  return event.number;
}

Result<std::pair<std::string_view, std::string_view>> SplitMerge(std::string_view line, const std::string& where) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos)
    return BadModel(
        fmt::format("{} has a merge that is not two tokens with a space between: '{}'; fetch the file again", where,
                    line.substr(0, 40)));
  return std::pair{line.substr(0, space), line.substr(space + 1)};
}

std::optional<std::string> FromBase64(std::string_view text) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  int count = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out.push_back(static_cast<char>(bits >> count & 0xFF));
  }
  return out;
}

}  // namespace sotto
