#include "text/charsmap.h"

#include <algorithm>
#include <cstring>

#include "text/utf8.h"

namespace sotto {

uint32_t Charsmap::Unit(size_t index) const {
  uint32_t unit = 0;
  if (index < trie_.size() / 4) std::memcpy(&unit, trie_.data() + 4 * index, 4);
  return unit;
}

Result<Charsmap> Charsmap::Open(std::string_view bytes, const std::string& where) {
  uint32_t trie_bytes = 0;
  if (bytes.size() >= 4) std::memcpy(&trie_bytes, bytes.data(), 4);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes >= bytes.size() - 4)
    return BadModel("the tokenizer in " + where + " has a character map whose size contradicts itself; fetch it again");
  Charsmap map;
  map.trie_ = bytes.substr(4, trie_bytes);
  map.texts_ = bytes.substr(4 + trie_bytes);
  if (!IsUtf8(map.texts_) || map.texts_.back() != '\0')
    return BadModel("the tokenizer in " + where + " has a character map whose texts are not UTF-8; fetch it again");
  return map;
}

Charsmap::Rule Charsmap::Find(std::string_view text, bool longest) const {
  constexpr uint32_t kIsValue = 1u << 31, kHasValue = 1u << 8;
  constexpr size_t kMaxRule = 256;  // bytes that a rule looks at; published ones look at some dozen
  const auto children = [](uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); };
  Rule found;
  uint32_t node = children(Unit(0));
  int missing = 0;  // bytes of a character that has begun: a rule ends with one
  for (size_t i = 0; i < std::min(text.size(), kMaxRule) && text[i] != '\0'; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    const uint32_t unit = Unit(node);
    if ((unit & (kIsValue | 0xFF)) != byte) break;
    node ^= children(unit);
    missing = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : byte >= 0xC0 ? 1 : byte >= 0x80 ? missing - 1 : 0;
    if ((unit & kHasValue) == 0 || missing > 0) continue;
    const size_t value = Unit(node) & ~kIsValue;
    if (value >= texts_.size() || !BeginsCharacter(texts_, value)) continue;
    found = {i + 1, texts_.substr(value, texts_.find('\0', value) - value)};
    if (!longest) break;
  }
  return found;
}

}  // namespace sotto
