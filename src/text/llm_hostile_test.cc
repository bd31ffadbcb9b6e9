// Damaged and hostile tokenizer.json, tokenizer.model and GGUF settings: each is an Error or a tokenizer that works, within what Measure
// said. The undamaged ones are goldens (llm_golden_test.cc).
#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/gguf_tokens.h"
#include "text/normal_form.h"
#include "text/tokenizer.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/llm_tokenizers/";

template <class T>
std::string Raw(T n) {
  return {reinterpret_cast<const char*>(&n), sizeof n};
}
std::string Varint(uint64_t n) {
  std::string out;
  for (; n > 127; n >>= 7) out.push_back(static_cast<char>(n | 128));
  return out + static_cast<char>(n);
}
std::string Field(int number, std::string_view bytes) {
  return Varint(static_cast<uint64_t>(number) << 3 | 2) + Varint(bytes.size()) + std::string(bytes);
}
std::string Field(int number, uint64_t n) { return Varint(static_cast<uint64_t>(number) << 3) + Varint(n); }
std::string Piece(std::string_view name, float score, int kind) {
  const auto bits = std::bit_cast<uint32_t>(score);
  std::string message = Field(1, name) + Varint(2 << 3 | 5);
  for (int i = 0; i < 4; ++i) message.push_back(static_cast<char>(bits >> 8 * i));
  return Field(1, message + Field(3, static_cast<uint64_t>(kind)));
}

class LlmHostile : public ::testing::Test {
 protected:
  LlmHostile() {
    std::string name = ::testing::TempDir() + "sotto_hostile_XXXXXX";
    dir_ = ::mkdtemp(name.data());
  }
  ~LlmHostile() override { std::filesystem::remove_all(dir_); }

  // Opens the one file `bytes` and uses it; false when it was refused.
  bool Survives(const std::string& file, std::string_view bytes) {
    std::ofstream(dir_ + "/" + file, std::ios::binary) << bytes;
    if (!file.ends_with(".gguf")) return Works(dir_, bytes.size());
    const auto gguf = GgufFiles::Open(dir_ + "/" + file);
    return Good(gguf) && Good(ReadGgufChat(gguf.value())) && Works(gguf.value(), bytes.size());
  }
  template <class T>
  bool Good(const Result<T>& result) {
    if (result.ok()) return true;
    message_ = result.error().message;
    EXPECT_EQ(result.error().code, Code::kBadModel);
    return false;
  }
  template <class Source>
  bool Works(const Source& source, uint64_t file_bytes) {
    const auto size = Tokenizer::Measure(source);
    if (!Good(size)) return false;
    EXPECT_LE(size.value().bytes(), 64 * file_bytes + 4096);  // nothing in the file claims more than it has
    std::vector<uint64_t> memory(size.value().bytes() / 8);
    const auto opened = Tokenizer::Open(source, size.value(), std::as_writable_bytes(std::span(memory)));
    if (!Good(opened)) return false;
    const Tokenizer& tokenizer = opened.value();
    std::vector<int32_t> ids;
    for (const char* text :
         {"the tool_call  is \xE2\x96\x81</s> e\xCC\x81\xEF\xAC\x81 1\xC2\xBD\n<mask>", "\xFF\xC3\xE2\x82 x"})
      if (!tokenizer.Encode(text, {.parse_special = true, .add_special = true}, &ids).ok()) return true;
    for (const int32_t id : ids) EXPECT_LT(static_cast<uint32_t>(id), static_cast<uint32_t>(tokenizer.vocab_size()));
    for (int32_t id = 0; id < std::min(tokenizer.vocab_size(), 400); ++id) ids.push_back(id);
    EXPECT_TRUE(IsUtf8(tokenizer.Decode(ids, false)));
    return true;
  }
  std::string dir_, message_;
};

