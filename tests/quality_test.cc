// What was measured of a model lies beside it, holds as long as its files are the same, and is what `sotto fit --quality-floor` goes by.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "engine/fit/fit.h"
#include "engine/fit/record.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::string kLm = SOTTO_SOURCE_DIR "/models/demo-lm", kText = SOTTO_SOURCE_DIR "/docs/memory.md";

// models/demo-lm in a folder of its own, and packed at two rates.
struct QualityTest : testing::Test {
  void SetUp() override {
    fs::copy(kLm, lm);
    for (const double bits : {3.0, 5.0})
      (void)Must(Pack(Find(lm), {.bits = bits, .out = bits < 4 ? small : large, .threads = 2},
                      [](uint64_t, uint64_t) { return true; }));
  }
  static ModelDir Find(const std::string& path) { return Must(FindModel(path, ModelUse::kRun)); }
  static double Perplexity(const std::string& model) {
    const Ran ran = RunSotto({"eval", "perplexity", model, kText, "-n", "300", "--context", "256", "--kv", "fp16",
                              "--threads", "2", "--store", "--json"});
    EXPECT_EQ(ran.code, 0) << ran.err;
    return Must(ParseJson(ran.out, "eval", Code::kFailed))["perplexity"];
  }
  // Of the fewest choices, which is faster: nothing to be packed, nothing made at loading.
  Ran Fit(std::vector<std::string> more) const {
    more.insert(more.begin(), {"fit", lm, "--weights", "fp16", "--packed", small, "--packed", large, "--memory",
                               "64MiB", "--context", "256", "--threads", "2"});
    return RunSotto(more);
  }
  Json FitJson(std::vector<std::string> more) const {
    more.emplace_back("--json");
    const Ran ran = Fit(more);
    EXPECT_EQ(ran.code, 0) << ran.out;
    return Must(ParseJson(ran.out, "fit", Code::kFailed));
  }
  static void Store(const std::string& model, Measure measure, double value, const std::string& on = "text") {
    EXPECT_TRUE(StoreFigure(Find(model), {measure, value, "packed", "fp16", {on, 1, "0"}, 10, "0"}).ok());
  }
  TempDir dir;
  const std::string lm = dir / "lm", small = dir / "packed-3", large = dir / "packed-5";
};

TEST_F(QualityTest, WhatIsStoredIsReadBackAndReplaced) {
  EXPECT_TRUE(Must(ReadFigures(Find(lm))).empty());
  const double perplexity = Perplexity(lm);
  const std::vector<Figure> figures = Must(ReadFigures(Find(lm)));
  ASSERT_EQ(figures.size(), 1U);
  const Figure& f = figures[0];
  EXPECT_EQ(f.measure, kPerplexity);
  EXPECT_DOUBLE_EQ(f.value, perplexity);
  EXPECT_EQ(f.weights, "fp16");
  EXPECT_EQ(f.kv, "fp16");
  EXPECT_EQ(f.count, 299);
  EXPECT_EQ(f.on.name, "memory.md");
  EXPECT_EQ(f.on.bytes, static_cast<int64_t>(fs::file_size(kText)));
  EXPECT_EQ(f.state, Must(StateOfModel(Find(lm))));

  Store(small, kWer, 20);
  Store(small, kWer, 10);
  Store(small, kWer, 5, "another");
  Store(small, kAccuracy, 90);
  const std::vector<Figure> kept = Must(ReadFigures(Find(small)));
  ASSERT_EQ(kept.size(), 3U);
  EXPECT_EQ(kept[0].value, 10);
  EXPECT_EQ(kept[1].on.name, "another");
  EXPECT_EQ(StoreFigure(Find(small), {kWer, INFINITY, "packed", "fp16", {"text", 1, "0"}, 10}).error().code,
            Code::kBadModel);
  // What is made of a model is another one.
  (void)Must(Pack(Find(lm), {.bits = 4, .out = dir / "again", .threads = 2}, [](uint64_t, uint64_t) { return true; }));
  EXPECT_FALSE(FileExists(FiguresPath(Find(dir / "again"))));
  EXPECT_EQ(RunSotto({"eval", "perplexity", lm, "-", "--store"}).code, 2);
}

TEST_F(QualityTest, OnlyWhatWasMeasuredMeetsAFloor) {
  const double fine = Perplexity(large), coarse = Perplexity(small);
  ASSERT_LT(fine, 0.9 * coarse);
  const std::string floor = fmt::format("perplexity={}", 1.01 * fine);
  // Weights as stored are better, and were never measured.
  const Json j = FitJson({"--quality-floor", floor, "-o", dir / "plan.json"});
  EXPECT_EQ(j["choice"]["weights"].get<std::string>().substr(0, 10), "packed 5.0");
  EXPECT_EQ(j["choice"]["kv"], "fp16");
  EXPECT_EQ(j["choice"]["measured"]["perplexity"], fine);
  EXPECT_EQ(j["alternatives"].size(), 1U);
  EXPECT_EQ(j["unmeasured"], 7);  // caches of fp16, and other caches of the packed ones
  const Json plan = Must(ReadJson(dir / "plan.json", Code::kFailed));
  EXPECT_DOUBLE_EQ(plan["floors"]["perplexity"].get<double>(), Must(ParseFloors(floor))[kPerplexity].value());
  EXPECT_EQ(plan["measured"]["perplexity"], fine);
  EXPECT_EQ(RunSotto({"run", "--plan", dir / "plan.json", "--raw", "The", "-n", "2"}).code, 0);
  // One that is measured later doesn't make a plan another model's.
  Store(large, kAccuracy, 90);
  EXPECT_EQ(RunSotto({"run", "--plan", dir / "plan.json", "--raw", "The", "-n", "2"}).code, 0);

  EXPECT_EQ(FitJson({"--quality-floor", fmt::format("perplexity={}", 1.01 * coarse)})["alternatives"].size(), 2U);
  EXPECT_THAT(Fit({"--quality-floor", floor}).out,
              AllOf(HasSubstr("left out whose perplexity was never measured"), HasSubstr("sotto eval perplexity")));
  EXPECT_THAT(Fit({}).out, AllOf(HasSubstr("  perplexity"), Not(HasSubstr("left out"))));
}

