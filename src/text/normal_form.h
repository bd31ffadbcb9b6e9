// Unicode's normal form C, with the tables of the `tokenizers` package (make_normal_tables.py says why).
//
// Not here: the other normalizers (normalize.h).
#pragma once
#include <string>
#include <string_view>

namespace sotto {

// Appends the normal form of `text`, which is valid UTF-8. Heap: 8 bytes for every character of the longest run of combining marks.
void AppendNormalForm(std::string_view text, std::string* out);

}  // namespace sotto
