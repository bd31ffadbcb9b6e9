#include "base/json_stream.h"

#include <fmt/format.h>
#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

namespace sotto {
namespace {

constexpr size_t kBufferBytes = 16 * kKiB;

// The parser's own stack holds the string that it is at. It may not fail, so it says when it grew too large, and the
// source then ends the input.
class Stack {
 public:
  static const bool kNeedFree = true;
  explicit Stack(uint64_t most = 0) : most_(most) {}  // RapidJSON makes one of its own only where none is given
  void* Malloc(size_t size) { return Realloc(nullptr, 0, size); }
  void* Realloc(void* old, size_t, size_t size) {
    if (size > most_) too_large_ = true;
    void* block = std::realloc(old, std::max<size_t>(size, 1));
    if (block == nullptr) std::abort();  // some KiB; nothing could be told either
    return block;
  }
  static void Free(void* block) { std::free(block); }
  bool too_large() const { return too_large_; }

 private:
  uint64_t most_;
  bool too_large_ = false;
};

// The bytes of the range through a buffer, as RapidJSON reads them: '\0' is the end.
class Source {
 public:
  using Ch = char;
  Source(const File& file, uint64_t begin, uint64_t end, Code code, const Stack& stack, uint64_t max_token)
      : file_(file), at_(begin), end_(end), code_(code), stack_(stack), max_token_(max_token) {
    if (end - begin >= 3 && Fill() && std::memcmp(buffer_.data(), "\xEF\xBB\xBF", 3) == 0) next_ = 3;
  }

  char Peek() { return next_ < filled_ || Fill() ? buffer_[next_] : '\0'; }
  char Take() { return next_ < filled_ || Fill() ? buffer_[next_++] : '\0'; }
  size_t Tell() const { return static_cast<size_t>(position()); }
  char* PutBegin() { return nullptr; }  // for parsing in place, which this is not
  void Put(char) {}
  void Flush() {}
  size_t PutEnd(char*) { return 0; }

  uint64_t position() const { return at_ - (filled_ - next_); }  // of the byte after the last one given
  std::optional<Error>& error() { return error_; }

 private:
  bool Fill() {
    const size_t want = static_cast<size_t>(std::min<uint64_t>(kBufferBytes, end_ - at_));
    if (want == 0 || error_) return false;
    if (stack_.too_large())
      return Stop(fmt::format("contains a string of more than {} bytes; no such file needs one", max_token_));
    Status read = file_.ReadAt(at_, std::as_writable_bytes(std::span(buffer_.data(), want)));
    if (!read.ok()) {
      error_ = std::move(read).error();
      return false;
    }
    at_ += want;
    next_ = 0;
    filled_ = want;
    // It would end the document for the parser, and what follows would be accepted unread.
    if (const void* nul = std::memchr(buffer_.data(), 0, want)) {
      next_ = static_cast<size_t>(static_cast<const char*>(nul) - buffer_.data());
      return Stop("contains a NUL byte; it is not JSON");
    }
    return true;
  }

  bool Stop(std::string_view what) {
    error_ = Error{code_, fmt::format("{}, at byte {}, {}", file_.path(), position(), what)};
    end_ = at_;
    next_ = filled_;
    return false;
  }

  const File& file_;
  uint64_t at_;   // file offset of the end of the buffer
  uint64_t end_;  // file offset where the range ends
  Code code_;
  const Stack& stack_;
  uint64_t max_token_;
  size_t next_ = 0, filled_ = 0;
  std::optional<Error> error_;
  std::array<char, kBufferBytes> buffer_;
};

// RapidJSON's handler on one side, SaxHandler on the other; the first error is kept.
class Events {
 public:
  Events(SaxHandler& handler, Code code, const std::string& path, const SaxLimits& limits)
      : handler_(handler), code_(code), path_(path), limits_(limits) {}

  bool Null() { return Keep(handler_.Null()); }
  bool Bool(bool value) { return Keep(handler_.Bool(value)); }
  bool Int(int value) { return Int64(value); }
  bool Uint(unsigned value) { return Uint64(value); }
  bool Int64(int64_t value) {
    return Keep(value < 0 ? handler_.Negative(value) : handler_.Unsigned(static_cast<uint64_t>(value)));
  }
  bool Uint64(uint64_t value) { return Keep(handler_.Unsigned(value)); }
  bool Double(double value) { return Keep(handler_.Float(value)); }
  bool RawNumber(const char*, rapidjson::SizeType, bool) { return false; }  // not asked for
  bool String(const char* text, rapidjson::SizeType n, bool) { return Fits(n) && Keep(handler_.String({text, n})); }
  bool Key(const char* text, rapidjson::SizeType n, bool) { return Fits(n) && Keep(handler_.Key({text, n})); }
  bool StartObject() { return Deeper() && Keep(handler_.StartObject()); }
  bool EndObject(rapidjson::SizeType) { return --depth_, Keep(handler_.EndObject()); }
  bool StartArray() { return Deeper() && Keep(handler_.StartArray()); }
  bool EndArray(rapidjson::SizeType) { return --depth_, Keep(handler_.EndArray()); }

  std::optional<Error>& error() { return error_; }

 private:
  bool Keep(Status status) {
    if (!status.ok()) error_ = std::move(status).error();
    return !error_;
  }
  bool Deeper() {
    if (++depth_ <= limits_.depth) return true;
    error_ = Error{code_, fmt::format("{} nests deeper than {} levels; no such file does", path_, limits_.depth)};
    return false;
  }
  bool Fits(uint64_t n) {
    if (n <= limits_.token) return true;
    error_ =
        Error{code_, fmt::format("{} contains a string of {} bytes, more than the {} allowed; no such file needs one",
                                 path_, n, limits_.token)};
    return false;
  }

  SaxHandler& handler_;
  Code code_;
  const std::string& path_;
  const SaxLimits& limits_;
  int depth_ = 0;
  std::optional<Error> error_;
};

}  // namespace

Status SaxParse(const File& file, uint64_t begin, uint64_t end, SaxHandler& handler, Code code,
                const SaxLimits& limits) {
  if (begin > end || end > file.size())
    return Error{code,
                 fmt::format("{} has {} bytes but its JSON should lie in bytes {} to {}; the file is cut short or "
                             "damaged, fetch it again",
                             file.path(), file.size(), begin, end)};
  if (end - begin > limits.bytes)
    return Error{code,
                 fmt::format("the JSON in {} has {} bytes, more than the {} allowed; it is not what it claims to be",
                             file.path(), end - begin, limits.bytes)};
  Stack stack(2 * limits.token);
  Source source(file, begin, end, code, stack, limits.token);
  Events events(handler, code, file.path(), limits);
  rapidjson::GenericReader<rapidjson::UTF8<>, rapidjson::UTF8<>, Stack> reader(&stack, 1024);
  constexpr unsigned kFlags =
      rapidjson::kParseValidateEncodingFlag | rapidjson::kParseIterativeFlag | rapidjson::kParseFullPrecisionFlag;
  const auto done = reader.Parse<kFlags>(source, events);
  if (source.error()) return std::move(*source.error());
  if (events.error()) return std::move(*events.error());
  if (done.IsError())
    return Error{code, fmt::format("{} is not valid JSON near byte {} ({}); fetch the file again", file.path(),
                                   source.position(), rapidjson::GetParseError_En(done.Code()))};
  return {};
}

}  // namespace sotto
