// Odd configs of every family: each key of a published config in turn missing, zero, negative, huge, of another type. The answer is
// a plan or one sentence that names a key; never a crash, and no product wraps round.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "base/json.h"
#include "engine/planning.h"
#include "models/model.h"
#include "weights/model_dir.h"

namespace sotto {
namespace {

const Json& Missing() {
  static const Json kMissing = "(missing)";
  return kMissing;
}

const std::vector<Json>& OddValues() {
  static const std::vector<Json> kValues = {Missing(),      0,         -1,    1,      7,
                                            1u << 20,       1u << 31,  1e308, 2.5,    "64",
                                            UINT64_MAX,     INT64_MIN, true,  Json(), Json::array({1, "x"}),
                                            Json::object(), "",        "\xff"};
  return kValues;
}

// One published config of each model_type.
std::map<std::string, Json> OneOfEachFamily() {
  std::map<std::string, Json> configs;
  for (const auto& e : std::filesystem::recursive_directory_iterator(SOTTO_SOURCE_DIR "/catalog")) {
    if (e.path().extension() != ".json") continue;
    ModelDir dir;
    dir.config_path = e.path().string();
    dir.from_catalog = true;
    Json config = ReadConfig(dir).value();
    const std::string type = config["model_type"];
    configs.emplace(type, std::move(config));
  }
  return configs;
}

bool NamesAKeyOf(const std::string& message, const Json& config) {
  for (const auto& [key, value] : config.items())
    if (message.find(key) != std::string::npos || (value.is_object() && NamesAKeyOf(message, value))) return true;
  return false;
}

struct Tally {
  int planned = 0, refused = 0;
};

void Try(const Json& config, const Json& published, const std::string& what, Tally* tally) {
  Anatomy anatomy;
  const Workload workload{0, 2, 2, DenseKvPolicy(DType::kF16), 2};
  const auto model = BuildModel(config, workload, anatomy);
  if (!model.ok()) {
    ++tally->refused;
    EXPECT_TRUE(model.error().code == Code::kBadModel || model.error().code == Code::kUsage) << what;
    const std::string& message = model.error().message;
    EXPECT_TRUE(NamesAKeyOf(message, published) || NamesAKeyOf(message, config) ||
                message.find("context") != std::string::npos)
        << what << ": " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << what;
    EXPECT_LT(message.size(), 1500U) << what;
    return;
  }
  ++tally->planned;
  const MemoryPlan plan = Plan(anatomy, MakeRecipe(anatomy, {DType::kF16}, Isa::kPortable), Bytes{0});
  uint64_t largest = 0;
  for (const Stored& s : plan.recipe) largest = std::max(largest, s.bytes.n);
  EXPECT_GE(plan.total.n, largest) << what << ": a sum wrapped round";
  EXPECT_GE(plan.total.n, anatomy.Parameters()) << what;
  const ModelInfo& info = (*model)->info();
  EXPECT_GE(info.kv_bytes_per_token, 0) << what;
  EXPECT_GE(info.audio_tokens, 0) << what;
  EXPECT_GT(info.context, 0) << what;
}

// Changes each key of `at`, a part of `config` in place, and of its parts.
void Mutate(Json* config, Json* at, const Json& published, const std::string& path, Tally* tally) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : at->items()) keys.push_back(key);
  for (const std::string& key : keys) {
    const Json before = (*at)[key];
    for (const Json& odd : OddValues()) {
      if (odd == Missing())
        at->erase(key);
      else
        (*at)[key] = odd;
      Try(*config, published, path + key + " = " + odd.dump(-1, ' ', true, Json::error_handler_t::replace), tally);
    }
    (*at)[key] = before;
    if (before.is_object() && path.size() < 60) Mutate(config, &(*at)[key], published, path + key + ".", tally);
  }
}

TEST(ConfigFuzz, EveryKeyOfEveryFamilyMayBeOdd) {
  setenv("HF_HOME", "/nonexistent", 1);
  const auto families = OneOfEachFamily();
  EXPECT_GE(families.size(), 29U);
  Tally tally;
  for (const auto& [type, published] : families) {
    Json config = published;
    Mutate(&config, &config, published, type + ": ", &tally);
    Json nested = published;
    for (const char* part : {"text_config", "audio_config", "thinker_config"})
      if (nested.contains(part)) {
        nested[part] = Json{{part, published[part]}};
        Try(nested, published, type + ": " + part + " nested twice", &tally);
      }
  }
  unsetenv("HF_HOME");
  printf("%d odd configs planned, %d refused\n", tally.planned, tally.refused);
  EXPECT_GT(tally.refused, 1000);
  EXPECT_GT(tally.planned, 1000);
}

TEST(ConfigFuzz, DeepAndBrokenFilesAreRefused) {
  const std::string path = testing::TempDir() + "sotto_deep_" + std::to_string(getpid()) + ".json";
  const std::string deep(200'000, '[');
  std::string objects;
  for (int i = 0; i < 50'000; ++i) objects += "{\"a\":";
  for (const std::string& text :
       {deep, "{\"model_type\":\"llama\",\"hidden_size\":" + deep + "}", objects, std::string(), std::string("[]"),
        std::string("{\"model_type\":"), std::string("{}"), std::string("{\"model_type\":7}"),
        std::string("{\"model_type\":\"nothing\"}"), std::string(1000, '\0')}) {
    AtomicFile file = AtomicFile::Create(path).value();
    ASSERT_TRUE(file.Write(text).ok());
    ASSERT_TRUE(file.Commit().ok());
    PlanRequest request;
    request.unbounded = true;
    const auto planned = PlanModel(FindModel(path, ModelUse::kPlan).value(), request);
    ASSERT_FALSE(planned.ok()) << text.substr(0, 50);
    EXPECT_EQ(planned.error().code, Code::kBadModel);
    EXPECT_LT(planned.error().message.size(), 1500U);
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace sotto
