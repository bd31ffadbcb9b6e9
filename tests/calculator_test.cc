// The calculator against transformers: every catalogue entry has the parameters, part by part, of the modules that transformers
// builds from the same config (tests/golden/*_parameters.json), and the audio vectors of its processor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <map>
#include <thread>

#include "base/json.h"
#include "engine/planning.h"
#include "engine/report.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/";

Result<Planned> PlanOf(const std::string& name, double audio_seconds = 0) {
  PlanRequest request;
  request.unbounded = true;
  request.threads = 2;
  request.audio_seconds = audio_seconds;
  const ModelDir dir = TRY(FindModel(name, ModelUse::kPlan));
  return PlanModel(dir, request);
}

class Calculator : public testing::Test {
 protected:
  void SetUp() override { setenv("HF_HOME", "/nonexistent", 1); }  // the catalogue alone
  void TearDown() override { unsetenv("HF_HOME"); }

  void CompareParts(const std::string& file) {
    const Json all = ReadJson(kGolden + file, Code::kBadInput).value();
    ASSERT_GT(all.size(), 0U);
    for (const auto& [name, want] : all.items()) {
      const auto planned = PlanOf(name, 30);
      ASSERT_TRUE(planned.ok()) << name << ": " << planned.error().message;
      const Json got = PlanJson(*planned)["parameters"];
      uint64_t sum = 0;
      for (const auto& [part, n] : got.items())
        if (part != "total") sum += n.get<uint64_t>();
      EXPECT_EQ(sum, got["total"].get<uint64_t>()) << name << ": the parts are disjoint and all";
      for (const auto& [part, n] : want.items())
        if (n.is_number()) {
          EXPECT_EQ(got.value(part, uint64_t{0}), n.get<uint64_t>()) << name << ", " << part;
        }
      ++count_;
    }
  }
  int count_ = 0;
};

TEST_F(Calculator, TextDecodersHaveTheParametersOfTransformersModules) {
  CompareParts("decoder_parameters.json");
  EXPECT_GE(count_, 50);
}

TEST_F(Calculator, AudioLanguageModelsHaveTheParametersOfTransformersModules) {
  CompareParts("audio_llm_parameters.json");
  EXPECT_GE(count_, 30);
}

TEST_F(Calculator, AudioBecomesAsManyVectorsAsTheProcessorsMake) {
  const Json all = ReadJson(kGolden + "audio_llm_parameters.json", Code::kBadInput).value();
  for (const auto& [name, want] : all.items())
    for (const auto& [seconds, tokens] : want["audio_tokens"].items()) {
      const auto planned = PlanOf(name, std::stod(seconds));
      ASSERT_TRUE(planned.ok()) << name << ": " << planned.error().message;
      EXPECT_EQ(planned->layout.model->info().audio_tokens, tokens.get<int64_t>()) << name << ", " << seconds << " s";
    }
}

TEST_F(Calculator, EveryCatalogueEntrySaysItsParametersAndItsSource) {
  int entries = 0;
  for (const auto& e : std::filesystem::recursive_directory_iterator(SOTTO_SOURCE_DIR "/catalog")) {
    if (e.path().extension() != ".json") continue;
    const Json entry = ReadJson(e.path().string(), Code::kBadInput).value();
    const std::string name = entry["name"];
    EXPECT_TRUE(e.path().string().ends_with("/" + name + ".json")) << e.path();
    EXPECT_FALSE(entry["source"].get<std::string>().empty()) << name;
    const auto planned = PlanOf(name);
    ASSERT_TRUE(planned.ok()) << name << ": " << planned.error().message;
    EXPECT_EQ(planned->layout.anatomy->Parameters(), entry["parameters"].get<uint64_t>()) << name;
    ++entries;
  }
  EXPECT_GE(entries, 100);
}

TEST_F(Calculator, ARankHoldsItsShare) {
  for (const char* name : {"meta-llama/Llama-3.1-70B", "openai/whisper-large-v3", "deepseek-ai/DeepSeek-V3"}) {
    PlanRequest request;
    request.unbounded = true;
    request.weights = "bf16";
    const ModelDir dir = FindModel(name, ModelUse::kPlan).value();
    const Planned whole = PlanModel(dir, request).value();
    request.tp = 4;
    const Planned rank = PlanModel(dir, request).value();
    const uint64_t all = whole.layout.anatomy->Parameters(), part = rank.layout.anatomy->Parameters();
    EXPECT_GE(part, all / 4) << name;
    EXPECT_LT(part, all / 4 + all / 20) << name;  // norms and small projections stand on every rank
  }
}

