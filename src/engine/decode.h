// Greedy decoding of Whisper, several sequences side by side. Nothing is allocated between the first prompt token and the last
// token of a window: vectors are reserved for the whole context when the decoder is made.
#pragma once
#include <atomic>
#include <vector>

#include "models/model.h"
#include "text/whisper_rules.h"

namespace sotto {

struct DecodeLane {
  // in
  int32_t sequence = 0;         // whose cross-attention cache it reads
  std::vector<int32_t> prompt;  // ends with the start-of-transcript tokens
  size_t sot_index = 0;         // of <|startoftranscript|> in the prompt
  bool timestamps = true;
  // out
  std::vector<int32_t> tokens;  // without <|endoftext|>
  double sum_logprob = 0;       // of the tokens and of <|endoftext|>, after the rules
  float no_speech = 0;          // probability of <|nospeech|> at the start of the transcript
  bool ended = false;           // by <|endoftext|>, not by the length

  double AverageLogprob() const { return sum_logprob / static_cast<double>(tokens.size() + 1); }
};

class WhisperDecoder {
 public:
  WhisperDecoder(Model& model, Backend& ops, const WhisperTokens& tokens, const Run& run, int64_t sequences);

  // The likeliest language of what `sequence` has heard; the model must be multilingual.
  int32_t DetectLanguage(int32_t sequence);

  // Decodes all lanes to their end: <|endoftext|>, `max_new` tokens or the context's end. kInterrupted when `stop` is set.
  Status Decode(std::span<DecodeLane*> lanes, int64_t max_new, const std::atomic<bool>& stop);

  // Plain argmax continuation without any rule, as `sotto logits --greedy` shows it: consumes `prompt`, gives `count` ids. Each
  // prompt row's logits go to `row_logits`. `eot` < 0: never ends.
  void Greedy(int32_t sequence, std::span<const int32_t> prompt, int64_t count, int32_t eot,
              FunctionRef<void(std::span<const float>)> row_logits, std::vector<int32_t>* ids);

 private:
  // Feeds tokens of one sequence at consecutive positions from `position` on; the last chunk's rows stay readable.
  void Feed(int32_t sequence, std::span<const int32_t> tokens, int64_t position);
  std::span<float> LogitsOf(int64_t row, int64_t slot_rows, int64_t slot);
  int32_t Sample(DecodeLane* lane, std::span<float> logits);

  Model& model_;
  Backend& ops_;
  const WhisperTokens& tokens_;
  Run run_;
  int64_t context_;
  std::vector<int32_t> seq_, pos_, ids_;  // rows of a step
  std::vector<DecodeLane*> active_;
};

}  // namespace sotto
