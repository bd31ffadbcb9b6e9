#include "text/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/operators.h"
#include "text/jinja/text.h"

namespace sotto::jinja {
namespace {
constexpr uint64_t kObjectBytes = 96;  // an object with its shared count, about
}

Object::~Object() {
  if (budget != nullptr) budget->Give(bytes);
}

const std::string& Value::text() const { return as<String>().text; }
const std::vector<Value>& Value::items() const { return as<Sequence>().items; }
const Dict& Value::dict() const { return as<Dict>(); }

const Value* Dict::Find(std::string_view text_key) const {
  const auto at = index.find("s" + std::string(text_key));
  return at == index.end() ? nullptr : &items[at->second].second;
}

Result<bool> Iterator::Next(Value* out) {
  if (running) return BadInput("an iterator asks itself for its next item");
  running = true;
  auto found = step(out);
  running = false;
  return found;
}

Value Constant(std::string text) {
  auto string = std::make_shared<String>();
  string->length = Characters(text);
  string->text = std::move(text);
  return Value(Kind::kString, std::move(string));
}

Status Budget::Spend(uint64_t steps) {
  if (steps > steps_) {
    steps_ = 0;
    return BadInput("it takes more steps than a chat template may");
  }
  steps_ -= steps;
  return {};
}

Status Budget::Fits(uint64_t bytes) {
  if (bytes > bytes_) return BadInput("it takes more memory than a chat template may");
  return {};
}

Status Budget::Take(uint64_t bytes) {
  TRY(Fits(bytes));
  bytes_ -= bytes;
  return {};
}

Result<Value> Budget::Make(Kind kind, std::shared_ptr<Object> object, uint64_t bytes, int depth) {
  if (depth >= kMaxDepth) return BadInput(fmt::format("a value nests deeper than {} levels", kMaxDepth));
  TRY(Spend(1));
  TRY(Take(bytes + kObjectBytes));
  object->budget = this;
  object->bytes = bytes + kObjectBytes;
  object->depth = depth + 1;
  return Value(kind, std::move(object));
}

Result<Value> Budget::Text(std::string text, bool safe) {
  TRY(Spend(1 + text.size() / 64));
  auto string = std::make_shared<String>();
  string->length = Characters(text);
  string->text = std::move(text);
  string->safe = safe;
  const uint64_t bytes = string->text.size();
  return Make(Kind::kString, std::move(string), bytes);
}

Result<Value> Budget::Undefined(std::string why) {
  Value value = TRY(Text(std::move(why)));
  return Value(Kind::kUndefined, value.share<Object>());
}

Result<Value> Budget::Items(Kind kind, std::vector<Value> items) {
  TRY(Spend(1 + items.size() / 4));
  auto sequence = std::make_shared<Sequence>();
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  sequence->items = std::move(items);
  const uint64_t bytes = sequence->items.size() * sizeof(Value);
  return Make(kind, std::move(sequence), bytes, depth);
}

Result<Value> Budget::MakeDict(std::vector<std::pair<Value, Value>> items) {
  auto dict = std::make_shared<Dict>();
  int depth = 0;
  uint64_t bytes = 0;
  for (auto& [key, value] : items) {
    TRY(Spend(1));
    depth = std::max({depth, key.depth(), value.depth()});
    std::string hash = TRY(HashKey(*this, key));
    bytes += hash.size() + 160;  // the pair and a node of the index
    TRY(Fits(bytes));
    const auto [at, added] = dict->index.try_emplace(std::move(hash), static_cast<uint32_t>(dict->items.size()));
    if (added)
      dict->items.emplace_back(std::move(key), std::move(value));
    else
      dict->items[at->second].second = std::move(value);
  }
  return Make(Kind::kDict, std::move(dict), bytes, depth);
}

Result<Value> Budget::MakeIterator(std::function<Result<bool>(Value*)> next, int depth) {
  auto iterator = std::make_shared<Iterator>();
  iterator->step = std::move(next);
  return Make(Kind::kIterator, std::move(iterator), 64, depth);
}

}  // namespace sotto::jinja
