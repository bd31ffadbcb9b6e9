// The normalizers of a tokenizer: text to the text whose words are looked up.
//
// Not here: the forms of Unicode (normal_form.h), character maps (charsmap.h).
#pragma once
#include <string>
#include <string_view>

#include "base/function_ref.h"
#include "base/result.h"
#include "text/charsmap.h"
#include "text/token_settings.h"

namespace sotto {

inline constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;  // positions in a word are 32 bits wide

// Takes `text` (valid UTF-8) through the steps of `settings`: *text is as it was, or lies in `scratch`, or is part of
// either. `symbol` gives the length of the user-defined symbol at a position, or 0: SentencePiece leaves those as they
// are. kBadInput when the text grows beyond kMaxTextBytes. Heap: two copies of the text and the larger of them.
Status Normalize(const TokenSettings& settings, const Charsmap& map,
                 FunctionRef<size_t(std::string_view text, size_t at)> symbol, std::string_view* text,
                 std::string* scratch);

}  // namespace sotto
