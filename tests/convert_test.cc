// sotto convert: what it writes is read back by our own readers, byte for byte what the source and the quantizers make of it. What
// other programs read stands in tests/slow/convert_test.py.
#include "engine/convert/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/json.h"
#include "codec/ggml_blocks.h"
#include "engine/planning.h"
#include "engine/text_session.h"
#include "process.h"
#include "weights/gguf_config.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr auto kGoOn = [](uint64_t, uint64_t) { return true; };

Json Config(const std::string& type) {
  Json c = {{"model_type", type},
            {"hidden_size", 256},
            {"intermediate_size", 512},
            {"num_hidden_layers", 3},
            {"num_attention_heads", 4},
            {"num_key_value_heads", 2},
            {"max_position_embeddings", 512},
            {"rms_norm_eps", 1e-5},
            {"rope_theta", 10000.0},
            {"tie_word_embeddings", type == "qwen3"},
            {"vocab_size", 304}};
  if (type == "qwen3") c["head_dim"] = 32;
  if (type == "llama") {
    c["attention_bias"] = true;
    c["rope_scaling"] = {{"rope_type", "llama3"},
                         {"factor", 8.0},
                         {"low_freq_factor", 1.0},
                         {"high_freq_factor", 4.0},
                         {"original_max_position_embeddings", 64}};
  }
  return c;
}

Result<Converted> ConvertTo(const std::string& model, const std::string& weights, const std::string& out,
                            bool force = false, ConvertProgress progress = kGoOn) {
  return Convert(TRY(FindModel(model, ModelUse::kRun)), {weights, out, force, 2}, progress);
}

std::vector<float> Floats(const File& file, uint64_t offset, uint64_t bytes, const GgmlType& type) {
  std::vector<std::byte> raw(bytes);
  EXPECT_TRUE(file.ReadAt(offset, raw).ok());
  const auto n = static_cast<int64_t>(bytes / type.bytes * type.block);
  std::vector<float> out(static_cast<size_t>(n));
  DequantizerOf(type).value()(raw.data(), n, out.data());
  return out;
}

// All tensors of a safetensors directory by their plain names.
std::map<std::string, std::vector<float>> Checkpoint(const std::string& dir) {
  std::map<std::string, std::vector<float>> all;
  const ModelFiles files = ModelFiles::Open(dir).value();
  EXPECT_TRUE(files
                  .ForEachTensor([&](const TensorHeader& t) -> Status {
                    all[PlainName(t.name)] = Floats(files.file(t.file), t.offset, t.bytes, *FindGgmlType("F32"));
                    return {};
                  })
                  .ok());
  return all;
}

// Rows of heads of `dim` rows each, from halves to pairs: 0, dim/2, 1, dim/2 + 1 …
std::vector<float> Paired(const std::vector<float>& rows, size_t cols, size_t dim) {
  std::vector<float> out;
  for (size_t head = 0; head < rows.size() / cols; head += dim)
    for (size_t i = 0; i < dim / 2; ++i)
      for (const size_t row : {head + i, head + i + dim / 2})
        out.insert(out.end(), &rows[row * cols], &rows[row * cols] + cols);
  return out;
}

class ConvertGguf : public testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  TempDir dir_;
};

