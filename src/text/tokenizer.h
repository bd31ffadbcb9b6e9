// Text to token ids and back: byte-level BPE as the `tokenizers` package does it (Whisper, GPT-2; Llama 3 and Qwen2
// splitting too). Everything it keeps lies in memory that the plan provides.
//
// Not here: what a model puts around a text (chat templates, <|startoftranscript|> …), normalizers, SentencePiece.
//
//   const TokenizerSize size = TRY(Tokenizer::Measure(dir));          // a plan item of size.bytes()
//   const Tokenizer tokenizer = TRY(Tokenizer::Open(dir, memory));    // memory: exactly that many bytes
//   TRY(tokenizer.Encode(" hello", /*parse_special=*/false, &ids));
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

namespace sotto {

class Tokenizer {
 public:
  // The exact size of the tables for the tokenizer in a model's directory: tokenizer.json if there is one, else
  // vocab.json and merges.txt with what stands beside them. Reads the files once, holds no table. kBadModel.
  static Result<TokenizerSize> Measure(const std::string& model_dir);

  // A bound on Measure().bytes() when only the vocabulary's size is known: 40 bytes an id and 4 KiB. An id with a merge
  // costs 26 bytes and its name, an added token 18 and its content (31 in all for Whisper: 51,865 ids, 50,000 merges).
  static uint64_t BytesBound(uint64_t vocab_size);

  // Reads the files into `memory`: Measure().bytes() bytes aligned to 8, which must outlive the tokenizer and its
  // copies. kBadModel when the size is another, or the files are damaged or unsupported. The second form spares
  // measuring again.
  static Result<Tokenizer> Open(const std::string& model_dir, std::span<std::byte> memory);
  static Result<Tokenizer> Open(const std::string& model_dir, const TokenizerSize& size, std::span<std::byte> memory);

  int32_t vocab_size() const { return static_cast<int32_t>(tables_.vocabulary()); }

  // Appends the ids of `text`. With `parse_special`, tokens like <|endoftext|> that stand in the text become their ids;
  // without, they are text like any other, so that user text cannot steer the model. Added tokens that are not special
  // are always found. Invalid UTF-8 is first repaired: U+FFFD for every maximal broken part. Heap: a copy of the text
  // if it is invalid, and kLongWordBytes for every byte of the longest word beyond kShortWord. kBadInput for more than
  // 1 GiB.
  Status Encode(std::string_view text, bool parse_special, std::vector<int32_t>* out) const;
  static constexpr size_t kShortWord = 64;
  static constexpr size_t kLongWordBytes = 28;

  // The id of a token, given as the bytes it stands for; an added token by its content.
  std::optional<int32_t> IdOf(std::string_view token) const;

  // The bytes that a token stands for, which need not be valid UTF-8; of an added token its content. An id that does
  // not exist has none and is not special. The view lives as long as the tokenizer's memory.
  std::string_view Token(int32_t id) const;
  bool IsSpecial(int32_t id) const;

  // The text of ids; invalid UTF-8 becomes U+FFFD as in Python's errors="replace". Ids that do not exist are left out.
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

 private:
  friend class StreamDecoder;
  Tokenizer(const TokenTables& tables, const TokenSettings& settings);
  void DecodeTo(int32_t id, bool skip_special, Utf8Repair& repair, std::string* out) const;
  bool Exists(int32_t id) const { return id >= 0 && id < vocab_size(); }

  // Cuts the added tokens of one kind out of `text`: rest(piece) for what lies between, ids to `out`.
  template <class Rest>
  void CutAdded(bool normalized, std::string_view text, bool parse_special, std::vector<int32_t>* out,
                const Rest& rest) const;
  void EncodeWords(std::string_view text, std::vector<int32_t>* out) const;

  TokenTables tables_;
  TokenSettings settings_;
  bool begins_added_[2][256] = {};  // by kind and first byte: whether an added token may begin here
};

// Text as it comes, token by token: only whole characters are given out, the rest waits. The pieces together are what
// Decode gives. Allocates nothing but what the caller's string does.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special) : tokenizer_(&tokenizer), skip_special_(skip_special) {}
  // Appends to `out` the characters that are complete with this token.
  void Push(int32_t id, std::string* out) { tokenizer_->DecodeTo(id, skip_special_, repair_, out); }
  // Appends U+FFFD if a character is unfinished. The decoder is then ready for another text.
  void Finish(std::string* out) { repair_.Finish(out); }

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  Utf8Repair repair_;
};

}  // namespace sotto
