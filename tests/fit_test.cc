// The search inside a budget: never over it, better with more memory, in the order of what is then measured; plan files run what they
// say or nothing.
#include "engine/fit/fit.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "divergence.h"
#include "engine/calibrate.h"
#include "engine/fit/plan_file.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kLm = SOTTO_SOURCE_DIR "/models/demo-lm", kText = SOTTO_SOURCE_DIR "/docs/memory.md";
constexpr auto kOn = [](size_t, size_t) { return true; };

FitRequest Request() {
  FitRequest r;
  r.plan.threads = 2;
  r.plan.context = 512;
  return r;
}

Fitter OpenFitter(const FitRequest& request, const std::string& model = kLm) {
  return Must(Fitter::Open(Must(FindModel(model, ModelUse::kRun)), request, kOn));
}

uint64_t SmallestBudget(const Fitter& fitter) {
  const Result<Fitted> refused = fitter.At({1});
  EXPECT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kOverBudget);
  return refused.error().smallest_budget_bytes;
}

// The best KL of those that are fast enough.
double BestKl(const Fitted& f) {
  for (const Candidate& c : f.fitting)
    if (c.speed.tokens_per_second >= f.least_speed) return c.kl;
  return INFINITY;
}

TEST(Fit, NeverOverTheBudgetAndBetterWithMoreMemory) {
  const Fitter fitter = OpenFitter(Request());
  const uint64_t smallest = SmallestBudget(fitter);
  EXPECT_TRUE(fitter.At({smallest}).ok());
  EXPECT_FALSE(fitter.At({smallest - 1}).ok());
  double before = INFINITY;
  std::vector<std::string> weights;
  for (uint64_t budget = smallest; budget < smallest + 8 * kMiB; budget += 256 * kKiB) {
    const Fitted f = Must(fitter.At({budget}));
    for (const Candidate& c : f.fitting) EXPECT_LE(c.total.n, budget) << c.weights;
    EXPECT_LE(BestKl(f), before) << budget;
    EXPECT_LE(f.choice().kl, BestKl(f) + std::max(kSameKl, kSameShare * BestKl(f)));
    before = BestKl(f);
    if (weights.empty() || weights.back() != f.choice().weights) weights.push_back(f.choice().weights);
    if (f.choice().bits > 0) continue;
    const Planned planned = Must(fitter.Plan(f.choice()));
    EXPECT_TRUE(planned.fits);
    EXPECT_EQ(planned.layout.plan.total, f.choice().total);
    EXPECT_EQ(planned.layout.choice.streamed, f.choice().choice.streamed);
  }
  EXPECT_GE(weights.size(), 3U) << testing::PrintToString(weights);
}

TEST(Fit, TheFrontIsWhatNothingIsBetterThan) {
  const Fitted f = Must(OpenFitter(Request()).At({kGiB}));
  size_t front = 0;
  for (const Candidate& c : f.fitting) {
    front += c.pareto ? 1 : 0;
    for (const Candidate& other : f.fitting)
      EXPECT_FALSE(c.pareto && other.total < c.total && other.kl < c.kl &&
                   other.speed.tokens_per_second > c.speed.tokens_per_second)
          << c.weights << " against " << other.weights;
  }
  EXPECT_GE(front, 5U);
  EXPECT_LT(front, f.fitting.size());
}

TEST(Fit, AFloorOfQualityIsNeverCrossed) {
  FitRequest request = Request();
  const uint64_t anything = SmallestBudget(OpenFitter(request));
  request.floors[kKl] = 0.001;
  const Fitter fitter = OpenFitter(request);
  const Result<Fitted> refused = fitter.At({anything});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kOverBudget);
  EXPECT_THAT(refused.error().message, HasSubstr("KL of at most 0.001"));
  const uint64_t enough = refused.error().smallest_budget_bytes;
  EXPECT_GT(enough, anything);
  EXPECT_FALSE(fitter.At({enough - 1}).ok());
  for (const Candidate& c : Must(fitter.At({enough})).fitting) EXPECT_LE(c.kl, 0.001);
}

