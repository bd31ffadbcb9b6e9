// What a person types: edited and with a history on a terminal; from a file or a pipe, line by line.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"

namespace sotto::cli {

class LineReader {
 public:
  // `most`: bytes of a line.
  LineReader(bool terminal, uint64_t most);
  ~LineReader();

  // The next line, without its end; nothing at the end of the input, or when StopFlag() was set before anything was typed.
  // kBadInput for a longer line.
  Result<std::optional<std::string>> Next();

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // on a terminal
  uint64_t most_;
};

}  // namespace sotto::cli
