// `sotto memory` and `sotto watch` as scripts meet them. The machine is made up, except where nothing depends on its
// size.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "process.h"

namespace sotto {
namespace {

using testing::HasSubstr;

Ran Sotto(const std::vector<std::string>& arguments, int interrupt_after_ms = 0) {
  return RunSotto(arguments, {.environment = {{"HF_HOME", "/nonexistent"}, {"SOTTO_THREADS", "2"}},
                              .interrupt_after_ms = interrupt_after_ms});
}

Json Ask(std::vector<std::string> arguments, int code = 0) {
  arguments.insert(arguments.begin(), "memory");
  arguments.emplace_back("--json");
  const Ran ran = Sotto(arguments);
  EXPECT_EQ(ran.code, code) << ran.out << ran.err;
  EXPECT_EQ(ran.err, "");
  return ParseJson(ran.out, "memory", Code::kFailed).value();
}

TEST(Memory, TheDefaultProfileAsksThePlan) {
  const Ran plan = Sotto({"plan", "Qwen/Qwen2-Audio-7B-Instruct", "--weights", "q4_k_m", "--memory", "1TiB", "--json"});
  const uint64_t bytes = ParseJson(plan.out, "plan", Code::kFailed).value()["memory"]["total_bytes"];
  const Json j = Ask({"check", "--quant", "Q4_K_M", "--total", "16GiB", "--available", "1GiB"}, 5);
  EXPECT_EQ(j["required_bytes"], bytes + (1ULL << 30));  // the buffer twice over is enough
  EXPECT_EQ(j["can_load"], false);
  EXPECT_EQ(j["reason"], j["error"]["message"]);
  EXPECT_EQ(j["error"]["code"], "over_budget");
  EXPECT_EQ(j["missing_bytes"], bytes);
}

TEST(Memory, TheBudgetThatARefusalNamesWorksAndOneByteLessDoesNot) {
  for (const std::vector<std::string>& extra : {std::vector<std::string>{},
                                                {"--quant", "q8_0"},
                                                {"--when", "before", "--keep-free", "90%"},
                                                {"--when", "after"},
                                                {"--min-free", "3GiB", "--keep-free", "0"},
                                                {"--audio-overhead", "777"},
                                                {"--profile", "legacy"},
                                                {"--model", "openai/whisper-large-v3"},
                                                {"--kv", "fp32", "--context", "8192"}}) {
    std::vector<std::string> arguments = {"check", "--total", "32GiB", "--available", "1GiB"};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    const uint64_t least = Ask(arguments, 5)["error"]["smallest_budget_bytes"];
    arguments[4] = std::to_string(least);
    EXPECT_EQ(Ask(arguments)["can_load"], true);
    arguments[4] = std::to_string(least - 1);
    EXPECT_EQ(Ask(arguments, 5)["missing_bytes"], 1);
  }
}

TEST(Memory, RecommendsNothingThatTheCheckRefuses) {
  for (const char* available : {"1GiB", "7GiB", "8GiB", "9GiB", "12GiB", "31GiB"}) {
    const std::vector<std::string> machine = {"--total", "32GiB", "--available", available};
    std::vector<std::string> recommend = {"recommend"}, check = {"check", "--quant"};
    recommend.insert(recommend.end(), machine.begin(), machine.end());
    const bool none = std::string(available).size() == 4 && *available < '8';
    const Json j = Ask(recommend, none ? 5 : 0);
    ASSERT_EQ(j["recommended"].is_null(), none) << available;
    EXPECT_EQ(j.contains("error"), none);
    check.push_back(none ? "Q4_0" : j["recommended"].get<std::string>());
    check.insert(check.end(), machine.begin(), machine.end());
    EXPECT_EQ(Ask(check, none ? 5 : 0)["can_load"], !none);
  }
}

TEST(Memory, LegacyIsAsPublished) {
  const std::vector<std::string> machine = {"--profile", "legacy", "--total", "8GiB", "--available", "4GiB"};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), machine.begin(), machine.end());
    return arguments;
  };
  EXPECT_EQ(Ask(with({"recommend"}))["recommended"], "Q4_0");
  EXPECT_THAT(Ask(with({"check", "--quant", "Q4_0"}), 5)["reason"].get<std::string>(),
              HasSubstr("Insufficient memory to load model with Q4_0 quantization"));
  EXPECT_EQ(Ask(with({"check"}), 5)["quantization"], "Q4_K_M");
  EXPECT_EQ(Ask({"recommend", "--profile", "legacy", "--total", "32GiB", "--available", "8GiB"})["recommended"],
            "Q5_K_M");
  EXPECT_EQ(Ask(with({"check", "--quant", "q8_0"}), 2)["error"]["code"], "usage");
}

TEST(Memory, StatusOfWhatIsLoaded) {
  const auto status = [](std::vector<std::string> extra) {
    extra.insert(extra.begin(), {"status", "--total", "8GiB"});
    const Json j = Ask(extra);
    EXPECT_FALSE(j["message"].get<std::string>().empty());
    return j["status"].get<std::string>();
  };
  for (const char* profile : {"default", "legacy"}) {
    const auto at = [&](const char* available) {
      return status({"--profile", profile, "--loaded", "Q4_K_M", "--available", available});
    };
    EXPECT_EQ(at("1GiB"), "ok");
    EXPECT_EQ(at("1073741823"), "warning");
    EXPECT_EQ(at("512MiB"), "warning");
    EXPECT_EQ(at("536870911"), "critical");
    EXPECT_EQ(at("0"), "critical");
  }
  EXPECT_EQ(status({"--available", "0"}), "ok");
  EXPECT_EQ(status({"--loaded", "Q5_K_M", "--available", "767MiB"}), "critical");
  EXPECT_EQ(status({"--loaded", "Q4_0", "--min-free", "2GiB", "--available", "3GiB"}), "warning");
  EXPECT_EQ(status({"--loaded", "Q4_0", "--warning-below", "3GiB", "--available", "3GiB"}), "ok");
  EXPECT_EQ(status({"--loaded", "Q4_0", "--critical-below", "4GiB", "--available", "3GiB"}), "critical");
}

