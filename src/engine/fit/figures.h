// How good a model was when it was measured: what `sotto eval … --store` and `sotto bench lowmem --store` keep beside it, in
// DIRECTORY/quality.json or FILE.gguf.quality.json, and what `sotto fit` holds against a floor. A figure is of certain weights and a cache,
// and only counts as long as the model's files are those that were measured (StateOfModel). Not here: what is predicted (quality.h).
//
//   TRY(StoreFigure(dir, {.measure = kPerplexity, .value = 19.3, .weights = "packed", .kv = "fp16", .on = input, .count = 4000}));
//   for (const Figure& f : TRY(ReadFigures(dir))) …
//   const ByMeasure floors = TRY(ParseFloors("kl=0.05,perplexity=20"));
#pragma once
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "weights/model_dir.h"

namespace sotto {

enum Measure { kKl, kPerplexity, kWer, kAccuracy };
struct MeasureFacts {
  const char* name;     // of a floor, and of a column
  const char* key;      // in files
  const char* unit;     // behind a number
  bool more;            // is better
  const char* command;  // that measures it
};
inline constexpr std::array<MeasureFacts, 4> kMeasures = {{
    {"kl", "kl_nats", " nats", false, "sotto bench lowmem MODEL --packed DIR --store"},
    {"perplexity", "perplexity", "", false, "sotto eval perplexity MODEL TEXT --store"},
    {"wer", "wer_percent", " %", false, "sotto eval wer MODEL LIST --store"},
    {"accuracy", "accuracy_percent", " %", true, "sotto eval sounds MODEL LIST --store"},
}};
using ByMeasure = std::array<std::optional<double>, kMeasures.size()>;

inline bool Worse(size_t measure, double a, double b) { return kMeasures[measure].more ? a < b : a > b; }

// What was read or heard: the file's name without its folder, its size, and XXH3 of its first MiB.
struct MeasuredOn {
  std::string name;
  int64_t bytes = 0;
  std::string xxh3;
};
Result<MeasuredOn> MeasuredOnFile(const std::string& path);  // kBadInput

struct Figure {
  Measure measure = kKl;
  double value = 0;
  std::string weights, kv;  // as plans name them
  MeasuredOn on;
  int64_t count = 0;         // tokens, words or files
  std::string against = {};  // of a KL: the state of the model that it is from
  std::string state = {};    // of the model that was measured; StoreFigure sets it
};

std::string FiguresPath(const ModelDir& dir);
// Nothing where nothing was stored. kBadModel.
Result<std::vector<Figure>> ReadFigures(const ModelDir& dir);
// In the place of one of the same measure, weights, cache and name of input. kBadModel for a file that is broken or a value that is no
// finite number of at least 0, kFailed.
Status StoreFigure(const ModelDir& dir, Figure figure);
// Before a long measurement: that StoreFigure will find a folder it may write and no broken file.
Status CheckStore(const ModelDir& dir);

// "0.05" (KL) or "kl=0.05,wer=20". kUsage.
Result<ByMeasure> ParseFloors(const std::string& text);
// " with a KL of at most 0.05 nats and a perplexity of at most 20"; "" for none.
std::string FloorsText(const ByMeasure& floors);
// By key; only what is there.
Json MeasuredJson(const ByMeasure& values);

}  // namespace sotto