TEST_P(ConvertGguf, HoldsWhatTheQuantizerMakesOfEachTensor) {
  const auto [type, weights] = GetParam();
  const Json config = Config(type);
  WriteRandomWeights(dir_ / "model", config);
  const Result<Converted> done = ConvertTo(dir_ / "model", weights, dir_ / "out.gguf");
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(done->file_bytes, fs::file_size(dir_ / "out.gguf"));

  auto checkpoint = Checkpoint(dir_ / "model");
  const GgufFiles files = GgufFiles::Open(dir_ / "out.gguf").value();
  const GgufFamily* family = FindGgufFamily(files.keys()["general.architecture"].get<std::string>(), false);
  ASSERT_NE(family, nullptr);
  uint64_t bytes = 0;
  const Status read = files.ForEachTensor([&](const GgufTensor& t) -> Status {
    const std::vector<float> got = Floats(files.file(t.file), t.offset, t.bytes, *t.type);
    bytes += t.bytes;
    if (t.name == "rope_freqs.weight") {
      EXPECT_EQ(got.size(), 32U);
      EXPECT_EQ(got.front(), 1);
      EXPECT_NEAR(got.back(), 8, 1e-5);
      return {};
    }
    const std::string name = (*PlaceOf(*family, t.name))[0].slot;
    EXPECT_TRUE(checkpoint.contains(name)) << name;
    std::vector<float> want = checkpoint[name];
    const bool matrix = t.rank == 2;
    if (family->paired_heads && (name.find("q_proj") != name.npos || name.find("k_proj") != name.npos))
      want = Paired(want, matrix ? 256 : 1, 64);
    if (!matrix) {
      EXPECT_EQ(t.type->name, "F32") << t.name;
    }
    std::vector<std::byte> blocks(t.bytes);
    QuantizerOf(*t.type).value()(want.data(), static_cast<int64_t>(want.size()), blocks.data());
    DequantizerOf(*t.type).value()(blocks.data(), static_cast<int64_t>(want.size()), want.data());
    EXPECT_EQ(got, want) << t.name << " as " << t.type->name;
    checkpoint.erase(name);
    return {};
  });
  EXPECT_TRUE(read.ok());
  EXPECT_TRUE(checkpoint.empty()) << checkpoint.begin()->first;
  EXPECT_EQ(bytes, done->tensor_bytes);
}

TEST_P(ConvertGguf, TakesTheBytesThatPlanSays) {
  const auto [type, weights] = GetParam();
  WriteRandomWeights(dir_ / "model", Config(type));
  const Result<Converted> done = ConvertTo(dir_ / "model", weights, dir_ / "out.gguf");
  ASSERT_TRUE(done.ok()) << done.error().message;
  // In memory, panels of 16 rows begin at multiples of 64 bytes: that is all that comes to the file's bytes.
  PlanRequest request;
  request.unbounded = true;
  request.tokenizer = false;
  const auto planned = [&](const std::string& model, const std::string& as) {
    request.weights = as;
    const Result<Planned> p = PlanModel(FindModel(model, ModelUse::kPlan).value(), request);
    uint64_t bytes = 0;
    for (uint32_t id = 0; p.ok() && id < p->layout.plan.recipe.size(); ++id)
      if (p->layout.anatomy->at(id).role == Role::kWeight) bytes += p->layout.plan.recipe[id].bytes.n;
    return bytes;
  };
  const uint64_t before = planned(dir_ / "model", weights), after = planned(dir_ / "out.gguf", "auto");
  EXPECT_EQ(before, after);
  const uint64_t rotary = std::string(type) == "llama" ? 32 * 4 : 0, file = done->tensor_bytes - rotary;
  EXPECT_LE(file, before);
  EXPECT_LT(before - file, before / 50);
  const GgufModel again = GgufModel::Open(dir_ / "out.gguf", "").value();
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                          "intermediate_size", "vocab_size", "max_position_embeddings"})
    EXPECT_EQ(again.config()[key], Config(type)[key]) << key;
  EXPECT_EQ(again.config()["tie_word_embeddings"], std::string(type) == "qwen3");
}

