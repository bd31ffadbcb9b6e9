// UTF-8 as Python reads it with errors="replace", and the character classes of pre-tokenization.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sotto {

// Copies bytes to a string; every maximal part of a broken sequence becomes one U+FFFD, as in Python's
// bytes.decode("utf-8", errors="replace") and Rust's from_utf8_lossy (Unicode 15, section 3.9, table 3-8), or, as in
// SentencePiece, every byte of it does. Bytes may come in pieces of any size: at most 3 bytes of an unfinished character
// are held back.
class Utf8Repair {
 public:
  explicit Utf8Repair(bool each_byte = false) : each_byte_(each_byte) {}
  void Add(unsigned char byte, std::string* out);
  void Add(std::string_view bytes, std::string* out) {
    for (const char c : bytes) Add(static_cast<unsigned char>(c), out);
  }
  // What was held back can no longer be completed: U+FFFD, or nothing. Ready for another text afterwards.
  void Finish(std::string* out);

 private:
  bool each_byte_;
  char held_[4];
  uint8_t count_ = 0;                       // bytes in held_
  uint8_t missing_ = 0;                     // continuation bytes still to come
  unsigned char low_ = 0x80, high_ = 0xBF;  // the next one lies in this range
};

bool IsUtf8(std::string_view bytes);
inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

void AppendUtf8(uint32_t code, std::string* out);

// Whether text[at] is where a character begins, or the text's end.
inline bool BeginsCharacter(std::string_view text, size_t at) {
  return at >= text.size() || (static_cast<unsigned char>(text[at]) & 0xC0) != 0x80;
}

// One character at text[at]; the text is valid UTF-8 and at < text.size().
struct Character {
  uint32_t code;
  uint32_t bytes;  // 1 to 4
};
Character CharacterAt(std::string_view text, size_t at);
// The same for bytes that need not be UTF-8: where no character begins, one byte is U+FFFD.
Character SafeCharacterAt(std::string_view text, size_t at);

// Bits of Classes(code): as the `tokenizers` package defines them (make_unicode_tables.py), which follow a newer
// Unicode than PCRE2 10.42 and differ in white space (PCRE2 adds U+180E).
inline constexpr uint16_t kLetter = 1, kNumber = 2, kSpace = 4, kWord = 8;
inline constexpr uint16_t kUpper = 16, kLower = 32, kMark = 64, kPunctuation = 128;  // Lu and Lt, Ll, M, P
inline constexpr uint16_t kJoins = 256, kControl = 512;  // of graphemes: joins what is before it; is joined by nothing
uint16_t Classes(uint32_t code);

// White space around a position: where what ends at `end` begins, and where what begins at `at` ends.
size_t SpacesBegin(std::string_view text, size_t end);
size_t SpacesEnd(std::string_view text, size_t at);

}  // namespace sotto
