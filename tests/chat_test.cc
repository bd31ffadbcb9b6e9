// sotto run and sotto chat with a chat template, on small random models with the tokenizer of tests/golden/chat: the prompts are
// transformers', what is reused changes nothing, and the plan holds.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/bytes.h"
#include "engine/conversation.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

using ::testing::HasSubstr;
const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // a sanitizer's shadow memory is not ours to plan
#else
constexpr bool kSanitized = false;
#endif

struct Models {
  TempDir dir;
  std::string text = dir / "text", hearing = dir / "hearing", audio = dir / "a.wav", other = dir / "b.wav";
  Json golden = Must(ReadJson(kGolden + "chat/expected.json", Code::kBadInput));

  Models() {
    Json config = Must(ReadJson(kGolden + "decoders/qwen3/model/config.json", Code::kBadInput));
    config["max_position_embeddings"] = 1 << 17;
    Write(text, config, config);
    config = Must(ReadJson(kGolden + "audio_llms/qwen2-audio/model/config.json", Code::kBadInput));
    config["audio_token_index"] = golden["audio_token"];
    Write(hearing, config, config["text_config"]);
    std::filesystem::copy(kGolden + "audio_llms/qwen2-audio/model/preprocessor_config.json", hearing);
    WriteTones(audio, 2);
    WriteTones(other, 5);
  }

 private:
  void Write(const std::string& path, Json& config, Json& decoder) {
    decoder["vocab_size"] = golden["vocab_size"];
    decoder["eos_token_id"] = 2;  // the tokenizer's own ends a turn, too
    std::filesystem::create_directory(path);
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      std::filesystem::copy(kGolden + "chat/" + name, path);
    WriteRandomWeights(path, config);
  }
};
Models& Shared() {
  static Models models;
  return models;
}

std::unique_ptr<Engine> Open(const std::string& model, int64_t context = 0) {
  PlanRequest request = SmallRequest();
  request.context = context;
  return OpenEngine(model, request);
}

Json Document(const Ran& ran) {
  Result<Json> j = ParseJson(ran.out, "stdout", Code::kFailed);
  EXPECT_TRUE(j.ok()) << "exit " << ran.code << "\n" << ran.out.substr(0, 500) << ran.err;
  return j.ok() ? *j : Json::object();
}

struct Chatted {
  Ran ran;
  std::vector<Json> replies;
};
Chatted ChatWith(const std::string& model, const std::string& lines, std::vector<std::string> more = {},
                 RunOptions options = {}) {
  const std::string path = Shared().dir / "lines";
  std::ofstream(path) << lines;
  options.stdin_path = path;
  std::vector<std::string> args = {"chat", model, "--json", "--memory", "1GiB"};
  args.insert(args.end(), more.begin(), more.end());
  Chatted chat{RunSotto(args, options), {}};
  std::istringstream out(chat.ran.out);
  for (std::string line; std::getline(out, line);)
    chat.replies.push_back(Must(ParseJson(line, "stdout", Code::kFailed)));
  return chat;
}

TEST(Chat, PromptsAreTransformersIds) {
  Models& m = Shared();
  const auto engine = Open(m.hearing);
  const ChatFormat format = Must(ReadChatFormat(engine->planned()));
  EXPECT_TRUE(format.audio_parts);
  for (const Json& c : m.golden["cases"]) {
    std::vector<int32_t> ids;
    ASSERT_TRUE(
        EncodePrompt(engine->tokenizer(), format, Must(format.Render(c["messages"])), format.audio_marker, false, &ids)
            .ok());
    std::replace(ids.begin(), ids.end(), kAudioPlace, m.golden["audio_token"].get<int32_t>());
    EXPECT_EQ(Json(ids), c["ids"]) << c["messages"];
  }
  const auto same = [&](std::string_view text, size_t audios, const Json& message) {
    EXPECT_EQ(Must(format.Render(Json::array({UserMessage(format, text, audios)}))),
              Must(format.Render(Json::array({message}))));
  };
  same("What is said?", 1, m.golden["cases"][3]["messages"][0]);
  same("<|audio|>first<|audio|>second", 2, m.golden["cases"][4]["messages"][0]);
  same("", 1, m.golden["cases"][4]["messages"][2]);
}