TEST_F(Calculator, GrowsWithWhatIsAskedFor) {
  const auto kv = [](const std::string& name, int64_t context, int64_t batch, int64_t beam) {
    PlanRequest request;
    request.unbounded = true;
    request.kv = "fp16";
    request.context = context;
    request.batch = batch;
    request.beam = beam;
    const Planned p = PlanModel(FindModel(name, ModelUse::kPlan).value(), request).value();
    return PlanJson(p)["breakdown"]["decoder_kv_cache_bytes"].get<uint64_t>();
  };
  // Qwen2-Audio: 2 x 32 layers x 32 heads x 128 x 2 bytes (FACTS.md, section 1).
  EXPECT_EQ(kv("Qwen/Qwen2-Audio-7B", 4096, 1, 1), 4096ULL * 524'288);
  EXPECT_EQ(kv("Qwen/Qwen2-Audio-7B", 4096, 2, 3), 4096ULL * 524'288 * 6);
  // Whisper turbo at 448 tokens (FACTS.md, section 2).
  EXPECT_EQ(kv("openai/whisper-large-v3-turbo", 448, 1, 1), 9'175'040U);
  // DeepSeek-V3 keeps 512 + 64 numbers a token and layer.
  EXPECT_EQ(kv("deepseek-ai/DeepSeek-V3", 4096, 1, 1), 4096ULL * 61 * 576 * 2);
}

// As a program does that has sotto as a library; ThreadSanitizer sees it in `make test-full`.
TEST_F(Calculator, ManyThreadsPlanAtOnce) {
  const std::string names[] = {"openai/whisper-tiny", "Qwen/Qwen2-Audio-7B", "google/gemma-3n-E2B-it", "tiny"};
  const auto text = [](const std::string& name) {
    Json j = PlanJson(PlanOf(name).value());
    j.erase("budget");  // what is free now
    return j.dump();
  };
  std::vector<std::string> alone;
  for (const std::string& name : names) alone.push_back(text(name));
  std::array<int, 8> same{};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < same.size(); ++t)
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < alone.size(); ++i) same[t] += text(names[(t + i) % 4]) == alone[(t + i) % 4];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(same, testing::Each(static_cast<int>(alone.size())));
}

TEST(GgmlTypes, AreThoseOfTheReferencePackage) {
  const Json want = ReadJson(kGolden + "ggml_types.json", Code::kBadInput).value();
  ASSERT_EQ(want.size(), std::size(kGgmlTypes));
  for (const Json& row : want) {
    const GgmlType* type = FindGgmlType(row[0].get<uint32_t>());
    ASSERT_NE(type, nullptr) << row;
    EXPECT_EQ(type, FindGgmlType(row[1].get<std::string>())) << row;
    EXPECT_EQ(type->block, row[2].get<uint32_t>()) << row;
    EXPECT_EQ(type->bytes, row[3].get<uint32_t>()) << row;
    EXPECT_EQ(GgmlBytes(*type, 3, type->block), 3ULL * type->bytes) << row;
    EXPECT_EQ(GgmlBytes(*type, 1, type->block + 1), 2ULL * type->bytes) << row;
  }
}

TEST_F(Calculator, AHostileConfigIsRefusedByTheNameOfItsKey) {
  const std::string path = testing::TempDir() + "sotto_calculator_" + std::to_string(getpid()) + ".json";
  const Json llama =
      ReadJson(SOTTO_SOURCE_DIR "/catalog/meta-llama/Llama-3.2-1B.json", Code::kBadInput).value()["config"];
  const Json hostile[] = {
      0, -1, 1e308, 1u << 31, "64", true, Json::array({1}), Json::object(), 18446744073709551615ULL, 2.5};
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                          "intermediate_size", "vocab_size", "max_position_embeddings", "head_dim"})
    for (const Json& value : hostile) {
      Json config = llama;
      config[key] = value;
      if (value == 1u << 31 && std::string(key) == "max_position_embeddings") continue;  // large, and sane
      AtomicFile file = AtomicFile::Create(path).value();
      ASSERT_TRUE(file.Write(config.dump()).ok());
      ASSERT_TRUE(file.Commit().ok());
      const auto planned = PlanOf(path);
      ASSERT_FALSE(planned.ok()) << key << " = " << value;
      EXPECT_EQ(planned.error().code, Code::kBadModel);
      EXPECT_NE(planned.error().message.find(key), std::string::npos) << planned.error().message;
    }
  Json config = llama;
  config.erase("max_position_embeddings");  // has a class default
  config.erase("hidden_act");
  AtomicFile file = AtomicFile::Create(path).value();
  ASSERT_TRUE(file.Write(config.dump()).ok());
  ASSERT_TRUE(file.Commit().ok());
  EXPECT_TRUE(PlanOf(path).ok());
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace sotto