TEST(Fit, WhatIsPackedIsPlannedWithinWhatWasPredicted) {
  const TempDir dir;
  FitRequest request = Request();
  const Fitter fitter = OpenFitter(request);
  const Fitted f = Must(fitter.At({kGiB}));
  for (const double bits : {3.0, 5.5}) {
    const auto c = std::find_if(f.fitting.begin(), f.fitting.end(),
                                [&](const Candidate& k) { return k.bits == bits && k.choice.kv->name == "fp16"; });
    ASSERT_NE(c, f.fitting.end());
    const std::string out = dir / std::to_string(bits);
    (void)Must(Pack(fitter.dir(), {.bits = bits, .out = out, .threads = 2}, [](uint64_t, uint64_t) { return true; }));
    const Planned planned = Must(fitter.Plan(*c, out));
    EXPECT_TRUE(planned.fits) << planned.layout.plan.total.n << " of " << c->total.n;
    EXPECT_GT(planned.layout.plan.total.n, c->total.n - c->total.n / 10);
    request.packed.push_back(out);
  }
  // Made, they are taken before those that are not, at about the quality that was predicted.
  const Fitted made = Must(OpenFitter(request).At({kGiB}));
  for (const double bits : {3.0, 5.5}) {
    const auto of = [&](bool packed) {
      return std::find_if(made.fitting.begin(), made.fitting.end(), [&](const Candidate& k) {
        return (k.bits == 0) == packed && k.weights == fmt::format("packed {:.2f} bits", bits);
      });
    };
    ASSERT_NE(of(true), made.fitting.end());
    ASSERT_NE(of(false), made.fitting.end());
    EXPECT_NEAR(of(true)->kl / of(false)->kl, 1, 0.15) << bits;
  }
}

double Spearman(const std::vector<double>& a, const std::vector<double>& b) {
  const auto rank = [](const std::vector<double>& v, size_t i) {
    return static_cast<double>(std::count_if(v.begin(), v.end(), [&](double x) { return x < v[i]; }));
  };
  double squares = 0;
  const auto n = static_cast<double>(a.size());
  for (size_t i = 0; i < a.size(); ++i) squares += std::pow(rank(a, i) - rank(b, i), 2);
  return 1 - 6 * squares / (n * (n * n - 1));
}

TEST(Fit, PredictedQualityHasTheOrderOfMeasured) {
  const TempDir dir;
  const ModelDir model = Must(FindModel(kLm, ModelUse::kRun));
  const auto engine = [&](const std::string& where, const std::string& weights) {
    PlanRequest request = SmallRequest(weights, "fp16");
    request.context = 512;
    return OpenEngine(where, request);
  };
  const auto exact = engine(kLm, "fp16");
  std::ifstream in(kText);
  std::vector<int32_t> ids;
  ASSERT_TRUE(exact->tokenizer().Encode(std::string(std::istreambuf_iterator<char>(in), {}), {}, &ids).ok());
  ids.resize(400);
  const auto want = LogitRows(*exact, ids, ids.size());

  const Original original = Must(OpenOriginal(model));
  const std::vector<std::string> names = {"q8_0", "q6_k", "q5_k_m", "q5_0", "q4_k_m", "q4_0", "q3_k"};
  std::vector<WeightKind> kinds;
  for (const std::string& name : names) kinds.push_back(Must(ParseWeightKind(name)));
  Threads threads(2);
  const Quality quality = Must(Quality::Measure(original, kinds, nullptr, threads, kOn));
  std::vector<double> predicted, measured;
  const auto add = [&](const std::string& name, double kl, Engine& other) {
    predicted.push_back(kl);
    measured.push_back(Divergence(want, LogitRows(other, ids, ids.size())));
    std::printf("demo-lm %s: predicted KL %.5f, measured %.5f\n", name.c_str(), predicted.back(), measured.back());
  };
  for (size_t i = 0; i < names.size(); ++i) add(names[i], quality.Of(i), *engine(kLm, names[i]));
  for (const double bits : {2.5, 3.5, 4.5}) {
    const std::string out = dir / std::to_string(bits);
    (void)Must(Pack(model, {.bits = bits, .out = out, .threads = 2}, [](uint64_t, uint64_t) { return true; }));
    add(fmt::format("{} bits", bits), quality.AtBits(bits).kl, *engine(out, "auto"));
  }
  EXPECT_GE(Spearman(predicted, measured), 0.9);
  for (size_t i = 0; i < predicted.size(); ++i) EXPECT_LT(std::abs(std::log2(predicted[i] / measured[i])), 1) << i;
}

