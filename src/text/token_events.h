// SAX events as values, and the small parsers that the tokenizer's files share.
#pragma once
#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_stream.h"
#include "text/token_source.h"

namespace sotto {

struct Event {
  enum Kind { kStartObject, kEndObject, kStartArray, kEndArray, kKey, kString, kUnsigned, kReal, kBool, kOther } kind;
  std::string_view text{};  // of kKey and kString; of a bool, null or other number as JSON writes it
  uint64_t number = 0;      // of kUnsigned and kBool
  double real = 0;          // of kUnsigned and kReal: negative numbers and fractions
};

// Funnels all events into On(); depth() counts the containers around the event: 1 inside of the document's own object.
class EventHandler : public SaxHandler {
 public:
  virtual Status On(const Event& event) = 0;
  int depth() const { return depth_; }

 private:
  Status StartObject() final { return ++depth_, On({Event::kStartObject}); }
  Status EndObject() final { return Close(Event::kEndObject); }
  Status StartArray() final { return ++depth_, On({Event::kStartArray}); }
  Status EndArray() final { return Close(Event::kEndArray); }
  Status Key(std::string_view k) final { return On({Event::kKey, k}); }
  Status String(std::string_view s) final { return On({Event::kString, s}); }
  Status Unsigned(uint64_t n) final { return On({Event::kUnsigned, {}, n, static_cast<double>(n)}); }
  Status Negative(int64_t n) final { return On({Event::kReal, "a negative number", 0, static_cast<double>(n)}); }
  Status Float(double x) final { return On({Event::kReal, "a fraction", 0, x}); }
  Status Bool(bool b) final { return On({Event::kBool, b ? "true" : "false", b}); }
  Status Null() final { return On({Event::kOther, "null"}); }
  Status Close(Event::Kind kind) {
    Status status = On({kind});
    --depth_;
    return status;
  }
  int depth_ = 0;
};

// "model.type" -> "BPE": the scalars of a small subtree, by path. Bounded; a path that comes twice is an error.
class Settings {
 public:
  explicit Settings(std::string path) : path_(std::move(path)) {}
  // `root` names the subtree; the events are those of its value, beginning with the value itself.
  void Begin(std::string_view root);
  Status Add(const Event& event);
  bool done() const { return open_.empty(); }    // the subtree's value is complete
  std::string_view path() const { return at_; }  // where the next value of an object will stand
  // The value at a path, or "" when the file has none.
  std::string_view Get(std::string_view path) const;
  // An error unless the value is absent, null, or one of `allowed`.
  Status Expect(std::string_view path, std::initializer_list<std::string_view> allowed) const;

 private:
  struct Open {
    size_t prefix;  // length of the container's own path
    int64_t next;   // index of an array's next element; -1 in an object
  };
  void NextElement();
  std::string path_, at_;
  std::vector<Open> open_;
  std::vector<std::pair<std::string, std::string>> values_;
};

// What the settings of tokenizer.json mean. json_pipeline.cc.
Result<TokenSettings> ReadPipeline(const Settings& settings, const std::string& path);

// The fields of one added token. `where` is the file, for errors.
class AddedTokenFields {
 public:
  void Begin() { *this = {}; }
  void Key(std::string_view name) { key_ = name; }
  Status Value(const Event& event, const std::string& where);
  // The token; its content lives in here. Fails when there is no content, or no id and `need_id`.
  Result<AddedToken> Token(const std::string& where, bool need_id) const;

 private:
  std::string key_;
  std::optional<std::string> content_;
  std::optional<uint64_t> id_;
  std::optional<bool> special_, single_word_, lstrip_, rstrip_, normalized_;
};

// One object of name -> id: vocab.json, added_tokens.json, and model.vocab of tokenizer.json.
class NameToId {
 public:
  void Key(std::string_view name) { name_ = name; }
  std::string_view name() const { return name_; }
  // The id, which must be a whole number of at most 32 bits.
  Result<uint64_t> Id(const Event& event, const std::string& where) const;

 private:
  std::string name_;
};

// Cuts "left right", which is how merges.txt and older tokenizer.json files write a merge.
Result<std::pair<std::string_view, std::string_view>> SplitMerge(std::string_view line, const std::string& where);

// The bytes that a text in base64 stands for; nullopt when it is none.
std::optional<std::string> FromBase64(std::string_view text);

}  // namespace sotto
