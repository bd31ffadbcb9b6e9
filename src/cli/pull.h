// `sotto pull` is a program of its own, sotto-pull (src/cli/pull/), because OpenSSL and cpp-httplib cost memory even when
// no command uses them: VmHWM of a program that prints one line, Debian 12, g++ 12:
//
//   libstdc++ and fmt alone       2.6 MiB
//   + libssl, libcrypto           4.4 MiB
//   + libcpp-httplib, brotli, z   7.3 MiB
//
// sotto's other commands live in budgets where 4.7 MiB are an encoder layer.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"

namespace sotto::cli {

// Becomes sotto-pull, which lies beside this executable, with `arguments` (what follows "pull"). Returns only when that
// fails.
Error ExecPull(const std::vector<std::string>& arguments);

}  // namespace sotto::cli