TEST_F(QualityTest, AFloorThatNothingMeetsIsAnError) {
  Store(large, kWer, 20);
  Store(large, kAccuracy, 90);
  EXPECT_EQ(Fit({"--quality-floor", "wer=20,accuracy=90"}).code, 0);
  for (const char* floor : {"wer=19.9", "accuracy=90.1", "wer=20,accuracy=91", "perplexity=1000", "wer=20,kl=0"}) {
    const Ran ran = Fit({"--quality-floor", floor});
    EXPECT_EQ(ran.code, 5) << floor << ran.out;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
    EXPECT_THAT(ran.err, AllOf(HasSubstr("never measured"), HasSubstr("--store")));
  }
  Store(large, kWer, 21, "a second list");  // the worst counts
  EXPECT_EQ(Fit({"--quality-floor", "wer=20"}).code, 5);
  for (const char* floor : {"", "wer", "wer=", "wer=-1", "wer=x", "wer=1,", "wer=1,wer=2", "cer=1", "nan", "-1"})
    EXPECT_EQ(ParseFloors(floor).error().code, Code::kUsage) << floor;
  EXPECT_EQ(Fit({"--quality-floor", ""}).code, 2);
}

TEST_F(QualityTest, AMeasuredKlTakesThePlaceOfThePredictedOne) {
  const auto kl = [&] {
    double best = INFINITY;
    const Json j = FitJson({"--quality-floor", "10"});
    for (const Json& c : j["alternatives"])
      if (c["weights"].get<std::string>().starts_with("packed 5.0"))
        best = std::min(best, c["predicted"]["quality"].get<double>());
    return best;
  };
  const double predicted = kl();
  const Ran ran = RunSotto({"bench", "lowmem", lm, "--packed", large, "--text", kText, "-n", "4", "--context", "256",
                            "--threads", "2", "--store", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const double measured = Must(ParseJson(ran.out, "bench", Code::kFailed))["kl"];
  EXPECT_GT(std::abs(predicted - measured), 1e-3);
  EXPECT_NEAR(kl(), measured, 1e-4);  // and a cache's
  EXPECT_THAT(Fit({"--quality-floor", "10"}).out, HasSubstr("KL measured"));
  EXPECT_EQ(RunSotto({"bench", "lowmem", lm, "--bits", "4", "--store"}).code, 2);
  // A KL from other weights than those here says nothing.
  std::ofstream(lm + "/generation_config.json") << "{}";
  EXPECT_DOUBLE_EQ(kl(), predicted);
}

TEST_F(QualityTest, FiguresOfFilesThatChangedDoNotCount) {
  Store(large, kWer, 20);
  EXPECT_EQ(FitJson({"--quality-floor", "wer=20"})["stale"].size(), 0U);
  const std::string weights = large + "/model.safetensors";
  fs::last_write_time(weights, fs::last_write_time(weights) + std::chrono::seconds(1));
  const Ran ran = Fit({"--quality-floor", "wer=20"});
  EXPECT_EQ(ran.code, 5);
  EXPECT_THAT(ran.err, HasSubstr("changed since does not count: " + FiguresPath(Find(large))));
  EXPECT_EQ(FitJson({})["stale"], Json::array({FiguresPath(Find(large))}));
  EXPECT_TRUE(FitJson({})["choice"]["measured"].empty());
}

TEST_F(QualityTest, ABrokenFileIsRefused) {
  Store(large, kKl, 0.1);
  const std::string path = FiguresPath(Find(large));
  const Json good = Must(ReadJson(path, Code::kFailed));
  const auto refused = [&](const Json& j) {
    std::ofstream(path) << j.dump();
    EXPECT_EQ(ReadFigures(Find(large)).error().code, Code::kBadModel) << j;
  };
  for (const auto& [key, value] : good["figures"][0].items())
    for (const Json& bad : {Json(), Json(-1), Json::array(), Json(true)}) {
      Json j = good;
      j["figures"][0][key] = bad;
      refused(j);
    }
  for (const auto& [key, value] : good["figures"][0]["on"].items()) {
    Json j = good;
    j["figures"][0]["on"].erase(key);
    refused(j);
  }
  Json many = good;
  for (int i = 0; i < 1000; ++i) many["figures"].push_back(good["figures"][0]);
  refused(many);
  refused(Json::array());
  refused({{"schema", "sotto.quality/1"}, {"figures", 1}});
  const Ran ran = Fit({});
  EXPECT_EQ(ran.code, 4);
  EXPECT_THAT(ran.err, HasSubstr("quality.json is not what `sotto eval --store` writes ('figures')"));
  EXPECT_EQ(RunSotto({"eval", "perplexity", large, kText, "--store"}).code, 4);
}

}  // namespace
}  // namespace sotto