// A plan of the model in a folder of its own.
struct PlanFileTest : testing::Test {
  void SetUp() override {
    fs::copy(kLm, dir / "model");
    const Ran made =
        RunSotto({"fit", dir / "model", "--memory", "64MiB", "--context", "512", "--threads", "2", "-o", plan});
    ASSERT_EQ(made.code, 0) << made.err;
  }
  Ran Run() const { return RunSotto({"run", "--plan", plan, "--raw", "The", "-n", "4", "--json"}); }
  Json Read() const { return Must(ReadJson(plan, Code::kFailed)); }
  void Write(const Json& j) const { std::ofstream(plan) << j.dump(); }
  TempDir dir;
  const std::string plan = dir / "plan.json";
};

TEST_F(PlanFileTest, RunsExactlyWhatItSays) {
  const Ran ran = Run();
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json j = Must(ParseJson(ran.out, "run", Code::kFailed)), file = Read();
  EXPECT_EQ(j["plan"]["memory"]["total_bytes"], file["total_bytes"]);
  EXPECT_EQ(j["plan"]["workload"]["weights"], file["choice"]["weights"]);
  EXPECT_EQ(j["plan"]["workload"]["context"], 512);
  EXPECT_LE(j["ledger"]["peak_bytes"].get<uint64_t>(), file["total_bytes"].get<uint64_t>());
  EXPECT_EQ(RunSotto({"run", dir / "model", "The", "--plan", plan}).code, 2);
  EXPECT_EQ(RunSotto({"run", "The", "--plan", plan, "--context", "100"}).code, 2);
  EXPECT_EQ(RunSotto({"run", dir / "model"}).code, 2);
}

TEST_F(PlanFileTest, RefusesFilesThatChanged) {
  const auto refused = [&](const char* why) {
    const Ran ran = Run();
    EXPECT_EQ(ran.code, 4) << ran.out;
    EXPECT_THAT(ran.out, HasSubstr(why));
  };
  const std::string weights = dir / "model/model.safetensors";
  const auto time = fs::last_write_time(weights);
  fs::last_write_time(weights, time + std::chrono::seconds(1));
  refused("has changed since");
  fs::last_write_time(weights, time);
  EXPECT_EQ(Run().code, 0);
  const std::string config = dir / "model/config.json";
  const auto written = fs::last_write_time(config);
  {
    std::fstream edit(config, std::ios::in | std::ios::out);
    edit.seekp(0, std::ios::end);
    edit.seekp(-2, std::ios::cur);
    edit.put(' ');
  }
  fs::last_write_time(config, written);  // the same size and time: only the checksum differs
  refused("has changed since");
  fs::copy_file(kLm + "/config.json", config, fs::copy_options::overwrite_existing);
  fs::last_write_time(config, written);
  EXPECT_EQ(Run().code, 0);
  std::ofstream(dir / "model/other.safetensors") << "new";
  refused("other files");
  fs::remove(dir / "model/other.safetensors");
  fs::remove(dir / "model/generation_config.json");
  refused("no longer there");
  fs::remove_all(dir / "model");
  refused("gone");
}

TEST_F(PlanFileTest, RefusesAnotherMachineAndLessMemory) {
  Json j = Read();
  j["machine"]["cpu"] = "Another";
  Write(j);
  EXPECT_EQ(Run().code, 4);
  j = Read();
  j["machine"]["cpu"] = CpuName();
  j["total_bytes"] = uint64_t{1} << 60;
  Write(j);
  const Ran ran = Run();
  EXPECT_EQ(ran.code, 5);
  EXPECT_THAT(ran.out, HasSubstr("free"));
}

TEST_F(PlanFileTest, RefusesWhatIsNoPlan) {
  const Json good = Read();
  for (const char* key : {"schema", "model", "mmproj", "files", "machine", "choice", "total_bytes"}) {
    for (const Json& bad : {Json(), Json(-1), Json::array({1}), Json("x")}) {
      Json j = good;
      j[key] = bad;
      Write(j);
      const Ran ran = Run();
      EXPECT_EQ(ran.code, 4) << key << " " << bad << ran.out << ran.err;
    }
  }
  for (const char* key : {"weights", "kv", "resident", "context", "batch", "audio_seconds"}) {
    Json j = good;
    j["choice"].erase(key);
    Write(j);
    EXPECT_EQ(Run().code, 4) << key;
  }
  std::ofstream(plan) << "[]";
  EXPECT_EQ(Run().code, 4);
}

