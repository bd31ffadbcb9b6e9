// Reads a tokenizer's files as a stream of tokens and merges: nothing is collected here beyond a few small settings.
// Two sinks exist (token_tables.h): one counts, one fills. Sources: tokenizer.json, else vocab.json with merges.txt and
// the small files beside them.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/pretokenize.h"

namespace sotto {

// A token that is cut out of the text before anything else. Fields as in tokenizer.json.
struct AddedToken {
  std::string_view content;  // UTF-8, as it stands in the text
  uint64_t id = 0;
  bool special = false;      // not shown when decoding without special tokens
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = true;    // looked for only after those that are not; there is no normalizer
};

class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // `name` is in the byte alphabet (byte_alphabet.h). Names and contents are valid UTF-8 and live until the call
  // returns.
  virtual Status Token(std::string_view name, uint64_t id) = 0;
  virtual Status Added(const AddedToken& token) = 0;
  // In order of rank, and after all tokens.
  virtual Status Merge(std::string_view left, std::string_view right) = 0;
};

struct TokenSettings {
  Splitting splitting = Splitting::kWhole;
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
};

// Bounds on what is read, checked before it is taken.
inline constexpr uint64_t kMaxTokenizerFileBytes = 64 << 20;
inline constexpr uint64_t kMaxNameBytes = 8191;  // of one token

// kBadModel for whatever is missing, malformed or unsupported, which is named.
Result<TokenSettings> ReadTokens(const std::string& model_dir, TokenSink& sink);

// tokenizer.json; token_source.cc chooses.
Result<TokenSettings> ReadTokenizerJson(const std::string& path, TokenSink& sink);

}  // namespace sotto
