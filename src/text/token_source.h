// Reads a tokenizer's files as a stream of tokens and merges: nothing is collected here beyond a few small settings.
// Two sinks exist (token_tables.h): one counts, one fills. Sources: tokenizer.json, vocab.json with merges.txt and the
// small files beside them, tekken.json, tokenizer.model of SentencePiece, the metadata of a GGUF file (gguf_tokens.h).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/function_ref.h"
#include "base/result.h"
#include "text/token_settings.h"

namespace sotto {

// Numbers as in SentencePiece's files and in GGUF.
enum class TokenKind : uint8_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct VocabularyToken {
  std::string_view name;  // as the file writes it: with kBytes in the byte alphabet (byte_alphabet.h)
  uint64_t id = 0;
  double score = 0;  // finite
  TokenKind kind = TokenKind::kNormal;
};

// A token that is cut out of the text before anything else. Fields as in tokenizer.json.
struct AddedToken {
  std::string_view content;  // UTF-8, as it stands in the text
  uint64_t id = 0;
  bool special = false;      // not shown when decoding without special tokens
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = true;    // looked for in the normalized text, as the normalizer writes it
};

// Views live until the call returns. Names and contents are valid UTF-8.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual Status Token(const VocabularyToken& token) = 0;
  virtual Status Added(const AddedToken& token) = 0;
  // In order of rank, and after all tokens.
  virtual Status Merge(std::string_view left, std::string_view right) = 0;
  // The next bytes of the character map (charsmap.h).
  virtual Status Charsmap(std::string_view bytes) = 0;
};

// Bounds on what is read, checked before it is taken.
inline constexpr uint64_t kMaxTokenizerFileBytes = 64 << 20;
inline constexpr uint64_t kMaxNameBytes = 8191;  // of one token

// Reads a source once, into a sink. kBadModel for whatever is missing, malformed or unsupported, which is named.
using TokenSource = FunctionRef<Result<TokenSettings>(TokenSink&)>;

// The tokenizer in a model's directory: tokenizer.json, else vocab.json with merges.txt, else tekken.json, else
// tokenizer.model or spiece.model.
Result<TokenSettings> ReadTokens(const std::string& model_dir, TokenSink& sink);
bool HasTokenizer(const std::string& model_dir);

// One kind of file each; token_source.cc chooses.
Result<TokenSettings> ReadTokenizerJson(const std::string& path, TokenSink& sink);
Result<TokenSettings> ReadTekken(const std::string& path, TokenSink& sink);

// Whether a text's begin and end are marked, as far as something says so. By default models of SentencePiece have the
// first if they are of the BPE type and the second if they are unigram models, as in llama.cpp and transformers.
struct AddAround {
  std::optional<bool> bos, eos;
};
Result<TokenSettings> ReadSentencePiece(const std::string& path, AddAround add, TokenSink& sink);
// Completes settings whose model and spaces are known.
void SetSentencePiece(TokenSettings& settings, std::optional<uint32_t> bos, std::optional<uint32_t> eos, AddAround add);

}  // namespace sotto
