#include "weights/model_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include "weights/hub_cache.h"
#include "weights/safetensors.h"

namespace sotto {
namespace {
namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

// A home, a cache and a catalogue of its own; the environment is put back.
class FindModelTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "sotto_model_dir_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"})
      Set(name, std::nullopt);
    Set("HOME", root_);
    Set("SOTTO_CATALOG", root_ + "/catalog");
    cache_ = root_ + "/.cache/huggingface/hub";
  }
  void TearDown() override {
    for (const auto& [name, value] : saved_) value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
    fs::remove_all(root_);
  }
  void Set(const std::string& name, std::optional<std::string> value) {
    const char* old = std::getenv(name.c_str());
    saved_.try_emplace(name, old ? std::optional<std::string>(old) : std::nullopt);
    value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
  }
  static void Write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << text;
  }
  // A snapshot of `id` in `cache`, with refs/<ref>.
  static void Cache(const std::string& cache, const std::string& id, const std::string& commit, const std::string& ref,
                    bool weights) {
    const std::string repo = cache + "/" + RepoFolder(id);
    Write(repo + "/snapshots/" + commit + "/config.json", R"({"model_type":"whisper"})");
    if (weights) Write(repo + "/snapshots/" + commit + "/model.safetensors", "");
    if (!ref.empty()) Write(repo + "/refs/" + ref, commit + "\n");
  }
  static std::string Message(const Result<ModelDir>& model) { return model.ok() ? "found" : model.error().message; }

  std::string root_, cache_;
  std::map<std::string, std::optional<std::string>> saved_;
};

TEST_F(FindModelTest, Directory) {
  Write(root_ + "/mine/config.json", R"({"a":1})");
  ModelDir model = FindModel(root_ + "/mine/", ModelUse::kRun).value();
  EXPECT_EQ(model.name, "mine");
  EXPECT_FALSE(model.has_weights);
  EXPECT_EQ(ReadConfig(model).value()["a"], 1);
  Write(root_ + "/mine/model.safetensors.index.json", "{}");
  EXPECT_TRUE(FindModel(root_ + "/mine", ModelUse::kRun)->has_weights);
  fs::create_directories(root_ + "/empty");
  EXPECT_THAT(Message(FindModel(root_ + "/empty", ModelUse::kPlan)), HasSubstr("no config.json"));
  EXPECT_THAT(Message(FindModel(root_ + "/nowhere", ModelUse::kPlan)), HasSubstr("does not exist"));
  EXPECT_THAT(Message(FindModel("./nowhere", ModelUse::kPlan)), HasSubstr("does not exist"));
}

TEST_F(FindModelTest, File) {
  Write(root_ + "/mine/config.json", "{}");
  Write(root_ + "/other.json", "[]");
  Write(root_ + "/m.gguf", "GGUF");
  Write(root_ + "/m.txt", "");
  EXPECT_EQ(FindModel(root_ + "/mine/config.json", ModelUse::kPlan)->name, "mine");
  EXPECT_THAT(Message(FindModel(root_ + "/mine/config.json", ModelUse::kRun)), HasSubstr("only `sotto plan`"));
  EXPECT_EQ(FindModel(root_ + "/m.gguf", ModelUse::kPlan)->gguf_path, root_ + "/m.gguf");
  EXPECT_EQ(FindModel(root_ + "/m.gguf", ModelUse::kRun)->gguf_path, root_ + "/m.gguf");
  EXPECT_THAT(Message(FindModel(root_ + "/m.txt", ModelUse::kRun)), HasSubstr("neither a .gguf"));
  EXPECT_THAT(ReadConfig(FindModel(root_ + "/other.json", ModelUse::kPlan).value()).error().message,
              HasSubstr("not a JSON object"));
}

TEST_F(FindModelTest, CacheIsWhereHuggingFacePutsIt) {
  EXPECT_EQ(HubCacheDir(), root_ + "/.cache/huggingface/hub");
  Set("XDG_CACHE_HOME", root_ + "/xdg");
  EXPECT_EQ(HubCacheDir(), root_ + "/xdg/huggingface/hub");
  Set("HF_HOME", "~/hf");
  EXPECT_EQ(HubCacheDir(), root_ + "/hf/hub");
  EXPECT_EQ(HubHome(), root_ + "/hf");
  Set("HF_HUB_CACHE", "/cache");
  EXPECT_EQ(HubCacheDir(), "/cache");
  Set("HF_HUB_CACHE", "");
  EXPECT_EQ(HubCacheDir(), root_ + "/hf/hub");
}

