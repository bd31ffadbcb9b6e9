#include "text/tokenizer.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/byte_alphabet.h"

namespace sotto {
namespace {

using Ids = std::vector<int32_t>;

// A tokenizer over the 256 bytes (their ids are the bytes), with merges that make "the", "ing", "aa", "aaaa" and "
// the".
struct Sample {
  Json vocabulary = Json::object(), merges = Json::array(), added = Json::array();
  Json pre_tokenizer = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  Json normalizer = nullptr, decoder = {{"type", "ByteLevel"}}, post_processor = nullptr;
  Json model_settings = {{"dropout", nullptr}, {"unk_token", nullptr}, {"ignore_merges", false}};

  Sample() {
    std::vector<std::string> names(256);
    for (uint32_t c = 0; c < 0x180; ++c)
      if (const int byte = ByteOf(c); byte >= 0)
        names[byte] = c < 0x80 ? std::string(1, static_cast<char>(c))
                               : std::string{static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
    for (int i = 0; i < 256; ++i) vocabulary[names[i]] = i;
    for (auto [a, b] :
         {std::pair{"t", "h"}, {"th", "e"}, {"i", "n"}, {"in", "g"}, {"a", "a"}, {"aa", "aa"}, {"\u0120", "the"}})
      Merge(a, b);
    Add({{"id", 263}, {"content", "<|end|>"}, {"special", true}, {"normalized", false}});
    Add({{"id", 264}, {"content", "<|0.02|>"}, {"special", false}, {"normalized", true}});
  }
  void Merge(const std::string& a, const std::string& b) {
    vocabulary[a + b] = vocabulary.size();
    merges.push_back({a, b});
  }
  void Add(Json token) { added.push_back(std::move(token)); }
  std::string Text() const {
    Json model = {{"type", "BPE"}};
    model.update(model_settings);
    model["vocab"] = vocabulary;
    model["merges"] = merges;
    return Json{{"version", "1.0"},
                {"truncation", nullptr},
                {"added_tokens", added},
                {"normalizer", normalizer},
                {"pre_tokenizer", pre_tokenizer},
                {"post_processor", post_processor},
                {"padding", {{"type", "X"}, {"deep", {1, {2, "{"}}}}},
                {"decoder", decoder},
                {"model", model}}
        .dump();
  }
};

struct Opened {
  std::unique_ptr<uint64_t[]> memory;
  TokenizerSize size;
  std::optional<Tokenizer> tokenizer;
  const Tokenizer* operator->() const { return &*tokenizer; }
};

Result<Opened> OpenIn(const std::string& dir) {
  Opened out;
  out.size = TRY(Tokenizer::Measure(dir));
  EXPECT_EQ(out.size.bytes() % 8, 0u);
  out.memory = std::make_unique<uint64_t[]>(out.size.bytes() / 8);
  const std::span bytes(reinterpret_cast<std::byte*>(out.memory.get()), out.size.bytes());
  out.tokenizer = TRY(Tokenizer::Open(dir, bytes));
  return out;
}

class TokenizerTest : public ::testing::Test {
 protected:
  TokenizerTest() {
    std::string name = ::testing::TempDir() + "sotto_tokenizer_XXXXXX";
    dir_ = ::mkdtemp(name.data());
  }
  ~TokenizerTest() override { std::filesystem::remove_all(dir_); }