TEST_F(LlmHostile, SurvivesDamage) {
  std::mt19937 random(20261122);
  for (const char* name :
       {"llama2/tokenizer.json", "t5/tokenizer.json", "spm-gemma/tokenizer.model", "spm-t5/tokenizer.model",
        "spm-bytes/tokenizer.model", "llama3/tokens.gguf", "spm-t5/tokens.gguf"}) {
    const std::string whole = ReadSmallFile(kGolden + name, 4 << 20, Code::kFailed).value();
    const std::string file = std::string(name).substr(std::string(name).find('/') + 1);
    int opened = 0;
    constexpr int kRounds = 150;
    for (int round = 0; round < kRounds; ++round) {
      std::string text = whole;
      if (random() % 16 == 0) text.resize(random() % text.size());
      for (uint32_t i = random() % 3; i != ~0u && !text.empty(); --i) {
        const size_t at = random() % text.size();
        switch (random() % 4) {
          case 0: text[at] = static_cast<char>(random()); break;
          case 1: text[at] ^= static_cast<char>(1 << random() % 8); break;
          case 2: text.erase(at, 1 + random() % 20); break;
          default: text.insert(at, text.substr(random() % text.size(), random() % 60)); break;
        }
      }
      opened += Survives(file, text);
      ASSERT_FALSE(HasFailure()) << name << ", round " << round;
    }
    EXPECT_GT(opened, 0) << name;
    EXPECT_LT(opened, kRounds) << name;
    std::filesystem::remove(dir_ + "/" + file);
  }
}