// The directory, quantized while it is loaded, and the file hold the same blocks: so the numbers are the same bits.
TEST_P(ConvertGguf, GivesTheLogitsOfTheDirectoryAtThatPrecision) {
  const auto [type, weights] = GetParam();
  WriteRandomWeights(dir_ / "model", Config(type));
  const Result<Converted> done = ConvertTo(dir_ / "model", weights, dir_ / "out.gguf");
  ASSERT_TRUE(done.ok()) << done.error().message;
  const auto logits = [&](const std::string& model, const std::string& as) {
    PlanRequest request;
    request.budget = Bytes{kGiB};
    request.weights = as;
    request.kv = "fp32";
    request.threads = 2;
    request.tokenizer = false;
    const auto engine =
        Engine::Open(PlanModel(FindModel(model, ModelUse::kRun).value(), request).value(), kGoOn).value();
    TextSession session(*engine);
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 40; ++i) ids.push_back(i * 7 % 300);
    EXPECT_TRUE(session.Read(ids, std::atomic<bool>{false}).ok());
    return std::vector<float>(session.logits().begin(), session.logits().end());
  };
  const std::vector<float> from_file = logits(dir_ / "out.gguf", "auto"),
                           from_directory = logits(dir_ / "model", weights);
  ASSERT_EQ(from_file.size(), from_directory.size());
  float largest = 0, worst = 0;
  for (size_t i = 0; i < from_file.size(); ++i) {
    largest = std::max(largest, std::fabs(from_directory[i]));
    worst = std::max(worst, std::fabs(from_file[i] - from_directory[i]));
  }
  EXPECT_GT(largest, 0);
  if (std::string(type) == "llama")  // the file's rotary divisors are rounded to fp32
    EXPECT_LE(worst, 0.02F * largest);
  else
    EXPECT_EQ(worst, 0);
}

TEST(ConvertInt8, RunsAsTheSourceDoesInInt8) {
  TempDir dir;
  WriteRandomWeights(dir / "model", Config("qwen2"));
  const Result<Converted> done = ConvertTo(dir / "model", "int8", dir / "int8");
  ASSERT_TRUE(done.ok()) << done.error().message;
  const auto logits = [&](const std::string& model, const std::string& weights) {
    PlanRequest request;
    request.budget = Bytes{kGiB};
    request.weights = weights;
    request.kv = "fp32";
    request.threads = 2;
    request.tokenizer = false;
    const auto planned = PlanModel(FindModel(model, ModelUse::kRun).value(), request);
    EXPECT_TRUE(planned.ok()) << planned.error().message;
    EXPECT_EQ(NameOf(planned->layout.choice.weights), "int8");
    const auto engine = Engine::Open(PlanModel(FindModel(model, ModelUse::kRun).value(), request).value(), kGoOn);
    EXPECT_TRUE(engine.ok()) << engine.error().message;
    TextSession session(**engine);
    const int32_t ids[] = {1, 5, 17, 40, 2, 99};
    EXPECT_TRUE(session.Read(ids, std::atomic<bool>{false}).ok());
    return std::vector<float>(session.logits().begin(), session.logits().end());
  };
  EXPECT_EQ(logits(dir / "int8", "auto"), logits(dir / "model", "int8"));
  PlanRequest other;
  other.weights = "fp16";
  other.tokenizer = false;
  const auto refused = Engine::Open(PlanModel(FindModel(dir / "int8", ModelUse::kRun).value(), other).value(), kGoOn);
  EXPECT_THAT(refused.error().message, HasSubstr("holds int8 weights"));
}

TEST(ConvertInt8, AWhisperToo) {
  TempDir dir;
  const std::string source = SOTTO_SOURCE_DIR "/models/demo-asr", audio = SOTTO_SOURCE_DIR "/data/samples/noisy.flac";
  const Result<Converted> done = ConvertTo(source, "int8", dir / "int8");
  ASSERT_TRUE(done.ok()) << done.error().message;
  const Ran here = RunSotto({"transcribe", dir / "int8", audio}),
            there = RunSotto({"transcribe", source, audio, "--weights", "int8"});
  EXPECT_EQ(here.code, 0) << here.err;
  EXPECT_EQ(here.out, there.out);
  EXPECT_FALSE(here.out.empty());
}

