// sotto plan --engine on the command line: table, document, refusal, wrong settings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "process.h"

namespace sotto {
namespace {

TEST(EnginesCli, TheCommandLineKeepsItsContract) {
  const std::vector<std::string> plan = {"plan", "Qwen/Qwen2-Audio-7B", "--engine", "vllm", "--context", "4096"};
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> args = plan;
    args.insert(args.end(), more.begin(), more.end());
    return RunSotto(args);
  };
  const Ran table = run({});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, testing::HasSubstr("total: unknown ("));
  EXPECT_THAT(table.out, testing::HasSubstr("at least "));

  const Ran json = run({"--memory", "24GiB", "--json"});
  EXPECT_EQ(json.code, 0);
  const Json document = ParseJson(json.out, "stdout", Code::kBadInput).value();
  EXPECT_EQ(document["schema"], "sotto.plan/1");
  EXPECT_EQ(document["engine"]["name"], "vLLM");
  EXPECT_EQ(document["engine"]["total_bytes"], 23'708'219'474ULL);
  EXPECT_TRUE(document["engine"]["fits"].is_null());
  ASSERT_TRUE(document["engine"]["terms"].is_array());
  for (const char* key : {"name", "bytes", "rule", "source", "place"})
    EXPECT_TRUE(document["engine"]["terms"][0].contains(key)) << key;

  const Ran small = run({"--memory", "16GiB", "--json"});
  EXPECT_EQ(small.code, 5);
  const Json refused = ParseJson(small.out, "stdout", Code::kBadInput).value();
  EXPECT_EQ(refused["error"]["code"], "over_budget");
  EXPECT_EQ(refused["engine"]["fits"], false);
  EXPECT_EQ(refused["error"]["required_bytes"], refused["engine"]["known_device_bytes"]);
  EXPECT_TRUE(refused["error"]["smallest_budget_bytes"].is_null()) << "nobody knows it";

  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{"--engine-option", "block=1"}, {"--timeline", "x.png"}, {"--weights", "int8"}})
    EXPECT_EQ(run(wrong).code, 2) << wrong[0];
  EXPECT_EQ(RunSotto({"plan", "openai/whisper-base", "--engine", "ollama"}).code, 2);
  EXPECT_EQ(RunSotto({"plan", "openai/whisper-base", "--engine-option", "cache=static"}).code, 2);
  const Ran two = RunSotto({"plan", "openai/whisper-base", "openai/whisper-tiny", "--engine", "llama.cpp", "--json"});
  EXPECT_EQ(ParseJson(two.out, "stdout", Code::kBadInput).value().size(), 2U);
}

}  // namespace
}  // namespace sotto