TEST_F(LlmHostile, RefusesDamagedModelFiles) {
  const std::string unknown = Piece("<unk>", 0, 2), good = unknown + Piece("a", -1, 1) + Piece("\xE2\x96\x81", -2, 1);
  const std::string bpe = Field(2, Field(3, 2));
  ASSERT_TRUE(Survives("tokenizer.model", good));
  ASSERT_TRUE(Survives("tokenizer.model", good + bpe));
  const auto refused = [&](const char* word, const std::string& bytes) {
    EXPECT_FALSE(Survives("tokenizer.model", bytes)) << word;
    EXPECT_NE(message_.find(word), std::string::npos) << message_;
  };
  refused("not a SentencePiece model", "");
  refused("not a SentencePiece model", "{}");
  refused("not a SentencePiece model", good.substr(0, good.size() - 3));
  refused("not a SentencePiece model", good + Varint(9 << 3 | 2) + Varint(~uint64_t{0}));
  refused("not a SentencePiece model", good + std::string(20, '\xFF'));
  refused("not a SentencePiece model", Field(1, Field(1, std::string(10'000, 'x'))));
  refused("damaged piece with the id 3", good + Piece("", -1, 1));
  refused("damaged piece with the id 3", good + Piece("\xFF", -1, 1));
  refused("damaged piece with the id 3", good + Piece("b", std::numeric_limits<float>::quiet_NaN(), 1));
  refused("damaged piece with the id 3", good + Piece("b", -std::numeric_limits<float>::infinity(), 1));
  refused("damaged piece with the id 3", good + Piece("b", -1, 7));
  refused("two tokens 'a'", good + Piece("a", -1, 1));
  refused("two unknown tokens", good + Piece("<u>", 0, 2));
  refused("no unknown token", Piece("a", -1, 1));
  refused("names no byte", good + Piece("<0x4>", 0, 6));
  refused("for the byte '0'", good + Field(2, Field(35, 1)));
  refused("type 3", good + Field(2, Field(3, 3)));
  refused("denormalizer", good + Field(5, Field(2, "xxxx")));
  refused("contradicts itself", good + Field(3, Field(2, "abc")));
  refused("contradicts itself", good + Field(3, Field(2, std::string("\xFF\xFF\xFF\x7F", 4) + std::string(64, 'x'))));
  refused("not UTF-8", good + Field(3, Field(2, std::string("\4\0\0\0", 4) + std::string(4, '\0') + "\xFF")));
  refused("character map", good + Field(3, Field(2, std::string(2 << 20, 'x'))));
  // A trie whose nodes lead back to themselves.
  EXPECT_TRUE(Survives("tokenizer.model",
                       good + Field(3, Field(2, std::string("\0\4\0\0", 4) + std::string(1024, '\x61') + "x" + '\0'))));
}

// A GGUF file of these settings and no tensors.
std::string Gguf(const std::vector<std::string>& settings) {
  std::string bytes = "GGUF" + Raw(3u) + Raw(uint64_t{0}) + Raw(uint64_t{settings.size()});
  for (const std::string& setting : settings) bytes += setting;
  bytes.resize((bytes.size() + 31) / 32 * 32);
  return bytes;
}
std::string Text(std::string_view text) { return Raw(uint64_t{text.size()}) + std::string(text); }
std::string Key(const std::string& name, uint32_t type) { return Text("tokenizer.ggml." + name) + Raw(type); }
std::string Texts(const std::string& name, const std::vector<std::string>& values) {
  std::string out = Key(name, 9) + Raw(8u) + Raw(uint64_t{values.size()});
  for (const std::string& value : values) out += Text(value);
  return out;
}
template <class T>
std::string Numbers(const std::string& name, uint32_t type, const std::vector<T>& values) {
  std::string out = Key(name, 9) + Raw(type) + Raw(uint64_t{values.size()});
  for (const T value : values) out += Raw(value);
  return out;
}

TEST_F(LlmHostile, RefusesDamagedGguf) {
  const std::string model = Key("model", 8) + Text("llama"), tokens = Texts("tokens", {"<unk>", "a", "\xE2\x96\x81"});
  const std::string scores = Numbers("scores", 6, std::vector{0.f, -1.f, -2.f});
  const std::string types = Numbers("token_type", 5, std::vector{2, 1, 1});
  ASSERT_TRUE(Survives("x.gguf", Gguf({model, tokens, scores, types}))) << message_;
  const auto refused = [&](const char* word, const std::vector<std::string>& settings) {
    EXPECT_FALSE(Survives("x.gguf", Gguf(settings))) << word;
    EXPECT_NE(message_.find(word), std::string::npos) << message_;
  };
  refused("the model ''", {tokens, scores, types});
  refused("the model 'rwkv'", {Key("model", 8) + Text("rwkv"), tokens, scores, types});
  refused("rules of 'odd'", {Key("model", 8) + Text("gpt2"), Key("pre", 8) + Text("odd"), tokens});
  refused("without tokens", {model, scores, types});
  refused("without tokens", {model, Key("tokens", 8) + Text("a"), scores, types});
  refused("another number of tokens", {model, tokens, Numbers("scores", 6, std::vector{0.f}), types});
  refused("another number of tokens", {model, tokens, scores, Numbers("token_type", 5, std::vector{2, 1, 1, 1})});
  refused("damaged token with the id 2", {model, tokens, scores, Numbers("token_type", 5, std::vector{2, 1, 7})});
  refused("damaged token with the id 0", {model, tokens, scores, Numbers("token_type", 5, std::vector{-1, 1, 1})});
  refused("damaged token with the id 1", {model, tokens, Numbers("scores", 6, std::vector{0.f, NAN, 0.f}), types});
  refused("damaged token with the id 1", {model, Texts("tokens", {"<unk>", "\xFF", "b"}), scores, types});
  refused("two tokens 'a'", {model, Texts("tokens", {"<unk>", "a", "a"}), scores, types});
  refused("without the string", {model, Numbers("tokens", 5, std::vector{1, 2, 3}), scores, types});
  refused("without the number", {model, tokens, Texts("scores", {"0", "1", "2"}), types});
  refused("string of 300000 bytes", {model, Texts("tokens", {"<unk>", std::string(300'000, 'a'), "b"}), scores, types});
  refused("more than 8191 bytes", {model, Texts("tokens", {"<unk>", std::string(10'000, 'a'), "b"}), scores, types});
  refused("the id 3, which no token has", {model, tokens, scores, types, Key("eos_token_id", 4) + Raw(3u)});
  refused("the id 18446744073709551615", {model, tokens, scores, types, Key("eos_token_id", 10) + Raw(~uint64_t{0})});
  refused("contradicts itself",
          {model, tokens, scores, types, Numbers("precompiled_charsmap", 1, std::vector<int8_t>{-1, -1, -1, 127, 0})});
  refused("chat template", {model, tokens, scores, types, Text("tokenizer.chat_template") + Raw(8u) + Text("\xFF")});
  const std::string bytes = ReadSmallFile(kGolden + "llama3/tokens.gguf", 4 << 20, Code::kFailed).value();
  const auto with = [&](std::string_view from, std::string_view to) {
    return std::string(bytes).replace(bytes.find(from), from.size(), to);
  };
  EXPECT_FALSE(Survives("x.gguf", with("llama-bpe", "llama-xyz")));
  EXPECT_NE(message_.find("'llama-xyz'"), std::string::npos) << message_;
  EXPECT_FALSE(Survives("x.gguf", with(Text("t h"), Text("t-h")))) << message_;
  EXPECT_NE(message_.find("merge"), std::string::npos) << message_;
}

TEST_F(LlmHostile, RefusesPipelinesByName) {
  const Json whole = Json::parse(ReadSmallFile(kGolden + "llama2/tokenizer.json", 4 << 20, Code::kFailed).value());
  const Json unigram = Json::parse(ReadSmallFile(kGolden + "t5/tokenizer.json", 4 << 20, Code::kFailed).value());
  const auto refused = [&](const char* word, const Json& start, const char* at, const Json& value) {
    Json changed = start;
    changed[Json::json_pointer(at)] = value;
    EXPECT_FALSE(Survives("tokenizer.json", changed.dump())) << word;
    EXPECT_NE(message_.find(word), std::string::npos) << message_;
  };
  refused("normalizer.normalizers.0.type = Lowercase", whole, "/normalizer/normalizers/0", {{"type", "Lowercase"}});
  refused("pattern.Regex = a+", whole, "/normalizer/normalizers/1/pattern", {{"Regex", "a+"}});
  refused("decoder.type = WordPiece", whole, "/decoder", {{"type", "WordPiece"}});
  refused("decoder.type = nothing", whole, "/decoder", Json::object());
  refused("decoder.decoders.1.type = Fuse", whole, "/decoder/decoders/1", {{"type", "Fuse"}});
  refused("decoder.decoders.3.start = 2", whole, "/decoder/decoders/3/start", 2);
  refused("post_processor.type = BertProcessing", whole, "/post_processor/type", "BertProcessing");
  refused("around texts", whole, "/post_processor/special_tokens/<s>/ids", {5000});
  refused("too long a post_processor", whole, "/post_processor/special_tokens/<s>/ids", Json(std::vector<int>(9, 1)));
  refused("unknown token that is not in", whole, "/model/unk_token", "<nothing>");
  refused("for the byte '65'", whole, "/model/vocab", [&] {
    Json vocabulary = whole["model"]["vocab"];
    const int id = vocabulary["<0x41>"];
    vocabulary.erase("<0x41>");
    vocabulary["<0x4g>"] = id;
    return vocabulary;
  }());
  refused("pre_tokenizer.replacement = _", unigram, "/pre_tokenizer/replacement", "_");
  refused("prepend_scheme = seldom", unigram, "/pre_tokenizer/prepend_scheme", "seldom");
  refused("not base64", unigram, "/normalizer/normalizers/0/precompiled_charsmap", "!!!!");
  refused("contradicts itself", unigram, "/normalizer/normalizers/0/precompiled_charsmap", "AAAA");
  refused("two character maps", unigram, "/normalizer/normalizers/1", unigram["normalizer"]["normalizers"][0]);
  refused("no unknown token", unigram, "/model/unk_id", nullptr);
  refused("outside of its vocabulary", unigram, "/model/unk_id", 100'000);
  refused("pair of name and score", unigram, "/model/vocab/3", {"x"});
  refused("pair of name and score", unigram, "/model/vocab/3", {"x", "y"});
  refused("another model", unigram, "/model/vocab", Json::object());
  refused("another model", whole, "/model/vocab", Json::array());
}

TEST(NormalForm, OrdersAndComposes) {
  const auto form = [](std::string_view text) {
    std::string out;
    AppendNormalForm(text, &out);
    return out;
  };
  EXPECT_EQ(form("e\u0301 a\u0323\u0307 \u1100\u1161\u11A8"), "é ạ̇ 각");
  EXPECT_EQ(form("a\u0307\u0323"), "ạ\u0307");              // marks are put in order first
  EXPECT_EQ(form("a\u0302\u0302\u0301"), "â\u0302\u0301");  // the second one blocks what follows it
  EXPECT_EQ(form("\u0301a"), "\u0301a");
  EXPECT_EQ(form("\u2126 \u212B \u0958"), "Ω Å \u0915\u093C");  // some never compose again
  EXPECT_EQ(form("\u09C7\u09BE"), "\u09CB");                    // two starters
  EXPECT_EQ(form("ﬁ①²"), "ﬁ①²");                                // compatible characters stay
  EXPECT_EQ(form("a" + std::string([] {
                   std::string marks;
                   for (int i = 0; i < 100'000; ++i) marks += i % 2 == 0 ? "\u0301" : "\u0323";
                   return marks;
                 }()))
                .size(),
            200'001u);  // ạ takes one; the others stay
}

}  // namespace
}  // namespace sotto
