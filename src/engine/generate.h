// Generation: token after token until the model ends, a stop string appears, a limit is met or somebody stops it. Text is given out
// in whole characters, and never a part of a stop string.
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "engine/text_session.h"
#include "text/sampler.h"

namespace sotto {

struct GenerateOptions {
  int64_t max_tokens = 0;  // 0: as many as the context holds
  std::vector<std::string> stop;
  bool ignore_eos = false;
  int64_t logprobs = 0;  // alternatives to report for each token
};

struct GeneratedToken {
  int32_t id;
  float logprob;
  std::vector<TokenLogprob> likeliest;
};

struct Generated {
  std::string text;
  std::vector<int32_t> ids;  // without the end token
  enum class End { kStop, kLength, kContext, kInterrupted } end = End::kStop;
  std::vector<GeneratedToken> logprobs;  // when asked for
};
std::string_view NameOf(Generated::End end);  // stop, length, context, interrupted

// Tokens that end an answer: eos_token_id of generation_config.json (a number or a list), else of config.json or its text_config.
// kBadModel for ids outside the vocabulary.
Result<std::vector<int32_t>> EndTokens(const Planned& planned);

// Goes on behind what `session` has read; the sampler has seen it. Every token but the last is read by the session, too.
// `say(text)` gets the text as it comes; together that is Generated::text. When the context is full, `make_room(ids)` may have the
// session read less, and behind it all of the answer's `ids` but the last; it returns whether it did.
Generated Generate(
    TextSession& session, const Tokenizer& tokenizer, Sampler& sampler, const GenerateOptions& options,
    std::span<const int32_t> end_tokens, const std::atomic<bool>& stop, FunctionRef<void(std::string_view)> say,
    FunctionRef<bool(std::span<const int32_t>)> make_room = [](std::span<const int32_t>) { return false; });

}  // namespace sotto
