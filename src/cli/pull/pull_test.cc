// sotto-pull as a program against tests/mock_hub.py on the loopback: what it asks, what it writes, what it says.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "weights/model_dir.h"

namespace sotto {
namespace {
namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Words = std::vector<std::string>;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";  // of every repository of the mock

std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void WriteAll(const std::string& path, const std::string& text) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// Starts a program with stdin and stdout as pipes and stderr in a file.
struct Child {
  pid_t pid = -1;
  int to = -1, from = -1;
  Child(const Words& words, const Words& environment, const std::string& errors) {
    int in[2], out[2];
    EXPECT_EQ(pipe2(in, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
      dup2(in[0], 0);
      dup2(out[1], 1);
      dup2(open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), 2);
      for (const char* name : {"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH",
                               "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTP_PROXY", "http_proxy"})
        unsetenv(name);
      for (const std::string& e : environment) putenv(const_cast<char*>(e.c_str()));
      std::vector<char*> argv;
      for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
      argv.push_back(nullptr);
      execvp(argv[0], argv.data());
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    to = in[1];
    from = out[0];
  }
  std::string Output() const {
    std::string all;
    char buffer[4096];
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;) all.append(buffer, static_cast<size_t>(n));
    return all;
  }
  int Wait() {
    int status = 0;
    waitpid(pid, &status, 0);
    pid = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  ~Child() {
    close(to);
    close(from);
    if (pid > 0) kill(pid, SIGKILL), Wait();
  }
};

class PullTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "sotto_pull_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
    WriteAll(Repo("config.json"), R"({"model_type":"whisper"})");
    WriteAll(Repo("tokenizer.json"), "{}");
    WriteAll(Repo("model.safetensors"), Large(3'000'000));
    WriteAll(Repo("pytorch_model.bin"), "pickle");
    WriteAll(Repo("onnx/config.json"), "{}");
    WriteAll(Repo("README.md"), "read me");
  }
  void TearDown() override {
    hub_.reset();
    fs::remove_all(root_);
  }

  std::string Repo(const std::string& file) const { return root_ + "/hub/acme/ear/" + file; }
  std::string Cache() const { return root_ + "/home/hub"; }
  std::string Snapshot() const { return Cache() + "/models--acme--ear/snapshots/" + kCommit; }
  static std::string Large(size_t bytes) {
    std::string text(bytes, 0);
    for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i * 2654435761u >> 13);
    return text;
  }

  void Serve(const Words& options = {}) {
    hub_.reset();
    fs::remove(root_ + "/hub/log.jsonl");
    Words words = {"python3", SOTTO_SOURCE_DIR "/tests/mock_hub.py", root_ + "/hub"};
    words.insert(words.end(), options.begin(), options.end());
    hub_.emplace(words, Words{}, root_ + "/mock.txt");
    std::string line;
    for (char c; read(hub_->from, &c, 1) == 1 && c != '\n';) line += c;
    std::istringstream(line) >> port_ >> cdn_port_;
    ASSERT_GT(cdn_port_, 0) << line << ReadAll(root_ + "/mock.txt");
  }

