// The promise, on real processes: what `sotto plan` prints is what `sotto transcribe` then takes.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "base/json.h"
#include "engine/planning.h"
#include "process.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/whisper/";

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // a sanitizer's shadow memory is not ours to plan
#else
constexpr bool kSanitized = false;
#endif

Json Document(const Ran& ran) {
  Result<Json> j = ParseJson(ran.out, "stdout", Code::kFailed);
  EXPECT_TRUE(j.ok()) << "exit " << ran.code << "\n" << ran.out.substr(0, 500) << ran.err;
  return j.ok() ? *j : Json::object();
}

struct Models {
  TempDir dir;
  std::vector<std::string> paths = {kGolden + "english-bf16/model", kGolden + "odd-f16/model"};
  std::string large, audio, longer;
  Models() {
    large = dir / "large";
    audio = dir / "a.wav";
    longer = dir / "b.wav";
    WriteRandomModel(large, {.d_model = 256, .heads = 4, .encoder_layers = 3, .decoder_layers = 2, .ffn = 1024});
    paths.push_back(large);
    WriteTones(audio, 3);
    WriteTones(longer, 7);
  }
};
Models& Shared() {
  static Models models;
  return models;
}

TEST(Budget, ActualIsAtMostPlannedAndPlannedIsTight) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is not in the plan";
  Models& m = Shared();
  for (const std::string& model : m.paths)
    for (const char* weights : {"fp32", "fp16", "bf16", "int8"})
      for (const int batch : {1, 3}) {
        if (model != m.large && batch == 3 && weights != std::string("int8")) continue;  // the rest says nothing new
        std::vector<std::string> args = {"transcribe", model,   m.audio,    "--json", "-o",      m.dir / "out",
                                         "--weights",  weights, "--memory", "1GiB",   "--batch", std::to_string(batch)};
        if (batch == 3) args.insert(args.begin() + 3, {m.longer, kGolden + "audio/long.wav"});
        const Ran ran = RunSotto(args);
        ASSERT_EQ(ran.code, 0) << ran.err << ran.out;
        const Json j = Document(ran);
        const uint64_t planned = j["plan"]["memory"]["total_bytes"], peak = j["ledger"]["peak_bytes"];
        const std::string what =
            fmt::format("{} {} batch {}: planned {} actual {}", model, weights, batch, planned, peak);
        EXPECT_LE(peak, planned) << what;
        EXPECT_LE(static_cast<double>(planned), 1.03 * static_cast<double>(peak) + 8 * kMiB) << what;
        EXPECT_EQ(j["plan"]["workload"]["batch"], batch);
        fmt::print("planned {:>11} actual {:>11} ({:+.1f} %) {} batch {} {}\n", planned, peak,
                   (static_cast<double>(planned) / static_cast<double>(peak) - 1) * 100, weights, batch,
                   std::filesystem::path(model).parent_path().filename().string());
      }
}

TEST(Budget, CategoriesAddUpToTheTotal) {
  for (const char* name : {"openai/whisper-tiny", "openai/whisper-base", "openai/whisper-large-v3-turbo",
                           "distil-whisper/distil-large-v3"})
    for (const char* weights : {"fp32", "int8"}) {
      const Json j = Document(RunSotto({"plan", name, "--json", "--weights", weights, "--memory", "64GiB"}));
      uint64_t sum = 0;
      for (const auto& [key, value] : j["memory"].items())
        if (key != "total_bytes") sum += value.get<uint64_t>();
      EXPECT_EQ(sum, j["memory"]["total_bytes"].get<uint64_t>()) << name;
      EXPECT_EQ(j["breakdown"]["encoder_kv_cache_bytes"], 0);
      uint64_t parts = 0;
      for (const auto& [key, value] : j["parameters"].items())
        if (key != "total") parts += value.get<uint64_t>();
      EXPECT_EQ(parts, j["parameters"]["total"].get<uint64_t>());
    }
}

TEST(Budget, TurboCachesHaveThePublishedBytes) {
  const Json j =
      Document(RunSotto({"plan", "openai/whisper-large-v3-turbo", "--json", "--kv", "fp16", "--memory", "64GiB"}));
  EXPECT_EQ(j["breakdown"]["decoder_kv_cache_bytes"], 9175040);
  EXPECT_EQ(j["breakdown"]["cross_attention_kv_cache_bytes"], 30720000);
  EXPECT_EQ(j["parameters"]["total"], 808878080);
}

TEST(Budget, TheSmallestBudgetWorksAndOneByteLessIsRefused) {
  Models& m = Shared();
  for (const std::string& model : m.paths) {
    const Ran refused = RunSotto({"plan", model, "--json", "--memory", "1MiB"});
    ASSERT_EQ(refused.code, 5);
    const Json j = Document(refused);
    EXPECT_FALSE(j["fits"].get<bool>());
    EXPECT_EQ(j["error"]["code"], "over_budget");
    const uint64_t smallest = j["error"]["smallest_budget_bytes"];
    EXPECT_EQ(j["error"]["budget_bytes"], kMiB);
    EXPECT_NE(j["error"]["message"].get<std::string>().find(std::to_string(smallest)), std::string::npos);

    const Ran less = RunSotto({"transcribe", model, m.audio, "--json", "--memory", std::to_string(smallest - 1)});
    EXPECT_EQ(less.code, 5);
    EXPECT_EQ(Document(less)["error"]["smallest_budget_bytes"], smallest);
    if (kSanitized) continue;
    const Ran enough = RunSotto({"transcribe", model, m.audio, "--json", "--memory", std::to_string(smallest)});
    ASSERT_EQ(enough.code, 0) << enough.err << enough.out;
    EXPECT_LE(Document(enough)["ledger"]["peak_bytes"].get<uint64_t>(), smallest);
  }
}

