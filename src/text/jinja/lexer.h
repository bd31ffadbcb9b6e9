// Cuts a template into tokens, as Jinja with trim_blocks and lstrip_blocks: white space around tags is dealt with here.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sotto::jinja {

struct Token {
  enum Kind {
    kData,
    kVariableBegin,
    kVariableEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd
  };
  Kind kind = kEnd;
  int line = 1;
  std::string text;  // of a string its value; of a number without '_'
};

// `source` is UTF-8. The last token is kEnd. kBadModel.
Result<std::vector<Token>> Tokenize(std::string_view source);

// "the chat template, line 3: …".
Error BadTemplate(int line, std::string_view what);

}  // namespace sotto::jinja