  // Runs sotto-pull; its stdout is out_, its stderr err_.
  int Pull(const Words& arguments, const Words& environment = {}) {
    Words words = {SOTTO_PULL_BINARY, "--wait", "0"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    Words all = {"HF_HOME=" + root_ + "/home", fmt::format("HF_ENDPOINT=http://127.0.0.1:{}", port_)};
    all.insert(all.end(), environment.begin(), environment.end());
    Child child(words, all, root_ + "/err.txt");
    out_ = child.Output();
    const int code = child.Wait();
    err_ = ReadAll(root_ + "/err.txt");
    return code;
  }

  // What the mock was asked: one object a request.
  std::vector<Json> Requests() const {
    std::vector<Json> all;
    std::istringstream lines(ReadAll(root_ + "/hub/log.jsonl"));
    for (std::string line; std::getline(lines, line);) all.push_back(ParseJson(line, "log", Code::kFailed).value());
    return all;
  }
  int Count(const std::string& server, const std::string& method, const std::string& path_part = "") const {
    int n = 0;
    for (const Json& r : Requests())
      n += r["server"] == server && r["method"] == method &&
           r["path"].get<std::string>().find(path_part) != std::string::npos;
    return n;
  }
  // No file under blobs/ but whole ones.
  int Blobs(const std::string& suffix) const {
    int n = 0;
    std::error_code none;
    for (const auto& e : fs::directory_iterator(Cache() + "/models--acme--ear/blobs", none))
      n += e.path().string().ends_with(".incomplete") == (suffix == ".incomplete");
    return n;
  }

  std::string root_, out_, err_;
  int port_ = 0, cdn_port_ = 0;
  std::optional<Child> hub_;
};

TEST_F(PullTest, Fresh) {
  Serve();
  ASSERT_EQ(Pull({"acme/ear"}), 0) << err_;
  EXPECT_EQ(out_, Snapshot() + "\n");
  EXPECT_EQ(ReadAll(Snapshot() + "/model.safetensors"), ReadAll(Repo("model.safetensors")));
  EXPECT_EQ(ReadAll(Snapshot() + "/config.json"), ReadAll(Repo("config.json")));
  EXPECT_TRUE(fs::exists(Snapshot() + "/tokenizer.json"));
  EXPECT_FALSE(fs::exists(Snapshot() + "/pytorch_model.bin"));
  EXPECT_FALSE(fs::exists(Snapshot() + "/README.md"));
  EXPECT_FALSE(fs::exists(Snapshot() + "/onnx"));
  const fs::path link = fs::read_symlink(Snapshot() + "/config.json");
  EXPECT_THAT(link.string(), testing::StartsWith("../../blobs/"));
  EXPECT_EQ(ReadAll(Cache() + "/models--acme--ear/refs/main"), kCommit);
  EXPECT_EQ(Blobs(".incomplete"), 0);
  EXPECT_EQ(Blobs(""), 3);
}

TEST_F(PullTest, CachedFilesAreNotFetchedAgain) {
  Serve();
  ASSERT_EQ(Pull({"acme/ear"}), 0) << err_;
  Serve();
  ASSERT_EQ(Pull({"acme/ear", "--json"}), 0) << err_;
  EXPECT_EQ(Requests().size(), 1u);  // the listing
  const Json report = ParseJson(out_, "stdout", Code::kFailed).value();
  EXPECT_EQ(report["files"].size(), 3u);
  for (const Json& file : report["files"]) EXPECT_TRUE(file["cached"]) << file;
  // A blob that another snapshot brought is linked, not fetched.
  fs::remove(Snapshot() + "/model.safetensors");
  Serve();
  ASSERT_EQ(Pull({"acme/ear"}), 0) << err_;
  EXPECT_EQ(Count("cdn", "GET"), 0);
  EXPECT_EQ(ReadAll(Snapshot() + "/model.safetensors"), ReadAll(Repo("model.safetensors")));
}

TEST_F(PullTest, ResumesAfterACut) {
  Serve({"--fault", "cut"});
  ASSERT_EQ(Pull({"acme/ear"}), 0) << err_;
  EXPECT_EQ(ReadAll(Snapshot() + "/model.safetensors"), ReadAll(Repo("model.safetensors")));
  std::vector<std::string> ranges;
  for (const Json& r : Requests())
    if (r["server"] == "cdn") ranges.push_back(r["range"]);
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges[0], "");
  EXPECT_EQ(ranges[1], "bytes=1500000-");
}

TEST_F(PullTest, ResumesWhatAnEarlierRunLeft) {
  Serve({"--fault", "cut"});
  ASSERT_EQ(Pull({"acme/ear", "--attempts", "1"}), 1);
  EXPECT_THAT(err_, HasSubstr("run the same command to go on"));
  EXPECT_EQ(Blobs(".incomplete"), 1);
  EXPECT_FALSE(fs::exists(Cache() + "/models--acme--ear/refs/main"));  // an incomplete snapshot has no name
  Serve();
  ASSERT_EQ(Pull({"acme/ear"}), 0) << err_;
  EXPECT_EQ(Requests().back()["range"], "bytes=1500000-");
  EXPECT_EQ(ReadAll(Snapshot() + "/model.safetensors"), ReadAll(Repo("model.safetensors")));
}

