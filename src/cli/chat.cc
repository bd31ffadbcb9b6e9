// sotto chat: turns of a person and a model in a terminal, or through pipes.
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>

#include "audio/stream.h"
#include "cli/line_reader.h"
#include "cli/options.h"
#include "engine/conversation.h"
#include "engine/report.h"

namespace sotto::cli {
namespace {

struct Options : ModelOptions {
  GenerateOptions generate;
  bool shift = false;
};

class Chat {
 public:
  Chat(const Options& options, Engine& engine, Conversation conversation)
      : o_(options), engine_(engine), conversation_(std::move(conversation)) {}

  // The exit code: of the last error, 0 without any.
  int Run() {
    const bool terminal = !o_.shared.json && isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
    if (terminal && !o_.quiet)
      fmt::print("{}: {} planned, a context of {}. /help lists commands, Ctrl-D ends.\n", engine_.planned().dir.name,
                 Human(engine_.layout().plan.total), engine_.model().info().context);
    LineReader reader(terminal, MaxPromptBytes(engine_.model().info().context));
    for (int code = 0;;) {
      const auto line = reader.Next();
      if (!line.ok()) return Report(line.error(), o_.shared.json);
      if (!*line) return StopFlag().load() ? 128 + StopSignal() : code;
      if ((*line)->empty()) continue;
      const Status status = (*line)->starts_with('/') ? Obey(**line) : Say(std::move(**line));
      if (!status.ok()) code = Report(status.error(), o_.shared.json);
      if (ended_) return code;
      if (!StopFlag().load()) continue;
      if (!terminal || StopSignal() != SIGINT) return 128 + StopSignal();
      ClearStop();
    }
  }

 private:
  struct Named {
    const char* name;
    const char* argument;
    const char* help;
    Status (Chat::*run)(const std::string& argument);
  };
  static constexpr int kHelpColumn = 16;
  static const Named kCommands[];

  Status Obey(const std::string& line) {
    const size_t space = std::min(line.find(' '), line.size());
    std::string argument = line.substr(std::min(line.find_first_not_of(' ', space), line.size()));
    argument.erase(argument.find_last_not_of(' ') + 1);
    for (const Named* c = kCommands; c->name != nullptr; ++c)
      if (line.compare(1, space - 1, c->name) == 0) return (this->*c->run)(argument);
    return Usage(fmt::format("there is no command {}; /help lists them, and a space before it makes it a message",
                             line.substr(0, space)));
  }

  Status Say(std::string text) {
    std::vector<std::string> audios = std::exchange(audios_, {});
    const bool json = o_.shared.json;
    const Reply reply = TRY(conversation_.Ask(std::move(text), std::move(audios), StopFlag(), [&](std::string_view t) {
      if (json) return;
      fmt::print("{}", t);
      std::fflush(stdout);
    }));
    const Generated& answer = reply.answer;
    if (json) {
      Print({{"text", answer.text},
             {"finish_reason", NameOf(answer.end)},
             {"usage",
              {{"prompt_tokens", reply.prompt},
               {"cached_tokens", reply.cached},
               {"audio_tokens", reply.audio},
               {"completion_tokens", answer.ids.size()}}},
             {"dropped_turns", reply.dropped},
             {"warnings", reply.warnings}});
      return {};
    }
    fmt::print("\n");
    std::fflush(stdout);
    for (const std::string& warning : reply.warnings) Note(warning);
    if (reply.dropped > 0)
      Note(fmt::format("the context was full: the oldest {} forgotten",
                       reply.dropped == 1 ? "turn is" : fmt::format("{} turns are", reply.dropped)));
    if (answer.end == Generated::End::kContext)
      Note(fmt::format("the context of {} positions is full, so the reply ends here: /clear begins anew{}",
                       engine_.model().info().context, o_.shift ? "" : ", --shift forgets the oldest turns"));
    if (answer.end == Generated::End::kInterrupted) Note("stopped");
    return {};
  }

  Status Hear(const std::string& path) {
    if (path.empty()) return Usage("/audio needs a file: /audio talk.wav");
    if (engine_.model().info().type != "audio-llm")
      return Usage(fmt::format("{} reads text only", engine_.planned().dir.name));
    TRY(AudioStream::Open(path, engine_.run(kRunning)[engine_.layout().slots.stream[0]]));
    audios_.push_back(path);
    Note(audios_.size() == 1 ? "heard with the next message"
                             : fmt::format("{} audios are heard with the next message", audios_.size()));
    return {};
  }