TEST(Chat, WithoutPartsAudiosStandInTheText) {
  const ChatFormat format = Must(
      MakeChatFormat("{% for m in messages %}{{ m['content'] }};{% endfor %}", Json::object(), "<|audio|>", 65536));
  EXPECT_FALSE(format.audio_parts);
  const auto content = [&](std::string_view text, size_t audios) {
    return UserMessage(format, text, audios)["content"].get<std::string>();
  };
  EXPECT_EQ(content("Hi", 0), "Hi");
  EXPECT_EQ(content("What?", 1), "<|audio|>\nWhat?");
  EXPECT_EQ(content("a <|audio|> b <|audio|>", 2), "a <|audio|> b <|audio|>");
}

TEST(Chat, RunPutsThePromptIntoTheTemplate) {
  Models& m = Shared();
  for (const size_t index : {0, 3}) {
    const Json& c = m.golden["cases"][index];
    const std::string& model = index == 0 ? m.text : m.hearing;
    std::vector<std::string> tail = {"--json", "--ignore-eos", "--weights", "fp32",      "--kv",
                                     "fp32",   "--memory",     "1GiB",      "--context", "1024"};
    std::vector<std::string> run = {"run", model, index == 0 ? "What is the capital of Italy?" : "What is said?", "-n",
                                    "20"};
    std::vector<std::string> plain = {"run", model, "Rome", "--raw", "-n", "1"};
    if (index == 3) run.insert(run.end(), {"--audio", m.audio});
    for (auto* args : {&run, &plain}) args->insert(args->end(), tail.begin(), tail.end());
    const Json answer = Document(RunSotto(run));
    const int64_t audio = answer["usage"]["audio_tokens"];
    EXPECT_EQ(answer["usage"]["prompt_tokens"].get<size_t>(),
              c["ids"].size() + static_cast<size_t>(index == 0 ? 0 : audio - 1));
    EXPECT_LT(Document(RunSotto(plain))["usage"]["prompt_tokens"].get<int64_t>(), 5);
    if (index == 3) continue;
    std::string ids = c["ids"].dump();
    tail.erase(tail.begin());  // --json
    std::vector<std::string> logits = {"logits",   model, "--ids", ids.substr(1, ids.size() - 2),
                                       "--greedy", "20",  "-o",    m.dir / "logits.npy"};
    logits.insert(logits.end(), tail.begin(), tail.end());
    EXPECT_EQ(Document(RunSotto(logits))["ids"], answer["ids"]);
  }
}

TEST(Chat, RunRefusesWhatHasNoEffect) {
  Models& m = Shared();
  const Ran raw = RunSotto({"run", m.text, "Rome", "--raw", "--system", "x", "--memory", "1GiB"});
  EXPECT_EQ(raw.code, 2);
  EXPECT_THAT(raw.err, HasSubstr("--system"));
  const std::string plain = m.dir / "plain";
  std::filesystem::copy(m.text, plain);
  std::filesystem::remove(plain + "/tokenizer_config.json");
  EXPECT_EQ(RunSotto({"run", plain, "Rome", "-n", "1", "--memory", "1GiB"}).code, 0);
  const Ran chat = RunSotto({"chat", plain, "--memory", "1GiB"});
  EXPECT_EQ(chat.code, 4);
  EXPECT_THAT(chat.err, HasSubstr("sotto run"));
}

// The reply to a conversation that is read from its beginning.
std::string Afresh(Engine& engine, const ChatFormat& format, const Json& messages,
                   const std::vector<std::string>& audios, const GenerateOptions& options) {
  std::vector<int32_t> ids;
  EXPECT_TRUE(
      EncodePrompt(engine.tokenizer(), format, Must(format.Render(messages)), format.audio_marker, false, &ids).ok());
  TextSession session(engine);
  std::vector<std::string> warnings;
  Must(ReadPrompt(session, engine, ids, kAudioPlace, audios, kGoOn, &warnings));
  Sampler sampler({}, engine.model().info().vocab_size, engine.run(kRunning)[engine.layout().slots.sampler]);
  return Generate(session, engine.tokenizer(), sampler, options, {}, kGoOn, [](std::string_view) {}).text;
}

