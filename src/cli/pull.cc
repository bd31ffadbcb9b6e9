#include "cli/pull.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/executable.h"

namespace sotto::cli {

Error ExecPull(const std::vector<std::string>& arguments) {
  std::string program = ExecutablePath();
  program = program.substr(0, program.rfind('/') + 1) + "sotto-pull";
  std::vector<char*> argv{program.data()};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));  // exec copies
  argv.push_back(nullptr);
  std::fflush(nullptr);
  execv(program.c_str(), argv.data());
  return Failed(fmt::format("cannot run {}: {}; install it beside sotto (cmake --build builds it)", program,
                            std::strerror(errno)));
}

}  // namespace sotto::cli