  Status System(const std::string& text) {
    if (text.empty())
      Note(conversation_.system().empty() ? "there is no system message" : conversation_.system());
    else
      conversation_.SetSystem(text);
    return {};
  }

  Status Memory(const std::string&) {
    const Ledger ledger = MakeLedger(engine_);
    if (o_.shared.json) return Print({{"ledger", LedgerJson(ledger)}}), Status();
    fmt::print("{}context: {} of {} positions, {} turns\n", LedgerTable(ledger), conversation_.length(),
               engine_.model().info().context, conversation_.turns());
    return {};
  }

  Status Plan(const std::string&) {
    if (o_.shared.json) return Print({{"plan", PlanJson(engine_.planned())}}), Status();
    fmt::print("{}", PlanTable(engine_.planned()));
    return {};
  }

  Status Clear(const std::string&) {
    conversation_.Clear();
    audios_.clear();
    return {};
  }

  Status Help(const std::string&) {
    for (const Named* c = kCommands; c->name != nullptr; ++c)
      fmt::print("  {:<{}}{}\n", fmt::format("/{} {}", c->name, c->argument), kHelpColumn, c->help);
    fmt::print("  {:<{}}{}\n", "Ctrl-C", kHelpColumn, "Stop a reply; at an empty prompt, end");
    return {};
  }

  Status Quit(const std::string&) {
    ended_ = true;
    return {};
  }

  static void Print(const Json& document) {
    fmt::print("{}\n", document.dump(-1, ' ', false, Json::error_handler_t::replace));
    std::fflush(stdout);
  }

  void Note(const std::string& text) const {
    if (!o_.quiet && !o_.shared.json) fmt::print(stderr, "({})\n", text);
  }

  const Options& o_;
  Engine& engine_;
  Conversation conversation_;
  std::vector<std::string> audios_;  // for the next message
  bool ended_ = false;
};

const Chat::Named Chat::kCommands[] = {
    {"audio", "FILE", "The model hears it with the next message", &Chat::Hear},
    {"system", "TEXT", "Set the system message; without TEXT, show it", &Chat::System},
    {"memory", "", "Planned and used bytes, part by part", &Chat::Memory},
    {"plan", "", "The plan", &Chat::Plan},
    {"clear", "", "Forget all turns", &Chat::Clear},
    {"help", "", "This list", &Chat::Help},
    {"quit", "", "End, as Ctrl-D does", &Chat::Quit},
    {nullptr, nullptr, nullptr, nullptr}};

Result<int> Run(const Options& o) {
  std::unique_ptr<Engine> engine = TRY(OpenModel(o, /*hears=*/false));
  ChatFormat format = TRY(ReadChatFormat(engine->planned()));
  if (!format.chat_template)
    return BadModel(fmt::format("{} has no chat template, so it knows no turns; use: sotto run {} TEXT",
                                engine->planned().dir.name, o.model));
  return Chat(o, *engine,
              TRY(Conversation::Make(*engine, std::move(format), {o.sampler, o.generate, o.shift, o.system})))
      .Run();
}

}  // namespace

void AddChat(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  CLI::App* app = root->add_subcommand("chat", "A conversation with a model, inside a memory budget");
  app->add_option("MODEL", o->model, "A directory, or owner/name in the Hugging Face cache");
  AddPlanFile(app, &o->shared);
  app->add_option("--system", o->system, "The system message");
  app->add_flag("--shift", o->shift, "When the context is full, forget the oldest turns; without, the reply ends");
  AddShared(app, &o->shared);
  AddSampling(app, &o->sampler, &o->generate);
  app->add_flag("--quiet,-q", o->quiet, "No progress bar, no notes");
  app->footer(
      "Examples:\n"
      "  sotto chat Qwen/Qwen2.5-0.5B-Instruct --memory 2GiB --system 'Answer in one sentence.'\n"
      "  sotto chat Qwen/Qwen2-Audio-7B-Instruct --memory 10GiB        then: /audio talk.wav\n"
      "  printf 'Name three rivers.\\nAnd three hills.\\n' | sotto chat Qwen/Qwen2.5-0.5B-Instruct --json\n"
      "In a terminal /help lists commands. From a pipe each line is a message or a command, and with --json each reply "
      "an "
      "object.\n"
      "Exit: 0 done, 2 usage, 4 bad model, 5 does not fit, 130 interrupted.");
  commands->push_back({app, [o] {
                         StopFlag();
                         Result<int> done = Run(*o);
                         return done.ok() ? *done : Report(done.error(), o->shared.json);
                       }});
}

}  // namespace sotto::cli
