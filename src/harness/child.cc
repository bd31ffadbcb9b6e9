#include "harness/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include "base/executable.h"
#include "base/json.h"

namespace sotto {
namespace {

// A command and the reading end of its standard output. Without Wait() it is killed.
class Child {
 public:
  Child() = default;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
    if (out_ >= 0) ::close(out_);
  }

  Status Start(const std::vector<std::string>& arguments, const std::string& input) {
    const std::string program = ExecutablePath();
    std::vector<char*> argv{const_cast<char*>(program.c_str())};  // which spawning only reads
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    std::array<int, 2> ends;
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Failed(fmt::format("no pipe: {}", std::strerror(errno)));
    out_ = ends[0];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, input.c_str(), O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    const int failed = ::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    if (failed == 0) return {};
    pid_ = 0;
    return Failed(fmt::format("cannot run {} again: {}", program, std::strerror(failed)));
  }

  // Whether there may be more, after a fifth of a second at most.
  bool Read(std::string* text) const {
    pollfd ready{out_, POLLIN, 0};
    if (::poll(&ready, 1, 200) <= 0) return true;
    std::array<char, 65536> piece;
    const ssize_t got = ::read(out_, piece.data(), piece.size());
    if (got > 0) text->append(piece.data(), static_cast<size_t>(got));
    return got > 0 || (got < 0 && errno == EINTR);
  }

  void Interrupt() const { ::kill(pid_, SIGINT); }

  // The exit code, or 128 and the signal that ended it.
  int Wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
  int out_ = -1;
};

Error ErrorOf(const std::string& command, int code, const std::string& document) {
  const Result<Json> j = ParseJson(document, command, Code::kFailed);
  const Json error = j.ok() && j->is_object() ? j->value("error", Json()) : Json();
  if (code < 1 || code > static_cast<int>(Code::kOverBudget) || !error.is_object() || !error.contains("message"))
    return Failed(fmt::format("sotto {} ended with code {} and no reason; run it alone to see why", command, code));
  const auto bytes = [&](const char* key) { return error.value(key, uint64_t{0}); };
  return {static_cast<Code>(code), error["message"].get<std::string>(), bytes("required_bytes"), bytes("budget_bytes"),
          bytes("smallest_budget_bytes")};
}

}  // namespace

Result<std::string> RunSelf(const std::vector<std::string>& arguments, const std::string& input,
                            const std::atomic<bool>& stop, FunctionRef<void(double seconds)> waiting) {
  Child child;
  TRY(child.Start(arguments, input));
  std::string text;
  const auto started = std::chrono::steady_clock::now();
  bool asked = false;
  while (child.Read(&text)) {
    waiting(std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    if (stop && !std::exchange(asked, true)) child.Interrupt();
  }
  const int code = child.Wait();
  if (stop) return Error{Code::kInterrupted, "interrupted"};
  if (code != 0) return ErrorOf(arguments[0], code, text);
  return text;
}

}  // namespace sotto