TEST(Memory, Statistics) {
  const Json none = Ask({"stats", "--total", "8GiB", "--available", "2GiB"});
  EXPECT_EQ(none["total_bytes"], 8ULL << 30);
  EXPECT_EQ(none["available_bytes"], 2ULL << 30);
  EXPECT_EQ(none["used_bytes"], 6ULL << 30);
  EXPECT_EQ(none["percent_used"], 75);
  EXPECT_EQ(none["model_loaded"], false);
  EXPECT_TRUE(none["current_quantization"].is_null());
  EXPECT_TRUE(none["model_requirements"].is_null());
  const Json legacy =
      Ask({"stats", "--profile", "legacy", "--loaded", "Q5_K_M", "--total", "8GiB", "--available", "2GiB"});
  EXPECT_EQ(legacy["model_loaded"], true);
  EXPECT_EQ(legacy["current_quantization"], "Q5_K_M");
  EXPECT_EQ(legacy["model_requirements"]["need_bytes"], 5153960756);  // 4.8 GiB
  EXPECT_EQ(legacy["model_requirements"]["min_free_bytes"], 768 << 20);
  EXPECT_EQ(legacy["model_requirements"]["type"], "quality_optimized");
}

TEST(Memory, PeopleReadLinesAndOneSentence) {
  const Ran best = Sotto({"memory", "recommend", "--total", "16GiB", "--available", "9GiB"});
  EXPECT_EQ(best.code, 0);
  EXPECT_THAT(best.out, HasSubstr("\n* Q4_K_M "));
  EXPECT_THAT(best.out, HasSubstr("does not fit"));
  const Ran refused = Sotto({"memory", "check", "--quant", "Q5_K_M", "--total", "16GiB", "--available", "8GiB"});
  EXPECT_EQ(refused.code, 5);
  EXPECT_EQ(refused.out, "");
  EXPECT_EQ(std::count(refused.err.begin(), refused.err.end(), '\n'), 1);
  EXPECT_THAT(refused.err, HasSubstr("are missing; the largest that fits is Q4_0\n"));
  EXPECT_EQ(Sotto({"memory", "check", "--total", "16GiB", "--available", "15GiB"}).code, 0);
  EXPECT_THAT(Sotto({"memory", "stats", "--loaded", "Q4_0", "--total", "8GiB", "--available", "2GiB"}).out,
              HasSubstr("75.0 %"));
  EXPECT_THAT(Sotto({"memory", "status", "--loaded", "Q4_0", "--total", "8GiB", "--available", "1GiB"}).out,
              testing::StartsWith("ok: 1073741824 bytes"));
  for (const char* command : {"recommend", "check", "status", "stats"})  // this machine, whatever it has
    EXPECT_THAT(Sotto({"memory", command, "--model", "openai/whisper-tiny"}).code, testing::AnyOf(0, 5)) << command;
}

TEST(Memory, WhatCannotBeIsUsage) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"check", "--total", "4GiB", "--available", "5GiB"},
        {"check", "--total", "1KiB"},
        {"check", "--available", "99999GiB"},
        {"check", "--available", "-1"},
        {"check", "--total", "0"},
        {"check", "--quant", "Q9"},
        {"check", "--keep-free", "25"},
        {"check", "--when", "now"},
        {"status", "--loaded", "Q9"},
        {"status", "--quant", "Q4_0"},
        {"recommend", "--profile", "mine"},
        {"recommend", "--profile", "legacy", "--model", "openai/whisper-tiny"},
        {"recommend", "--threads", "9999"},
        {"recommend", "--context", "-1"}})
    EXPECT_EQ(Ask(arguments, 2)["error"]["code"], "usage") << arguments[1];
  EXPECT_EQ(Ask({"check", "--model", "no/such"}, 4)["error"]["code"], "bad_model");
}

TEST(Watch, OneSample) {
  const Ran ran = Sotto({"watch", "--once", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1);
  const Json j = ParseJson(ran.out, "watch", Code::kFailed).value();
  EXPECT_EQ(j["used_bytes"].get<uint64_t>() + j["available_bytes"].get<uint64_t>(), j["total_bytes"]);
  EXPECT_GE(j["percent_used"], 0);
  EXPECT_LE(j["percent_used"], 100);
  EXPECT_TRUE(j["processes"].is_array());  // without this one
  const Ran line = Sotto({"watch", "--once"});
  EXPECT_EQ(std::count(line.out.begin(), line.out.end(), '\n'), 1);
  EXPECT_THAT(line.out, HasSubstr(" available "));
  EXPECT_EQ(line.out.find('\033'), std::string::npos);
}

TEST(Watch, GoesOnUntilItIsInterrupted) {
  Ran ran;
  for (int ms = 500; ms < 20000 && std::count(ran.out.begin(), ran.out.end(), '\n') < 2; ms *= 2)
    ran = Sotto({"watch", "--interval", "0.1", "--json"}, ms);
  EXPECT_EQ(ran.code, 130);
  EXPECT_EQ(ran.err, "");
  EXPECT_GE(std::count(ran.out.begin(), ran.out.end(), '\n'), 2);
  EXPECT_TRUE(ran.out.ends_with("]}\n"));
  for (const char* interval : {"0", "-1", "nan", "1e9"})
    EXPECT_EQ(Sotto({"watch", "--once", "--interval", interval}).code, 2) << interval;
}

}  // namespace
}  // namespace sotto
