// What Whisper's published decoding does around the network: its special tokens, which tokens may follow which, and how a
// window's tokens become segments and the place to read on. Source: openai/whisper decoding.py and transcribe.py, transformers
// generation_whisper.py and logits_process.py (WhisperTimeStampLogitsProcessor).
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "text/tokenizer.h"

namespace sotto {

struct WhisperTokens {
  int32_t sot = 0, eot = 0, no_timestamps = 0, timestamp_begin = 0, vocab_size = 0;
  std::optional<int32_t> transcribe, translate, prev, no_speech;
  bool multilingual = false;
  struct Language {
    std::string code;  // "en"
    int32_t id;
  };
  std::vector<Language> languages;
  std::vector<int32_t> suppress, begin_suppress;
  std::optional<int64_t> max_initial_timestamp_index;
  int64_t max_length = 448;  // new tokens a window, as generation_config.json says

  std::optional<int32_t> LanguageId(std::string_view code) const;
  bool IsTimestamp(int32_t id) const { return id >= timestamp_begin; }
};

// From generation_config.json, or config.json for what only old checkpoints have there; tokens missing in both are looked up in
// the tokenizer. `generation` may be null (no such file). Every id is checked against vocab_size. kBadModel.
Result<WhisperTokens> ReadWhisperTokens(const Json& config, const Json& generation, const Tokenizer& tokenizer);

// Sets to -infinity what may not come next after `generated` (the tokens after the prompt), in transformers' order: suppressed at
// the begin, suppressed always, timestamp rules.
void ApplyWhisperRules(const WhisperTokens& tokens, bool timestamps, std::span<const int32_t> generated,
                       std::span<float> logits);

struct WhisperSegment {
  double start = 0, end = 0;    // seconds from the window's start
  size_t first = 0, count = 0;  // tokens of the window, timestamps included
};

struct WhisperCut {
  std::vector<WhisperSegment> segments;
  int64_t advance = 0;  // mel frames (10 ms) from the window's start at which the next window starts; at least 1
};

// `generated` without <|endoftext|>. `frames`: how many mel frames of audio the window holds, at least 1. A timestamp is two frames.
WhisperCut CutSegments(const WhisperTokens& tokens, std::span<const int32_t> generated, int64_t frames);

}  // namespace sotto
