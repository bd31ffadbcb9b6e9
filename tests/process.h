// Running the sotto binary from a test: its exit code, output, and the limits it ran under.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json_fwd.h"

namespace sotto {

struct RunOptions {
  std::string stdin_path;                                        // empty: /dev/null
  std::vector<std::pair<std::string, std::string>> environment;  // added
  std::optional<uint64_t> data_limit;                            // RLIMIT_DATA, bytes
  std::string cgroup_procs;                                      // path of a cgroup.procs that the child joins
  int interrupt_after_ms = 0;                                    // SIGINT then; 0: never
  bool close_stdin = false;
};

struct Ran {
  int code = -1;  // 128 + signal when killed
  std::string out, err;
};

Ran RunSotto(const std::vector<std::string>& arguments, const RunOptions& options = {});

// A folder that is removed with its content.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A model directory of this shape with random fp32 weights and the tokenizer of tests/golden/whisper/multilingual-f32.
struct RandomShape {
  int d_model = 64, heads = 1, encoder_layers = 2, decoder_layers = 2, ffn = 256, n_mels = 80, positions = 1500;
};
void WriteRandomModel(const std::string& dir, const RandomShape& shape);
// config.json and random fp32 weights of any model that is known.
void WriteRandomWeights(const std::string& dir, const Json& config);

// 16 kHz mono PCM16: tones whose pitch and loudness wander, `seconds` long.
void WriteTones(const std::string& path, double seconds);

}  // namespace sotto