TEST_F(PullTest, ADamagedPartIsFetchedAnew) {
  Serve({"--fault", "cut"});
  ASSERT_EQ(Pull({"acme/ear", "--attempts", "1"}), 1);
  for (const auto& e : fs::directory_iterator(Cache() + "/models--acme--ear/blobs"))
    if (e.path().extension() == ".incomplete") std::ofstream(e.path(), std::ios::in | std::ios::binary) << "damage";
  Serve();
  ASSERT_EQ(Pull({"acme/ear"}), 0) << err_;
  EXPECT_EQ(ReadAll(Snapshot() + "/model.safetensors"), ReadAll(Repo("model.safetensors")));
}

TEST_F(PullTest, AServerWithoutRangesSendsTheWholeAgain) {
  Serve({"--fault", "cut", "--fault", "whole"});
  ASSERT_EQ(Pull({"acme/ear"}), 0) << err_;
  EXPECT_EQ(ReadAll(Snapshot() + "/model.safetensors"), ReadAll(Repo("model.safetensors")));
}

TEST_F(PullTest, WrongContentIsNotKept) {
  Serve({"--fault", "corrupt"});
  ASSERT_EQ(Pull({"acme/ear"}), 1);
  EXPECT_THAT(err_, HasSubstr("checksum"));
  EXPECT_FALSE(fs::exists(Snapshot() + "/model.safetensors"));
  EXPECT_EQ(Blobs(".incomplete"), 0);
  Serve({"--fault", "long"});
  ASSERT_EQ(Pull({"acme/ear", "--attempts", "2"}), 1);
  EXPECT_FALSE(fs::exists(Snapshot() + "/model.safetensors"));
}

TEST_F(PullTest, GivesUpOnADeadServer) {
  Serve({"--fault", "cut-always"});
  ASSERT_EQ(Pull({"acme/ear", "--attempts", "3"}), 1);
  EXPECT_EQ(Count("cdn", "GET"), 3);
  EXPECT_THAT(err_, HasSubstr("after 3 attempts"));
  hub_.reset();
  ASSERT_EQ(Pull({"acme/ear", "--attempts", "2", "--json"}), 1);
  EXPECT_EQ(ParseJson(out_, "stdout", Code::kFailed).value()["error"]["code"], "failed");
}

TEST_F(PullTest, WaitsOutABusyServerAndASilentOne) {
  Serve({"--fault", "busy"});
  EXPECT_EQ(Pull({"acme/ear"}), 0) << err_;
  fs::remove_all(Cache());
  Serve({"--fault", "stall"});
  EXPECT_EQ(Pull({"acme/ear", "--timeout", "1"}), 0) << err_;
}

TEST_F(PullTest, TheTokenStaysAtItsHost) {
  Serve({"--token", "hf_secret"});
  ASSERT_EQ(Pull({"acme/ear"}, {"HF_TOKEN=hf_secret"}), 0) << err_;
  for (const Json& r : Requests()) EXPECT_EQ(r["auth"], r["server"] == "hub" ? "Bearer hf_secret" : "") << r;
  EXPECT_EQ(Count("cdn", "GET", "?Signature=a%2Bb&x=1"), 1);  // to the byte, or a CDN refuses it
  EXPECT_THAT(err_ + out_, Not(HasSubstr("hf_secret")));
  fs::remove_all(Cache());
  WriteAll(root_ + "/home/token", "hf_secret\n");
  EXPECT_EQ(Pull({"acme/ear"}), 0) << err_;
  EXPECT_EQ(Pull({"acme/ear"}, {"HF_TOKEN=bad token"}), 2);
}

TEST_F(PullTest, SaysWhyAccessIsRefused) {
  Serve({"--token", "hf_secret"});
  EXPECT_EQ(Pull({"acme/ear"}), 4);
  EXPECT_THAT(err_, AllOf(HasSubstr("is private"), HasSubstr("HF_TOKEN")));
  EXPECT_EQ(Pull({"acme/ear"}, {"HF_TOKEN=hf_wrong"}), 1);
  EXPECT_THAT(err_, HasSubstr("does not accept the token"));
  Serve({"--token", "hf_secret", "--gated"});
  EXPECT_EQ(Pull({"acme/ear"}), 1);
  EXPECT_THAT(err_, AllOf(HasSubstr("gated"), HasSubstr("licence"), HasSubstr("/acme/ear"), HasSubstr("HF_TOKEN")));
  EXPECT_THAT(err_, Not(HasSubstr("\x1b")));
}