// What only packing makes fit: planned before it is packed, packed, and run inside the budget.
TEST(Fit, PacksWhatItChoseAndDrawsWhatFits) {
  const TempDir dir;
  const std::string smallest = std::to_string(SmallestBudget(OpenFitter(Request())));
  const auto fit = [&](std::vector<std::string> more) {
    std::vector<std::string> all = {"fit", kLm, "--context", "512", "--threads", "2", "--memory", smallest};
    all.insert(all.end(), more.begin(), more.end());
    return RunSotto(all);
  };
  EXPECT_THAT(fit({}).out, HasSubstr("sotto pack " + kLm + " --bits 2.5 -o packed-2.5"));
  EXPECT_EQ(fit({"-o", dir / "plan.json"}).code, 5);  // nothing that is there fits
  EXPECT_EQ(fit({"--min-speed", "3"}).code, 2);       // the machine is not known
  const Ran ran = fit({"-o", dir / "plan.json", "--pack-to", dir / "packed", "--plot", dir / "front.svg", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err << ran.out;
  const Json j = Must(ParseJson(ran.out, "fit", Code::kFailed));
  EXPECT_EQ(j["choice"]["bits_to_pack"], 2.5);
  EXPECT_TRUE(j["choice"]["predicted"]["tokens_per_second"].is_null());
  EXPECT_GT(j["choice"]["predicted"]["quality"], 0.1);
  EXPECT_EQ(j["alternatives"].size(), 2U);  // a cache in fp16, one in bf16
  EXPECT_THAT(Must(ReadSmallFile(dir / "front.svg", kMiB, Code::kFailed)), HasSubstr("packed 2.50 bits"));
  const Ran answer = RunSotto({"run", "--plan", dir / "plan.json", "--raw", "The", "-n", "4", "--json"});
  ASSERT_EQ(answer.code, 0) << answer.out;
  EXPECT_LE(Must(ParseJson(answer.out, "run", Code::kFailed))["ledger"]["peak_bytes"].get<uint64_t>(),
            std::stoull(smallest));
}

TEST(Calibrate, WhatItMeasuresIsKeptAndSaysHowFastPlansAre) {
  const TempDir dir;
  const std::string path = dir / "new/machine.json";
  const RunOptions with{.environment = {{"SOTTO_MACHINE", path}}};
  const Ran ran = RunSotto({"calibrate", "--threads", "2", "--disk", kLm + "/model.safetensors", "--json"}, with);
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json printed = Must(ParseJson(ran.out, "calibrate", Code::kFailed)), kept = Must(ReadJson(path, Code::kFailed));
  EXPECT_EQ(printed, kept);
  for (const char* form : {"fp32", "fp16", "bf16", "int8", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "planes1", "planes2",
                           "planes3", "planes4"})
    for (const char* rate : {"decode", "cached", "prefill"})
      EXPECT_GT(kept["weights_per_second"][form][rate].get<double>(), 1e6) << form << " " << rate;

  setenv("SOTTO_MACHINE", path.c_str(), 1);
  const Isa isa = Must(DetectIsa());
  const auto found = FindMachineSpeed(isa, 2);
  EXPECT_FALSE(FindMachineSpeed(isa, 3).has_value());  // other threads
  EXPECT_FALSE(FindMachineSpeed(isa == Isa::kPortable ? Isa::kAvx2 : Isa::kPortable, 2).has_value());
  std::ofstream(path) << kept.dump().substr(0, 100);
  EXPECT_FALSE(FindMachineSpeed(isa, 2).has_value());
  setenv("SOTTO_MACHINE", "/nonexistent", 1);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(MachineSpeedJson(*found), kept);
  std::ofstream(path) << kept.dump();

  const auto plan = [&](const char* context) {
    const Ran planned = RunSotto({"plan", kLm, "--threads", "2", "--context", context, "--json"}, with);
    return Must(ParseJson(planned.out, "plan", Code::kFailed))["predicted"];
  };
  EXPECT_GT(plan("64")["tokens_per_second"], plan("2048")["tokens_per_second"]);  // less to attend to
  EXPECT_TRUE(plan("64")["seconds_per_window"].is_null());
  EXPECT_THAT(RunSotto({"plan", kLm, "--threads", "2"}, with).out, HasSubstr("predicted: "));
  EXPECT_THAT(RunSotto({"plan", kLm, "--threads", "2"}).out, testing::Not(HasSubstr("predicted: ")));
  const Ran answered = RunSotto({"run", kLm, "The", "--threads", "2", "-n", "8", "--ignore-eos", "--json"}, with);
  const Json speed = Must(ParseJson(answered.out, "run", Code::kFailed))["ledger"]["speed"];
  EXPECT_GT(speed["predicted_tokens_per_second"], 0);
  EXPECT_GT(speed["measured_tokens_per_second"], 0);
}

}  // namespace
}  // namespace sotto
