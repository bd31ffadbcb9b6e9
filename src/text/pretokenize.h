// Cuts text into the words that byte pair encoding works on. The patterns that audio models publish are few and fixed,
// so each is a scanner over character classes here and no regular expression is run: nothing to backtrack, no heap, no
// stack, and a pattern that a file names is either one of these or refused (a model's file cannot bring its own).
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sotto {

enum class Splitting : uint8_t {
  kWhole,   // no cut
  kGpt2,    // GPT-2, Whisper, Phi: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  kLlama3,  // Llama 3, Ultravox: contractions of any case, line ends kept apart, numbers by three digits
  kQwen2,   // Qwen2, Qwen2-Audio: the same with single digits
};

// The splitting that a regular expression in tokenizer.json stands for, if it is a known one.
std::optional<Splitting> SplittingOf(std::string_view regex);

// Bytes of the word that begins at text[at]: at least one character. `text` is valid UTF-8, at < text.size().
size_t WordLength(Splitting splitting, std::string_view text, size_t at);

}  // namespace sotto