TEST_F(PullTest, SaysWhatDoesNotExist) {
  Serve();
  EXPECT_EQ(Pull({"acme/nose"}), 4);
  EXPECT_THAT(err_, HasSubstr("acme/nose does not exist"));
  EXPECT_EQ(Pull({"acme/ear", "--revision", "v9"}), 4);
  EXPECT_THAT(err_, HasSubstr("no revision v9"));
  EXPECT_EQ(Pull({"acme/ear", "--include", "*.gguf"}), 4);
  EXPECT_THAT(err_, HasSubstr("config.json"));
  fs::remove(Repo("model.safetensors"));
  EXPECT_EQ(Pull({"acme/ear"}), 4);
  EXPECT_THAT(err_, AllOf(HasSubstr("pickles"), HasSubstr("--include config.json")));
  fs::remove(Repo("config.json"));
  EXPECT_EQ(Pull({"acme/ear"}), 4);
  EXPECT_THAT(err_, HasSubstr("no config.json"));
}

TEST_F(PullTest, OfflineAsksNothing) {
  Serve();
  EXPECT_EQ(Pull({"acme/ear", "--offline"}), 1);
  EXPECT_THAT(err_, HasSubstr("HF_HUB_OFFLINE"));
  EXPECT_EQ(Pull({"acme/ear"}, {"HF_HUB_OFFLINE=1"}), 1);
  EXPECT_EQ(Requests().size(), 0u);
}

TEST_F(PullTest, UsageErrors) {
  for (const Words& bad : std::vector<Words>{
           {}, {"../x"}, {"a/b/c"}, {"acme/ear", "--revision", "../x"}, {"acme/ear", "--what"}, {"acme/ear@"}})
    EXPECT_EQ(Pull(bad), 2) << fmt::format("{} {}", bad.size(), err_);
  EXPECT_EQ(Pull({"acme/ear"}, {"HF_ENDPOINT=ftp://x"}), 2);
}

TEST_F(PullTest, HostileServers) {
  Serve({"--fault", "evil-names"});
  EXPECT_EQ(Pull({"acme/ear", "--include", "*"}), 1);
  EXPECT_THAT(err_, HasSubstr("outside of its folder"));
  Serve({"--fault", "huge"});
  EXPECT_EQ(Pull({"acme/ear"}), 1);
  EXPECT_THAT(err_, AllOf(HasSubstr("free"), HasSubstr("HF_HUB_CACHE")));
  EXPECT_EQ(Count("cdn", "GET"), 0);
  Serve({"--fault", "loop"});
  EXPECT_EQ(Pull({"acme/ear"}), 1);
  EXPECT_THAT(err_, HasSubstr("too many redirects"));
}

TEST_F(PullTest, ShardsComeFromTheIndex) {
  fs::remove(Repo("model.safetensors"));
  WriteAll(Repo("model-00001-of-00002.safetensors"), Large(5000));
  WriteAll(Repo("model-00002-of-00002.safetensors"), Large(6000));
  WriteAll(Repo("model.fp32-00001-of-00001.safetensors"), Large(7000));
  const std::string index =
      R"({"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors")";
  WriteAll(Repo("model.safetensors.index.json"), index + "}}");
  Serve();
  ASSERT_EQ(Pull({"acme/ear@main"}), 0) << err_;
  EXPECT_TRUE(fs::exists(Snapshot() + "/model.safetensors.index.json"));
  EXPECT_EQ(ReadAll(Snapshot() + "/model-00002-of-00002.safetensors"), Large(6000));
  EXPECT_FALSE(fs::exists(Snapshot() + "/model.fp32-00001-of-00001.safetensors"));
  fs::remove_all(Cache());
  WriteAll(Repo("model.safetensors.index.json"), index + R"(,"c":"../../x"}})");
  EXPECT_EQ(Pull({"acme/ear"}), 4);
  EXPECT_THAT(err_, HasSubstr("which acme/ear does not have"));
}

