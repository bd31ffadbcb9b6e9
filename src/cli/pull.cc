#include "cli/pull.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

namespace sotto::cli {

Error ExecPull(const std::vector<std::string>& arguments) {
  std::array<char, PATH_MAX> exe;
  const ssize_t length = readlink("/proc/self/exe", exe.data(), exe.size());
  std::string program = length > 0 ? std::string(exe.data(), static_cast<size_t>(length)) : "sotto";
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
