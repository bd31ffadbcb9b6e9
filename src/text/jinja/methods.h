// The methods of text, sequences and dicts.
#pragma once
#include <span>
#include <string_view>

#include "text/jinja/renderer.h"
#include "text/jinja/text.h"

namespace sotto::jinja {

std::span<const Native> TextMethods();
std::span<const Native> SequenceMethods();
std::span<const Native> DictMethods();

// text.replace(old, new, most); `most` < 0 is no bound.
Result<Value> Replaced(Renderer& r, const Value& text, std::string_view old, std::string_view fresh, int64_t most);
// text.format(…); '{0}' and '{name}' are looked up in `arguments`.
Result<Value> Formatted(Renderer& r, const Value& text, const Arguments& arguments);
// text.center(width) and its like; `side` is where the text goes.
Result<Value> Aligned(Renderer& r, const Value& text, int64_t width, std::string_view fill, Side side);

}  // namespace sotto::jinja
