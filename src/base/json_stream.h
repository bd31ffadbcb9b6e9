// Large JSON read as a stream of events: a range of a file goes through a 16 KiB buffer on the stack into RapidJSON's
// SAX parser, so that tokenizer.json or a safetensors header never becomes a tree. Small documents: json.h.
//
// Not a validator of meaning: the handler compares every number and name before it uses one, and detects duplicate
// keys.
//
//   struct Names : SaxHandler {
//     Status Key(std::string_view name) override { return Count(name); }
//   } names;
//   TRY(SaxParse(file, 8, 8 + header_bytes, names, Code::kBadModel));
#pragma once
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"

namespace sotto {

// What SaxParse calls, in document order. An error stops the parse and is what SaxParse returns. Views live until the
// call returns. Everything that a handler does not override is accepted and ignored. Strings are valid UTF-8 and may
// hold U+0000.
class SaxHandler {
 public:
  virtual ~SaxHandler() = default;
  virtual Status StartObject() { return {}; }
  virtual Status EndObject() { return {}; }
  virtual Status StartArray() { return {}; }
  virtual Status EndArray() { return {}; }
  virtual Status Key(std::string_view) { return {}; }
  virtual Status String(std::string_view) { return {}; }
  virtual Status Unsigned(uint64_t) { return {}; }  // a whole number >= 0 that fits
  virtual Status Negative(int64_t) { return {}; }   // a whole number < 0 that fits
  virtual Status Float(double) { return {}; }       // any other number; finite
  virtual Status Bool(bool) { return {}; }
  virtual Status Null() { return {}; }
};

// Bounds on what the document may claim. Heap use is at most four times `token` and 48 KiB.
struct SaxLimits {
  uint64_t bytes = 64 * kMiB;  // of the range
  uint64_t token = 8 * kKiB;   // of one string
  int depth = 64;              // nested objects and arrays
};

// Parses bytes [begin, end) of `file`, which must be exactly one JSON value and white space. Errors, all with `code`:
// the range lies outside of the file or passes a limit, invalid JSON, NUL bytes, invalid UTF-8, numbers too large for a
// double, whatever the handler returns.
Status SaxParse(const File& file, uint64_t begin, uint64_t end, SaxHandler& handler, Code code,
                const SaxLimits& limits = {});

}  // namespace sotto
