#include "weights/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/bytes.h"

namespace sotto {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

std::string Little(uint64_t n) {
  std::string s;
  for (int i = 0; i < 8; ++i) s += static_cast<char>(n >> (8 * i));
  return s;
}

std::string Image(const std::string& json, uint64_t data_bytes) {
  return Little(json.size()) + json + std::string(data_bytes, 'x');
}

std::string Entry(const std::string& name, const std::string& type, const std::string& shape, uint64_t begin,
                  uint64_t end) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, type, shape, begin, end);
}

class Safetensors : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "sotto_safetensors_XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(dir_); }
  void Write(const std::string& name, std::string_view bytes) const {
    fs::remove(dir_ + "/" + name);  // truncating instead would wait for the disk at each close
    std::ofstream(dir_ + "/" + name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  // The error of opening the directory and of a pass over it, or "" when both go well.
  std::string Problem() const {
    auto files = ModelFiles::Open(dir_);
    if (!files.ok()) {
      EXPECT_EQ(files.error().code, Code::kBadModel);
      return files.error().message;
    }
    const Status pass = files->ForEachTensor([&](const TensorHeader& t) -> Status {
      EXPECT_LE(t.bytes, files->file(t.file).size());
      EXPECT_LE(t.offset, files->file(t.file).size() - t.bytes);
      return {};
    });
    return pass.ok() ? "" : pass.error().message;
  }
  void WriteShards(const std::string& index) const {
    Write("a.safetensors", Image("{" + Entry("one", "F32", "[2]", 0, 8) + "}", 8));
    Write("b.safetensors",
          Image("{" + Entry("two", "F32", "[1]", 0, 4) + "," + Entry("three", "I8", "[3]", 4, 7) + "}", 7));
    Write("model.safetensors.index.json", index);
  }
  std::string dir_;
};

TEST_F(Safetensors, ListsTheTensorsOfAFile) {
  Write("model.safetensors",
        Image("{\"__metadata__\":{\"format\":\"pt\"}," + Entry("w", "BF16", "[2,3]", 4, 16) + "," +
                  Entry("scalar", "F32", "[]", 0, 4) + "," + Entry("none", "F16", "[0,5]", 16, 16) + "," +
                  Entry("odd", "F8_E4M3", "[2]", 16, 18) + "," + Entry("new", "Q7", "[9]", 18, 20) + "}   ",
              20));
  const ModelFiles files = ModelFiles::Open(dir_).value();
  EXPECT_EQ(files.count(), 1);
  EXPECT_EQ(files.tensors(), 5u);
  EXPECT_EQ(files.total_bytes(), files.file(0).size());
  EXPECT_EQ(files.total_bytes(), files.header_bytes() + 20);
  std::vector<std::string> seen;
  ASSERT_TRUE(files
                  .ForEachTensor([&](const TensorHeader& t) -> Status {
                    seen.push_back(fmt::format("{} {} {} {}+{}", t.name, t.type, t.shape.size(),
                                               t.offset - files.header_bytes(), t.bytes));
                    if (t.name == "w") {
                      EXPECT_EQ(files.TypeOf(t).value(), DType::kBF16);
                      EXPECT_THAT(t.shape, testing::ElementsAre(2, 3));
                    }
                    if (t.name == "odd") {
                      EXPECT_THAT(files.TypeOf(t).error().message, HasSubstr("\"odd\""));
                    }
                    return {};
                  })
                  .ok());
  EXPECT_THAT(seen, testing::ElementsAre("w BF16 2 4+12", "scalar F32 0 0+4", "none F16 2 16+0", "odd F8_E4M3 1 16+2",
                                         "new Q7 1 18+2"));
}

TEST_F(Safetensors, TheVisitorsErrorStopsThePass) {
  Write("model.safetensors", Image("{" + Entry("a", "I8", "[1]", 0, 1) + "," + Entry("b", "I8", "[1]", 1, 2) + "}", 2));
  int calls = 0;
  const Status status = ModelFiles::Open(dir_).value().ForEachTensor(
      [&](const TensorHeader&) -> Status { return ++calls, BadModel("enough"); });
  EXPECT_EQ(status.error().message, "enough");
  EXPECT_EQ(calls, 1);
}

TEST_F(Safetensors, RefusesHostileFiles) {
  const std::string ok = Entry("a", "F32", "[2]", 0, 8);
  std::string deep = R"({"a":{"dtype":"F32","shape":)" + std::string(5000, '[');
  std::string crowd = "{";
  for (uint64_t i = 0; i <= kMaxTensorsInFile; ++i)
    crowd += (i ? "," : "") + Entry(fmt::format("t{}", i), "I8", "[0]", 0, 0);
  std::string ranks = "[1";
  for (int i = 0; i < kMaxTensorRank; ++i) ranks += ",1";
  const struct {
    const char* attack;
    std::string image, says;
  } corpus[] = {
      {"empty_file", "", "too few"},
      {"length_only", Little(0), "too few"},
      {"length_zero", Little(0) + "x", "does not start with"},
      {"length_over_the_cap", Little(kMaxHeaderBytes + 1) + std::string(100, ' '), "more than the"},
      {"length_of_64_bits", Little(~0ULL) + std::string(100, ' '), "more than the"},
      {"length_wraps_with_the_eight", Little(~0ULL - 7) + std::string(100, ' '), "more than the"},
      {"length_past_the_end", Little(101) + "{" + std::string(99, ' '), "cut short"},
      {"starts_with_space", Image(" {}", 0), "does not start with"},
      {"starts_with_a_byte_order_mark", Image("\xef\xbb\xbf{}", 0), "does not start with"},
      {"a_list", Image("[]", 0), "does not start with"},
      {"only_a_brace", Image("{", 0), "not valid JSON"},
      {"two_documents", Image("{}{}", 0), "not valid JSON"},
      {"text_after_the_object", Image("{} x", 0), "not valid JSON"},
      {"nul_after_the_object", Image(std::string("{}\0", 3), 0), "NUL"},
      {"nul_hides_a_tail", Image("{" + ok + "}" + std::string("\0{{{", 4), 8), "NUL"},
      {"invalid_utf8_name", Image("{" + Entry("\xff", "F32", "[2]", 0, 8) + "}", 8), "not valid JSON"},
      {"nested_5000_deep", Image(deep, 8), "a list where none belongs"},
      {"nested_objects", Image(R"({"a":{"dtype":{"b":{"c":{}}}}})", 0), "an object where none belongs"},
      {"65537_tensors", Image(crowd + "}", 0), "more than 65536 tensors"},
      {"17_dimensions", Image("{" + Entry("a", "I8", ranks + "]", 0, 1) + "}", 1), "more than 16 dimensions"},
      {"giant_name", Image("{" + Entry(std::string(30'000, 'n'), "F32", "[2]", 0, 8) + "}", 8),
       "more than the 24576 allowed"},
      {"giant_number", Image("{" + Entry("a", "F32", "[" + std::string(30'000, '1') + "]", 0, 8) + "}", 8),
       "Number too big"},
      {"name_twice", Image("{" + ok + "," + Entry("a", "F32", "[1]", 8, 12) + "}", 12), "\"a\" twice"},
      {"empty_tensor_twice",
       Image("{" + Entry("e", "F32", "[0]", 0, 0) + "," + Entry("e", "F32", "[0]", 0, 0) + "}", 0), "\"e\" twice"},
      {"name_twice_by_escape", Image("{" + ok + "," + Entry("\\u0061", "F32", "[1]", 8, 12) + "}", 12), "\"a\" twice"},
      {"metadata_twice", Image(R"({"__metadata__":{},"__metadata__":{}})", 0), "__metadata__ twice"},
      {"metadata_holds_a_number", Image(R"({"__metadata__":{"a":1}})", 0), "a number where none belongs"},
      {"metadata_holds_an_object", Image(R"({"__metadata__":{"a":{}}})", 0), "an object where none belongs"},
      {"metadata_is_a_string", Image(R"({"__metadata__":"pt"})", 0), "a string where none belongs"},
      {"dtype_twice", Image(R"({"a":{"dtype":"I8","dtype":"I8","shape":[0],"data_offsets":[0,0]}})", 0),
       "\"dtype\" twice"},
      {"shape_twice", Image(R"({"a":{"dtype":"I8","shape":[0],"shape":[9],"data_offsets":[0,0]}})", 0),
       "\"shape\" twice"},
      {"offsets_twice", Image(R"({"a":{"dtype":"I8","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]}})", 0),
       "twice"},
      {"unknown_field", Image(R"({"a":{"dtype":"I8","shape":[0],"data_offsets":[0,0],"run":"x"}})", 0),
       "unknown field"},
      {"no_dtype", Image(R"({"a":{"shape":[0],"data_offsets":[0,0]}})", 0), "lacks dtype"},
      {"no_shape", Image(R"({"a":{"dtype":"I8","data_offsets":[0,0]}})", 0), "lacks dtype"},
      {"no_offsets", Image(R"({"a":{"dtype":"I8","shape":[0]}})", 0), "lacks dtype"},
      {"dtype_is_a_number", Image(R"({"a":{"dtype":7}})", 0), "a number where none belongs"},
      {"tensor_is_null", Image(R"({"a":null})", 0), "null where none belongs"},
      {"tensor_is_a_list", Image(R"({"a":[1]})", 0), "a list where none belongs"},
      {"negative_dimension", Image("{" + Entry("a", "F32", "[-2]", 0, 8) + "}", 8), "negative number -2"},
      {"fractional_dimension", Image("{" + Entry("a", "F32", "[2.5]", 0, 8) + "}", 8), "2.5"},
      {"dimension_of_64_bits", Image("{" + Entry("a", "I8", "[18446744073709551615]", 0, 8) + "}", 8),
       "a dimension of"},
      {"dimension_of_65_bits", Image("{" + Entry("a", "I8", "[36893488147419103232]", 0, 8) + "}", 8),
       "not a whole one"},
      {"boolean_dimension", Image("{" + Entry("a", "I8", "[true]", 0, 1) + "}", 1), "a boolean where none belongs"},
      {"nested_shape", Image("{" + Entry("a", "I8", "[[1]]", 0, 1) + "}", 1), "a list where none belongs"},
      {"product_wraps_to_the_right_size", Image("{" + Entry("a", "F32", "[4611686018427387906]", 0, 8) + "}", 8),
       "passes 64 bits"},
      {"product_of_two_wraps", Image("{" + Entry("a", "I8", "[4294967296,4294967296]", 0, 0) + "}", 0),
       "passes 64 bits"},
      {"product_wraps_before_a_zero", Image("{" + Entry("a", "I8", "[9223372036854775807,9,0]", 0, 0) + "}", 0),
       "passes 64 bits"},
      {"bytes_too_few", Image("{" + Entry("a", "F32", "[3]", 0, 8) + "}", 8), "need 12"},
      {"bytes_too_many", Image("{" + Entry("a", "F16", "[2]", 0, 8) + "}", 8), "need 4"},
      {"half_a_byte", Image("{" + Entry("a", "F4", "[3]", 0, 1) + "}", 1), "gives tensor \"a\" 1 bytes"},
      {"offsets_reversed", Image("{" + Entry("a", "F32", "[2]", 8, 0) + "}", 8), "places tensor \"a\""},
      {"offset_past_the_end", Image("{" + Entry("a", "F32", "[2]", 0, 8) + "}", 7), "places tensor \"a\""},
      {"offset_of_64_bits",
       Image("{" + Entry("a", "I8", "[8]", 18446744073709551607ULL, 18446744073709551615ULL) + "}", 8),
       "places tensor \"a\""},
      {"offset_wraps_into_the_header",
       Image("{" + Entry("a", "I8", "[0]", 18446744073709551600ULL, 18446744073709551600ULL) + "}", 8),
       "places tensor \"a\""},
      {"offset_negative", Image(R"({"a":{"dtype":"I8","shape":[8],"data_offsets":[-8,0]}})", 8), "negative number -8"},
      {"offset_fractional", Image(R"({"a":{"dtype":"I8","shape":[8],"data_offsets":[0,8.0]}})", 8), "not a whole one"},
      {"one_offset", Image(R"({"a":{"dtype":"I8","shape":[8],"data_offsets":[8]}})", 8), "1 data_offsets"},
      {"three_offsets", Image(R"({"a":{"dtype":"I8","shape":[8],"data_offsets":[0,8,8]}})", 8), "more than 2"},
      {"hole_at_the_start", Image("{" + Entry("a", "I8", "[7]", 1, 8) + "}", 8), "a hole between its tensors"},
      {"hole_in_the_middle", Image("{" + ok + "," + Entry("b", "I8", "[1]", 9, 10) + "}", 10),
       "a hole between its tensors"},
      {"hole_at_the_end", Image("{" + ok + "}", 9), "1 bytes after its last tensor"},
      {"no_tensor_but_bytes", Image("{}", 4), "4 bytes after its last tensor"},
      {"overlap", Image("{" + ok + "," + Entry("b", "I8", "[8]", 4, 12) + "}", 12), "an overlap between its tensors"},
      {"the_same_bytes_twice", Image("{" + ok + "," + Entry("b", "F32", "[2]", 0, 8) + "}", 8),
       "an overlap between its tensors"},
      {"empty_tensor_inside_another", Image("{" + ok + "," + Entry("b", "F32", "[0]", 4, 4) + "}", 8), "an overlap"},
      {"unknown_type_with_a_hole", Image("{" + Entry("a", "XX", "[1]", 0, 4) + "}", 8),
       "4 bytes after its last tensor"},
  };
  for (const auto& [attack, image, says] : corpus) {
    Write("model.safetensors", image);
    const std::string problem = Problem();
    EXPECT_THAT(problem, HasSubstr(says)) << attack;
    EXPECT_THAT(problem, HasSubstr("model.safetensors")) << attack;
  }
  Write("model.safetensors", Image("{" + ok + "}", 8));
  EXPECT_EQ(Problem(), "");
}

TEST_F(Safetensors, ReadsShards) {
  WriteShards(R"({"metadata":{"total_size":15,"x":[{"weight_map":1}]},"weight_map":{"one":"a.safetensors",
                  "two":"b.safetensors","three":"b.safetensors"}})");
  const ModelFiles files = ModelFiles::Open(dir_).value();
  EXPECT_EQ(files.count(), 2);
  EXPECT_EQ(files.tensors(), 3u);
  EXPECT_EQ(files.total_bytes(), files.header_bytes() + 15);
  EXPECT_EQ(Problem(), "");
}

TEST_F(Safetensors, RefusesHostileIndexes) {
  std::string many = R"({"weight_map":{"one":"a.safetensors")";
  for (int i = 0; i <= kMaxShards; ++i) many += fmt::format(R"(,"t{}":"s{}.safetensors")", i, i);
  const auto map = [](const std::string& pairs) { return "{\"weight_map\":{" + pairs + "}}"; };
  const std::string all = R"("one":"a.safetensors","two":"b.safetensors","three":"b.safetensors")";
  const struct {
    const char* attack;
    std::string index, says;
  } corpus[] = {
      {"empty", "", "not valid JSON"},
      {"not_an_object", "[]", "not a JSON object"},
      {"a_number", "7", "not a JSON object"},
      {"no_weight_map", R"({"metadata":{"weight_map":{"one":"a.safetensors"}}})", "has no weight_map"},
      {"weight_map_is_a_list", R"({"weight_map":["a"]})", "not an object"},
      {"weight_map_is_a_string", R"({"weight_map":"a.safetensors"})", "not an object"},
      {"weight_map_empty", R"({"weight_map":{}})", "maps no tensor"},
      {"weight_map_twice", "{\"weight_map\":{" + all + "},\"weight_map\":{" + all + "}}", "weight_map twice"},
      {"maps_to_a_number", map(R"("one":1)"), "not a file name"},
      {"maps_to_an_object", map(R"("one":{"a":"b"})"), "not a file name"},
      {"shard_above", map(R"("one":"../a.safetensors")"), "not a plain file name"},
      {"shard_absolute", map(R"("one":"/etc/passwd")"), "not a plain file name"},
      {"shard_in_a_folder", map(R"("one":"x/a.safetensors")"), "not a plain file name"},
      {"shard_dots", map(R"("one":"..")"), "not a plain file name"},
      {"shard_backslash", map(R"("one":"..\\a")"), "not a plain file name"},
      {"shard_without_a_name", map(R"("one":"")"), "not a plain file name"},
      {"shard_nul", map(R"("one":"a.safetensors\u0000.txt")"), "not a plain file name"},
      {"shard_name_too_long", map("\"one\":\"" + std::string(300, 'a') + "\""), "not a plain file name"},
      {"513_shards", many + "}}", "more than 512 shards"},
      {"tensor_twice", map(all + R"(,"one":"b.safetensors")"), "\"one\" twice"},
      {"shard_missing", map(all + R"(,"four":"c.safetensors")"), "c.safetensors"},
      {"tensor_in_no_shard", map(all + R"(,"four":"b.safetensors")"), "\"four\""},
      {"tensor_in_another_shard", map(R"("one":"b.safetensors","two":"b.safetensors","three":"a.safetensors")"),
       "\"one\" to"},
      {"tensor_not_in_the_index", map(R"("one":"a.safetensors","two":"b.safetensors")"), "\"three\""},
      {"nested_deep", "{\"metadata\":" + std::string(2000, '['), "nests deeper"},
  };
  for (const auto& [attack, index, says] : corpus) {
    WriteShards(index);
    EXPECT_THAT(Problem(), HasSubstr(says)) << attack;
  }
}

TEST_F(Safetensors, SaysWhatToDoWithoutWeights) {
  EXPECT_THAT(Problem(), HasSubstr("sotto pull"));
  Write("pytorch_model.bin", "PK");
  EXPECT_THAT(Problem(), HasSubstr("save_pretrained"));
}

// Any byte changed, any length: an answer or an error, never a crash; what is accepted lies inside of the file.
TEST_F(Safetensors, SurvivesMutations) {
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\"}," + Entry("a.weight", "F32", "[2,3]", 0, 24) + "," +
                             Entry("b", "BF16", "[4]", 24, 32) + "}  ";
  const std::string index =
      R"({"metadata":{"total_size":32},"weight_map":{"a.weight":"m.safetensors","b":"m.safetensors"}})";
  const std::string image = Image(header, 32);
  std::mt19937 random(20'240'611);
  const auto mutate = [&](std::string s) {
    const size_t flips = 1 + random() % 3;
    for (size_t i = 0; i < flips && !s.empty(); ++i) {
      const size_t at = random() % s.size();
      switch (random() % 5) {
        case 0: s[at] = static_cast<char>(random()); break;
        case 1: s[at] ^= static_cast<char>(1u << (random() % 8)); break;
        case 2: s.erase(at, 1 + random() % 4); break;
        case 3: s.insert(at, 1, "0123456789-{}[]\",:.e \\u"[random() % 23]); break;
        default: s.resize(at); break;
      }
    }
    return s;
  };
  int accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    Write("model.safetensors", mutate(image));
    accepted += Problem().empty();
  }
  EXPECT_GT(accepted, 0);  // a changed weight is not an error
  fs::remove(dir_ + "/model.safetensors");
  Write("m.safetensors", image);
  for (int i = 0; i < 1500; ++i) {
    Write("model.safetensors.index.json", mutate(index));
    (void)Problem();
  }
}

// VmHWM in a child, so that other tests don't count.
uint64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10) * kKiB;
  return 0;
}

TEST_F(Safetensors, AHeaderIsNotHeld) {
  if (kSanitized) GTEST_SKIP() << "memory is the sanitizer's";
  if (std::getenv("SOTTO_EMULATED")) GTEST_SKIP() << "memory is the emulator's";
  std::string header = "{";
  constexpr int kTensors = 20'000;
  for (int i = 0; i < kTensors; ++i)
    header +=
        (i ? "," : "") + Entry(fmt::format("model.layers.{}.{}", i, std::string(500, 'n')), "I8", "[1]", i, i + 1);
  header += "}";
  ASSERT_GT(header.size(), 10 * kMiB);
  Write("model.safetensors", Image(header, kTensors));
  std::string().swap(header);
  const pid_t child = fork();
  if (child == 0) {
    const uint64_t before = PeakBytes();
    const bool ok = ModelFiles::Open(dir_).ok();
    const uint64_t extents = 2 * 24 * 32'768;  // the vector of extents while it grows
    _exit(ok && PeakBytes() - before < extents + kMiB ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace sotto
