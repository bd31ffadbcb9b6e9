// Other engines by their own rules: transformers' caches as measured tensor by tensor (tests/golden/cache_bytes.json), figures
// that vLLM, llama.cpp and whisper.cpp printed (docs/engines_sources.md), and refusals.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/json.h"
#include "engine/foreign/foreign.h"
#include "process.h"

namespace sotto {
namespace {

using Settings = std::vector<std::string>;
constexpr double kGiBytes = 1 << 30, kMiBytes = 1 << 20;

Result<Planned> PlanOf(const std::string& what, PlanRequest request = {}) {
  request.unbounded = true;
  request.threads = 2;
  return PlanModel(TRY(FindModel(what, ModelUse::kPlan)), request);
}

uint64_t BytesOf(const ForeignPlan& plan, std::string_view name, Moment moment = Moment::kAlways) {
  uint64_t sum = 0;
  for (const ForeignTerm& t : plan.terms)
    if (t.name == name && t.moment == moment) sum += t.bytes.value_or(0);
  return sum;
}

const ForeignTerm* Term(const ForeignPlan& plan, std::string_view name) {
  for (const ForeignTerm& t : plan.terms)
    if (t.name == name) return &t;
  return nullptr;
}

class Engines : public testing::Test {
 protected:
  void SetUp() override { setenv("HF_HOME", "/nonexistent", 1); }  // the catalogue alone
  void TearDown() override { unsetenv("HF_HOME"); }

  static ForeignPlan In(const std::string& engine, const std::string& model, const PlanRequest& request = {},
                        const Settings& settings = {}, std::optional<Bytes> memory = std::nullopt) {
    const Result<Planned> planned = PlanOf(model, request);
    if (!planned.ok()) {
      ADD_FAILURE() << model << ": " << planned.error().message;
      return {};
    }
    const Result<ForeignPlan> plan = PlanForeign(*planned, {engine, settings, memory});
    if (!plan.ok()) {
      ADD_FAILURE() << engine << ", " << model << ": " << plan.error().message;
      return {};
    }
    return *plan;
  }

  static void ExpectUsage(const std::string& engine, const std::string& model, const PlanRequest& request,
                          const Settings& settings, const std::string& words) {
    const Result<Planned> planned = PlanOf(model, request);
    ASSERT_TRUE(planned.ok()) << planned.error().message;
    const Result<ForeignPlan> plan = PlanForeign(*planned, {engine, settings, std::nullopt});
    ASSERT_FALSE(plan.ok()) << engine << ", " << model;
    EXPECT_EQ(plan.error().code, Code::kUsage);
    EXPECT_THAT(plan.error().message, testing::HasSubstr(words));
  }

