// UTF-8 as Python reads it with errors="replace", and the character classes of pre-tokenization.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sotto {

// Copies bytes to a string; every maximal part of a broken sequence becomes one U+FFFD, as in Python's
// bytes.decode("utf-8", errors="replace") and Rust's from_utf8_lossy (Unicode 15, section 3.9, table 3-8). Bytes may
// come in pieces of any size: at most 3 bytes of an unfinished character are held back.
class Utf8Repair {
 public:
  void Add(unsigned char byte, std::string* out);
  void Add(std::string_view bytes, std::string* out) {
    for (const char c : bytes) Add(static_cast<unsigned char>(c), out);
  }
  // What was held back can no longer be completed: one U+FFFD, or nothing. Ready for another text afterwards.
  void Finish(std::string* out);

 private:
  char held_[4];
  uint8_t count_ = 0;                       // bytes in held_
  uint8_t missing_ = 0;                     // continuation bytes still to come
  unsigned char low_ = 0x80, high_ = 0xBF;  // the next one lies in this range
};

bool IsUtf8(std::string_view bytes);

// One character at text[at]; the text is valid UTF-8 and at < text.size().
struct Character {
  uint32_t code;
  uint32_t bytes;  // 1 to 4
};
Character CharacterAt(std::string_view text, size_t at);

// Bits of Classes(code): as the `tokenizers` package defines them (make_unicode_tables.py), which follow a newer
// Unicode than PCRE2 10.42 and differ in white space (PCRE2 adds U+180E).
inline constexpr uint8_t kLetter = 1, kNumber = 2, kSpace = 4, kWord = 8;
uint8_t Classes(uint32_t code);

}  // namespace sotto
