// Cuts text into the words that byte pair encoding works on. The patterns that published models use are few and fixed,
// so each is a scanner over character classes here and no regular expression is run: nothing to backtrack, no heap, no
// stack, and a pattern that a file names is either one of these or refused (a model's file cannot bring its own). A
// tokenizer applies one of them, or several in turn, each to the words of the one before.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sotto {

// The character that stands for a space in vocabularies of SentencePiece and its kin: U+2581.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

enum class Splitting : uint8_t {
  // Whole patterns: every character belongs to some match.
  kGpt2,    // GPT-2, Whisper, Phi: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  kLlama3,  // Llama 3, Ultravox: contractions of any case, line ends kept apart, numbers by three digits
  kQwen2,   // Qwen2, Qwen2-Audio: the same with single digits
  kTekken,  // Mistral Nemo, Voxtral: no contractions, upper case before lower case, single digits
  // Patterns that match here and there; what lies between is a word, too.
  kNumber,       // \p{N}
  kNumbers,      // \p{N}+
  kThreeDigits,  // [0-9][0-9][0-9]
  kSymbols,      // [\p{P}\$\+<=>\^~\|]+                    GGUF files that name no pattern
  // Not patterns.
  kSpaces,            // white space, which is dropped: IsDropped
  kBeforeSpaceMark,   // before every U+2581
  kBeforeSpaceMarks,  // before every run of U+2581
};

// The splitting that a regular expression in tokenizer.json stands for, if it is a known one.
std::optional<Splitting> SplittingOf(std::string_view regex);

// Bytes of the word that begins at text[at]: at least one character. `text` is valid UTF-8, at < text.size().
size_t WordLength(Splitting splitting, std::string_view text, size_t at);

// Whether a word of this splitting is no word but what separates them.
bool IsDropped(Splitting splitting, std::string_view word);

}  // namespace sotto
