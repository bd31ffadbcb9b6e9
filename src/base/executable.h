// Where this process's program lies: what it starts again, and what was installed beside it.
#pragma once
#include <unistd.h>

#include <array>
#include <climits>
#include <string>

namespace sotto {

// "" where the system does not say.
inline std::string ExecutablePath() {
  std::array<char, PATH_MAX> exe;
  const ssize_t length = ::readlink("/proc/self/exe", exe.data(), exe.size());
  return length > 0 && static_cast<size_t>(length) < exe.size() ? std::string(exe.data(), static_cast<size_t>(length))
                                                                : "";
}

}  // namespace sotto
