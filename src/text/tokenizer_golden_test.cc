// Against the `tokenizers` package: tests/golden/make_tokenizer_corpus.py, on every set of files of the golden models.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/";
const std::string kModel = kGolden + "whisper/multilingual-f32/model";

std::vector<Json> Lines(const std::string& name) {
  std::vector<Json> out;
  std::ifstream in(kGolden + "tokenizer/" + name);
  for (std::string line; std::getline(in, line);) out.push_back(Json::parse(line));
  return out;
}

// A one-dimensional .npy of uint16.
std::vector<uint16_t> Numbers(const std::string& name) {
  const std::string bytes = ReadSmallFile(kGolden + "tokenizer/" + name, 4 << 20, Code::kFailed).value();
  uint16_t header = 0;
  std::memcpy(&header, bytes.data() + 8, 2);
  EXPECT_NE(bytes.find("'descr': '<u2'"), std::string::npos);
  std::vector<uint16_t> out((bytes.size() - 10 - header) / 2);
  std::memcpy(out.data(), bytes.data() + 10 + header, out.size() * 2);
  return out;
}

class TokenizerGolden : public ::testing::Test {
 protected:
  Tokenizer Open(const std::string& dir) {
    const TokenizerSize size = Tokenizer::Measure(dir).value();
    EXPECT_LE(size.bytes(), Tokenizer::BytesBound(size.vocabulary)) << dir;
    memory_.emplace_back(size.bytes() / 8);
    return Tokenizer::Open(dir, std::as_writable_bytes(std::span(memory_.back()))).value();
  }
  // The model's vocab.json and merges.txt without its tokenizer.json.
  std::string OlderFiles() {
    const auto dir = std::filesystem::path(::testing::TempDir()) / ("sotto_golden_" + std::to_string(::getpid()));
    std::filesystem::create_directories(dir);
    for (const char* file :
         {"vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"})
      std::filesystem::copy_file(kModel + "/" + file, dir / file, std::filesystem::copy_options::overwrite_existing);
    return dir;
  }
  std::vector<std::vector<uint64_t>> memory_;
};

TEST_F(TokenizerGolden, EncodesTheCorpus) {
  const auto corpus = Lines("corpus.jsonl");
  const auto ids = Numbers("ids.npy"), counts = Numbers("ids_count.npy");
  ASSERT_GT(corpus.size(), 2000u);
  ASSERT_EQ(corpus.size(), counts.size());
  const std::string older = OlderFiles();
  for (const std::string& dir : {kModel, older}) {
    const Tokenizer tokenizer = Open(dir);
    size_t at = 0;
    for (size_t i = 0; i < corpus.size(); ++i) {
      const std::string text = corpus[i].get<std::string>();
      const std::vector<int32_t> expected(ids.begin() + at, ids.begin() + at + counts[i]);
      at += counts[i];
      std::vector<int32_t> got;
      ASSERT_TRUE(tokenizer.Encode(text, {.parse_special = true}, &got).ok());
      ASSERT_EQ(got, expected) << "line " << i + 1 << " of corpus.jsonl, " << dir;
      ASSERT_EQ(tokenizer.Decode(got, false), text);
    }
    EXPECT_EQ(at, ids.size());
  }
  std::filesystem::remove_all(older);
}

TEST_F(TokenizerGolden, CutsTheSameWords) {
  const auto corpus = Lines("corpus.jsonl");
  const auto pieces = Numbers("pieces.npy"), counts = Numbers("pieces_count.npy");
  size_t next = 0;
  for (size_t i = 0; i < corpus.size(); ++i) {
    const std::string text = corpus[i].get<std::string>();
    const size_t end = next + counts[i];
    for (size_t at = 0; at < text.size(); at += pieces[next++]) {
      ASSERT_LT(next, end);
      ASSERT_EQ(WordLength(Splitting::kGpt2, text, at), pieces[next])
          << "line " << i + 1 << " of corpus.jsonl, byte " << at;
    }
    ASSERT_EQ(next, end);
  }
  EXPECT_EQ(next, pieces.size());
}

TEST_F(TokenizerGolden, FindsSpecialTokens) {
  const Tokenizer tokenizer = Open(kModel);
  for (const Json& line : Lines("special.jsonl")) {
    std::vector<int32_t> got;
    ASSERT_TRUE(tokenizer.Encode(line["text"].get<std::string>(), {.parse_special = true}, &got).ok());
    ASSERT_EQ(got, line["ids"].get<std::vector<int32_t>>()) << line["text"];
  }
}

TEST_F(TokenizerGolden, DecodesAtOnceAndAsAStream) {
  const Tokenizer tokenizer = Open(kModel);
  for (const Json& line : Lines("decode.jsonl"))
    for (const bool skip : {false, true}) {
      const auto ids = line["ids"].get<std::vector<int32_t>>();
      const std::string expected = line[skip ? "text_skip_special" : "text"].get<std::string>();
      ASSERT_EQ(tokenizer.Decode(ids, skip), expected) << line["ids"];
      StreamDecoder say(tokenizer, skip);
      std::string streamed;
      for (const int32_t id : ids) {
        say.Push(id, &streamed);
        ASSERT_TRUE(IsUtf8(streamed));
      }
      say.Finish(&streamed);
      ASSERT_EQ(streamed, expected) << line["ids"];
    }
}

TEST_F(TokenizerGolden, OpensTheOtherModels) {
  for (const char* name : {"english-bf16", "odd-f16"}) {
    const Tokenizer tokenizer = Open(kGolden + "whisper/" + name + "/model");
    EXPECT_TRUE(tokenizer.IsSpecial(tokenizer.IdOf("<|endoftext|>").value_or(-1))) << name;
  }
}

}  // namespace
}  // namespace sotto