  void Write(const std::string& file, std::string_view text) {
    std::ofstream(dir_ + "/" + file, std::ios::binary) << text;
  }
  Result<Opened> Open(const Sample& sample) { return OpenText(sample.Text()); }
  Result<Opened> OpenText(std::string_view text) {
    Write("tokenizer.json", text);
    return OpenIn(dir_);
  }
  // The sample as the older set of files.
  void WriteFiles(const Sample& sample) {
    std::string lines = "#version: 0.2\n";
    for (const Json& m : sample.merges) lines += m[0].get<std::string>() + " " + m[1].get<std::string>() + "\n";
    Write("vocab.json", sample.vocabulary.dump());
    Write("merges.txt", lines);
    Write("added_tokens.json", R"({"<|end|>": 263, "<|0.02|>": 264})");
    Write("special_tokens_map.json", R"({"eos_token": {"content": "<|end|>", "lstrip": false}, "unk_token": ""})");
  }
  static Ids Encode(const Opened& t, std::string_view text, bool parse_special = true) {
    Ids ids;
    EXPECT_TRUE(t->Encode(text, {.parse_special = parse_special}, &ids).ok());
    return ids;
  }
  std::string dir_;
};

TEST_F(TokenizerTest, EncodesAndDecodes) {
  const Opened t = Open(Sample()).value();
  EXPECT_EQ(t->vocab_size(), 265);
  EXPECT_EQ(Encode(t, ""), Ids{});
  EXPECT_EQ(Encode(t, "the thing"), (Ids{257, ' ', 256, 259}));
  EXPECT_EQ(Encode(t, "the the"), (Ids{257, 262}));
  EXPECT_EQ(Encode(t, "a<|end|>b<|0.02|>"), (Ids{'a', 263, 'b', 264}));
  EXPECT_EQ(Encode(t, "a<|end|>", false), (Ids{'a', '<', '|', 'e', 'n', 'd', '|', '>'}));
  EXPECT_EQ(Encode(t, "<|0.02|>", false), Ids{264});
  EXPECT_EQ(Encode(t, "\xFF\xC3\xA9"), (Ids{0xEF, 0xBF, 0xBD, 0xC3, 0xA9}));
  EXPECT_EQ(t->IdOf("<|end|>"), 263);
  EXPECT_EQ(t->IdOf(" the"), 262);
  EXPECT_EQ(t->IdOf("nothing"), std::nullopt);
  EXPECT_EQ(t->Token(262), " the");
  EXPECT_EQ(t->Token(0xC3), "\xC3");
  EXPECT_EQ(t->Token(-1), "");
  EXPECT_EQ(t->Token(265), "");
  EXPECT_TRUE(t->IsSpecial(263));
  EXPECT_FALSE(t->IsSpecial(264));
  EXPECT_FALSE(t->IsSpecial(-1));
  const Ids ids = {257, 263, 0xC3, 264, 0xC3, 0xA9, -5, 999, 0xF0, 0x9F};
  EXPECT_EQ(t->Decode(ids, true), "the\xEF\xBF\xBD<|0.02|>\xC3\xA9\xEF\xBF\xBD");
  EXPECT_EQ(t->Decode(ids, false), "the<|end|>\xEF\xBF\xBD<|0.02|>\xC3\xA9\xEF\xBF\xBD");
}

TEST_F(TokenizerTest, StreamsWholeCharacters) {
  const Opened t = Open(Sample()).value();
  StreamDecoder say(*t.tokenizer, true);
  std::string out;
  for (const int byte : {0xF0, 0x9F, 0x98}) {
    say.Push(byte, &out);
    EXPECT_EQ(out, "");
  }
  say.Push(0x80, &out);
  EXPECT_EQ(out, "\xF0\x9F\x98\x80");
  say.Push(0xE2, &out);
  say.Push(263, &out);  // special: not shown, and does not end the character
  EXPECT_EQ(out, "\xF0\x9F\x98\x80");
  say.Finish(&out);
  EXPECT_EQ(out, "\xF0\x9F\x98\x80\xEF\xBF\xBD");
}

TEST_F(TokenizerTest, LongWordsEqualShortOnesAndStayFast) {
  const Opened t = Open(Sample()).value();
  for (const size_t n : {63, 64, 65, 66, 127, 1001}) {
    Ids expected(n / 4, 261);
    if (n % 4 >= 2) expected.push_back(260);
    if (n % 2 == 1) expected.push_back('a');
    EXPECT_EQ(Encode(t, std::string(n, 'a')), expected) << n;
  }
  EXPECT_EQ(Encode(t, std::string(400'000, 'a')).size(), 100'000u);  // quadratic time would take minutes
}

TEST_F(TokenizerTest, TheOlderFilesGiveTheSameTokenizer) {
  const Sample sample;
  const Opened t = Open(sample).value();
  std::filesystem::remove(dir_ + "/tokenizer.json");
  WriteFiles(sample);
  const Opened files = OpenIn(dir_).value();
  EXPECT_EQ(files.size, t.size);
  const std::string_view text = "the<|end|>thing<|0.02|> in";
  EXPECT_EQ(Encode(files, text), Encode(t, text));
  EXPECT_TRUE(files->IsSpecial(263));
  EXPECT_FALSE(files->IsSpecial(264));
  Write("tokenizer_config.json",
        R"({"added_tokens_decoder": {"263": {"content": "<|end|>", "special": true, "lstrip": true},
      "264": {"content": "<|0.02|>"}}, "bos_token": "<|end|>", "model_max_length": 448})");
  EXPECT_EQ(Encode(OpenIn(dir_).value(), "in <|end|>"), (Ids{258, 263}));
  std::string merges = "t h\r\nth e\r\n";
  Write("merges.txt", merges);
  EXPECT_EQ(Encode(OpenIn(dir_).value(), "the"), Ids{257});
  for (const char* bad : {"t h\n\nth e\n", "t h e\n", "th\n", "t \xFF\n", "q q\n", "t h\nt h\n"}) {
    Write("merges.txt", bad);
    EXPECT_FALSE(OpenIn(dir_).ok()) << bad;
  }
  Write("merges.txt", std::string(10000, 'x'));
  EXPECT_FALSE(OpenIn(dir_).ok());
}

TEST_F(TokenizerTest, AddedTokensTakeSpaceAndRespectWords) {
  Sample s;
  s.Add(
      {{"id", 265}, {"content", "<m>"}, {"special", true}, {"lstrip", true}, {"rstrip", true}, {"normalized", false}});
  s.Add({{"id", 266}, {"content", "in"}, {"single_word", true}, {"normalized", false}});
  s.Add({{"id", 267}, {"content", "<m>x"}, {"special", true}, {"normalized", false}});
  s.added[3]["id"] = 258;  // "in" is in the vocabulary already
  s.added[4]["id"] = 266;
  const Opened t = Open(s).value();
  EXPECT_EQ(Encode(t, "a \xE3\x80\x80<m>\n b"), (Ids{'a', 265, 'b'}));
  EXPECT_EQ(Encode(t, "<m>x"), Ids{266});
  EXPECT_EQ(Encode(t, "in.inn"), (Ids{258, '.', 258, 'n'}));
}

TEST_F(TokenizerTest, MergesMayStandFirstAndBeStrings) {
  const Sample sample;
  Json document = Json::parse(sample.Text());
  Json model = {{"merges", Json::array({"#version: 0.2"})}};
  for (const Json& m : sample.merges)
    model["merges"].push_back(m[0].get<std::string>() + " " + m[1].get<std::string>());
  model["vocab"] = sample.vocabulary;
  document["model"] = model;
  const Opened t = OpenText(document.dump()).value();
  EXPECT_EQ(Encode(t, "the the"), (Ids{257, 262}));
  EXPECT_EQ(t.size, Open(sample).value().size);
}

TEST_F(TokenizerTest, PlansExactly) {
  const Opened t = Open(Sample()).value();
  EXPECT_LE(t.size.bytes(), Tokenizer::BytesBound(265));
  std::vector<uint64_t> memory(t.size.bytes() / 8 + 1);
  const auto bytes = std::as_writable_bytes(std::span(memory));
  EXPECT_FALSE(Tokenizer::Open(dir_, bytes).ok());
  EXPECT_FALSE(Tokenizer::Open(dir_, bytes.first(t.size.bytes() - 8)).ok());
  const TokenizerSize size = t.size;
  Sample other;
  other.Add({{"id", 265}, {"content", "<new>"}});
  Write("tokenizer.json", other.Text());  // changed after measuring
  EXPECT_FALSE(Tokenizer::Open(dir_, size, bytes.first(size.bytes())).ok());
}

// What must be refused, and a word that the message must have.
TEST_F(TokenizerTest, RefusesByName) {
  const auto refused = [&](const char* word, auto change) {
    Sample s;
    change(s);
    const auto opened = Open(s);
    ASSERT_FALSE(opened.ok()) << word;
    EXPECT_EQ(opened.error().code, Code::kBadModel);
    EXPECT_NE(opened.error().message.find(word), std::string::npos) << opened.error().message;
  };
  refused("largest id", [](Sample& s) { s.vocabulary["x1"] = 300; });
  refused("one id to two", [](Sample& s) { s.vocabulary["x1"] = 7; });
  refused("whole number", [](Sample& s) { s.vocabulary["x1"] = -1; });
  refused("whole number", [](Sample& s) { s.vocabulary["x1"] = 265.5; });
  refused("whole number", [](Sample& s) { s.vocabulary["x1"] = "265"; });
  refused("whole number", [](Sample& s) { s.vocabulary["x1"] = uint64_t{1} << 40; });
  refused("no token with the id '265'", [](Sample& s) {
    s.vocabulary["x1"] = 266, s.Add({{"id", 0}, {"content", "\u0100"}});
  });
  refused("contradicts", [](Sample& s) { s.added[1]["id"] = 263; });
  refused("twice", [](Sample& s) { s.Add({{"id", 265}, {"content", "<|end|>"}}); });
  refused("without content", [](Sample& s) { s.Add({{"id", 265}}); });
  refused("without an id", [](Sample& s) { s.Add({{"content", "x"}}); });
  refused("result", [](Sample& s) { s.merges.push_back({"q", "q"}); });
  refused("not in its vocabulary", [](Sample& s) { s.merges.push_back({"q", "qqq"}); });
  refused("merge twice", [](Sample& s) { s.merges.push_back({"t", "h"}); });
  refused("pair", [](Sample& s) { s.merges.push_back({"t", "h", "e"}); });
  refused("byte '113'", [](Sample& s) { s.vocabulary.erase("q"), s.vocabulary["qz"] = 113; });
  refused("normalizer.type = NFD", [](Sample& s) { s.normalizer = {{"type", "NFD"}}; });
  refused("post_processor.type = Odd", [](Sample& s) { s.post_processor = {{"type", "Odd"}}; });
  refused("decoder.type = Metaspace", [](Sample& s) { s.decoder = {{"type", "Metaspace"}}; });
  refused("dropout", [](Sample& s) { s.model_settings["dropout"] = 0.1; });
  refused("model.type = WordPiece", [](Sample& s) { s.model_settings["type"] = "WordPiece"; });
  refused("pre-tokenizer of bytes", [](Sample& s) { s.model_settings["type"] = "Unigram"; });
  refused("end_of_word_suffix", [](Sample& s) { s.model_settings["end_of_word_suffix"] = "</w>"; });
  refused("add_prefix_space", [](Sample& s) { s.pre_tokenizer["add_prefix_space"] = true; });
  refused("pre_tokenizer.type = Whitespace", [](Sample& s) { s.pre_tokenizer = {{"type", "Whitespace"}}; });
  const auto sequence = [](const char* regex) {
    return Json{{"type", "Sequence"},
                {"pretokenizers",
                 {{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}},
                  {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  };
  refused("'(a+)+$'", [&](Sample& s) { s.pre_tokenizer = sequence("(a+)+$"); });
}

TEST_F(TokenizerTest, RefusesHostileFiles) {
  EXPECT_FALSE(OpenIn(dir_).ok());
  const std::string text = Sample().Text();
  const auto with = [&](std::string_view before, std::string_view insert) {
    std::string changed = text;
    return changed.insert(changed.find(before), insert);
  };
  const std::string hostile[] = {"",
                                 "[]",
                                 "{}",
                                 "7",
                                 text + "x",
                                 text.substr(0, text.size() / 2),
                                 with("\"vocab\"", "\"vocab\":{},"),
                                 with("\"merges\"", "\"merges\":[],"),
                                 with("\"decoder\"", "\"decoder\":null,"),
                                 with("\"model\"", "\"model\":{},"),
                                 with("\"!\"", "\"!\":33,"),
                                 with("\"!\"", "\"\xFF\":256,"),
                                 with("\"post_", "\"deep\":" + std::string(5000, '[') + std::string(5000, ']') + ","),
                                 with("\"!\"", "\"" + std::string(20000, 'x') + "\":1,")};
  for (const std::string& bad : hostile) EXPECT_FALSE(OpenText(bad).ok()) << bad.substr(0, 100);
  Write("tokenizer.json", "");
  std::filesystem::resize_file(dir_ + "/tokenizer.json", 200u << 20);  // sparse
  EXPECT_FALSE(OpenIn(dir_).ok());
}

// Thousands of damaged files: each is an Error or a tokenizer that works.
TEST_F(TokenizerTest, SurvivesDamage) {
  std::mt19937 random(20261121);
  const auto damage = [&](std::string text) {
    if (random() % 8 == 0) text.resize(random() % text.size());
    for (int i = random() % 2; i >= 0 && !text.empty(); --i) {
      const size_t at = random() % text.size();
      switch (random() % 4) {
        case 0: text[at] = static_cast<char>(random()); break;
        case 1: text[at] ^= static_cast<char>(1 << random() % 8); break;
        case 2: text.erase(at, 1 + random() % 20); break;
        default: text.insert(at, text.substr(random() % text.size(), random() % 60)); break;
      }
    }
    return text;
  };
  const auto use = [&](int* opened_count) {
    const auto result = OpenIn(dir_);
    if (!result.ok()) return;
    const Opened& opened = result.value();
    ++*opened_count;
    const Ids ids = Encode(opened, "the thing <|end|><|0.02|> \xFF in\n", random() % 2 == 0);
    for (const int32_t id : ids) ASSERT_LT(static_cast<uint32_t>(id), static_cast<uint32_t>(opened->vocab_size()));
    opened->Decode(ids, true);
  };
  Sample sample;
  sample.vocabulary[""] = 265;  // Whisper has such a token
  const std::string json = sample.Text();
  int opened = 0;
  for (int i = 0; i < 2000; ++i) {
    Write("tokenizer.json", damage(json));
    use(&opened);
  }
  std::filesystem::remove(dir_ + "/tokenizer.json");
  WriteFiles(Sample());
  std::string merges;
  for (const Json& m : sample.merges) merges += m[0].get<std::string>() + " " + m[1].get<std::string>() + "\n";
  const std::string vocabulary = Sample().vocabulary.dump();
  for (int i = 0; i < 1000; ++i) {
    Write("merges.txt", i % 2 == 0 ? damage(merges) : merges);
    Write("vocab.json", i % 2 == 1 ? damage(vocabulary) : vocabulary);
    use(&opened);
  }
  EXPECT_GT(opened, 20);
  EXPECT_LT(opened, 2900);
}

}  // namespace
}  // namespace sotto
