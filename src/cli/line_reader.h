// What a person types: edited and with a history on a terminal; from a file or a pipe, line by line.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"

namespace sotto::cli {

class LineReader {
 public:
  explicit LineReader(bool terminal);
  ~LineReader();

  // The next line, without its end; nothing at the end of the input, or when StopFlag() was set before anything was typed.
  // kBadInput for a line that is longer than a prompt may be.
  Result<std::optional<std::string>> Next();

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // on a terminal
};

}  // namespace sotto::cli
