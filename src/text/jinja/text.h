// Python's str, on UTF-8: lengths and places in characters, case, splitting, repr. All text here is valid UTF-8.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sotto::jinja {

int64_t Characters(std::string_view text);
// Where a character begins; REQUIRES: 0 <= character <= Characters(text).
size_t OffsetOf(std::string_view text, int64_t character);
void AppendCharacter(uint32_t code, std::string* out);
std::string Repeated(std::string_view text, int64_t count);

// Classes of a character, as bits: the str.is… methods, and what lower() asks of a sigma's neighbours.
inline constexpr uint32_t kPrintable = 1, kAlpha = 2, kDecimal = 4, kDigit = 8, kNumeric = 16, kUpperCase = 32,
                          kLowerCase = 64, kTitleCase = 128, kCased = 256, kCaseIgnorable = 512;
uint32_t ClassesOf(uint32_t code);
bool IsSpace(uint32_t code);

// Python's isX(): not empty, and every character has one of the classes.
bool All(std::string_view text, uint32_t classes);
bool AllSpace(std::string_view text);
// isupper() and islower(): some character has the class, and none has the other one or is in title case.
bool AllCased(std::string_view text, uint32_t wanted);

enum class Case { kUpper, kLower, kTitle };
std::string Cased(std::string_view text, Case to);  // upper() and lower(); kTitle: title()
std::string Capitalized(std::string_view text);

enum class Side { kLeft = 1, kRight = 2, kBoth = 3 };
std::string_view Strip(std::string_view text, Side side);
std::string_view Strip(std::string_view text, Side side, std::string_view characters);

// Python's split and rsplit; `most` < 0 is no bound. The first splits at runs of white space.
std::vector<std::string_view> Split(std::string_view text, int64_t most, bool from_right);
std::vector<std::string_view> Split(std::string_view text, std::string_view separator, int64_t most, bool from_right);
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);

// The place of the first `part` at or after `from`, or of the last one, or npos. Their time is linear in both lengths.
size_t Find(std::string_view text, std::string_view part, size_t from);
size_t FindLast(std::string_view text, std::string_view part);

// repr(): quoted, with escapes for what can't be printed.
void AppendQuoted(std::string_view text, std::string* out);
std::string FloatText(double number);
std::string HtmlEscaped(std::string_view text);

}  // namespace sotto::jinja