TEST(Chat, WhatIsReusedGivesTheSameText) {
  Models& m = Shared();
  const auto engine = Open(m.hearing);
  const ChatFormat format = Must(ReadChatFormat(engine->planned()));
  const GenerateOptions options{.max_tokens = 12, .ignore_eos = true};
  Conversation chat = Must(Conversation::Make(*engine, format, {{}, options, false, "Be brief."}));
  const auto fresh = Open(m.hearing);
  Json messages = Json::array({Message("system", "Be brief.")});
  std::vector<std::string> audios;
  int64_t before = 0;
  const auto ask = [&](const std::string& text, const std::vector<std::string>& heard) {
    messages.push_back(UserMessage(format, text, heard.size()));
    audios.insert(audios.end(), heard.begin(), heard.end());
    std::string streamed;
    const Reply reply = Must(chat.Ask(text, heard, kGoOn, [&](std::string_view t) { streamed += t; }));
    EXPECT_EQ(streamed, reply.answer.text);
    EXPECT_EQ(reply.answer.text, Afresh(*fresh, format, messages, audios, options)) << messages;
    EXPECT_GE(reply.cached, before);
    EXPECT_LT(reply.cached, reply.prompt);
    messages.push_back(Message("assistant", reply.answer.text));
    before = reply.prompt - 1;
  };
  ask("Name three rivers.", {});
  ask("What is said?", {m.audio});
  ask("And after it?", {});
  ask("<|audio|> against <|audio|>", {m.other, m.audio});
  ask("Thanks.", {});
  // Another system message: what follows its place is read again.
  chat.SetSystem("Be long.");
  messages[0] = Message("system", "Be long.");
  before = 0;
  ask("Again.", {});
}

TEST(Chat, AFullContextEndsAReplyOrDropsTheOldestTurns) {
  Models& m = Shared();
  const std::string lines = "Name three rivers.\nWhat is said?\n";
  const std::vector<std::string> small = {"--context", "96", "--ignore-eos"};
  const Chatted ends = ChatWith(m.text, lines, small);
  ASSERT_EQ(ends.replies.size(), 2u) << ends.ran.err;
  EXPECT_EQ(ends.ran.code, 2);
  EXPECT_EQ(ends.replies[0]["finish_reason"], "context");
  EXPECT_EQ(ends.replies[0]["usage"]["prompt_tokens"].get<int64_t>() +
                ends.replies[0]["usage"]["completion_tokens"].get<int64_t>(),
            97);  // the last token needs no place
  EXPECT_THAT(ends.replies[1]["error"]["message"].get<std::string>(), HasSubstr("context of 96 positions is full"));

  std::vector<std::string> shift = small;
  shift.insert(shift.end(), {"--shift", "-n", "20"});
  const Chatted goes_on = ChatWith(m.text, lines, shift);
  ASSERT_EQ(goes_on.replies.size(), 2u) << goes_on.ran.err;
  EXPECT_EQ(goes_on.ran.code, 0);
  EXPECT_EQ(goes_on.replies[1]["dropped_turns"], 1);
  const Chatted alone = ChatWith(m.text, "What is said?\n", shift);
  EXPECT_EQ(goes_on.replies[1]["text"], alone.replies[0]["text"]);
  EXPECT_EQ(goes_on.replies[1]["usage"]["prompt_tokens"], alone.replies[0]["usage"]["prompt_tokens"]);
}

TEST(Chat, RoomIsMadeWithinAReply) {
  Models& m = Shared();
  const ChatFormat format = Must(ReadChatFormat(Open(m.text)->planned()));
  const auto talk = [&](int64_t context) {
    const auto engine = Open(m.text, context);
    Conversation chat =
        Must(Conversation::Make(*engine, format, {{}, {.max_tokens = 60, .ignore_eos = true}, /*shift=*/true, ""}));
    Must(chat.Ask("One.", {}, kGoOn, [](std::string_view) {}));
    const Reply reply = Must(chat.Ask("Two.", {}, kGoOn, [](std::string_view) {}));
    EXPECT_EQ(reply.answer.end, Generated::End::kLength);
    EXPECT_EQ(reply.answer.ids.size(), 60u);
    EXPECT_EQ(chat.length(), reply.prompt + 59);
    return reply;
  };
  const Reply wide = talk(1024);
  EXPECT_EQ(wide.dropped, 0);
  ASSERT_LT(wide.prompt, 150);  // so that half a reply fits, and is more than what is kept free before one
  const Reply narrow = talk(wide.prompt + 50);
  EXPECT_EQ(narrow.dropped, 1);
  EXPECT_LT(narrow.prompt, wide.prompt);
  EXPECT_TRUE(std::equal(narrow.answer.ids.begin(), narrow.answer.ids.begin() + 50, wide.answer.ids.begin()));
}

