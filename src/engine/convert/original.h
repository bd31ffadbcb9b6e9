// What is converted: the model's slots, and rows of its tensors as fp32.
#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "codec/ggml_types.h"
#include "engine/convert/convert.h"
#include "plan/anatomy.h"
#include "weights/gguf_config.h"
#include "weights/loader.h"
#include "weights/safetensors.h"

namespace sotto {

struct Original {
  ModelDir dir;
  Json config;
  std::unique_ptr<Anatomy> anatomy;
  std::optional<ModelFiles> files;    // of a directory
  std::vector<NamedPart> parts;       // and of others that its config names
  std::optional<GgufModel> gguf;      // or of a .gguf
  std::vector<WeightOrigin> origins;  // by slot
};

std::string LowerName(const GgmlType& type);  // "q4_k"

// Reads and checks headers, no weights. kBadModel.
Result<Original> OpenOriginal(const ModelDir& dir);

// What stands beside the weights in a directory that is made of it: config.json, tokenizer, templates. What the config named elsewhere
// (Ultravox: text_model_id) is in it then, as its weights are in the new files.
Status WriteCompanions(const Original& original, const std::string& to);

// A tensor of whole rows on its way: `rows` of `cols` elements each.
struct Passage {
  WeightOrigin from;
  int64_t rows = 0, cols = 0;
  int64_t half = 0;  // not 0: rows of a head, 2 * half, leave as 0, half, 1, half + 1 … (gguf_names.h, paired_heads)
  std::string name;  // for errors
};

// What has passed, and whether it should go on. Thread-safe.
class Meter {
 public:
  Meter(uint64_t total, ConvertProgress progress) : total_(total), progress_(progress) {}
  // False: interrupted, now or before.
  bool Pass(uint64_t bytes);

 private:
  const uint64_t total_;
  ConvertProgress progress_;
  std::mutex mutex_;
  uint64_t done_ = 0;
  bool stopped_ = false;
};

// Calls `take(first row, rows in it, fp32, thread)` for pieces of `grain` rows or multiples of it (the last may be shorter), from all
// threads. Each thread holds about a MiB, or what `grain` rows need. kBadModel for numbers that aren't finite.
using TakeRows = FunctionRef<Status(int64_t first, std::span<const float> rows, int thread)>;
Status PassRows(const Passage& passage, int64_t grain, Threads& threads, Meter& meter, TakeRows take);

}  // namespace sotto