  std::string Write(const std::string& name, const Json& config) const {
    std::string path = dir_ / (name + ".json");
    std::ofstream(path) << config.dump();
    return path;
  }
  TempDir dir_;
};

// The config to plan for a model of the golden file. Four can't be planned as the file has them:
// - gemma3n_text is the text part of Gemma-3n and no model of its own: it replaces that part;
// - phi4_multimodal is transformers' rewriting of a config that is published as phi4mm: its text keys replace those;
// - whisper's static cache was measured with more room than its 40 positions, which have no part in it;
// - gemma3n as given leaves out lists of numbers, which class_defaults.inc doesn't hold; the saved config has them.
Json Plannable(const Json& models, const std::string& name) {
  Json config = models[name]["given"];
  if (name == "gemma3n") config = models[name]["config"];
  if (name == "whisper") config["max_target_positions"] = 80;
  if (name == "gemma3n_text") {
    config = models["gemma3n"]["config"];
    config["text_config"] = models[name]["config"];
  }
  if (name == "phi4_multimodal") {
    const std::string published = SOTTO_SOURCE_DIR "/catalog/microsoft/Phi-4-multimodal-instruct.json";
    const Json given = config;
    config = ReadJson(published, Code::kBadInput).value()["config"];
    for (const char* key : {"vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads",
                            "num_hidden_layers", "intermediate_size", "max_position_embeddings", "sliding_window"})
      config[key] = given[key];
  }
  return config;
}

TEST_F(Engines, TransformersCachesAreThoseThatWereMeasured) {
  const Json golden = ReadJson(SOTTO_SOURCE_DIR "/tests/golden/cache_bytes.json", Code::kBadInput).value();
  int cases = 0, fixed = 0, own = 0;
  for (const Json& c : golden["cases"]) {
    const std::string name = c["name"], model = c["model"], dtype = c["dtype"];
    const Json config = Plannable(golden["models"], model);
    const bool is_static = c.contains("max_cache_len");
    PlanRequest request;
    request.weights = request.kv = dtype == "float32" ? "fp32" : dtype == "float16" ? "fp16" : "bf16";
    request.batch = c["batch"];
    request.beam = c["beams"];
    request.context = is_static ? c["max_cache_len"] : c["tokens"];
    request.audio_seconds = 0.05;
    const Result<Planned> planned = PlanOf(Write(model, config), request);
    ASSERT_TRUE(planned.ok()) << name << ": " << planned.error().message;
    Settings settings = {"prompt=" + c["prompt"].dump()};
    if (is_static) settings.push_back("cache=static");
    const Result<ForeignPlan> plan = PlanForeign(*planned, {"transformers", settings, std::nullopt});
    ASSERT_TRUE(plan.ok()) << name << ": " << plan.error().message;
    const auto bytes = [&](const char* at, const char* which) {
      return (at == nullptr ? c : c[at])[which].get<uint64_t>();
    };
    if (is_static) {
      EXPECT_EQ(BytesOf(*plan, "KV cache"), bytes(nullptr, "self_bytes")) << name;
      EXPECT_EQ(BytesOf(*plan, "KV cache"), bytes("prefill", "self_storage_bytes")) << name;
      ++fixed;
    } else {
      for (const Moment m : {Moment::kPrefill, Moment::kStep}) {
        const char* at = m == Moment::kPrefill ? "prefill" : nullptr;
        const uint64_t kept =
            BytesOf(*plan, m == Moment::kPrefill ? "KV cache after the prompt" : "KV cache at the end", m);
        EXPECT_EQ(kept, bytes(at, "self_bytes")) << name;
        EXPECT_EQ(kept + BytesOf(*plan, "  behind sliding views", m), bytes(at, "self_storage_bytes")) << name;
      }
    }
    EXPECT_EQ(BytesOf(*plan, "cross-attention cache"), bytes(nullptr, "cross_bytes")) << name;

    // sotto's own slots. Cross-attention is kept once for all beams, and a sliding layer holds the rows that come at once, too.
    const ModelInfo& info = planned->layout.model->info();
    const int64_t rows = request.batch * request.beam, at_once = std::max(rows, std::min<int64_t>(128, info.context));
    uint64_t want = 0;
    for (const KvLayer& l : info.kv_layers)
      want +=
          static_cast<uint64_t>(rows * l.Elements() * static_cast<int64_t>(SizeOf(planned->layout.choice.kv->dtype)) *
                                (l.window == 0 ? info.context : std::min(info.context, l.window + at_once - 1)));
    uint64_t self = 0, cross = 0;  // before a slot's bytes are rounded up to 64
    for (const Slot& slot : planned->layout.anatomy->slots())
      if (slot.role == Role::kKv)
        (slot.component == Component::kCrossAttention ? cross : self) += slot.Elements() * SizeOf(slot.dtype);
    EXPECT_EQ(self, want) << name;
    EXPECT_EQ(cross * static_cast<uint64_t>(request.beam), bytes(nullptr, "cross_bytes")) << name;
    const bool slides = std::any_of(info.kv_layers.begin(), info.kv_layers.end(), [](auto& l) { return l.window > 0; });
    if (!slides) {
      EXPECT_EQ(want, bytes(nullptr, "self_bytes")) << name;
      ++own;
    }
    ++cases;
  }
  EXPECT_EQ(cases, 310);
  EXPECT_EQ(fixed, 56);
  EXPECT_GT(own, 150);
}

TEST_F(Engines, EveryTermIsWrittenInTheSources) {
  std::stringstream text;
  text << std::ifstream(SOTTO_SOURCE_DIR "/docs/engines_sources.md").rdbuf();
  int terms = 0;
  for (const char* engine : kForeignEngines)
    for (const char* model : {"openai/whisper-large-v3", "Qwen/Qwen2-Audio-7B", "google/gemma-3-27b-it",
                              "google/gemma-2-2b", "google/gemma-3n-E2B-it", "deepseek-ai/DeepSeek-V3",
                              "moonshotai/Kimi-Audio-7B-Instruct", "Qwen/Qwen2.5-Omni-7B"})
      for (const bool other : {false, true}) {
        const std::string name = engine;
        const bool whisper = std::string(model).starts_with("openai");
        PlanRequest request;
        Settings settings;
        if (other && name == "transformers") settings = {"attention=eager", "cache=static"}, request.beam = 2;
        if (other && name == "vllm") settings = {"enforce_eager=true"}, request.tp = 2;
        if (other && name == "llama.cpp" && !whisper) settings = {"n_gpu_layers=0"}, request.weights = "q4_0";
        const ForeignPlan plan = In(name, model, request, settings, Bytes{uint64_t{4} << 40});
        for (const ForeignTerm& t : plan.terms) {
          EXPECT_FALSE(t.rule.empty()) << engine << ", " << t.name;
          EXPECT_GE(t.source.size(), 8U) << engine << ", " << t.name;
          EXPECT_NE(text.str().find(t.source), std::string::npos) << t.source << ": " << engine << ", " << t.name;
          ++terms;
        }
        EXPECT_GT(plan.known_bytes, 0U);
        EXPECT_FALSE(plan.Refused());
      }
  EXPECT_GT(terms, 300);
}

TEST_F(Engines, TransformersTransientsAndWeights) {
  PlanRequest request;
  request.context = 1024;
  const ForeignPlan audio = In("transformers", "Qwen/Qwen2-Audio-7B", request);
  EXPECT_EQ(BytesOf(audio, "weights"), 16'794'189'824U);
  EXPECT_EQ(BytesOf(audio, "mel"), 1'536'000U);
  EXPECT_EQ(BytesOf(audio, "KV cache at the end", Moment::kStep), 1024U * 524'288);
  // No logits_to_keep: 1,023 positions of 156,032 in bf16, and one in fp32.
  EXPECT_EQ(BytesOf(audio, "logits, and the last in fp32", Moment::kPrefill), 156'032U * (1023 * 2 + 4));
  EXPECT_EQ(BytesOf(audio, "logits, and the last in fp32", Moment::kStep), 156'032U * (2 + 4));
  EXPECT_FALSE(audio.total_bytes);

  // The worst moment: the prompt, with the largest of its transients.
  const uint64_t prompt = 1023U * 524'288 + 156'032U * (1023 * 2 + 4);
  EXPECT_EQ(audio.known_bytes, 16'794'189'824U + 1'536'000 + prompt);
  EXPECT_EQ(audio.known_bytes - audio.known_on_device, 1'536'000U);

  const ForeignPlan eager = In("transformers", "meta-llama/Llama-3.1-8B", request, {"attention=eager", "prompt=1024"});
  EXPECT_EQ(BytesOf(eager, "attention scores of a layer", Moment::kPrefill), 32ULL * 1024 * 1024 * (2 + 4));
  EXPECT_EQ(BytesOf(eager, "K and V repeated for all heads", Moment::kPrefill), 1024ULL * 32 * 256 * 2);
  const ForeignPlan sdpa = In("transformers", "meta-llama/Llama-3.1-8B", request);
  EXPECT_EQ(Term(sdpa, "attention scores of a layer"), nullptr);
  EXPECT_EQ(Term(sdpa, "K and V repeated for all heads"), nullptr);

  request.context = 448;
  request.beam = 5;
  const ForeignPlan whisper = In("transformers", "openai/whisper-large-v3", request, {"attention=eager"});
  EXPECT_EQ(BytesOf(whisper, "cross-attention cache"), 5U * 245'760'000);  // 2 x 32 x 1,500 x 1,280 x 2 a beam
  EXPECT_EQ(BytesOf(whisper, "scores of an encoder layer", Moment::kEncode), 20ULL * 1500 * 1500 * 4);

  // DeepSeek-V3 expands K and V of all positions, one layer at a time.
  const ForeignPlan latent = In("transformers", "deepseek-ai/DeepSeek-V3", {});
  EXPECT_EQ(BytesOf(latent, "expanded K and V of a layer", Moment::kStep), 4096ULL * 128 * (192 + 128) * 2);
}

TEST_F(Engines, VllmPagesBlocksAndGroups) {
  PlanRequest request;
  request.context = 8192;
  // vllm#10517: bf16, 16 tokens a block.
  for (const auto& [pool, blocks] : {std::pair{3.81, 1952}, std::pair{2.89, 1478}}) {
    const ForeignPlan llama = In("vllm", "meta-llama/Llama-3.1-8B-Instruct", request,
                                 {"kv_cache_memory_bytes=" + std::to_string(static_cast<uint64_t>(pool * kGiBytes))});
    const ForeignTerm* cache = Term(llama, "KV cache pool");
    ASSERT_NE(cache, nullptr);
    int printed = 0;
    ASSERT_EQ(sscanf(cache->rule.c_str(), "as told: %d blocks of 16", &printed), 1) << cache->rule;
    EXPECT_NEAR(printed, blocks, 0.005 * kGiBytes / (16 * 131'072) + 1) << "two decimals were printed";
    EXPECT_FALSE(llama.total_bytes);
  }

  // The page of the hybrid manager's design, case 3: 52 sliding and 10 full layers are 6 and 1 groups of 10.
  const ForeignPlan gemma = In("vllm", "google/gemma-3-27b-it", request);
  const ForeignTerm* kv = Term(gemma, "KV cache of the requests");
  ASSERT_NE(kv, nullptr);
  EXPECT_THAT(kv->rule, testing::HasSubstr("1 full and 6 sliding groups of 10 layers"));
  const uint64_t page = 16ULL * 16 * 256 * 2, full = 8192 / 16, sliding = (1024 - 1 + 2048 + 15) / 16 + 1;
  EXPECT_EQ(*kv->bytes, (full + 6 * sliding) * 10 * page);
  const ForeignPlan off = In("vllm", "google/gemma-3-27b-it", request, {"disable_hybrid_kv_cache_manager=true"});
  EXPECT_EQ(BytesOf(off, "KV cache of the requests"), full * 62 * page);

  // Whisper: 94 blocks for 1,500 positions.
  request.context = 448;
  const ForeignPlan whisper = In("vllm", "openai/whisper-large-v3", request);
  EXPECT_THAT(Term(whisper, "cross-attention blocks")->rule, testing::HasSubstr("94 blocks for 1500 positions"));
  EXPECT_EQ(BytesOf(whisper, "cross-attention blocks"), 94ULL * 16 * 32 * 2 * 1280 * 2);
  EXPECT_EQ(BytesOf(whisper, "KV cache of the requests"), 28ULL * 16 * 32 * 2 * 1280 * 2);
  // 51,866 words are padded to 51,904: 38 rows.
  EXPECT_EQ(BytesOf(whisper, "vocabulary padding"), 38U * 1280 * 2);

  // Latent attention: 576 numbers, or 656 bytes; one "head", which every rank keeps.
  request.context = 4096;
  for (const int64_t ranks : {1, 8}) {
    request.tp = ranks;
    const ForeignPlan latent = In("vllm", "deepseek-ai/DeepSeek-V3", request);
    EXPECT_EQ(BytesOf(latent, "KV cache of the requests"), 4096ULL * 61 * 576 * 2) << ranks;
    const ForeignPlan packed = In("vllm", "deepseek-ai/DeepSeek-V3", request, {"kv_cache_dtype=fp8_ds_mla"});
    EXPECT_EQ(BytesOf(packed, "KV cache of the requests"), 4096ULL * 61 * 656) << ranks;
  }

  // Eight key heads: a rank of 2 has four, a rank of 16 a copy of one.
  for (const auto& [ranks, heads] : {std::pair{1, 8}, std::pair{2, 4}, std::pair{8, 1}, std::pair{16, 1}}) {
    request.tp = ranks;
    EXPECT_EQ(BytesOf(In("vllm", "meta-llama/Llama-3.1-8B", request), "KV cache of the requests"),
              4096ULL * 32 * 2 * 128 * 2 * static_cast<uint64_t>(heads))
        << ranks;
  }
}

TEST_F(Engines, VllmTakesItsShareOfTheDevice) {
  PlanRequest request;
  request.context = 4096;
  const Bytes device{24 * kGiB};
  const ForeignPlan plan = In("vllm", "Qwen/Qwen2-Audio-7B", request, {}, device);
  const auto requested = static_cast<uint64_t>(std::ceil(24.0 * kGiBytes * 0.92));
  EXPECT_EQ(plan.total_bytes, requested);
  const ForeignTerm* pool = Term(plan, "KV cache pool");
  ASSERT_NE(pool, nullptr);
  EXPECT_FALSE(pool->bytes) << "the profiling run's peak is unknown";
  const uint64_t weights = 16'794'189'824U;  // 156,032 words are a multiple of 64
  EXPECT_EQ(pool->at_most, requested - weights);
  EXPECT_THAT(pool->rule,
              testing::HasSubstr(fmt::format("{} blocks of 16, {} tokens", (requested - weights) / 8'388'608,
                                             (requested - weights) / 8'388'608 * 16)));
  EXPECT_FALSE(plan.Refused());
  // A device that the weights alone fill, and one that holds weights but no request.
  for (const uint64_t bytes : {weights, weights + 1000 * kMiB}) {
    const ForeignPlan small = In("vllm", "Qwen/Qwen2-Audio-7B", request, {"gpu_memory_utilization=1"}, Bytes{bytes});
    EXPECT_TRUE(small.Refused()) << bytes;
    EXPECT_GT(small.known_on_device, bytes);
  }
  EXPECT_THAT(Term(In("vllm", "Qwen/Qwen2-Audio-7B", request, {}, Bytes{80 * kGiB}), "profiling run")->rule,
              testing::HasSubstr("8192 dummy tokens"));
}

TEST_F(Engines, LlamaCppCellsAreThoseThatItPrints) {
  // Gemma-3-270m: 18 layers of one head of 256, windows of 512 (unsloth#7530).
  const Json tiny = {{"model_type", "gemma3_text"}, {"vocab_size", 262'144},     {"hidden_size", 640},
                     {"num_attention_heads", 4},    {"num_key_value_heads", 1},  {"head_dim", 256},
                     {"num_hidden_layers", 18},     {"intermediate_size", 2048}, {"sliding_window", 512}};
  const std::string path = Write("gemma-3-270m", tiny);
  PlanRequest request;
  request.context = 1024;
  for (const auto& [slots, mib] : {std::pair{3, 27}, std::pair{4, 18}}) {
    const ForeignPlan plan = In("llama.cpp", path, request, {"n_seq_max=" + std::to_string(slots)});
    EXPECT_EQ(BytesOf(plan, "KV cache") + BytesOf(plan, "KV cache, sliding layers"), static_cast<uint64_t>(mib) * kMiB);
  }

  request.context = 8192;
  const Settings server = {"n_seq_max=4", "kv_unified=true"};
  const ForeignPlan gemma = In("llama.cpp", "google/gemma-2-2b", request, server);
  EXPECT_EQ(BytesOf(gemma, "KV cache"), 416 * kMiB);
  EXPECT_EQ(BytesOf(gemma, "KV cache, sliding layers"), 416 * kMiB);
  EXPECT_NEAR(static_cast<double>(BytesOf(gemma, "output buffer")) / kMiBytes, 3.91, 0.005);
  EXPECT_LE(BytesOf(gemma, "logits in the compute buffer"), 509 * kMiB);
  EXPECT_GE(BytesOf(gemma, "logits in the compute buffer"), 490 * kMiB);
  // 4 x 1,024 + 512 cells in four unified slots of Gemma-3; swa_full: all of them.
  request.context = 32768;
  EXPECT_THAT(Term(In("llama.cpp", "google/gemma-3-4b-it", request, server), "KV cache, sliding layers")->rule,
              testing::HasSubstr("1 stream of 4608 cells"));
  EXPECT_THAT(
      Term(In("llama.cpp", "google/gemma-3-4b-it", request, {"swa_full=true"}), "KV cache, sliding layers")->rule,
      testing::HasSubstr("1 stream of 32768 cells"));
  // Mistral's windows are not used; twenty layers of Gemma-3n have a cache, and every fifth is full.
  EXPECT_EQ(Term(In("llama.cpp", "mistralai/Mistral-7B-v0.1", request), "KV cache, sliding layers"), nullptr);
  EXPECT_THAT(Term(In("llama.cpp", "google/gemma-3n-E4B-it", request), "KV cache")->rule,
              testing::HasSubstr("4 layers"));

  request.context = 1000;  // padded to 1,024
  EXPECT_EQ(BytesOf(In("llama.cpp", "Qwen/Qwen2-Audio-7B", request), "KV cache"), 1024U * 524'288);
  EXPECT_EQ(
      BytesOf(In("llama.cpp", "Qwen/Qwen2-Audio-7B", request, {"cache_type_k=q8_0", "cache_type_v=q8_0"}), "KV cache"),
      1024U * 524'288 / 64 * 34);
  EXPECT_EQ(BytesOf(In("llama.cpp", "deepseek-ai/DeepSeek-V3", request), "KV cache"), 1024ULL * 61 * 576 * 2);

  // A tied head is a second copy of the embedding, on the device only.
  request.weights = "q4_0";
  const uint64_t embedding = 256'000ULL * 2304 / 32 * 18;
  const ForeignPlan device = In("llama.cpp", "google/gemma-2-2b", request);
  EXPECT_EQ(BytesOf(device, "token embedding"), embedding);
  EXPECT_EQ(BytesOf(device, "output (tied)"), embedding);
  const ForeignPlan host = In("llama.cpp", "google/gemma-2-2b", request, {"n_gpu_layers=0"});
  EXPECT_EQ(Term(host, "output (tied)"), nullptr);
  EXPECT_EQ(host.known_on_device, 0U);
  EXPECT_FALSE(In("llama.cpp", "google/gemma-2-2b", request, {"n_gpu_layers=0"}, Bytes{host.known_bytes}).Refused());
  EXPECT_TRUE(In("llama.cpp", "google/gemma-2-2b", request, {"n_gpu_layers=0"}, Bytes{host.known_bytes - 1}).Refused());
  // Rows of 2,304 are whole blocks of 256, those of Qwen2-0.5B (896) are not: Q4_K falls back to Q5_0.
  request.weights = "q4_k";
  EXPECT_EQ(BytesOf(In("llama.cpp", "google/gemma-2-2b", request), "token embedding"), 256'000ULL * 2304 / 256 * 144);
  EXPECT_EQ(BytesOf(In("llama.cpp", "Qwen/Qwen2-0.5B", request), "token embedding"), 151'936ULL * 896 / 32 * 22);
}

TEST_F(Engines, WhisperCppIsWhatItPrints) {
  PlanRequest request;
  request.weights = "fp16";
  const ForeignPlan large = In("llama.cpp", "openai/whisper-large-v3", request);
  EXPECT_EQ(large.engine, "whisper.cpp");
  EXPECT_NEAR(static_cast<double>(BytesOf(large, "weights")) / 1e6, 3094.36, 0.005);
  EXPECT_EQ(BytesOf(large, "KV cache, self"), 83'886'080U);
  EXPECT_EQ(BytesOf(large, "KV cache, cross"), 251'658'240U);
  EXPECT_EQ(BytesOf(large, "KV cache, pad"), 7'864'320U);
  EXPECT_FALSE(large.total_bytes);
  EXPECT_EQ(large.known_bytes, BytesOf(large, "weights") + 83'886'080 + 251'658'240 + 7'864'320);
  request.beam = 5;
  EXPECT_EQ(BytesOf(In("llama.cpp", "openai/whisper-large-v3", request), "KV cache, self"), 587'202'560U);
  EXPECT_EQ(BytesOf(In("llama.cpp", "openai/whisper-large-v3-turbo", request), "KV cache, self"), 73'400'320U);

  request.beam = 1;
  const ForeignPlan turbo = In("llama.cpp", "openai/whisper-large-v3-turbo", request);
  EXPECT_NEAR(static_cast<double>(BytesOf(turbo, "weights")) / 1e6, 1623.92, 0.005);
  EXPECT_NEAR(static_cast<double>(BytesOf(turbo, "KV cache, self")) / 1e6, 10.49, 0.005);
  EXPECT_NEAR(static_cast<double>(BytesOf(turbo, "KV cache, cross")) / 1e6, 31.46, 0.005);
  request.weights = "q5_0";
  EXPECT_NEAR(static_cast<double>(BytesOf(In("llama.cpp", "openai/whisper-large-v3-turbo", request), "weights")) / 1e6,
              573.40, 0.005);
}

TEST_F(Engines, WhatAnEngineHasNotIsRefusedByName) {
  const std::string llama = "meta-llama/Llama-3.2-1B", whisper = "openai/whisper-base";
  const auto with = [](auto set) {
    PlanRequest request;
    set(request);
    return request;
  };
  const PlanRequest plain, int8 = with([](auto&r) { r.weights = "int8"; }),
                           q4 = with([](auto&r) { r.weights = "q4_0"; }), tp = with([](auto&r) { r.tp = 2; }),
                           beams = with([](auto&r) { r.beam = 4; }), batch = with([](auto&r) { r.batch = 2; }),
                           fp32 = with([](auto&r) { r.kv = "fp32"; });
  ExpectUsage("transformers", llama, int8, {}, "quantization package");
  ExpectUsage("vllm", llama, q4, {}, "quantization package");
  ExpectUsage("llama.cpp", llama, int8, {}, "GGUF");
  ExpectUsage("transformers", llama, tp, {}, "--tp");
  ExpectUsage("llama.cpp", llama, tp, {}, "--tp");
  ExpectUsage("vllm", llama, beams, {}, "--beam");
  ExpectUsage("llama.cpp", llama, beams, {}, "--beam");
  ExpectUsage("llama.cpp", whisper, batch, {}, "--batch");
  ExpectUsage("llama.cpp", whisper, fp32, {}, "fp16");
  ExpectUsage("transformers", llama, fp32, {}, "bf16");
  ExpectUsage("vllm", llama, fp32, {}, "kv_cache_dtype");
  ExpectUsage("vllm", llama, with([](auto& r) { r.tp = 3; }), {}, "evenly");
  ExpectUsage("vllm", "Qwen/Qwen2.5-7B", with([](auto& r) { r.tp = 8; }), {}, "evenly");  // 28 query heads
  ExpectUsage("llama.cpp", whisper, with([](auto& r) { r.weights = "mxfp4"; }), {}, "Q5_0");
  ExpectUsage("transformers", "google/gemma-2-2b", plain, {"attention=sdpa"}, "softcapping");
  ExpectUsage("vllm", llama, plain, {"kv_cache_dtype=fp8_ds_mla"}, "512 + 64");
  ExpectUsage("llama.cpp", llama, plain, {"flash_attn=off", "cache_type_v=q8_0"}, "flash attention");
  ExpectUsage("sglang", llama, plain, {}, "transformers, vllm, llama.cpp");

  ExpectUsage("vllm", llama, plain, {"blocksize=16"}, "gpu_memory_utilization, block_size, ");
  ExpectUsage("transformers", llama, plain, {"attention"}, "attention, cache, prompt");
  ExpectUsage("llama.cpp", whisper, plain, {"n_ubatch=512"}, "n_decoders");
  for (const char* value : {"", "0", "-1", "16.5", "nan", "1e99", "4097", "16 ", "sixteen"})
    ExpectUsage("vllm", llama, plain, {std::string("block_size=") + value}, "whole number from 1 to 4096");
  for (const char* value : {"0", "1.01", "-0.5", "nan"})
    ExpectUsage("vllm", llama, plain, {std::string("gpu_memory_utilization=") + value}, "number from 0.01 to 1");
  for (const char* value : {"", "yes", "true|false", "|"})
    ExpectUsage("vllm", llama, plain, {std::string("enforce_eager=") + value}, "true|false");
  ExpectUsage("transformers", llama, plain, {"prompt=4097"}, "4096 positions");
}

// Voxtral Realtime's encoder and Kimi-Audio's second decoder keep caches, too: a total without them would be a guess.
TEST_F(Engines, CachesBesideTheDecodersAreUnknown) {
  for (const char* engine : kForeignEngines) {
    for (const char* model : {"mistralai/Voxtral-Mini-4B-Realtime-2602", "moonshotai/Kimi-Audio-7B-Instruct"}) {
      const ForeignPlan plan = In(engine, model);
      ASSERT_NE(Term(plan, "other caches"), nullptr) << engine << ", " << model;
      EXPECT_FALSE(Term(plan, "other caches")->bytes);
    }
    EXPECT_EQ(Term(In(engine, "openai/whisper-base"), "other caches"), nullptr);
  }
}

TEST_F(Engines, EveryCatalogueEntryHasAnAnswerInEveryEngine) {
  int answers = 0;
  for (const auto& e : std::filesystem::recursive_directory_iterator(SOTTO_SOURCE_DIR "/catalog")) {
    if (e.path().extension() != ".json") continue;
    const std::string name = ReadJson(e.path().string(), Code::kBadInput).value()["name"];
    const Result<Planned> planned = PlanOf(name);
    ASSERT_TRUE(planned.ok()) << name;
    for (const char* engine : kForeignEngines) {
      const Result<ForeignPlan> plan = PlanForeign(*planned, {engine, {}, std::nullopt});
      ASSERT_TRUE(plan.ok()) << engine << ", " << name << ": " << plan.error().message;
      EXPECT_GT(plan->known_bytes, planned->layout.anatomy->Parameters()) << engine << ", " << name;
      EXPECT_LT(plan->known_bytes, uint64_t{1} << 50) << engine << ", " << name;
      ++answers;
    }
  }
  EXPECT_GE(answers, 300);
}

}  // namespace
}  // namespace sotto