TEST_F(FindModelTest, CachedByNameAndRevision) {
  Cache(cache_, "openai/whisper-tiny", kCommit, "main", true);
  Cache(cache_, "openai/whisper-tiny", "feed", "refs/pr/7", false);
  const ModelDir model = FindModel("openai/whisper-tiny", ModelUse::kRun).value();
  EXPECT_EQ(model.path, cache_ + "/models--openai--whisper-tiny/snapshots/" + kCommit);
  EXPECT_EQ(model.name, "openai/whisper-tiny");
  EXPECT_EQ(model.commit, kCommit);
  EXPECT_TRUE(model.has_weights);
  EXPECT_EQ(FindModel("tiny", ModelUse::kRun)->path, model.path);
  EXPECT_EQ(FindModel("whisper-tiny", ModelUse::kRun)->path, model.path);
  EXPECT_EQ(FindModel("openai/whisper-tiny@main", ModelUse::kRun)->path, model.path);
  EXPECT_EQ(FindModel(std::string("tiny@") + kCommit, ModelUse::kRun)->path, model.path);
  EXPECT_EQ(FindModel("tiny@refs/pr/7", ModelUse::kPlan)->commit, "feed");
  EXPECT_THAT(Message(FindModel("tiny@refs/pr/7", ModelUse::kRun)),
              AllOf(HasSubstr("no weights"), HasSubstr("sotto pull")));
  EXPECT_THAT(Message(FindModel("tiny@v2", ModelUse::kRun)), AllOf(HasSubstr("\"v2\""), HasSubstr(kCommit)));
}

TEST_F(FindModelTest, APickleIsFoundSoThatItsRemedyIsTold) {
  Cache(cache_, "a/b", kCommit, "main", false);
  Write(cache_ + "/models--a--b/snapshots/" + kCommit + "/pytorch_model.bin", "");
  const ModelDir model = FindModel("a/b", ModelUse::kRun).value();
  EXPECT_THAT(ModelFiles::Open(model.path).error().message, HasSubstr("save_pretrained"));
}

TEST_F(FindModelTest, CatalogueIsForPlans) {
  Write(root_ + "/catalog/acme/ear-1.json",
        R"({"name":"acme/ear-1","source":"","parameters":1,"config":{"model_type":"ear"}})");
  const ModelDir model = FindModel("acme/ear-1", ModelUse::kPlan).value();
  EXPECT_TRUE(model.from_catalog);
  EXPECT_FALSE(model.has_weights);
  EXPECT_EQ(ReadConfig(model).value()["model_type"], "ear");
  EXPECT_EQ(FindModel("ear-1", ModelUse::kPlan)->name, "acme/ear-1");
  EXPECT_THAT(Message(FindModel("acme/ear-1", ModelUse::kRun)),
              AllOf(HasSubstr("sotto pull acme/ear-1"), HasSubstr("catalogue"), HasSubstr(cache_)));
  Write(root_ + "/catalog/other/ear-1.json", "{}");
  EXPECT_THAT(Message(FindModel("ear-1", ModelUse::kPlan)), HasSubstr("acme/ear-1, other/ear-1"));
  EXPECT_THAT(ReadConfig(FindModel("other/ear-1", ModelUse::kPlan).value()).error().message,
              HasSubstr("has no \"config\""));
  Cache(cache_, "acme/ear-1", kCommit, "main", true);  // what was downloaded goes first
  EXPECT_FALSE(FindModel("acme/ear-1", ModelUse::kPlan)->from_catalog);
}

