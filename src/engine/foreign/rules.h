// What the rules of the engines share: the model in numbers, settings by name, arithmetic that saturates. One file an engine.
#pragma once
#include <fmt/format.h>

#include <map>
#include <span>

#include "engine/foreign/foreign.h"

namespace sotto::foreign {

// What an engine understands as --engine-option: a word of a list, or a number within bounds.
struct Setting {
  std::string_view key;
  std::string_view words;  // "eager|sdpa"; empty: a number
  double least = 1, most = 1 << 30;
  bool whole = true;
};

// Parsed settings. REQUIRES of all: the key is one of the engine's.
class Settings {
 public:
  // kUsage lists the keys, or says what the value must be.
  static Result<Settings> Of(std::string_view engine, std::span<const Setting> known,
                             const std::vector<std::string>& given);
  bool Has(std::string_view key) const { return given_.contains(key); }
  std::string Word(std::string_view key, std::string_view otherwise) const;
  bool Flag(std::string_view key, bool otherwise) const { return Word(key, otherwise ? "true" : "false") == "true"; }
  int64_t Int(std::string_view key, int64_t otherwise) const;
  double Share(std::string_view key, double otherwise) const;

 private:
  std::map<std::string, std::string, std::less<>> given_;
};

// The model and the workload, as every engine's rules need them.
struct Case {
  const Planned& planned;
  const ModelInfo& info;
  std::string model_type;      // config.json's
  WeightKind weights;          // asked for, or as stored
  uint64_t size;               // of a weight's element; 0 for int8 and blocks
  int64_t positions;           // that go through the decoder's cache
  int64_t batch, beams, rows;  // rows = batch x beams
  int64_t full, sliding;       // layers that keep a cache of their own
  KvLayer layer;               // any of them: they differ by window alone
  int64_t window;              // of the sliding ones
  std::optional<Bytes> memory;
};

uint64_t Times(std::initializer_list<int64_t> factors);  // saturates; none is negative
inline uint64_t Times(int64_t a, int64_t b) { return Times({a, b}); }
inline std::string Count(int64_t n, std::string_view noun) {
  return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
}
inline uint64_t Blocks(uint64_t n, uint64_t unit) { return n / unit + (n % unit != 0); }
inline int64_t Pad256(int64_t n) { return (n + 255) / 256 * 256; }

// kUsage unless the weights are fp32, fp16 or bf16.
Status OnlyFloats(const Case& c, std::string_view engine);
// kUsage: the sources have no rule of this engine for `what`.
Error NoRule(std::string_view engine, std::string_view what);

Result<ForeignPlan> PlanTransformers(const Case& c, const std::vector<std::string>& settings);
Result<ForeignPlan> PlanVllm(const Case& c, const std::vector<std::string>& settings);
Result<ForeignPlan> PlanLlamaCpp(const Case& c, const std::vector<std::string>& settings);
Result<ForeignPlan> PlanWhisperCpp(const Case& c, const std::vector<std::string>& settings);

}  // namespace sotto::foreign
