// This program in a process of its own, so that what it takes is nobody else's.
//
//   const std::string document = TRY(RunSelf({"run", model, "-", "--json"}, prompt_file, stop, waiting));
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "base/result.h"

namespace sotto {

// What the command writes on standard output, with `input` (a file) as standard input. A command that fails gives the error of its --json
// document. Now and then `waiting(seconds)` is called; a set `stop` interrupts the command, and is kInterrupted.
Result<std::string> RunSelf(const std::vector<std::string>& arguments, const std::string& input,
                            const std::atomic<bool>& stop, FunctionRef<void(double seconds)> waiting);

}  // namespace sotto