TEST_F(FindModelTest, ShippedCatalogueIsFoundInTheSourceTree) {
  Set("SOTTO_CATALOG", std::nullopt);
  const ModelDir model = FindModel("large-v3-turbo", ModelUse::kPlan).value();
  EXPECT_EQ(model.name, "openai/whisper-large-v3-turbo");
  EXPECT_EQ(ReadConfig(model).value()["model_type"], "whisper");
  for (const std::string& file : ListDirectory(SOTTO_SOURCE_DIR "/catalog/openai"))
    EXPECT_TRUE(FindModel("openai/" + file.substr(0, file.rfind(".json")), ModelUse::kPlan).ok()) << file;
}

TEST_F(FindModelTest, ALibraryBringsItsOwnCatalogue) {
  Write(root_ + "/package/acme/ear-2.json", "{}");
  SetCatalogDir(root_ + "/package");
  EXPECT_FALSE(FindModel("acme/ear-2", ModelUse::kPlan).ok()) << "SOTTO_CATALOG goes first";
  Set("SOTTO_CATALOG", std::nullopt);
  EXPECT_TRUE(FindModel("acme/ear-2", ModelUse::kPlan).ok());
  SetCatalogDir("");
  EXPECT_FALSE(FindModel("acme/ear-2", ModelUse::kPlan).ok());
}

TEST_F(FindModelTest, NotFoundSaysWhereItLookedAndWhatToDo) {
  const auto missing = FindModel("acme/nothing", ModelUse::kPlan);
  EXPECT_EQ(missing.error().code, Code::kBadModel);
  EXPECT_THAT(Message(missing),
              AllOf(HasSubstr(cache_), HasSubstr(root_ + "/catalog"), HasSubstr("`sotto pull acme/nothing`")));
  EXPECT_THAT(Message(FindModel("acme/nothing@v1", ModelUse::kRun)),
              HasSubstr("`sotto pull acme/nothing --revision v1`"));
}

TEST_F(FindModelTest, NamesCannotLeaveTheCache) {
  Write(root_ + "/secret/config.json", "{}");
  for (const char* name :
       {"", "a/../b", "../secret", "a//b", "a/b/c", "a/b@../../x", "a/b@/etc", "a/b@", "a/b@x//y", "a--b/c", "-a/b",
        "a/.b", "a/b.git", "a/b\n", "a b", "%2e%2e/x", "a\\b", "a/b@x/../y", "~root/x"}) {
    const auto model = FindModel(name, ModelUse::kPlan);
    ASSERT_FALSE(model.ok()) << name;
    EXPECT_TRUE(model.error().code == Code::kUsage || model.error().message.find("does not exist") != std::string::npos)
        << name;
  }
  // A ref is a file like any other: what it says is one component of a path or nothing.
  Cache(cache_, "a/b", kCommit, "", true);
  for (const char* ref : {"../../../../../secret", "", "..", "/", "x\ny"}) {
    Write(cache_ + "/models--a--b/refs/main", ref);
    EXPECT_FALSE(FindModel("a/b", ModelUse::kPlan).ok()) << ref;
  }
  Write(cache_ + "/models--a--b/refs/main", std::string(100'000, 'a'));
  EXPECT_FALSE(FindModel("a/b", ModelUse::kPlan).ok());
}

TEST(GoldenWeights, TensorsOfTheWhisperCheckpoints) {
  for (const char* name : {"english-bf16", "multilingual-f32", "odd-f16"}) {
    const std::string dir = std::string(SOTTO_SOURCE_DIR "/tests/golden/whisper/") + name + "/model";
    const ModelDir model = FindModel(dir, ModelUse::kRun).value();
    EXPECT_TRUE(model.has_weights);
    auto files = ModelFiles::Open(model.path);
    ASSERT_TRUE(files.ok()) << files.error().message;
    uint64_t bytes = 0;
    bool embedding = false;
    EXPECT_TRUE(files
                    ->ForEachTensor([&](const TensorHeader& t) -> Status {
                      bytes += t.bytes;
                      embedding |= t.name == "model.decoder.embed_tokens.weight" && t.shape.size() == 2;
                      return files->TypeOf(t).ok() ? Status() : files->TypeOf(t).error();
                    })
                    .ok());
    EXPECT_TRUE(embedding);
    EXPECT_EQ(bytes + files->header_bytes(), files->total_bytes());
    EXPECT_EQ(files->count(), std::string(name) == "english-bf16" ? 2 : 1);
  }
}

}  // namespace
}  // namespace sotto
