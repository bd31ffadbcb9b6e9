// GGUF headers: what a reader must answer to damaged and hostile ones. Attacks are called by the CVE that they were once (FACTS).
#include "weights/gguf.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

namespace sotto {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;

enum : uint32_t { kU8 = 0, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kU64 = 10 };

template <class T>
std::string Raw(T n) {
  return {reinterpret_cast<const char*>(&n), sizeof n};
}
std::string Text(const std::string& s) { return Raw(uint64_t{s.size()}) + s; }
std::string Key(const std::string& key, uint32_t type, const std::string& value) {
  return Text(key) + Raw(type) + value;
}

struct Entry {
  std::string name;
  std::vector<uint64_t> dims;
  uint32_t type;
  uint64_t offset;
};

// A file of these keys and tensors; `data` bytes behind the padding.
struct Image {
  uint32_t version = 3;
  std::vector<std::string> keys;
  std::vector<Entry> tensors;
  uint64_t data = 0, alignment = 32;
  std::optional<uint64_t> claimed_tensors, claimed_keys;

  std::string Bytes() const {
    std::string s =
        "GGUF" + Raw(version) + Raw(claimed_tensors.value_or(tensors.size())) + Raw(claimed_keys.value_or(keys.size()));
    for (const std::string& k : keys) s += k;
    for (const Entry& t : tensors) {
      s += Text(t.name) + Raw(static_cast<uint32_t>(t.dims.size()));
      for (const uint64_t d : t.dims) s += Raw(d);
      s += Raw(t.type) + Raw(t.offset);
    }
    s.resize(RoundUp(s.size(), alignment) + data, '\0');
    return s;
  }
};

// Two tensors, 3 x 32 of Q4_0 (54 bytes, padded to 64) and 5 of F32.
Image Good() {
  Image g;
  g.keys = {Key("general.architecture", kString, Text("llama")),
            Key("llama.block_count", kU32, Raw(2U)),
            Key("llama.attention.head_count_kv", kArray, Raw(kI32) + Raw(uint64_t{2}) + Raw(4) + Raw(4)),
            Key("tokenizer.ggml.tokens", kArray, Raw(kString) + Raw(uint64_t{2}) + Text("a") + Text("bb")),
            Key("llama.rope.freq_base", kF32, Raw(10000.0F)),
            Key("llama.use", kBool, Raw(uint8_t{1}))};
  g.tensors = {{"token_embd.weight", {32, 3}, 2, 0}, {"output_norm.weight", {5}, 0, 64}};
  g.data = 64 + 20;
  return g;
}

class Gguf : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "sotto_gguf_XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(dir_); }
  std::string Write(const std::string& name, std::string_view bytes) const {
    fs::remove(dir_ + "/" + name);
    std::ofstream(dir_ + "/" + name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return dir_ + "/" + name;
  }
  // The error of opening the file and of a pass over it, or "" when both go well.
  std::string Problem(std::string_view bytes) const { return ProblemOf(Write("m.gguf", bytes)); }
  static std::string ProblemOf(const std::string& path) {
    const auto gguf = GgufFiles::Open(path);
    if (!gguf.ok()) {
      EXPECT_EQ(gguf.error().code, Code::kBadModel);
      return gguf.error().message;
    }
    const Status pass = gguf->ForEachTensor([&](const GgufTensor& t) -> Status {
      const uint64_t size = gguf->file(t.file).size();
      EXPECT_LE(t.bytes, size);
      EXPECT_LE(t.offset, size - t.bytes);
      EXPECT_LE(t.Elements() / 256, t.bytes);
      return {};
    });
    return pass.ok() ? "" : pass.error().message;
  }
  std::string dir_;
};

TEST_F(Gguf, TellsSettingsAndTensors) {
  for (const uint32_t version : {2U, 3U}) {
    Image image = Good();
    image.version = version;
    const GgufFiles g = GgufFiles::Open(Write("m.gguf", image.Bytes())).value();
    EXPECT_EQ(g.keys()["general.architecture"], "llama");
    EXPECT_EQ(g.keys()["llama.block_count"], 2);
    EXPECT_EQ(g.keys()["llama.attention.head_count_kv"], Json::array({4, 4}));
    EXPECT_EQ(g.keys()["tokenizer.ggml.tokens"], (Json{{"count", 2}}));
    EXPECT_EQ(g.keys()["llama.use"], true);
    std::string seen;
    ASSERT_TRUE(g.ForEachTensor([&](const GgufTensor& t) -> Status {
                   seen += fmt::format("{} {} {}x{} {} ", t.name, t.type->name, t.dims[0], t.dims[1], t.bytes);
                   EXPECT_EQ(t.offset, g.file(0).size() - 84 + (t.bytes == 54 ? 0 : 64));
                   return {};
                 }).ok());
    EXPECT_EQ(seen, "token_embd.weight Q4_0 32x3 54 output_norm.weight F32 5x1 20 ");
    EXPECT_EQ(g.Find("output_norm.weight").value()->bytes, 20U);
    EXPECT_FALSE(g.Find("output.weight").value().has_value());
  }
}

TEST_F(Gguf, AHeaderThatEndsAnywhereIsRefused) {
  const std::string bytes = Good().Bytes();
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_NE(Problem(bytes.substr(0, n)), "") << n;
  EXPECT_EQ(Problem(bytes), "");
  EXPECT_EQ(Problem(bytes + std::string(12, '\0')), "");  // the last tensor's padding
}

TEST_F(Gguf, ChangedBytesAreRefusedOrSane) {
  std::mt19937 random(1);  // NOLINT: reproducible
  const std::string bytes = Good().Bytes();
  const size_t header = bytes.size() - 84;
  int accepted = 0;
  constexpr uint64_t kOdd[] = {0,          1,          0x7fffffff, 0x80000000, 0xffffffff,
                               1ULL << 32, 1ULL << 62, 1ULL << 63, UINT64_MAX};
  for (int i = 0; i < 6000; ++i) {
    std::string s = bytes;
    if (i % 3 == 0) {  // a number where one may stand
      const std::string odd = Raw(kOdd[random() % std::size(kOdd)]);
      const size_t n = i % 2 == 0 ? 4 : 8;
      s.replace(4 + random() % (header - 12), n, odd.substr(0, n));
    } else {
      for (unsigned k = 0; k <= random() % 3; ++k) s[random() % header] = static_cast<char>(random());
    }
    if (i % 10 == 0) s.resize(random() % s.size());
    accepted += Problem(s).empty();
  }
  EXPECT_GT(accepted, 0);  // a changed letter of a setting is not an error
}

TEST_F(Gguf, KnownAttacksAreRefused) {
  struct Attack {
    const char* says;
    void (*make)(Image&);
  };
  const Attack attacks[] = {
      {"claims", [](Image& g) { g.claimed_tensors = UINT64_MAX; }},  // n_tensors x overhead
      {"claims", [](Image& g) { g.claimed_keys = 1ULL << 61; }},
      {"a name of 0", [](Image& g) { g.claimed_tensors = 200'000; }},
      // CVE-2025-53630 and CVE-2026-27940: the product, the sum or the padding wraps, and the check comes behind it.
      {"63 bits",
       [](Image& g) {
         g.tensors[0].dims = {1ULL << 32, 1ULL << 32};
       }},
      {"63 bits",
       [](Image& g) {
         g.tensors[0].dims = {32, 1ULL << 60};
       }},
      {"63 bits",
       [](Image& g) {
         g.tensors[0].dims = {32, UINT64_MAX, 1, 1};
       }},
      {"cut short",
       [](Image& g) {
         g.tensors[0].dims = {32, 1ULL << 57};
       }},
      {"is next", [](Image& g) { g.tensors[1].offset = UINT64_MAX - 31; }},
      {"is next", [](Image& g) { g.tensors[0].offset = 1ULL << 63; }},
      {"alignment", [](Image& g) { g.keys.push_back(Key("general.alignment", kU32, Raw(0x80000000U))); }},
      {"alignment", [](Image& g) { g.keys.push_back(Key("general.alignment", kU32, Raw(0U))); }},
      {"alignment", [](Image& g) { g.keys.push_back(Key("general.alignment", kU32, Raw(48U))); }},
      {"alignment", [](Image& g) { g.keys.push_back(Key("general.alignment", kU64, Raw(uint64_t{1} << 33))); }},
      {"alignment", [](Image& g) { g.keys.push_back(Key("general.alignment", kString, Text("32"))); }},
      // CVE-2026-7482: dimensions larger than the file, whose bytes then come from the heap.
      {"cut short", [](Image& g) { g.tensors[1].dims = {1'000'000}; }},
      {"dimension of 0",
       [](Image& g) {
         g.tensors[0].dims = {32, 0};
       }},
      {"dimension of 0",
       [](Image& g) {
         g.tensors[0].dims = {0, 1ULL << 63};
       }},
      {"0 dimensions", [](Image& g) { g.tensors[1].dims = {}; }},
      {"5 dimensions",
       [](Image& g) {
         g.tensors[1].dims = {5, 1, 1, 1, 1};
       }},
      {"whose blocks have",
       [](Image& g) {
         g.tensors[0].dims = {33, 3};
       }},
      {"unknown type 4", [](Image& g) { g.tensors[1].type = 4; }},  // retired
      {"unknown type 1000000", [](Image& g) { g.tensors[1].type = 1'000'000; }},
      {"is next", [](Image& g) { g.tensors[1].offset = 32; }},  // overlap
      {"is next", [](Image& g) { g.tensors[1].offset = 96; }},  // hole
      {"is next", [](Image& g) { g.tensors[1].offset = 63; }},  // not aligned
      {"one name", [](Image& g) { g.tensors[1].name = g.tensors[0].name; }},
      {"name of 0 bytes", [](Image& g) { g.tensors[1].name = ""; }},
      {"name of 300 bytes", [](Image& g) { g.tensors[1].name = std::string(300, 'n'); }},
      {"characters", [](Image& g) { g.tensors[1].name = "a\x1b[2Jb"; }},
      {"twice", [](Image& g) { g.keys.push_back(g.keys[0]); }},
      {"unknown type 13", [](Image& g) { g.keys.push_back(Key("k", 13, "")); }},
      {"array of the type 9", [](Image& g) { g.keys.push_back(Key("k", kArray, Raw(kArray) + Raw(uint64_t{1}))); }},
      {"array of the type 77", [](Image& g) { g.keys.push_back(Key("k", kArray, Raw(77U) + Raw(uint64_t{1}))); }},
      {"array of", [](Image& g) { g.keys.push_back(Key("k", kArray, Raw(kU8) + Raw(UINT64_MAX))); }},
      {"array of", [](Image& g) { g.keys.push_back(Key("k", kArray, Raw(kU64) + Raw(1ULL << 61))); }},
      {"cut short", [](Image& g) { g.keys.push_back(Key("k", kArray, Raw(kString) + Raw(100'000'000ULL))); }},
      {"cut short", [](Image& g) { g.keys.push_back(Key("k", kString, Raw(UINT64_MAX) + "abc")); }},
      {"cut short", [](Image& g) { g.keys.push_back(Key("k", kString, Raw(1ULL << 62) + "abc")); }},
      {"true or false", [](Image& g) { g.keys.push_back(Key("k", kBool, Raw(uint8_t{2}))); }},
      {"big-endian", [](Image& g) { g.version = 0x03000000; }},
      {"version 1", [](Image& g) { g.version = 1; }},
      {"version 4294967295", [](Image& g) { g.version = UINT32_MAX; }},
      {"cut short", [](Image& g) { g.data -= 1; }},
      {"does not say that it is part", [](Image& g) { g.keys.push_back(Key("split.count", kU32, Raw(3U))); }},
      {"not as many", [](Image& g) { g.keys.push_back(Key("split.tensors.count", kI32, Raw(7))); }}};
  for (const Attack& a : attacks) {
    Image image = Good();
    a.make(image);
    EXPECT_THAT(Problem(image.Bytes()), HasSubstr(a.says)) << &a - attacks;
  }
  EXPECT_THAT(Problem("GGML" + Good().Bytes().substr(4)), HasSubstr("no such file"));
}

TEST_F(Gguf, TakesAnotherAlignment) {
  for (const uint32_t alignment : {8U, 64U, 4096U}) {
    Image image = Good();
    image.alignment = alignment;
    image.keys.push_back(Key("general.alignment", kU32, Raw(alignment)));
    image.tensors[1].offset = RoundUp(54, alignment);
    image.data = image.tensors[1].offset + 20;
    EXPECT_EQ(Problem(image.Bytes()), "") << alignment;
  }
}

TEST_F(Gguf, LongSettingsAreCountedNotKept) {
  Image image = Good();
  image.keys.push_back(Key("scores", kArray, Raw(kF32) + Raw(uint64_t{10'000}) + std::string(40'000, '\0')));
  image.keys.push_back(Key("tokenizer.huggingface.json", kString, Text(std::string(kMaxGgufKeptString + 1, 'j'))));
  // Arrays that are short enough each, and together more than is kept of all.
  const std::string array = Raw(kU8) + Raw(kMaxGgufKeptArray) + std::string(kMaxGgufKeptArray, '\7');
  for (int i = 0; i < 200; ++i) image.keys.push_back(Key(fmt::format("a{}", i), kArray, array));
  const GgufFiles g = GgufFiles::Open(Write("m.gguf", image.Bytes())).value();
  EXPECT_EQ(g.keys()["scores"], (Json{{"count", 10'000}}));
  EXPECT_EQ(g.keys()["tokenizer.huggingface.json"], (Json{{"count", kMaxGgufKeptString + 1}}));
  EXPECT_TRUE(g.keys()["a0"].is_array());
  EXPECT_EQ(g.keys()["a199"], (Json{{"count", kMaxGgufKeptArray}}));
}

// Part `i` of three, one tensor each.
Image PartOf(int i) {
  Image g;
  g.keys = {Key("split.no", kU32, Raw(static_cast<uint32_t>(i))), Key("split.count", kU32, Raw(3U)),
            Key("split.tensors.count", kI32, Raw(3))};
  g.tensors = {{fmt::format("t{}", i), {8}, 0, 0}};
  g.data = 32;
  return g;
}

TEST_F(Gguf, ArraysAreReadValueByValue) {
  const GgufFiles g = GgufFiles::Open(Write("m.gguf", Good().Bytes())).value();
  GgufArray tokens = g.Array("tokenizer.ggml.tokens").value();
  EXPECT_EQ(tokens.left(), 2u);
  EXPECT_EQ(tokens.Text().value(), "a");
  EXPECT_EQ(tokens.Text().value(), "bb");
  EXPECT_FALSE(tokens.Text().ok());
  GgufArray heads = g.Array("llama.attention.head_count_kv").value();
  EXPECT_FALSE(heads.Text().ok());
  EXPECT_EQ(heads.Number().value(), 4);
  EXPECT_EQ(heads.left(), 1u);
  for (const char* other : {"general.architecture", "llama.use", "nothing"})
    EXPECT_EQ(g.Array(other).value().left(), 0u);
}

TEST_F(Gguf, PartsAreOneModel) {
  const auto write = [&](int i, const Image& image) {
    return Write(fmt::format("m-{:05}-of-00003.gguf", i + 1), image.Bytes());
  };
  const std::string first = write(0, PartOf(0));
  EXPECT_THAT(ProblemOf(first), HasSubstr("m-00002-of-00003.gguf"));  // missing
  write(1, PartOf(1));
  const std::string last = write(2, PartOf(2));
  EXPECT_EQ(ProblemOf(first), "");
  EXPECT_EQ(ProblemOf(last), "");  // any part names all
  const GgufFiles g = GgufFiles::Open(first).value();
  EXPECT_EQ(g.count(), 3);
  EXPECT_EQ(g.tensors(), 3U);
  EXPECT_EQ(g.Find("t2").value()->file, 2);
  write(1, PartOf(2));
  EXPECT_THAT(ProblemOf(first), HasSubstr("does not say that it is part 2 of 3"));
  Image twice = PartOf(1);
  twice.tensors[0].name = "t0";
  write(1, twice);
  EXPECT_THAT(ProblemOf(first), HasSubstr("one name"));
  EXPECT_THAT(ProblemOf(Write("m-00001-of-99999.gguf", PartOf(0).Bytes())), HasSubstr("99999 parts"));
  EXPECT_THAT(ProblemOf(Write("m-00001-of-00000.gguf", PartOf(0).Bytes())), HasSubstr("0 parts"));
}

}  // namespace
}  // namespace sotto
