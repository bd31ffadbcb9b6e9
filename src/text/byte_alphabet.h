// The alphabet in which tokenizer files write bytes: printable Latin-1 stands for itself, the other 68 bytes are U+0100
// to U+0143 (a space is U+0120, "Ġ"). Source: bytes_to_unicode in openai/gpt-2, encoder.py.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "text/utf8.h"

namespace sotto {

// The byte that a character stands for, or -1.
inline int ByteOf(uint32_t code) {
  if ((code >= 0x21 && code <= 0x7E) || (code >= 0xA1 && code <= 0xFF && code != 0xAD)) return static_cast<int>(code);
  if (code < 0x100 || code > 0x143) return -1;
  const uint32_t n = code - 0x100;
  if (n < 33) return static_cast<int>(n);              // 0x00 to 0x20
  if (n < 67) return static_cast<int>(n - 33 + 0x7F);  // 0x7F to 0xA0
  return 0xAD;
}

// Writes the bytes that `name` (valid UTF-8) stands for to `out`, which has room for name.size() of them, and returns
// how many; nullopt when a character is outside of the alphabet. `out` may be null: then it only counts.
inline std::optional<size_t> FromAlphabet(std::string_view name, char* out) {
  size_t count = 0;
  for (size_t at = 0; at < name.size();) {
    const Character c = CharacterAt(name, at);
    const int byte = ByteOf(c.code);
    if (byte < 0) return std::nullopt;
    if (out != nullptr) out[count] = static_cast<char>(byte);
    ++count;
    at += c.bytes;
  }
  return count;
}

}  // namespace sotto
