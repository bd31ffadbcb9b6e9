// sotto run: a prompt in, an answer out, inside the budget.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "cli/options.h"
#include "engine/audio_prompt.h"
#include "engine/chat.h"
#include "engine/generate.h"
#include "engine/report.h"
#include "engine/speed.h"

namespace sotto::cli {
namespace {

struct Options : ModelOptions {
  GenerateOptions generate;
  std::string prompt;
  std::vector<std::string> audio;
  bool raw = false, ledger = false;
  CLI::Option* prompt_option = nullptr;
};

Json LogprobsJson(const Generated& answer, const Tokenizer& tokenizer) {
  Json all = Json::array();
  const auto text = [&](int32_t id) { return std::string(tokenizer.Token(id)); };
  for (const GeneratedToken& t : answer.logprobs) {
    Json likeliest = Json::array();
    for (const TokenLogprob& l : t.likeliest)
      likeliest.push_back({{"token", text(l.id)}, {"id", l.id}, {"logprob", l.logprob}});
    all.push_back({{"token", text(t.id)}, {"id", t.id}, {"logprob", t.logprob}, {"top_logprobs", likeliest}});
  }
  return all;
}

std::string PromptText(const Options& o, uint64_t most) {
  if (o.prompt != "-") return o.prompt;
  std::string text;
  for (int c; (c = std::getchar()) != EOF && text.size() <= most;) text.push_back(static_cast<char>(c));
  return text;
}

// The ids of the prompt, in the model's chat template when it has one.
Result<std::vector<int32_t>> PromptIds(const Options& o, const Engine& engine) {
  std::vector<int32_t> ids;
  ChatFormat format = TRY(ReadChatFormat(engine.planned()));
  if (o.raw) format.chat_template.reset();
  const std::string prompt = PromptText(o, format.max_bytes);
  if (format.chat_template) {
    Json messages = Json::array();
    if (!o.system.empty()) messages.push_back(Message("system", o.system));
    messages.push_back(UserMessage(format, prompt, o.audio.size()));
    TRY(EncodePrompt(engine.tokenizer(), format, TRY(format.Render(std::move(messages))), format.audio_marker, false,
                     &ids));
    return ids;
  }
  if (!o.system.empty())
    return Usage(fmt::format("--system has no effect here: {}",
                             o.raw ? "--raw continues the text as it is" : "this model has no chat template"));
  if (prompt.find(kAudioMark) == prompt.npos) ids.assign(o.audio.size(), kAudioPlace);
  TRY(EncodePrompt(engine.tokenizer(), format, prompt, o.audio.empty() ? "" : kAudioMark, true, &ids));
  return ids;
}

using Seconds = std::chrono::duration<double>;

// Of reading the prompt, and of the passes that decoded; null where there were none.
Json SpeedJson(int64_t read, int64_t decoded, Seconds reading, Seconds decoding) {
  return {{"prompt_tokens_per_second", static_cast<double>(read) / reading.count()},
          {"tokens_per_second", decoded > 0 ? Json(static_cast<double>(decoded) / decoding.count()) : Json()}};
}

// Decoding as it was predicted for the positions that were read, and as it was; null where nothing was calibrated or decoded.
Json DecodedJson(const Engine& engine, int64_t begin, int64_t end, Seconds seconds) {
  const auto machine = FindMachineSpeed(engine.planned().isa, engine.planned().threads);
  if (!machine || end == begin) return nullptr;
  const double pass = DecodeSeconds(engine.layout(), *machine, 1, (begin + end) / 2);
  const double measured = static_cast<double>(end - begin) / seconds.count(), predicted = pass > 0 ? 1 / pass : 0;
  return {{"predicted_tokens_per_second", predicted},
          {"measured_tokens_per_second", measured},
          {"error", predicted / measured - 1}};
}

Result<int> Answer(const Options& o) {
  std::unique_ptr<Engine> engine = TRY(OpenModel(o, !o.audio.empty()));
  const std::vector<int32_t> end_tokens = TRY(EndTokens(engine->planned()));
  const std::vector<int32_t> ids = TRY(PromptIds(o, *engine));
  if (ids.empty()) return Usage("the prompt is empty; give some text");
  Sampler sampler(o.sampler, engine->model().info().vocab_size, engine->run(kRunning)[engine->layout().slots.sampler]);
  TextSession session(*engine);
  std::vector<std::string> warnings;
  const auto asked = std::chrono::steady_clock::now();
  const PromptCount count = TRY(ReadPrompt(session, *engine, ids, kAudioPlace, o.audio, StopFlag(), &warnings));
  for (const std::string& w : warnings) fmt::print(stderr, "sotto: warning: {}\n", w);
  for (const int32_t id : ids)
    if (id != kAudioPlace) sampler.Saw(id);
  const int64_t begin = session.length();
  const auto start = std::chrono::steady_clock::now();
  const Generated answer =
      Generate(session, engine->tokenizer(), sampler, o.generate, end_tokens, StopFlag(), [&](std::string_view text) {
        if (o.shared.json) return;
        fmt::print("{}", text);
        std::fflush(stdout);
      });
  const auto end = std::chrono::steady_clock::now();
  const Ledger ledger = MakeLedger(*engine);
  if (o.shared.json) {
    Json j = {{"text", answer.text},
              {"finish_reason", NameOf(answer.end)},
              {"usage",
               {{"prompt_tokens", count.text + count.audio},
                {"audio_tokens", count.audio},
                {"completion_tokens", answer.ids.size()}}},
              {"prompt_ids", ids},
              {"ids", answer.ids},
              {"speed", SpeedJson(begin, session.length() - begin, start - asked, end - start)},
              {"plan", PlanJson(engine->planned())},
              {"ledger", LedgerJson(ledger)}};
    if (Json speed = DecodedJson(*engine, begin, session.length(), end - start); !speed.is_null())
      j["ledger"]["speed"] = std::move(speed);
    if (o.generate.logprobs > 0) j["logprobs"] = LogprobsJson(answer, engine->tokenizer());
    fmt::print("{}\n", j.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("\n");
  }
  std::fflush(stdout);
  if (answer.end == Generated::End::kContext && !o.quiet)
    fmt::print(stderr, "sotto: warning: the context of {} positions is full; --context makes it larger\n",
               engine->model().info().context);
  if (o.ledger) fmt::print(stderr, "{}", LedgerTable(ledger));
  return answer.end == Generated::End::kInterrupted ? 128 + StopSignal() : 0;
}

}  // namespace

Result<std::unique_ptr<Engine>> OpenModel(const ModelOptions& o, bool hears) {
  TRY(OnlyPlanned(o.shared));
  TRY(CheckSampler(o.sampler));
  const auto [dir, request] = TRY(WantedOf(o.model, o.shared));
  if (request.batch > 1) return Usage("--batch has no effect here: one prompt is one sequence");
  Planned planned = TRY(PlanModel(dir, request));
  if (const std::string& type = planned.layout.model->info().type; type == "encoder-decoder")
    return BadModel(fmt::format("{} turns speech into text and takes no prompt; use: sotto transcribe {} AUDIO",
                                dir.name, o.model.empty() ? dir.name : o.model));
  if (hears && planned.layout.model->info().type != "audio-llm")
    return Usage(fmt::format("--audio has no effect here: {} reads text only", dir.name));
  Bar bar(!o.quiet);
  return Engine::Open(std::move(planned), [&](uint64_t done, uint64_t total) {
    bar.Show("loading", static_cast<double>(done), static_cast<double>(total));
    return !StopFlag().load();
  });
}

void AddSampling(CLI::App* app, SamplerSettings* s, GenerateOptions* g) {
  app->add_option("--temperature", s->temperature, "0 takes the likeliest token; above, tokens are drawn")
      ->capture_default_str();
  app->add_option("--top-k", s->top_k, "Draw among the k likeliest; 0: all")->capture_default_str();
  app->add_option("--top-p", s->top_p, "Draw among the likeliest that together have this probability")
      ->capture_default_str();
  app->add_option("--min-p", s->min_p, "Draw among those with this share of the likeliest one's probability")
      ->capture_default_str();
  app->add_option("--repetition-penalty", s->repetition_penalty, "Above 1: tokens seen become less likely")
      ->capture_default_str();
  app->add_option("--presence-penalty", s->presence_penalty, "Subtracted from tokens seen")->capture_default_str();
  app->add_option("--frequency-penalty", s->frequency_penalty, "Subtracted for each time that a token was seen")
      ->capture_default_str();
  app->add_option("--seed", s->seed, "Of what is drawn: the same seed gives the same answer")->capture_default_str();
  app->add_option("--max-tokens,-n", g->max_tokens, "Longest answer; default: what the context holds")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--stop", g->stop, "End before this text appears (may be given several times)")
      ->allow_extra_args(false);
  app->add_flag("--ignore-eos", g->ignore_eos, "Go on when the model ends its answer");
}

void AddRun(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  CLI::App* app = root->add_subcommand("run", "A prompt in, an answer out, inside a memory budget");
  app->add_option("MODEL", o->model, "A directory, or owner/name in the Hugging Face cache");
  o->prompt_option = app->add_option(
      "PROMPT", o->prompt,
      "A message, put into the model's chat template; a text to continue for a model without one; - is standard input");
  AddPlanFile(app, &o->shared);
  app->add_option(
         "--audio,-a", o->audio,
         "Audio that the model hears where the prompt says <|audio|>, or before it (may be given several times)")
      ->allow_extra_args(false);  // the prompt may stand behind it
  app->add_option("--system", o->system, "A system message before the prompt");
  app->add_flag("--raw", o->raw, "Continue the text as it is, without the model's chat template");
  AddShared(app, &o->shared);
  AddSampling(app, &o->sampler, &o->generate);
  app->add_option("--logprobs", o->generate.logprobs, "With --json: so many alternatives of each token")
      ->check(CLI::Range(0, 20));
  app->add_flag("--ledger", o->ledger, "Print planned against actual memory on standard error");
  app->add_flag("--quiet,-q", o->quiet, "No progress bar, no warnings");
  app->footer(
      "Examples:\n"
      "  sotto run Qwen/Qwen2.5-0.5B-Instruct 'What is the capital of Italy?' --memory 2GiB\n"
      "  sotto run meta-llama/Llama-3.2-1B - -n 200 --temperature 0.8 --seed 7 < story.txt\n"
      "  sotto run Qwen/Qwen2-Audio-7B-Instruct 'What is said?' --audio talk.wav --memory 10GiB\n"
      "Exit: 0 done, 2 usage, 4 bad model, 5 does not fit, 130 interrupted.");
  commands->push_back({app, [o] {
                         StopFlag();
                         const bool alone = o->prompt_option->empty();
                         if (alone && !o->shared.plan.empty()) o->prompt = std::exchange(o->model, "");
                         Result<int> done =
                             alone && !o->model.empty() ? Result<int>(Usage("PROMPT is required")) : Answer(*o);
                         return done.ok() ? *done : Report(done.error(), o->shared.json);
                       }});
}

}  // namespace sotto::cli
