// sotto watch: memory as it goes, until it is interrupted.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <deque>

#include "base/json.h"
#include "cli/options.h"
#include "engine/admission.h"

namespace sotto::cli {
namespace {

struct WatchOptions {
  double interval = 1;
  std::string min_free = "512MiB";
  bool once = false, json = false;
};

constexpr size_t kMostHistory = 60, kMostShown = 20;

struct Seen {
  SystemMemory memory;
  std::vector<ProcessMemory> processes;  // other sottos
  MemoryState state = MemoryState::kOk;  // while there are any
};

Seen Look(Bytes min_free) {
  Seen seen{ReadSystemMemory(), ProcessesNamed("sotto")};
  std::erase_if(seen.processes, [](const ProcessMemory& p) { return p.id == getpid(); });
  if (!seen.processes.empty()) seen.state = StateOf({min_free, min_free * 2}, seen.memory.available);
  return seen;
}

Json WatchJson(const Seen& s) {
  Json j = {{"time", std::time(nullptr)},
            {"total_bytes", s.memory.total.n},
            {"available_bytes", s.memory.available.n},
            {"limit_bytes", s.memory.limit ? Json(s.memory.limit->n) : Json(nullptr)},
            {"used_bytes", s.memory.total.n - std::min(s.memory.total.n, s.memory.available.n)},
            {"percent_used", PercentUsed(s.memory)},
            {"status", NameOf(s.state)},
            {"processes", Json::array()}};
  for (const ProcessMemory& p : s.processes)
    j["processes"].push_back({{"pid", p.id}, {"resident_bytes", p.resident.n}, {"arguments", p.arguments}});
  return j;
}

std::string Sparkline(const std::deque<double>& percents) {
  constexpr const char* kBlocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string line;
  for (const double p : percents) line += kBlocks[std::clamp(static_cast<int>(p / 12.5), 0, 7)];
  return line;
}

std::string WatchLine(const Seen& s) {
  Bytes taken;
  for (const ProcessMemory& p : s.processes) taken += p.resident;
  return fmt::format("{:%FT%TZ} total {}, available {}, used {:.1f} %, {}, {} in {} sotto process{}\n",
                     fmt::gmtime(std::time(nullptr)), Human(s.memory.total), Human(s.memory.available),
                     PercentUsed(s.memory), NameOf(s.state), Human(taken), s.processes.size(),
                     s.processes.size() == 1 ? "" : "es");
}

std::string WatchScreen(const Seen& s, const std::deque<double>& percents) {
  constexpr int kWidth = 40;
  const double percent = PercentUsed(s.memory);
  const auto full = static_cast<size_t>(std::lround(percent / 100 * kWidth));
  std::string out = fmt::format("used       [{}{}] {:5.1f} %  {}\ntotal      {}\navailable  {}\n",
                                std::string(full, '#'), std::string(kWidth - full, '.'), percent, NameOf(s.state),
                                Human(s.memory.total), Human(s.memory.available));
  if (s.memory.limit) out += fmt::format("limit      {}, of a control group\n", Human(*s.memory.limit));
  if (percents.size() > 1) out += fmt::format("history    {}\n", Sparkline(percents));
  for (size_t i = 0; i < std::min(kMostShown, s.processes.size()); ++i)
    out += fmt::format("{:>9}  {:>10}  sotto {}\n", s.processes[i].id, Human(s.processes[i].resident),
                       s.processes[i].arguments);
  if (s.processes.size() > kMostShown) out += fmt::format("{:>9} more\n", s.processes.size() - kMostShown);
  return out;
}

// Painted over itself; lines are not wrapped meanwhile, so that each of them stays one.
constexpr const char* kNoWrap = "\033[?7l";
constexpr const char* kWrap = "\033[?7h";

Result<int> Watch(const WatchOptions& o) {
  if (!(o.interval >= 0.1 && o.interval <= 3600))
    return Usage(fmt::format("--interval {} is not from 0.1 to 3600 seconds", o.interval));
  const Bytes min_free = TRY(ParseSize(o.min_free, ReadSystemMemory().total));
  const bool screen = !o.json && isatty(STDOUT_FILENO) != 0, live = screen && !o.once;
  std::deque<double> percents;
  int64_t lines = 0;  // on the screen
  if (live) std::fputs(kNoWrap, stdout);
  bool written = true;
  while (written && !StopFlag().load()) {
    const Seen seen = Look(min_free);
    percents.push_back(PercentUsed(seen.memory));
    if (percents.size() > kMostHistory) percents.pop_front();
    std::string text = o.json   ? WatchJson(seen).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"
                       : screen ? WatchScreen(seen, percents)
                                : WatchLine(seen);
    if (lines > 0) std::fputs(fmt::format("\033[{}A\033[J", lines).c_str(), stdout);
    if (live) lines = std::count(text.begin(), text.end(), '\n');
    written = std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0;  // else its reader has gone
    if (o.once) return written ? 0 : static_cast<int>(Code::kFailed);
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(o.interval);
    while (written && !StopFlag().load() && std::chrono::steady_clock::now() < until)
      poll(nullptr, 0, static_cast<int>(std::min(100.0, o.interval * 1000)));
  }
  if (live) std::fputs(kWrap, stdout);
  return written ? 128 + StopSignal() : static_cast<int>(Code::kFailed);
}

}  // namespace

void AddWatch(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<WatchOptions>();
  CLI::App* app = root->add_subcommand("watch", "Memory as it goes: used, available, and each sotto process");
  app->add_option("--interval", o->interval, "Seconds between samples")->capture_default_str();
  app->add_option("--min-free", o->min_free,
                  "While a sotto runs: critical with less available, warning with less than twice")
      ->capture_default_str();
  app->add_flag("--once", o->once, "One sample");
  app->add_flag("--json", o->json, "One JSON document a line for each sample");
  app->footer(
      "Examples:\n"
      "  sotto watch\n"
      "  sotto watch --interval 10 --json >> memory.jsonl\n"
      "Exit: 0 done, 2 usage, 130 interrupted.");
  commands->push_back({app, [o] {
                         StopFlag();
                         Result<int> done = Watch(*o);
                         return done.ok() ? *done : Report(done.error(), o->json);
                       }});
}

}  // namespace sotto::cli
