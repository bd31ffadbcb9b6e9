// JSON by nlohmann, without exceptions and with bounds. Small documents (configs) become a tree; large ones (tokenizer.json,
// tensor headers) are read by SAX (sax.h), so that a table never costs more memory than planned.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/json_fwd.h"
#include "base/result.h"

namespace sotto {

// Nesting deeper than 64 and invalid UTF-8 are errors. `where` is named in the error, whose code is `code`.
Result<Json> ParseJson(std::string_view text, const std::string& where, Code code);

// A config file of at most 4 MiB.
Result<Json> ReadJson(const std::string& path, Code code);

}  // namespace sotto
