#include "text/utf8.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace sotto {
namespace {

// Where the classes change: code << 10 | classes, ascending.
constexpr uint32_t kChanges[] = {
#include "text/unicode_tables.inc"
};

constexpr auto kAscii = [] {
  std::array<uint16_t, 128> classes{};
  size_t next = 0;
  uint16_t now = 0;
  for (uint32_t c = 0; c < 128; ++c) {
    while (next < std::size(kChanges) && kChanges[next] >> 10 <= c) now = kChanges[next++] & 1023;
    classes[c] = now;
  }
  return classes;
}();

}  // namespace

void Utf8Repair::Add(unsigned char byte, std::string* out) {
  if (missing_ > 0) {
    if (byte >= low_ && byte <= high_) {
      held_[count_++] = static_cast<char>(byte);
      low_ = 0x80;
      high_ = 0xBF;
      if (--missing_ == 0) {
        out->append(held_, count_);
        count_ = 0;
      }
      return;
    }
    Finish(out);
  }
  if (byte < 0x80) {
    out->push_back(static_cast<char>(byte));
  } else if (byte < 0xC2 || byte > 0xF4) {  // a continuation byte alone, or a lead of overlong or too large characters
    out->append(kReplacement);
  } else {
    held_[0] = static_cast<char>(byte);
    count_ = 1;
    missing_ = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
    low_ = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;   // no overlong forms
    high_ = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;  // no surrogates, nothing above U+10FFFF
  }
}

void Utf8Repair::Finish(std::string* out) {
  if (count_ > 0) out->append(kReplacement);
  if (each_byte_)
    for (; count_ > 1; --count_) out->append(kReplacement);
  count_ = missing_ = 0;
  low_ = 0x80;
  high_ = 0xBF;
}

bool IsUtf8(std::string_view bytes) {
  const auto* p = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto* const end = p + bytes.size();
  while (p != end) {
    const unsigned char c = *p++;
    if (c < 0x80) continue;
    if (c < 0xC2 || c > 0xF4) return false;
    const int more = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    if (end - p < more) return false;
    const unsigned char low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (p[0] < low || p[0] > high) return false;
    for (int i = 1; i < more; ++i)
      if ((p[i] & 0xC0) != 0x80) return false;
    p += more;
  }
  return true;
}

Character CharacterAt(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[at + i])); };
  const uint32_t c = byte(0);
  if (c < 0x80) return {c, 1};
  if (c < 0xE0) return {(c & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (c < 0xF0) return {(c & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(c & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

Character SafeCharacterAt(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const std::string_view bytes = text.substr(at, lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4);
  return IsUtf8(bytes) ? CharacterAt(bytes, 0) : Character{0xFFFD, 1};
}

void AppendUtf8(uint32_t code, std::string* out) {
  const auto tail = [&](uint32_t shift) { out->push_back(static_cast<char>(0x80 | (code >> shift & 0x3F))); };
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xC0 | code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | code >> 12));
    tail(6);
    tail(0);
  } else {
    out->push_back(static_cast<char>(0xF0 | code >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

uint16_t Classes(uint32_t code) {
  if (code < 128) return kAscii[code];
  const auto* after = std::upper_bound(std::begin(kChanges), std::end(kChanges), code << 10 | 1023);
  return static_cast<uint16_t>(after[-1] & 1023);  // the first change is below 128
}

size_t SpacesBegin(std::string_view text, size_t end) {
  for (size_t at = end; at > 0;) {
    do --at;
    while (at > 0 && !BeginsCharacter(text, at));
    if (!(Classes(SafeCharacterAt(text, at).code) & kSpace)) break;
    end = at;
  }
  return end;
}

size_t SpacesEnd(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Character c = SafeCharacterAt(text, at);
    if (!(Classes(c.code) & kSpace)) break;
    at += c.bytes;
  }
  return at;
}

}  // namespace sotto