INSTANTIATE_TEST_SUITE_P(Types, ConvertGguf,
                         testing::Values(std::pair{"llama", "q8_0"}, std::pair{"llama", "q4_0"},
                                         std::pair{"llama", "q4_k_m"}, std::pair{"mistral", "q5_k_m"},
                                         std::pair{"qwen2", "q4_k_m"}, std::pair{"qwen3", "q4_k_m"},
                                         std::pair{"qwen3", "f16"}, std::pair{"llama", "bf16"},
                                         std::pair{"qwen2", "f32"}),
                         [](const auto& info) { return std::string(info.param.first) + "_" + info.param.second; });

TEST(Convert, AGgufFileBecomesAnotherAsItsOriginalDoes) {
  const TempDir dir;
  for (const std::string type : {"llama", "qwen3"}) {
    WriteRandomWeights(dir / type, Config(type));
    const std::string wide = dir / type + ".f32.gguf", direct = dir / type + ".direct.gguf",
                      again = dir / type + ".again.gguf";
    const std::vector<std::array<std::string, 3>> steps = {
        {dir / type, "f32", wide}, {dir / type, "q4_k_m", direct}, {wide, "q4_k_m", again}};
    for (const auto& [from, weights, to] : steps) {
      const Result<Converted> done = ConvertTo(from, weights, to);
      ASSERT_TRUE(done.ok()) << done.error().message;
    }
    std::map<std::string, std::vector<float>> tensors;
    for (const std::string& path : {direct, again}) {
      const GgufFiles files = GgufFiles::Open(path).value();
      const Status read = files.ForEachTensor([&](const GgufTensor& t) -> Status {
        const std::vector<float> got = Floats(files.file(t.file), t.offset, t.bytes, *t.type);
        const auto [it, first] = tensors.emplace(t.name, got);
        if (!first && t.name != "rope_freqs.weight") {
          EXPECT_EQ(it->second, got) << t.name;
        }
        return {};
      });
      EXPECT_TRUE(read.ok());
    }
    EXPECT_EQ(GgufFiles::Open(again).value().tensors(), tensors.size());
  }
}

class ConvertFiles : public testing::Test {
 protected:
  void SetUp() override { WriteRandomWeights(dir_ / "model", Config("qwen2")); }
  std::vector<std::string> Left() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_.path())) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  TempDir dir_;
};

TEST_F(ConvertFiles, ReplaceNothingUnlessForced) {
  std::ofstream(dir_ / "out.gguf") << "mine";
  const Result<Converted> refused = ConvertTo(dir_ / "model", "q8_0", dir_ / "out.gguf");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kUsage);
  EXPECT_THAT(refused.error().message, HasSubstr("--force"));
  EXPECT_EQ(fs::file_size(dir_ / "out.gguf"), 4U);
  ASSERT_TRUE(ConvertTo(dir_ / "model", "q8_0", dir_ / "out.gguf", true).ok());
  EXPECT_TRUE(GgufFiles::Open(dir_ / "out.gguf").ok());
  EXPECT_EQ(ConvertTo(dir_ / "model", "int8", dir_ / "model", true).error().code, Code::kUsage);
}

TEST_F(ConvertFiles, AreNotThereAfterAnInterruption) {
  for (const char* out : {"out.gguf", "out"})
    for (const uint64_t least : {uint64_t{0}, uint64_t{300'000}}) {
      const Result<Converted> r = ConvertTo(dir_ / "model", std::string(out) == "out" ? "int8" : "q4_k_m", dir_ / out,
                                            false, [&](uint64_t done, uint64_t) { return done < least; });
      ASSERT_FALSE(r.ok());
      EXPECT_EQ(r.error().code, Code::kInterrupted);
      EXPECT_EQ(Left(), std::vector<std::string>{"model"});
    }
}

TEST_F(ConvertFiles, AreNotThereOnAFullDisk) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  for (const char* out : {"out.gguf", "out"}) {
    rlimit small = before;
    small.rlim_cur = 200'000;
    setrlimit(RLIMIT_FSIZE, &small);
    const Result<Converted> r = ConvertTo(dir_ / "model", std::string(out) == "out" ? "int8" : "q8_0", dir_ / out);
    setrlimit(RLIMIT_FSIZE, &before);
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error().code, Code::kFailed);
    EXPECT_THAT(r.error().message, HasSubstr("nothing was left behind"));
    EXPECT_EQ(Left(), std::vector<std::string>{"model"});
  }
}