TEST_F(PullTest, IncludeTakesFoldersToo) {
  Serve();
  ASSERT_EQ(Pull({"acme/ear", "--include", "onnx/*", "--include", "README.md", "--revision", "refs/pr/1"}), 0) << err_;
  EXPECT_EQ(ReadAll(Snapshot() + "/onnx/config.json"), "{}");
  EXPECT_THAT(fs::read_symlink(Snapshot() + "/onnx/config.json").string(), testing::StartsWith("../../../blobs/"));
  EXPECT_TRUE(fs::exists(Snapshot() + "/README.md"));
  EXPECT_FALSE(fs::exists(Snapshot() + "/config.json"));
  EXPECT_EQ(ReadAll(Cache() + "/models--acme--ear/refs/refs/pr/1"), kCommit);
}

TEST_F(PullTest, AMirrorWithoutHashesIsTrustedForTheSize) {
  Serve({"--fault", "odd-etag", "--fault", "cut"});
  ASSERT_EQ(Pull({"acme/ear"}), 0) << err_;
  EXPECT_EQ(ReadAll(Snapshot() + "/model.safetensors"), ReadAll(Repo("model.safetensors")));
}

TEST_F(PullTest, AMovedRepositoryIsFollowed) {
  fs::create_directories(root_ + "/hub/old");
  fs::rename(root_ + "/hub/acme", root_ + "/hub/new");
  fs::create_directory_symlink(root_ + "/hub/new/ear", root_ + "/hub/old/ear");
  Serve({"--fault", "moved"});
  ASSERT_EQ(Pull({"old/ear"}), 0) << err_;
  EXPECT_TRUE(fs::exists(Cache() + "/models--old--ear/snapshots/" + kCommit + "/model.safetensors"));
}

// A certificate for `name` ("IP:127.0.0.1") that signs itself; false without the openssl command.
bool MakeCertificate(const std::string& stem, const std::string& name) {
  return std::system(fmt::format("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
                                 "-subj /CN=mock -addext subjectAltName={} -keyout {}.key -out {}.pem 2>/dev/null",
                                 name, stem, stem)
                         .c_str()) == 0;
}

TEST_F(PullTest, EncryptedAndOnlyWithACertificateForTheHost) {
  const std::string good = root_ + "/good", other = root_ + "/other";
  if (!MakeCertificate(good, "IP:127.0.0.1") || !MakeCertificate(other, "DNS:example.org"))
    GTEST_SKIP() << "no openssl";
  const auto pull = [&](const std::string& trusted) {
    return Pull({"acme/ear", "--attempts", "1"}, {fmt::format("HF_ENDPOINT=https://127.0.0.1:{}", port_),
                                                  "SSL_CERT_FILE=" + trusted + ".pem", "SSL_CERT_DIR=/nonexistent"});
  };
  Serve({"--tls", good + ".pem", good + ".key", "--fault", "cut"});
  EXPECT_EQ(pull(other), 1);
  EXPECT_THAT(err_, HasSubstr("certificate is not accepted"));
  EXPECT_EQ(Pull({"acme/ear", "--attempts", "2"},
                 {fmt::format("HF_ENDPOINT=https://127.0.0.1:{}", port_), "SSL_CERT_FILE=" + good + ".pem"}),
            0)
      << err_;
  EXPECT_EQ(ReadAll(Snapshot() + "/model.safetensors"), ReadAll(Repo("model.safetensors")));
  fs::remove_all(Cache());
  Serve({"--tls", other + ".pem", other + ".key"});
  EXPECT_EQ(pull(other), 1);
  EXPECT_THAT(err_, HasSubstr("target host name"));
  Serve({"--tls", good + ".pem", good + ".key", "--fault", "downgrade"});
  EXPECT_EQ(pull(good), 1);
  EXPECT_THAT(err_, HasSubstr("not encrypted"));
  EXPECT_EQ(Count("cdn", "GET"), 0);
}

TEST_F(PullTest, FindModelSeesWhatWasPulled) {
  Serve();
  ASSERT_EQ(Pull({"acme/ear"}), 0) << err_;
  setenv("HF_HUB_CACHE", Cache().c_str(), 1);
  const auto model = FindModel("acme/ear", ModelUse::kRun);
  unsetenv("HF_HUB_CACHE");
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model.value().path, Snapshot());
  EXPECT_TRUE(model.value().has_weights);
}

}  // namespace
}  // namespace sotto