// rchar of /proc/self/io: every byte that read() and its kin gave this process.
uint64_t BytesRead() {
  std::ifstream in("/proc/self/io");
  std::string key;
  uint64_t value = 0;
  in >> key >> value;
  return value;
}

TEST(Budget, ARefusalReadsNoWeights) {
  Models& m = Shared();
  const uint64_t weights = std::filesystem::file_size(m.large + "/model.safetensors");
  const uint64_t before = BytesRead();
  PlanRequest request;
  request.budget = Bytes{kMiB};
  const Planned planned = PlanModel(FindModel(m.large, ModelUse::kRun).value(), request).value();
  EXPECT_FALSE(planned.fits);
  if (before == 0) GTEST_SKIP() << "/proc/self/io does not count here";
  EXPECT_LT(BytesRead() - before, weights / 20);  // headers and tokenizer only
}

TEST(Budget, KeepsUnderRlimitData) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is not in the plan";
  Models& m = Shared();
  for (const int threads : {1, 2}) {
    const std::vector<std::string> tail = {
        "--json", "--memory", "256MiB", "--weights", "int8", "-t", std::to_string(threads)};
    std::vector<std::string> plan = {"plan", m.large}, run = {"transcribe", m.large, m.audio};
    plan.insert(plan.end(), tail.begin(), tail.end());
    run.insert(run.end(), tail.begin(), tail.end());
    const uint64_t total = Document(RunSotto(plan))["memory"]["total_bytes"];
    const Ran ran = RunSotto(run, {.data_limit = total + 8 * kMiB * static_cast<uint64_t>(threads)});
    EXPECT_EQ(ran.code, 0) << ran.err << ran.out.substr(0, 300);
    // Far below the plan there is a sentence, not a crash.
    const Ran none = RunSotto(run, {.data_limit = total / 4});
    EXPECT_EQ(none.code, 5) << none.err << none.out.substr(0, 300);
  }
}

// A memory cgroup, v1 or v2, made under the controller's root; gone with the object.
class Cgroup {
 public:
  explicit Cgroup(uint64_t limit) {
    const std::string name = "/sotto-test-" + std::to_string(::getpid());
    for (const auto& [root, file, peak] :
         {std::tuple{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"},
          std::tuple{"/sys/fs/cgroup", "memory.max", "memory.peak"}}) {
      std::error_code ec;
      if (!std::filesystem::create_directory(root + name, ec)) continue;
      dir_ = root + name;
      peak_ = peak;
      std::ofstream out(dir_ + "/" + file);
      out << limit << std::flush;
      if (out.good()) return;
      std::filesystem::remove(dir_, ec);
      dir_.clear();
    }
  }
  ~Cgroup() {
    if (!dir_.empty()) ::rmdir(dir_.c_str());
  }
  bool ok() const { return !dir_.empty(); }
  std::string procs() const { return dir_ + "/cgroup.procs"; }
  uint64_t Peak() const {
    uint64_t n = 0;
    std::ifstream(dir_ + "/" + peak_) >> n;
    return n;
  }

 private:
  std::string dir_, peak_;
};

TEST(Budget, CompletesInsideAMemoryCgroupOfThePlannedBytes) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is not in the plan";
  Models& m = Shared();
  for (const char* weights : {"fp32", "int8"}) {
    const Json plan = Document(RunSotto({"plan", m.large, "--json", "--weights", weights, "--memory", "256MiB"}));
    const uint64_t total = plan["memory"]["total_bytes"],
                   arena = total - plan["memory"]["runtime_bytes"].get<uint64_t>();
    const uint64_t allowance = arena / 512 + kMiB;  // page tables are the kernel's, and charged to us
    const Cgroup group(total + allowance);
    if (!group.ok()) GTEST_SKIP() << "this system lets a test make no memory cgroup";
    const Ran ran =
        RunSotto({"transcribe", m.large, m.audio, "--json", "--weights", weights, "--memory", std::to_string(total)},
                 {.cgroup_procs = group.procs()});
    if (ran.code == 99) GTEST_SKIP() << "this system lets no process join the test's cgroup";
    EXPECT_EQ(ran.code, 0) << ran.err << ran.out.substr(0, 300);
    fmt::print("cgroup of {} planned + {} kernel allowance: peak {}\n", total, allowance, group.Peak());
  }
}

TEST(Budget, PeakDoesNotDependOnTheLength) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is not in the plan";
  const std::string model = kGolden + "english-bf16/model";
  const std::string short_audio = Shared().dir / "ten.wav", long_audio = Shared().dir / "minutes.wav";
  WriteTones(short_audio, 10);
  WriteTones(long_audio, 600);
  uint64_t peaks[2] = {};
  for (int i = 0; i < 2; ++i) {
    const Ran ran = RunSotto({"transcribe", model, i == 0 ? short_audio : long_audio, "--json", "--memory", "64MiB"});
    ASSERT_EQ(ran.code, 0) << ran.err;
    peaks[i] = Document(ran)["ledger"]["peak_bytes"];
  }
  fmt::print("peak of 10 s: {}, of 10 min: {}\n", peaks[0], peaks[1]);
  EXPECT_LT(peaks[1], peaks[0] + 4 * kMiB);
}

}  // namespace
}  // namespace sotto
