// Text to token ids and back, as the `tokenizers` package does it for tokenizer.json and SentencePiece for its own files:
// byte pair encoding of bytes or characters, and unigram models. Everything it keeps lies in memory that the plan
// provides.
//
// Not here: what a model puts around a text (chat templates, <|startoftranscript|> …), but for EncodeOptions.
//
//   const TokenizerSize size = TRY(Tokenizer::Measure(dir));          // a plan item of size.bytes()
//   const Tokenizer tokenizer = TRY(Tokenizer::Open(dir, memory));    // memory: exactly that many bytes
//   TRY(tokenizer.Encode(" hello", {}, &ids));
//   StreamDecoder say(tokenizer, /*skip_special=*/true);
//   say.Push(id, &text);  …  say.Finish(&text);
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/token_tables.h"
#include "text/utf8.h"
#include "text/words.h"

namespace sotto {

class GgufFiles;

struct EncodeOptions {
  // Tokens like <|endoftext|> that stand in the text become their ids; else they are text like any other, so that user
  // text cannot steer the model. Added tokens that are not special are always found.
  bool parse_special = false;
  // What the tokenizer's files put around a text (BOS, EOS) is put there.
  bool add_special = false;
};

class Tokenizer {
 public:
  // The exact size of the tables for the tokenizer in a model's directory (token_source.h), or in any other source, which
  // `where` names for errors. Reads the files once, holds no table. kBadModel.
  static Result<TokenizerSize> Measure(const std::string& model_dir);
  static Result<TokenizerSize> Measure(TokenSource source, const std::string& where);
  static Result<TokenizerSize> Measure(const GgufFiles& gguf);  // gguf_tokens.h

  // A bound on Measure().bytes() when only the vocabulary's size is known: 64 bytes an id and 4 KiB. An id with a merge
  // costs 27 bytes and its name, an added token 23 and its content (32 in all for Whisper: 51,865 ids, 50,000 merges; 50
  // for Llama 2, which has two merges for a token). Character maps are not counted.
  static uint64_t BytesBound(uint64_t vocab_size);

  // Reads the files into `memory`: Measure().bytes() bytes aligned to 8, which must outlive the tokenizer and its
  // copies. kBadModel when the size is another, or the files are damaged or unsupported. The forms with a size spare
  // measuring again.
  static Result<Tokenizer> Open(const std::string& model_dir, std::span<std::byte> memory);
  static Result<Tokenizer> Open(const std::string& model_dir, const TokenizerSize& size, std::span<std::byte> memory);
  static Result<Tokenizer> Open(const GgufFiles& gguf, const TokenizerSize& size, std::span<std::byte> memory);
  static Result<Tokenizer> Open(TokenSource source, const TokenizerSize& size, std::span<std::byte> memory,
                                const std::string& where);

  int32_t vocab_size() const { return static_cast<int32_t>(tables_.vocabulary()); }

  // Appends the ids of `text`. Invalid UTF-8 is first repaired: U+FFFD for every maximal broken part, and with
  // SentencePiece for every broken byte. Heap: a copy of the text if it is invalid, what Normalize takes, and
  // kLongWordBytes for every byte of the longest word beyond kShortWord (a word may be the whole text in models that
  // have tokens across spaces). kBadInput for more than 1 GiB.
  Status Encode(std::string_view text, EncodeOptions options, std::vector<int32_t>* out) const;
  static constexpr size_t kShortWord = WordEncoder::kShortWord;
  static constexpr size_t kLongWordBytes = WordEncoder::kLongWordBytes;

  // The id of a token, given as Token() gives it; an added token by its content.
  std::optional<int32_t> IdOf(std::string_view token) const;

  // A token: with byte pair encoding of bytes what it stands for, which need not be valid UTF-8; else as its file writes
  // it (a space is U+2581, a byte is <0x0A>); of an added token its content. An id that does not exist has none and is
  // not special. The view lives as long as the tokenizer's memory.
  std::string_view Token(int32_t id) const;
  bool IsSpecial(int32_t id) const;

  // The text of ids. Bytes that are not UTF-8 become U+FFFD, as the reference has it (detokenize.cc). Ids that do not
  // exist are left out.
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

 private:
  friend class StreamDecoder;
  Tokenizer(const TokenTables& tables, const TokenSettings& settings);
  bool Exists(int32_t id) const { return id >= 0 && id < vocab_size(); }

  // Cuts the added tokens of one stage out of `text`: rest(piece, where it begins) for what lies between, ids to `out`.
  template <class Rest>
  void CutAdded(Stage stage, std::string_view text, bool parse_special, std::vector<int32_t>* out,
                const Rest& rest) const;
  void EncodePiece(std::string_view text, bool first, std::vector<int32_t>* out) const;
  void Split(std::string_view text, size_t step, bool first, WordEncoder& words) const;
  void MarkSpaces(std::string_view text, bool first, WordEncoder& words) const;

  TokenTables tables_;
  TokenSettings settings_;
  bool begins_added_[3][256] = {};  // by stage and first byte: whether an added token may begin here
};

// Text as it comes, token by token: only whole characters are given out, the rest waits. The pieces together are what
// Decode gives. Allocates nothing but what the caller's string does.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special);
  // Appends to `out` the characters that are complete with this token. With byte fallback they wait for the end of a run
  // of byte tokens, or for kMaxRun of them.
  void Push(int32_t id, std::string* out);
  // Appends what waits, U+FFFD for an unfinished character. The decoder is then ready for another text.
  void Finish(std::string* out);
  static constexpr size_t kMaxRun = 256;

 private:
  void PushByte(unsigned char byte, std::string* out);
  void EndRun(size_t count, std::string* out);
  void Say(std::string_view text, std::string* out);
  std::string_view Shown(uint32_t id) const;

  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool said_ = false, dropped_space_ = false;  // something of this text
  bool first_ = true;                          // no token of it was taken
  Utf8Repair repair_;
  char run_[kMaxRun];  // of byte tokens, with Decoding::kPieces
  size_t run_count_ = 0;
};

}  // namespace sotto
