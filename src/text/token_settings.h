// What a tokenizer's files say about the way from text to tokens and back, as plain values of a fixed size: the order of
// the steps is normalizer, splittings, model; decoding and AddSpecial stand apart. Names of the steps are those of the
// `tokenizers` package.
//
// Not here: vocabulary and merges (token_tables.h).
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "text/pretokenize.h"

namespace sotto {

// Up to N values in place.
template <class T, size_t N>
struct Few {
  std::array<T, N> items{};
  uint8_t count = 0;

  bool Add(const T& item) {  // false: there is no room
    if (count == N) return false;
    items[count++] = item;
    return true;
  }
  const T* begin() const { return items.data(); }
  const T* end() const { return items.data() + count; }
  bool empty() const { return count == 0; }
  friend bool operator==(const Few&, const Few&) = default;
};

struct ShortText : Few<char, 31> {
  bool Set(std::string_view text) {  // false: it is too long
    *this = {};
    return std::all_of(text.begin(), text.end(), [&](char c) { return Add(c); });
  }
  std::string_view view() const { return {items.data(), count}; }
};

enum class TokenModel : uint8_t {
  kBytes,    // byte pair encoding of bytes, by a list of merges: GPT-2, Whisper, Llama 3, Qwen
  kMerges,   // of characters, by a list of merges: tokenizer.json of Llama 2, Mistral, Gemma
  kScores,   // of characters, by the scores of the tokens: tokenizer.model and GGUF of the same
  kUnigram,  // the cut whose tokens have the highest total score: T5, XLM-R
};

struct NormalStep {
  enum Kind : uint8_t {
    kNfc,
    kPrepend,        // `to`, unless the text is empty
    kReplace,        // every `from` by `to`
    kReplaceSpaces,  // every run of two or more spaces by `to`
    kStripLeft,      // white space
    kStripRight,
    kCharsmap,       // the character map, grapheme by grapheme as `tokenizers` does it
    kSentencePiece,  // the character map and the rules of `spaces`, as SentencePiece does it
  } kind;
  ShortText from{}, to{};
  friend bool operator==(const NormalStep&, const NormalStep&) = default;
};

// SentencePiece's NormalizerSpec.
struct SpaceRules {
  bool add_prefix = true, remove_extra = true, escape = true;
  bool suffix = false;  // the added space stands behind the text
  friend bool operator==(const SpaceRules&, const SpaceRules&) = default;
};

enum class Prefix : uint8_t { kNever, kFirst, kAlways };  // kFirst: only where the text begins

// The pre-tokenizer Metaspace: spaces become kSpaceMark, one is put before the text, each begins a word.
struct Metaspace {
  bool on = false, split = false;
  Prefix prefix = Prefix::kNever;
  friend bool operator==(const Metaspace&, const Metaspace&) = default;
};

enum class Decoding : uint8_t {
  kBytes,          // tokens are bytes
  kPieces,         // kSpaceMark is a space, a run of byte tokens is text if it is UTF-8
  kMetaspace,      // likewise without byte tokens
  kSentencePiece,  // control tokens are nothing, the first mark is nothing if a space was added when encoding
};

struct TokenSettings {
  TokenModel model = TokenModel::kBytes;
  Few<NormalStep, 8> normalizer;
  SpaceRules spaces;
  Few<Splitting, 8> splittings;
  Metaspace metaspace;
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
  bool by_rank = false;        // no merges: neighbours that are a token together are joined, the lowest id first
  bool byte_fallback = false;  // a character without a token is the tokens of its bytes
  bool fuse_unknown = false;   // neighbouring unknown characters are one unknown token
  bool sentencepiece = false;  // scores and unknown characters are taken over the whole text, as SentencePiece does
  ShortText unknown;           // the unknown token's name, if its kind does not say it
  std::optional<uint32_t> unknown_id;

  Decoding decoding = Decoding::kBytes;
  bool strip_space = false;       // one space at the begin of what is decoded is nothing
  bool drop_marks = false;        // with kMetaspace: all of the first token are nothing
  ShortText unknown_text;         // what kSentencePiece shows for it
  Few<int32_t, 8> before, after;  // what AddSpecial puts around a text
  friend bool operator==(const TokenSettings&, const TokenSettings&) = default;
};

}  // namespace sotto
