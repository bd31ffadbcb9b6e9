// Against `tokenizers` and `sentencepiece`: tests/golden/make_llm_tokenizers.py. All 20,000 lines:
// tests/slow/tokenizers_test.py.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/gguf_tokens.h"
#include "text/tokenizer.h"

namespace sotto {
namespace {

using Ids = std::vector<int32_t>;
const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/llm_tokenizers/";

std::string Whole(const std::string& name) { return ReadSmallFile(kGolden + name, 4 << 20, Code::kFailed).value(); }

std::vector<std::string> Corpus() {
  std::vector<std::string> out;
  std::ifstream in(kGolden + "corpus.jsonl");
  for (std::string line; std::getline(in, line);) {
    const Json text = Json::parse(line);
    if (text.is_string()) {
      out.push_back(text.get<std::string>());
      continue;
    }
    const std::string hex = text["hex"].get<std::string>();  // not UTF-8
    out.emplace_back();
    for (size_t i = 0; i < hex.size(); i += 2)
      out.back().push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return out;
}

// A one-dimensional .npy of uint32.
std::vector<uint32_t> Numbers(const std::string& name) {
  const std::string bytes = Whole(name);
  uint16_t header = 0;
  std::memcpy(&header, bytes.data() + 8, 2);
  EXPECT_NE(bytes.find("'descr': '<u4'"), std::string::npos);
  std::vector<uint32_t> out((bytes.size() - 10 - header) / 4);
  std::memcpy(out.data(), bytes.data() + 10 + header, 4 * out.size());
  return out;
}

uint32_t Digest(const Ids& ids) {
  uint32_t value = 0x811C9DC5;
  for (const int32_t id : ids) value = (value ^ static_cast<uint32_t>(id)) * 0x01000193;
  return value;
}

class LlmGolden : public ::testing::TestWithParam<const char*> {
 protected:
  // The golden's directory; of a pipeline over the shared model of bytes one that is put together here.
  std::string Dir() {
    const std::string name = GetParam();
    if (!FileExists(kGolden + name + "/pipeline.json")) return kGolden + name;
    Json document = Json::parse(Whole(name + "/pipeline.json"));
    document["model"] = Json::parse(Whole("bytes_model.json"));
    document["model"]["ignore_merges"] = document.value("ignore_merges", false);
    dir_ = ::testing::TempDir() + "sotto_" + name + "_" + std::to_string(::getpid());
    std::filesystem::create_directories(dir_);
    std::ofstream(dir_ + "/tokenizer.json") << document.dump();
    return dir_;
  }
  ~LlmGolden() override {
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
  }
  Tokenizer Open(TokenSource source) {
    const TokenizerSize size = Tokenizer::Measure(source, GetParam()).value();
    EXPECT_LE(size.bytes(), Tokenizer::BytesBound(size.vocabulary) + size.charsmap_bytes);
    memory_.resize(size.bytes() / 8);
    return Tokenizer::Open(source, size, std::as_writable_bytes(std::span(memory_)), GetParam()).value();
  }
  Tokenizer Open() {
    const std::string dir = Dir();
    return Open([&](TokenSink& sink) { return ReadTokens(dir, sink); });
  }
  static bool IsModelFile() { return std::string(GetParam()).starts_with("spm-"); }
  static bool ParsesSpecial() { return !IsModelFile() && std::string(GetParam()) != "tekken-file"; }
  // Encodes every line that `use` picks and counts what differs.
  template <class Use>
  void CheckCorpus(const Tokenizer& tokenizer, const Use& use) {
    const std::string name = GetParam();
    const auto corpus = Corpus();
    const auto digests = Numbers(name + "/digests.npy");
    ASSERT_EQ(corpus.size(), 1000u);
    ASSERT_EQ(digests.size(), corpus.size());
    for (size_t i = 0; i < corpus.size(); ++i) {
      Ids got;
      ASSERT_TRUE(tokenizer.Encode(corpus[i], {.parse_special = ParsesSpecial()}, &got).ok());
      if (!use(corpus[i])) continue;
      EXPECT_EQ(Digest(got), digests[i]) << "line " << i + 1 << " of corpus.jsonl: " << corpus[i];
    }
  }

  void CheckDecoding(const Tokenizer& tokenizer) {
    const Json expected = Json::parse(Whole(std::string(GetParam()) + "/expected.json"));
    for (const Json& line : expected["decode"])
      for (const bool skip : {false, true}) {
        if (!skip && !line.contains("text")) continue;  // a reference that never shows special tokens
        const Ids ids = line["ids"].get<Ids>();
        const std::string text = line[skip ? "text_skip_special" : "text"].get<std::string>();
        ASSERT_EQ(tokenizer.Decode(ids, skip), text) << line["ids"];
        StreamDecoder say(tokenizer, skip);
        std::string streamed;
        for (const int32_t id : ids) {
          say.Push(id, &streamed);
          ASSERT_TRUE(IsUtf8(streamed));
          ASSERT_TRUE(text.starts_with(streamed)) << line["ids"];
        }
        say.Finish(&streamed);
        ASSERT_EQ(streamed, text) << line["ids"];
      }
  }

  void CheckAround(const Tokenizer& tokenizer) {
    Ids plain, around;
    ASSERT_TRUE(tokenizer.Encode("a", {}, &plain).ok());
    ASSERT_TRUE(tokenizer.Encode("a", {.add_special = true}, &around).ok());
    const Json expected = Json::parse(Whole(std::string(GetParam()) + "/expected.json"));
    if (expected.contains("around")) {
      EXPECT_EQ(plain, expected["plain"].get<Ids>());
      EXPECT_EQ(around, expected["around"].get<Ids>());
    } else if (std::string(GetParam()) == "spm-llama") {
      EXPECT_EQ(around.front(), tokenizer.IdOf("<s>"));
      EXPECT_EQ(around.size(), plain.size() + 1);
    } else if (std::string(GetParam()) == "spm-t5") {
      EXPECT_EQ(around.back(), tokenizer.IdOf("</s>"));
      EXPECT_EQ(around.size(), plain.size() + 1);
    }
  }

  std::string dir_;
  std::vector<uint64_t> memory_;
};

TEST_P(LlmGolden, EncodesTheCorpus) {
  CheckCorpus(Open(), [](const std::string&) { return true; });
}

TEST_P(LlmGolden, DecodesAtOnceAndAsAStream) { CheckDecoding(Open()); }

TEST_P(LlmGolden, PutsSpecialTokensAround) { CheckAround(Open()); }

// The same tokenizer as gguf-py writes it.
TEST_P(LlmGolden, ReadsSettingsOfGguf) {
  const std::string name = GetParam(), path = kGolden + name + "/tokens.gguf";
  if (!FileExists(path)) GTEST_SKIP() << "no GGUF file says what this one's pipeline does";
  const GgufFiles gguf = GgufFiles::Open(path).value();
  const Tokenizer tokenizer = Open([&](TokenSink& sink) { return ReadGgufTokens(gguf, sink); });
  CheckCorpus(tokenizer, [&](const std::string& text) {  // flags of added tokens are not in GGUF
    return name != "qwen2" || (text.find("tool") == text.npos && text.find("<mask>") == text.npos);
  });
  CheckDecoding(tokenizer);
  CheckAround(tokenizer);
}

// A run of byte tokens that is longer than what StreamDecoder holds back.
TEST_P(LlmGolden, LongRunsOfBytesAreWhole) {
  const Tokenizer tokenizer = Open();
  std::string text = "a";
  for (int i = 0; i < 200; ++i) text += "\u0B95\U0001F9EC";
  Ids ids;
  ASSERT_TRUE(tokenizer.Encode(text, {}, &ids).ok());
  const std::string name = GetParam();
  if (name == "fused" || name == "t5" || name == "xlmr" || name == "spm-t5" || name == "spm-suffix")
    EXPECT_LT(ids.size(), 5u);  // one unknown token for all
  else
    EXPECT_EQ(tokenizer.Decode(ids, true), text);
}

// A megabyte without a space: quadratic time would take hours.
TEST_P(LlmGolden, LongWordsStayFast) {
  const Tokenizer tokenizer = Open();
  std::string text;
  while (text.size() < (1 << 20)) text += "thequickbrownfoxjumpsoverthelazydog";
  Ids ids;
  ASSERT_TRUE(tokenizer.Encode(text, {}, &ids).ok());
  if (std::string(GetParam()) == "spm-suffix") text += ' ';  // a word's space stands behind it, as the reference has it
  EXPECT_TRUE(tokenizer.Decode(ids, true) == text);          // a megabyte need not be printed
}

TEST(GgufChat, TellsTemplateAndSpecialTokens) {
  const GgufChat chat = ReadGgufChat(GgufFiles::Open(kGolden + "llama3/tokens.gguf").value()).value();
  EXPECT_TRUE(chat.chat_template.starts_with("{% for m in messages %}"));
  EXPECT_EQ(chat.tokens.size(), 3u);
  EXPECT_EQ(chat.tokens.at("bos_token").text, "<|begin_of_text|>");
  EXPECT_EQ(chat.tokens.at("eos_token").text, "<|endoftext|>");
  EXPECT_EQ(chat.tokens.at("eot_token").text, "<|im_end|>");
  EXPECT_EQ(chat.tokens.at("eot_token").id, chat.tokens.at("eos_token").id + 2);
  EXPECT_EQ(ReadGgufChat(GgufFiles::Open(kGolden + "spm-llama/tokens.gguf").value()).value().tokens.at("unk_token").id,
            0);
}

INSTANTIATE_TEST_SUITE_P(All, LlmGolden,
                         ::testing::Values("gpt2", "llama3", "qwen2", "tekken", "smollm", "default", "llama2",
                                           "mistral", "fused", "gemma", "t5", "xlmr", "unigram-bytes", "tekken-file",
                                           "spm-llama", "spm-gemma", "spm-t5", "spm-bytes", "spm-suffix", "spm-unused"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace sotto
