#include "base/json_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace sotto {
namespace {

constexpr size_t kBufferBytes = 16 * kKiB;

// The bytes of the range, one at a time. It follows strings and numbers just closely enough to end the input when one
// passes the limit: the parser would otherwise collect it whole before anybody sees it.
class Source {
 public:
  Source(const File& file, uint64_t begin, uint64_t end, Code code, const SaxLimits& limits)
      : file_(file), at_(begin), end_(end), code_(code), max_token_(limits.token) {}

  // The next byte, or -1 at the end and after an error.
  int Next() {
    if (next_ == filled_ && !Fill()) return -1;
    const auto c = static_cast<unsigned char>(buffer_[next_++]);
    if (in_string_) {
      if (escaped_)
        escaped_ = false;
      else if (c == '\\')
        escaped_ = true;
      else if (c == '"')
        in_string_ = false;
      ++token_;
    } else if (c == '"') {
      in_string_ = true;
      token_ = 0;
    } else {
      const bool ends = c <= ' ' || c == ',' || c == ':' || c == '[' || c == ']' || c == '{' || c == '}';
      token_ = ends ? 0 : token_ + 1;
    }
    // A raw NUL would end the document for the parser, and what follows would be accepted unread.
    if (c == 0) return Stop("contains a NUL byte; it is not JSON");
    if (token_ > max_token_)
      return Stop(fmt::format("contains a string or number of more than {} bytes; no such file needs one", max_token_));
    return c;
  }

  uint64_t position() const { return at_ - (filled_ - next_); }  // of the byte after the last one given
  std::optional<Error>& error() { return error_; }

 private:
  bool Fill() {
    const size_t want = static_cast<size_t>(std::min<uint64_t>(kBufferBytes, end_ - at_));
    if (want == 0 || error_) return false;
    Status read = file_.ReadAt(at_, std::as_writable_bytes(std::span(buffer_.data(), want)));
    if (!read.ok()) {
      error_ = std::move(read).error();
      return false;
    }
    at_ += want;
    next_ = 0;
    filled_ = want;
    return true;
  }

  int Stop(std::string_view what) {
    error_ = Error{code_, fmt::format("{}, at byte {}, {}", file_.path(), position(), what)};
    end_ = at_;
    next_ = filled_;
    return -1;
  }

  const File& file_;
  uint64_t at_;   // file offset of the end of the buffer
  uint64_t end_;  // file offset where the range ends
  Code code_;
  uint64_t max_token_;
  uint64_t token_ = 0;  // bytes of the string or number so far
  bool in_string_ = false, escaped_ = false;
  size_t next_ = 0, filled_ = 0;
  std::optional<Error> error_;
  std::array<char, kBufferBytes> buffer_;
};

// nlohmann copies its iterators: this one is a reference to the source, and a byte is read when it is looked at.
class Bytewise {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = char;

  explicit Bytewise(Source* source) : source_(source) {}
  char operator*() const { return static_cast<char>(byte_); }
  Bytewise& operator++() { return looked_ = false, *this; }
  friend bool operator==(Bytewise& a, Bytewise&) { return a.AtEnd(); }  // only ever compared with the end
  friend bool operator!=(Bytewise& a, Bytewise&) { return !a.AtEnd(); }

 private:
  bool AtEnd() {
    if (!looked_) byte_ = source_->Next();
    looked_ = true;
    return byte_ < 0;
  }
  Source* source_;
  int byte_ = -1;
  bool looked_ = false;
};

// nlohmann's interface on one side, SaxHandler on the other; the first error is kept.
class Events {
 public:
  Events(SaxHandler& handler, Code code, const std::string& path, int max_depth)
      : handler_(handler), code_(code), path_(path), max_depth_(max_depth) {}

  bool null() { return Keep(handler_.Null()); }
  bool boolean(bool value) { return Keep(handler_.Bool(value)); }
  bool number_integer(int64_t value) {
    return Keep(value < 0 ? handler_.Negative(value) : handler_.Unsigned(static_cast<uint64_t>(value)));
  }
  bool number_unsigned(uint64_t value) { return Keep(handler_.Unsigned(value)); }
  bool number_float(double value, const std::string&) { return Keep(handler_.Float(value)); }
  bool string(std::string& value) { return Keep(handler_.String(value)); }
  bool binary(std::vector<uint8_t>&) { return false; }  // not part of JSON
  bool key(std::string& name) { return Keep(handler_.Key(name)); }
  bool start_object(size_t) { return Deeper() && Keep(handler_.StartObject()); }
  bool end_object() { return --depth_, Keep(handler_.EndObject()); }
  bool start_array(size_t) { return Deeper() && Keep(handler_.StartArray()); }
  bool end_array() { return --depth_, Keep(handler_.EndArray()); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) { return false; }

  std::optional<Error>& error() { return error_; }

 private:
  bool Keep(Status status) {
    if (!status.ok()) error_ = std::move(status).error();
    return !error_;
  }
  bool Deeper() {
    if (++depth_ <= max_depth_) return true;
    error_ = Error{code_, fmt::format("{} nests deeper than {} levels; no such file does", path_, max_depth_)};
    return false;
  }

  SaxHandler& handler_;
  Code code_;
  const std::string& path_;
  int max_depth_;
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
  Source source(file, begin, end, code, limits);
  Events events(handler, code, file.path(), limits.depth);
  const bool ok = nlohmann::json::sax_parse(Bytewise(&source), Bytewise(nullptr), &events);
  if (source.error()) return std::move(*source.error());
  if (events.error()) return std::move(*events.error());
  if (!ok)
    return Error{
        code, fmt::format("{} is not valid JSON near byte {}; fetch the file again", file.path(), source.position())};
  return {};
}

}  // namespace sotto
