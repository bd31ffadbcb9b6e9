// How well a language model predicts a text: the mean of -ln p(token | what stands before it in its window), and exp of that. Windows
// of `context` tokens advance by `stride`, and only the last `stride` tokens of each are counted, so that every counted token but
// those of the first window sees at least context - stride before it (the sliding window of transformers' "Perplexity of fixed-length
// models"). The text is read piece by piece: memory does not depend on its length.
//
//   const Perplexity p = TRY(MeasurePerplexity(engine, "book.txt", {.stride = 512}, StopFlag(), progress));
//   p.value(), p.bits_per_byte()
#pragma once
#include <atomic>
#include <functional>
#include <string>

#include "engine/engine.h"

namespace sotto {

struct PerplexityOptions {
  int64_t stride = 0;      // tokens; 0: half of the context
  int64_t max_tokens = 0;  // of the text; 0: all
};

struct Perplexity {
  uint64_t tokens = 0;  // counted: all but the very first
  uint64_t bytes = 0;   // of text that they stand for
  double nll = 0;       // nats, summed
  bool cut = false;     // max_tokens ended it
  double value() const;
  double bits_per_byte() const;  // comparable between tokenizers
};

// `path`: UTF-8 text; "-" is standard input. kBadInput when there are fewer than two tokens. `progress(bytes read, of all)`.
Result<Perplexity> MeasurePerplexity(Engine& engine, const std::string& path, const PerplexityOptions& options,
                                     const std::atomic<bool>& stop,
                                     const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace sotto
