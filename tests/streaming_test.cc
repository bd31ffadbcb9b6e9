// Layers that are read from the disk for every pass: the same numbers, in the memory that the plan says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/audio_prompt.h"
#include "engine/pack/pack.h"
#include "engine/report.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kModels = SOTTO_SOURCE_DIR "/models/";
constexpr int kLayers = 6;

// A language model of six layers, F32; a copy of it packed.
struct Models {
  TempDir dir;
  std::string plain = dir / "lm", packed = dir / "packed";
  Models() {
    WriteRandomWeights(plain, {{"model_type", "llama"},
                               {"vocab_size", 512},
                               {"hidden_size", 256},
                               {"intermediate_size", 768},
                               {"num_hidden_layers", kLayers},
                               {"num_attention_heads", 4},
                               {"max_position_embeddings", 512}});
    fs::copy(kModels + "demo-lm/tokenizer.json", plain + "/tokenizer.json");
    PackRequest request{.bits = 4.5, .out = packed, .threads = 2};
    Must(Pack(Must(FindModel(plain, ModelUse::kRun)), request, [](uint64_t, uint64_t) { return true; }));
  }
};
const Models& Shared() {
  static const Models models;
  return models;
}

PlanRequest Request(const std::string& weights, const std::string& resident, bool direct = false) {
  PlanRequest request = SmallRequest(weights, "fp32");
  request.tokenizer = false;
  request.resident = resident;
  request.direct = direct;
  return request;
}

std::vector<int32_t> SomeIds() {
  std::vector<int32_t> ids;
  for (int i = 0; i < 9; ++i) ids.push_back(i * 37 % 512);
  return ids;
}

TEST(Streaming, LogitsAreTheSameWhateverIsResident) {
  const std::vector<int32_t> ids = SomeIds();
  for (const auto& [model, weights] : {std::pair(Shared().plain, "fp32"),
                                       {Shared().plain, "bf16"},
                                       {Shared().plain, "int8"},
                                       {Shared().plain, "q8_0"},
                                       {Shared().plain, "q4_0"},
                                       {Shared().packed, "auto"}}) {
    const auto all = OpenEngine(model, Request(weights, "all"));
    const auto whole = LogitRows(*all, ids, ids.size()), single = LogitRows(*all, ids, 1);
    for (const int resident : {0, 1, 3})
      for (const bool direct : {false, true}) {
        if (direct && resident == 1) continue;
        const auto engine = OpenEngine(model, Request(weights, std::to_string(resident), direct));
        EXPECT_EQ(LogitRows(*engine, ids, 1), single) << weights << ", resident " << resident;
        EXPECT_EQ(LogitRows(*engine, ids, ids.size()), whole) << weights << ", resident " << resident;
        const Layout& l = engine->layout();
        EXPECT_EQ(l.streamed.size(), static_cast<size_t>(kLayers - resident));
        // Every pass reads them once; at most the next one's first places are read ahead.
        const uint64_t pass = l.StreamedBytes(Stack::kDecoder), passes = ids.size() + 1;
        EXPECT_GE(engine->stream()->bytes_read(), passes * pass);
        EXPECT_LE(engine->stream()->bytes_read(), (passes + 1) * pass);
      }
  }
}

TEST(Streaming, ThePlanIsSmallerByWhatIsNotResident) {
  const auto plan = [](const std::string& resident) {
    return Must(PlanModel(Must(FindModel(Shared().plain, ModelUse::kRun)), Request("bf16", resident)));
  };
  const Planned all = plan("all"), none = plan("0"), two = plan("4");
  const uint64_t layer = none.layout.streamed.at(0).bytes;
  EXPECT_EQ(layer, (4 * 256 * 256 + 3 * 256 * 768) * 2U);
  EXPECT_EQ(PeakSums(all.layout).weights - PeakSums(none.layout).weights, (kLayers - kRingPlaces) * layer);
  EXPECT_TRUE(two.layout.streamed.empty());  // a ring for two layers would be as large as they are
  // Decoder layers that are streamed stand apart.
  const Planned half = plan("3");
  std::vector<int> streamed;
  for (const StackLayer& l : half.layout.streamed) streamed.push_back(l.layer);
  EXPECT_EQ(streamed, (std::vector<int>{0, 2, 4}));
  EXPECT_FALSE(PlanModel(Must(FindModel(Shared().plain, ModelUse::kRun)), Request("bf16", "7")).ok());
  EXPECT_FALSE(PlanModel(Must(FindModel(Shared().plain, ModelUse::kRun)), Request("bf16", "some")).ok());
}

