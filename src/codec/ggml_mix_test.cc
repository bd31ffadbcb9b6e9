#include "codec/ggml_mix.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "base/json.h"

namespace sotto {
namespace {

Json Golden() { return ReadJson(SOTTO_SOURCE_DIR "/tests/golden/ggml_mixes.json", Code::kBadInput).value(); }

// The matrices of a Llama-like model as a GGUF file names them, and the type of each in a mix.
std::map<std::string, std::string> TypesOf(const Json& j, const std::string& mix) {
  const auto number = [&](const char* key) { return j[key].get<int64_t>(); };
  const int64_t width = number("embedding"), attended = number("heads") * number("head_dim");
  const MixModel model{number("layers"), number("heads") / number("kv_heads"), 0, j["tied"].get<bool>()};
  std::map<std::string, std::string> types;
  const auto add = [&](const std::string& name, int64_t layer, int64_t cols) {
    types[name] = TypeInMix(*FindMix(mix), model, {RoleOf(name), layer, cols}).name;
  };
  add("token_embd.weight", 0, width);
  if (!model.tied) add("output.weight", 0, width);
  for (int64_t i = 0; i < model.layers; ++i) {
    const std::string at = "blk." + std::to_string(i) + ".";
    for (const char* name : {"attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"}) add(at + name + ".weight", i, width);
    add(at + "attn_output.weight", i, attended);
    add(at + "ffn_down.weight", i, number("ffn"));
  }
  return types;
}

// "0-2,5" -> 0 1 2 5
std::set<int64_t> Numbers(const std::string& list) {
  std::set<int64_t> numbers;
  for (size_t at = 0; at < list.size();) {
    size_t used;
    const int64_t first = std::stoll(list.substr(at), &used);
    at += used;
    int64_t last = first;
    if (at < list.size() && list[at] == '-') last = std::stoll(list.substr(at + 1), &used), at += used + 1;
    for (int64_t i = first; i <= last; ++i) numbers.insert(i);
    ++at;
  }
  return numbers;
}

TEST(GgmlMix, EveryMatrixHasTheTypeThatLlamaCppGivesIt) {
  const Json golden = Golden();
  int mixes = 0;
  for (const Json& file : golden["files"])
    for (const auto& [mix, exceptions] : file["mixes"].items()) {
      std::map<std::string, std::string> want = TypesOf(file, mix);
      for (auto& [name, type] : want) type = FindMix(mix)->base;
      for (const auto& [what, layers] : exceptions.items()) {
        const std::string name = what.substr(0, what.find(' ')), type = what.substr(what.find(' ') + 1);
        if (name == "output") want["output.weight"] = type;
        for (const int64_t i : Numbers(layers.get<std::string>()))
          want["blk." + std::to_string(i) + "." + name + ".weight"] = type;
      }
      EXPECT_EQ(TypesOf(file, mix), want) << file["model"] << " " << mix;
      ++mixes;
    }
  EXPECT_EQ(mixes, 24);
}

TEST(GgmlMix, PublishedFilesHaveSoManyMatricesOfEachType) {
  const Json golden = Golden();
  EXPECT_EQ(golden["logs"].size(), 11u);
  for (const Json& log : golden["logs"]) {
    std::map<std::string, int> counts;
    for (const auto& [name, type] : TypesOf(log, log["mix"].get<std::string>())) ++counts[type];
    EXPECT_EQ(counts, (log["counts"].get<std::map<std::string, int>>())) << log["model"] << " " << log["mix"];
  }
}

TEST(GgmlMix, EightExpertsGiveAttentionMoreBits) {
  const MixModel mixtral{32, 4, 8, false}, others{32, 4, 64, false};
  const GgmlMix& mix = *FindMix("q4_k_m");
  EXPECT_EQ(TypeInMix(mix, mixtral, {MatrixRole::kValue, 3, 4096}).name, "Q8_0");
  EXPECT_EQ(TypeInMix(mix, mixtral, {MatrixRole::kKey, 3, 4096}).name, "Q8_0");
  EXPECT_EQ(TypeInMix(mix, mixtral, {MatrixRole::kAttentionOutput, 3, 4096}).name, "Q5_K");
  EXPECT_EQ(TypeInMix(mix, mixtral, {RoleOf("blk.3.ffn_gate_inp.weight"), 3, 4096}).name, "F32");
  EXPECT_EQ(TypeInMix(mix, mixtral, {RoleOf("blk.0.ffn_down_exps.weight"), 0, 14336}).name, "Q6_K");
  EXPECT_EQ(TypeInMix(mix, others, {MatrixRole::kKey, 3, 4096}).name, "Q4_K");
  EXPECT_EQ(TypeInMix(mix, others, {MatrixRole::kAttentionOutput, 3, 4096}).name, "Q4_K");
}

TEST(GgmlMix, RowsThatBlocksDontDivideGetSmallerBlocksOrNone) {
  const std::pair<const char*, const char*> fallbacks[] = {{"Q2_K", "Q4_0"},   {"Q3_K_S", "Q4_0"}, {"Q4_K_S", "Q5_0"},
                                                           {"Q5_K_S", "Q5_1"}, {"Q6_K", "Q8_0"},   {"Q8_0", "Q8_0"}};
  for (const auto& [mix, want] : fallbacks) {
    EXPECT_EQ(TypeInMix(*FindMix(mix), {32}, {MatrixRole::kOther, 9, 96}).name, want);
    EXPECT_EQ(TypeInMix(*FindMix(mix), {32}, {MatrixRole::kOther, 9, 100}).name, "F16");
    EXPECT_EQ(TypeInMix(*FindMix(mix), {32}, {MatrixRole::kOutput, 0, 96}).name, "Q8_0");
  }
  EXPECT_EQ(TypeInMix(*FindMix("Q4_0"), {32}, {MatrixRole::kOutput, 0, 96}).name, "Q8_0");
  EXPECT_EQ(TypeInMix(*FindMix("Q4_0"), {32}, {MatrixRole::kOutput, 0, 256}).name, "Q6_K");
}

TEST(GgmlMix, NamesAreFoundInAnyCaseAndNothingElseIs) {
  EXPECT_EQ(FindMix("q4_K_m"), FindMix("Q4_K_M"));
  EXPECT_EQ(FindMix("Q4_K"), nullptr);  // a type
  EXPECT_EQ(FindMix("Q4_K_XL"), nullptr);
  EXPECT_EQ(FindMix(""), nullptr);
}

}  // namespace
}  // namespace sotto