TEST(Chat, AnInterruptEndsTheReply) {
  Models& m = Shared();
  Chatted chat;
  for (int ms = 100; ms <= 6400; ms *= 2) {
    chat = ChatWith(m.text, "Name three rivers.\nAnd?\n", {"--ignore-eos", "--context", "100000", "-t", "1"},
                    {.interrupt_after_ms = ms});
    EXPECT_EQ(chat.ran.code, 130) << chat.ran.err;
    if (!chat.replies.empty() && chat.replies[0].contains("text")) break;
  }
  ASSERT_EQ(chat.replies.size(), 1u) << chat.ran.err;
  EXPECT_EQ(chat.replies[0]["finish_reason"], "interrupted");
  EXPECT_GT(chat.replies[0]["usage"]["completion_tokens"], 0);
}

TEST(Chat, CommandsWorkThroughAPipe) {
  Models& m = Shared();
  const Chatted chat =
      ChatWith(m.hearing,
               "/system Be brief.\n/audio " + m.audio + "\nWhat is said?\n/audio nothing.wav\n/nosuch\n/memory\n" +
                   "/plan\n/clear\nHello\n/quit\nnever read\n",
               {"-n", "4", "--context", "1024"});
  ASSERT_EQ(chat.replies.size(), 6u) << chat.ran.out << chat.ran.err;
  EXPECT_GT(chat.replies[0]["usage"]["audio_tokens"], 0);
  EXPECT_EQ(chat.replies[1]["error"]["code"], "bad_input");
  EXPECT_EQ(chat.replies[2]["error"]["code"], "usage");
  EXPECT_GT(chat.replies[3]["ledger"]["peak_bytes"], 0);
  EXPECT_EQ(chat.replies[4]["plan"]["schema"], "sotto.plan/1");
  EXPECT_EQ(chat.replies[5]["usage"]["cached_tokens"], 0);
  EXPECT_EQ(chat.ran.code, 2);
}

TEST(Chat, RunAndChatKeepWithinThePlan) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is not in the plan";
  Models& m = Shared();
  const auto check = [](const std::string& what, const Json& ledger) {
    const uint64_t planned = ledger["planned_bytes"], peak = ledger["peak_bytes"];
    fmt::print("planned {:>11} actual {:>11} {}\n", planned, peak, what);
    EXPECT_LE(peak, planned) << what;
  };
  for (const std::string& model : {m.text, m.hearing}) {
    std::vector<std::string> run = {"run",  model,       "Hello", "--json", "--memory",
                                    "1GiB", "--context", "1024",  "-n",     "64"};
    if (model == m.hearing) run.insert(run.end(), {"--audio", m.other});
    check("run", Document(RunSotto(run))["ledger"]);
  }
  std::string lines;
  for (int i = 0; i < 20; ++i)
    lines += "/audio " + m.audio + "\nWhat is said? Answer in one word, number " + std::to_string(i) + ".\n";
  const Chatted turns = ChatWith(m.hearing, lines + "/memory\n", {"--shift", "-n", "32", "--ignore-eos"});
  EXPECT_EQ(turns.ran.code, 0) << turns.ran.err;
  check("chat of 20 turns with audio", turns.replies.back()["ledger"]);
  // The longest messages, of letters that are a token each: what all buffers may grow to.
  const std::string longest(MaxPromptBytes(8192) - 200, 'q');
  const Chatted chat = ChatWith(m.text, longest + "\n" + longest.substr(0, 7000) + "\n/memory\n" + longest + longest,
                                {"--context", "8192", "-n", "2"});
  ASSERT_EQ(chat.replies.size(), 4u) << chat.ran.err;
  EXPECT_THAT(chat.replies[0]["error"]["message"].get<std::string>(), HasSubstr("is full"));
  EXPECT_TRUE(chat.replies[1].contains("text")) << chat.ran.out.substr(0, 1000);
  check("chat with the longest messages", chat.replies[2]["ledger"]);
  EXPECT_EQ(chat.replies[3]["error"]["code"], "bad_input");
}

}  // namespace
}  // namespace sotto
