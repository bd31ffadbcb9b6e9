// What a language model finds again in its context, which is what a damaged or small cache loses first. Two tasks:
//
//   recall    BOS, "key value" pairs of one token each (a quarter of the length), prose, then queries: a key, and the likeliest
//             next token must be its value. Keys and values are tokens of a space and three or more small letters; every second
//             is a key. Multi-query associative recall (https://arxiv.org/abs/2312.04927).
//   passkey   prose with " The pass key is 12345. Remember it." somewhere in it, then the question; all tokens of the answer
//             must be the likeliest ones. Landmark Attention's task (https://arxiv.org/abs/2305.16300).
//
//   const std::vector<RecallRow> rows = TRY(MeasureRecall(engine, {.lengths = {256, 1024}}, StopFlag(), progress));
#pragma once
#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace sotto {

struct RecallOptions {
  std::vector<int64_t> lengths{256, 512, 1024, 2048};  // tokens; those above the context are left out
  int64_t queries = 256;                               // asked of each length
  int64_t passkeys = 20;                               // of each length, at depths from 0 to 1
  uint64_t seed = 1;
  std::string prose;  // UTF-8 file; "": a few sentences of our own, again and again
};

struct RecallRow {
  int64_t length = 0, asked = 0, right = 0;
  int64_t passkeys = 0, found = 0;
};

// kUsage when the vocabulary has too few words, or no length fits the context. `progress(done, all)`.
Result<std::vector<RecallRow>> MeasureRecall(Engine& engine, const RecallOptions& options,
                                             const std::atomic<bool>& stop,
                                             const std::function<void(double, double)>& progress);

}  // namespace sotto
