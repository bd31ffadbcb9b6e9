// `sotto pull` is a program of its own, sotto-pull (src/cli/pull/), because libcurl costs memory even when no command
// uses it: VmHWM of a program that prints one line, Debian 12, g++ 12:
//
//   libstdc++ and fmt alone                          2.6 MiB
//   + libcurl and what it links                      9.1 MiB
//
// sotto's other commands live in budgets where that is an encoder layer.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"

namespace sotto::cli {

// Becomes sotto-pull, which lies beside this executable, with `arguments` (what follows "pull"). Returns only when that
// fails.
Error ExecPull(const std::vector<std::string>& arguments);

}  // namespace sotto::cli