TEST(Streaming, AutoKeepsAsManyAsFit) {
  PlanRequest request = Request("bf16", "auto");
  const ModelDir dir = Must(FindModel(Shared().plain, ModelUse::kRun));
  const Bytes most = Must(PlanModel(dir, Request("bf16", "all"))).layout.plan.total;
  const Bytes least = Must(PlanModel(dir, Request("bf16", "0"))).layout.plan.total;
  size_t before = 99;
  for (uint64_t budget = least.n; budget < most.n + 300'000; budget += 250'000) {
    request.budget = Bytes{budget};
    const Planned p = Must(PlanModel(dir, request));
    EXPECT_TRUE(p.fits);
    EXPECT_LE(p.layout.plan.total.n, budget);
    EXPECT_LE(p.layout.streamed.size(), before);
    EXPECT_EQ(p.smallest, least);
    before = p.layout.streamed.size();
  }
  EXPECT_EQ(before, 0U);
  request.budget = Bytes{least.n - 1};
  EXPECT_FALSE(Must(PlanModel(dir, request)).fits);
}

TEST(Streaming, EncoderLayersGoFirst) {
  const Planned p = Must(PlanModel(Must(FindModel(kModels + "demo-audio-lm", ModelUse::kRun)), [] {
    PlanRequest request = SmallRequest();
    request.resident = "4";
    return request;
  }()));
  for (const StackLayer& l : p.layout.streamed) EXPECT_EQ(l.stack, Stack::kEncoder);
  EXPECT_FALSE(p.layout.streamed.empty());
  const std::vector<std::string> question = {
      "run",   kModels + "demo-audio-lm", "Which sound is heard?", "--audio", SOTTO_SOURCE_DIR "/data/sounds/bell.flac",
      "--json"};
  auto streamed = question;
  streamed.insert(streamed.end(), {"--resident", "0"});
  const Ran a = RunSotto(question), b = RunSotto(streamed);
  ASSERT_EQ(b.code, 0) << b.err;
  const Json plain = Must(ParseJson(a.out, "a", Code::kFailed)), from_disk = Must(ParseJson(b.out, "b", Code::kFailed));
  EXPECT_EQ(plain["text"], from_disk["text"]);
  EXPECT_LT(from_disk["ledger"]["planned_bytes"], plain["ledger"]["planned_bytes"]);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(Streaming, TheSmallestBudgetWorksAndOneByteLessIsRefused) {
  const std::string& model = Shared().packed;
  fs::copy(kModels + "demo-lm/tokenizer.json", model + "/tokenizer.json", fs::copy_options::skip_existing);
  const auto run = [&](const std::string& memory, const std::string& resident) {
    return RunSotto({"run", model, "a", "--max-tokens", "5", "--json", "--memory", memory, "--resident", resident});
  };
  const Json refusal = Must(ParseJson(run("1MiB", "auto").out, "refusal", Code::kFailed))["error"];
  const auto least = refusal["smallest_budget_bytes"].get<uint64_t>();
  const Ran fits = run(std::to_string(least), "auto"), short_of = run(std::to_string(least - 1), "auto");
  ASSERT_EQ(fits.code, 0) << fits.err;
  EXPECT_LE(Must(ParseJson(fits.out, "run", Code::kFailed))["ledger"]["peak_bytes"].get<uint64_t>(), least);
  EXPECT_EQ(short_of.code, 5);
  // Without it more is needed, and the refusal names both.
  const Ran all = run(std::to_string(least), "all");
  EXPECT_EQ(all.code, 5);
  EXPECT_THAT(all.out, HasSubstr("or " + std::to_string(least) + " with --resident auto"));
}
#endif

TEST(Streaming, AFileThatChangesMeanwhileIsAnError) {
  for (const std::string& from : {Shared().packed, Shared().plain}) {
    const TempDir dir;
    const std::string copy = dir / "copy", file = copy + "/model.safetensors";
    fs::copy(from, copy, fs::copy_options::recursive);
    const auto engine = OpenEngine(copy, Request(from == Shared().packed ? "auto" : "fp32", "0"));
    TextSession session(*engine);
    const std::vector<int32_t> ids = SomeIds();
    ASSERT_TRUE(session.Read(ids, kGoOn).ok());
    if (from == Shared().packed) {  // damaged in all layers
      std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
      for (uint64_t at = fs::file_size(file) / 8; at < fs::file_size(file); at += 5000) {
        f.seekp(static_cast<std::streamoff>(at));
        f.put('\x5A');
        f.put('\xA5');
      }
    } else {
      fs::resize_file(file, fs::file_size(file) / 3);
    }
    Status read;
    for (int i = 0; i < 3 && read.ok(); ++i) read = session.Read(std::span(ids).first(1), kGoOn);
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().code, Code::kBadModel);
    EXPECT_THAT(read.error().message, HasSubstr(file));
    EXPECT_FALSE(session.Read(std::span(ids).first(1), kGoOn).ok());  // and stays one
  }
}

}  // namespace
}  // namespace sotto