TEST_F(ConvertFiles, WithNumbersThatAreNotFiniteAreRefusedByTheTensorsName) {
  std::fstream file(dir_ / "model/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  file.seekp(-4, std::ios::end);
  file.write(reinterpret_cast<const char*>(&nan), 4);
  file.close();
  const Result<Converted> r = ConvertTo(dir_ / "model", "q4_k_m", dir_ / "out.gguf");
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Code::kBadModel);
  EXPECT_THAT(r.error().message, HasSubstr("lm_head.weight"));
  EXPECT_EQ(Left(), std::vector<std::string>{"model"});
}

TEST_F(ConvertFiles, ThatCannotBeAreSentences) {
  const std::string asr = SOTTO_SOURCE_DIR "/models/demo-asr";
  const struct {
    std::string model, weights, out;
    Code code;
    std::string says;
  } cases[] = {{dir_ / "model", "q9", "x.gguf", Code::kUsage, "q9"},
               {dir_ / "model", "int8", "x.gguf", Code::kUsage, "q8_0"},
               {dir_ / "model", "q8_0", "x", Code::kUsage, ".gguf"},
               {asr, "q8_0", dir_ / "x.gguf", Code::kBadModel, "whisper"},
               {dir_ / "model", "q8_0", dir_ / "none/x.gguf", Code::kFailed, "folder"}};
  for (const auto& c : cases) {
    const Result<Converted> r = ConvertTo(c.model, c.weights, c.out);
    ASSERT_FALSE(r.ok()) << c.says;
    EXPECT_EQ(r.error().code, c.code) << r.error().message;
    EXPECT_THAT(r.error().message, HasSubstr(c.says));
  }
}

// A matrix of 64 MiB passes through a process that never has half of it.
TEST(Convert, TakesLessMemoryThanTwiceTheLargestTensor) {
  const TempDir dir;
  Json config = Config("qwen2");
  config["vocab_size"] = 65536;
  WriteRandomWeights(dir / "model", config);
  const uint64_t largest = uint64_t{65536} * 256 * 4, process = 16 * kMiB;
  for (const auto& [weights, out] : {std::pair{"q8_0", "out.gguf"}, std::pair{"int8", "out"}}) {
    const Ran ran = RunSotto({"convert", dir / "model", "--weights", weights, "-o", dir / out, "--json"});
    ASSERT_EQ(ran.code, 0) << ran.err << ran.out;
    const Json said = Json::parse(ran.out);
    std::printf("%s: %.1f MiB at most, largest tensor %.1f MiB\n", weights,
                said["peak_bytes"].get<double>() / static_cast<double>(kMiB),
                static_cast<double>(largest) / static_cast<double>(kMiB));
    EXPECT_LT(said["peak_bytes"].get<uint64_t>(), largest / 2 + process);
  }
}

TEST(Convert, EndsCleanlyOnASignal) {
  const TempDir dir;
  Json config = Config("qwen2");
  config["vocab_size"] = 65536;
  WriteRandomWeights(dir / "model", config);
  RunOptions options;
  options.interrupt_after_ms = 60;
  const Ran ran = RunSotto({"convert", dir / "model", "--weights", "q3_k_l", "-o", dir / "out.gguf"}, options);
  EXPECT_EQ(ran.code, 130) << ran.err;
  EXPECT_FALSE(fs::exists(dir / "out.gguf"));
  EXPECT_FALSE(fs::exists(dir / "out.gguf.partial"));
}

}  // namespace
}  // namespace sotto
