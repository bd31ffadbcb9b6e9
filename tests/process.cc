#include "process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/json.h"
#include "models/model.h"

namespace sotto {

Ran RunSotto(const std::vector<std::string>& arguments, const RunOptions& o) {
  std::vector<std::string> words = {SOTTO_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  int out[2], err[2];
  if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0) return {};
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (!o.cgroup_procs.empty()) {
      std::FILE* f = std::fopen(o.cgroup_procs.c_str(), "w");
      if (f == nullptr || std::fprintf(f, "%d", getpid()) < 0 || std::fclose(f) != 0) _exit(99);
    }
    const int in = ::open(o.stdin_path.empty() ? "/dev/null" : o.stdin_path.c_str(), O_RDONLY);
    ::dup2(in, 0);
    if (o.close_stdin) ::close(0);
    ::dup2(out[1], 1);
    ::dup2(err[1], 2);
    for (const auto& [key, value] : o.environment) ::setenv(key.c_str(), value.c_str(), 1);
    if (o.data_limit) {
      const rlimit limit{*o.data_limit, *o.data_limit};
      ::setrlimit(RLIMIT_DATA, &limit);
    }
    ::execv(argv[0], argv.data());
    _exit(98);
  }
  ::close(out[1]);
  ::close(err[1]);
  Ran ran;
  const auto started = std::chrono::steady_clock::now();
  bool interrupted = false;
  pollfd fds[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
  for (int open = 2; open > 0;) {
    ::poll(fds, 2, 20);
    const auto ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started).count();
    if (o.interrupt_after_ms > 0 && ms >= o.interrupt_after_ms && !interrupted) {
      ::kill(pid, SIGINT);
      interrupted = true;
    }
    for (pollfd& p : fds) {
      if (p.fd < 0 || (p.revents & (POLLIN | POLLHUP)) == 0) continue;
      char block[65536];
      const ssize_t got = ::read(p.fd, block, sizeof block);
      if (got > 0) {
        (p.fd == out[0] ? ran.out : ran.err).append(block, static_cast<size_t>(got));
      } else {
        p.fd = -1;
        --open;
      }
    }
  }
  ::close(out[0]);
  ::close(err[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

TempDir::TempDir() {
  std::string path = (std::filesystem::temp_directory_path() / "sotto-test-XXXXXX").string();
  path_ = ::mkdtemp(path.data());
}

TempDir::~TempDir() {
  std::error_code ec;
  std::filesystem::remove_all(path_, ec);
}

void WriteRandomModel(const std::string& dir, const RandomShape& s) {
  namespace fs = std::filesystem;
  const fs::path from = SOTTO_SOURCE_DIR "/tests/golden/whisper/multilingual-f32/model";
  fs::create_directories(dir);
  for (const char* name : {"tokenizer.json", "generation_config.json"})
    fs::copy_file(from / name, fs::path(dir) / name, fs::copy_options::overwrite_existing);
  Json config = ReadJson((from / "config.json").string(), Code::kBadModel).value();
  config["d_model"] = s.d_model;
  config["encoder_layers"] = s.encoder_layers;
  config["decoder_layers"] = s.decoder_layers;
  config["encoder_attention_heads"] = config["decoder_attention_heads"] = s.heads;
  config["encoder_ffn_dim"] = config["decoder_ffn_dim"] = s.ffn;
  config["num_mel_bins"] = s.n_mels;
  config["max_source_positions"] = s.positions;
  WriteRandomWeights(dir, config);
}

void WriteRandomWeights(const std::string& dir, const Json& config) {
  std::filesystem::create_directories(dir);
  std::ofstream(dir + "/config.json") << config.dump();
  Anatomy anatomy;
  const Workload least{0, 1, 1, DenseKvPolicy(DType::kF32), 1};
  const auto model = BuildModel(config, least, anatomy);
  Json header = Json::object();
  uint64_t offset = 0;
  for (const Slot& slot : anatomy.slots()) {
    if (slot.role != Role::kWeight) continue;
    Json shape = Json::array();
    for (int i = 0; i < slot.dims; ++i) shape.push_back(slot.shape[static_cast<size_t>(i)]);
    header[slot.name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {offset, offset + slot.Elements() * 4}}};
    offset += slot.Elements() * 4;
  }
  std::ofstream out(dir + "/model.safetensors", std::ios::binary);
  const std::string text = header.dump();
  const uint64_t length = text.size();
  out.write(reinterpret_cast<const char*>(&length), 8);
  out << text;
  std::mt19937 rng(1);
  std::uniform_real_distribution<float> value(-0.1F, 0.1F);
  std::vector<float> block(4093);  // a prime: no two rows are alike
  for (float& f : block) f = value(rng);
  for (uint64_t left = offset / 4; left > 0;) {
    const uint64_t n = std::min<uint64_t>(left, block.size());
    out.write(reinterpret_cast<const char*>(block.data()), static_cast<std::streamsize>(n * 4));
    left -= n;
  }
}

void WriteTones(const std::string& path, double seconds) {
  const auto n = static_cast<uint32_t>(seconds * 16000);
  std::ofstream out(path, std::ios::binary);
  const auto put = [&](auto v) { out.write(reinterpret_cast<const char*>(&v), sizeof v); };
  out << "RIFF";
  put(36 + n * 2);
  out << "WAVEfmt ";
  put(uint32_t{16});
  put(uint16_t{1});
  put(uint16_t{1});
  put(uint32_t{16000});
  put(uint32_t{32000});
  put(uint16_t{2});
  put(uint16_t{16});
  out << "data";
  put(n * 2);
  std::vector<int16_t> block;
  for (uint32_t i = 0; i < n; ++i) {
    const double t = i / 16000.0;
    block.push_back(
        static_cast<int16_t>(9000 * std::sin(6.28318 * (220 + 40 * std::sin(t)) * t) * (0.6 + 0.4 * std::sin(3 * t))));
    if (block.size() == 65536 || i + 1 == n) {
      out.write(reinterpret_cast<const char*>(block.data()), static_cast<std::streamsize>(block.size() * 2));
      block.clear();
    }
  }
}

}  // namespace sotto
