#include "text/whisper_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/json.h"

namespace sotto {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

const Json* Find(const Json& config, const Json& generation, const char* key) {
  for (const Json* j : {&generation, &config}) {
    if (!j->is_object()) continue;
    const auto it = j->find(key);
    if (it != j->end() && !it->is_null()) return &*it;
  }
  return nullptr;
}

// An id inside the vocabulary, from a number or from the first element of a list (eos_token_id may be one).
Result<std::optional<int32_t>> Id(const Json& config, const Json& generation, const char* key, int64_t vocab_size) {
  const Json* value = Find(config, generation, key);
  if (value != nullptr && value->is_array() && !value->empty()) value = &(*value)[0];
  if (value == nullptr) return std::optional<int32_t>();
  if (!value->is_number_integer() || value->get<double>() < 0 ||
      value->get<double>() >= static_cast<double>(vocab_size))
    return BadModel(
        fmt::format("generation_config.json: '{}' is not a token id below vocab_size {}; take the file from the "
                    "model's own page",
                    key, vocab_size));
  return std::optional<int32_t>(value->get<int32_t>());
}

Result<std::vector<int32_t>> Ids(const Json& config, const Json& generation, const char* key, int64_t vocab_size) {
  std::vector<int32_t> ids;
  const Json* value = Find(config, generation, key);
  if (value == nullptr) return ids;
  if (!value->is_array() || value->size() > static_cast<size_t>(vocab_size))
    return BadModel(fmt::format("generation_config.json: '{}' is not a list of token ids", key));
  for (const Json& v : *value) {
    if (!v.is_number_integer() || v.get<double>() < -1 || v.get<double>() >= static_cast<double>(vocab_size))
      return BadModel(fmt::format(
          "generation_config.json: '{}' holds something that is not a token id below vocab_size {}", key, vocab_size));
    if (v.get<int64_t>() >= 0) ids.push_back(v.get<int32_t>());  // -1 means "the default set" in openai's own format
  }
  return ids;
}

bool IsLanguageToken(std::string_view token) {
  return token.size() >= 6 && token.size() <= 8 && token.starts_with("<|") && token.ends_with("|>") &&
         std::all_of(token.begin() + 2, token.end() - 2, [](char c) { return c >= 'a' && c <= 'z'; });
}

}  // namespace

std::optional<int32_t> WhisperTokens::LanguageId(std::string_view code) const {
  for (const Language& l : languages)
    if (l.code == code) return l.id;
  return std::nullopt;
}

Result<WhisperTokens> ReadWhisperTokens(const Json& config, const Json& generation, const Tokenizer& tokenizer) {
  WhisperTokens t;
  const Json* vocab = Find(config, Json(), "vocab_size");
  CHECK(vocab != nullptr && vocab->is_number_integer());  // the model was built from it
  t.vocab_size = vocab->get<int32_t>();
  const auto required = [&](const char* key, const char* token) -> Result<int32_t> {
    std::optional<int32_t> id = TRY(Id(config, generation, key, t.vocab_size));
    if (!id) id = tokenizer.IdOf(token);
    if (!id || *id >= t.vocab_size)
      return BadModel(
          fmt::format("neither generation_config.json ('{}') nor the tokenizer ('{}') names this token; the model's "
                      "files do not belong together",
                      key, token));
    return *id;
  };
  t.sot = TRY(required("decoder_start_token_id", "<|startoftranscript|>"));
  t.eot = TRY(required("eos_token_id", "<|endoftext|>"));
  t.no_timestamps = TRY(required("no_timestamps_token_id", "<|notimestamps|>"));
  t.timestamp_begin = t.no_timestamps + 1;
  t.transcribe = tokenizer.IdOf("<|transcribe|>");
  t.translate = tokenizer.IdOf("<|translate|>");
  if (const Json* tasks = Find(config, generation, "task_to_id"); tasks != nullptr && tasks->is_object()) {
    const std::optional<int32_t> transcribe = TRY(Id(*tasks, Json(), "transcribe", t.vocab_size));
    const std::optional<int32_t> translate = TRY(Id(*tasks, Json(), "translate", t.vocab_size));
    if (transcribe) t.transcribe = transcribe;
    if (translate) t.translate = translate;
  }
  t.prev = TRY(Id(config, generation, "prev_sot_token_id", t.vocab_size));
  if (!t.prev) t.prev = tokenizer.IdOf("<|startofprev|>");
  if (t.no_timestamps > 0) t.no_speech = t.no_timestamps - 1;  // as transformers counts; older names: <|nocaptions|>
  t.suppress = TRY(Ids(config, generation, "suppress_tokens", t.vocab_size));
  t.begin_suppress = TRY(Ids(config, generation, "begin_suppress_tokens", t.vocab_size));
  const std::optional<int32_t> initial = TRY(Id(config, generation, "max_initial_timestamp_index", t.vocab_size));
  if (initial) t.max_initial_timestamp_index = *initial;
  if (const Json* n = Find(Json(), generation, "max_length");
      n != nullptr && n->is_number_integer() && n->get<int64_t>() > 0)
    t.max_length = n->get<int64_t>();

  if (const Json* languages = Find(config, generation, "lang_to_id"); languages != nullptr && languages->is_object()) {
    for (const auto& [token, id] : languages->items()) {
      if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() >= t.vocab_size || token.size() < 5)
        return BadModel(
            "generation_config.json: 'lang_to_id' holds something that is not a token id; take the file from the "
            "model's own page");
      t.languages.push_back({token.substr(2, token.size() - 4), id.get<int32_t>()});
    }
  } else if (t.translate && *t.translate > t.sot) {  // older checkpoints: the languages stand between these two
    for (int32_t id = t.sot + 1; id < *t.translate; ++id)
      if (IsLanguageToken(tokenizer.Token(id)))
        t.languages.push_back({std::string(tokenizer.Token(id).substr(2, tokenizer.Token(id).size() - 4)), id});
  }
  const Json* multilingual = Find(config, generation, "is_multilingual");
  // English-only vocabularies also hold language tokens; the published flag says that they are not used.
  t.multilingual = multilingual != nullptr && multilingual->is_boolean()
                       ? multilingual->get<bool>()
                       : t.vocab_size >= 51865 && !t.languages.empty();
  if (!t.multilingual) t.languages.clear();
  return t;
}

void ApplyWhisperRules(const WhisperTokens& tokens, bool timestamps, std::span<const int32_t> generated,
                       std::span<float> logits) {
  const auto n = static_cast<int32_t>(logits.size());
  const auto forbid = [&](int32_t first, int32_t last) {  // [first, last)
    for (int32_t i = std::max(first, 0); i < std::min(last, n); ++i) logits[static_cast<size_t>(i)] = kNever;
  };
  if (generated.empty())
    for (int32_t id : tokens.begin_suppress) forbid(id, id + 1);
  for (int32_t id : tokens.suppress) forbid(id, id + 1);
  if (!timestamps) return;

  forbid(tokens.no_timestamps, tokens.no_timestamps + 1);
  const size_t count = generated.size();
  const bool last = count >= 1 && tokens.IsTimestamp(generated[count - 1]);
  const bool penultimate = count < 2 || tokens.IsTimestamp(generated[count - 2]);
  if (last && penultimate) forbid(tokens.timestamp_begin, n);  // a pair is complete: text or the end
  if (last && !penultimate) forbid(0, tokens.eot);             // a segment has ended: its pair or the end
  for (size_t i = count; i-- > 0;)
    if (tokens.IsTimestamp(generated[i])) {  // time does not run backwards, nor stand still but in a pair
      forbid(tokens.timestamp_begin, generated[i] + (last && !penultimate ? 0 : 1));
      break;
    }
  if (count == 0) {
    forbid(0, tokens.timestamp_begin);
    if (tokens.max_initial_timestamp_index)
      forbid(
          static_cast<int32_t>(std::min<int64_t>(n, tokens.timestamp_begin + *tokens.max_initial_timestamp_index + 1)),
          n);
  }
  // When all timestamps together are likelier than any one text token, it is a timestamp.
  if (tokens.timestamp_begin >= n) return;
  const auto stamp = std::max_element(logits.begin() + tokens.timestamp_begin, logits.end());
  const auto text = std::max_element(logits.begin(), logits.begin() + tokens.timestamp_begin);
  if (*stamp == kNever) return;
  double sum = 0;
  for (auto it = logits.begin() + tokens.timestamp_begin; it != logits.end(); ++it)
    sum += std::exp(static_cast<double>(*it) - static_cast<double>(*stamp));
  if (static_cast<double>(*stamp) + std::log(sum) > static_cast<double>(*text)) forbid(0, tokens.timestamp_begin);
}

WhisperCut CutSegments(const WhisperTokens& tokens, std::span<const int32_t> generated, int64_t frames) {
  constexpr double kStep = 0.02;  // seconds a timestamp
  WhisperCut cut;
  cut.advance = frames;
  const size_t n = generated.size();
  const auto stamp = [&](size_t i) { return tokens.IsTimestamp(generated[i]); };
  const auto step = [&](size_t i) { return std::max(generated[i] - tokens.timestamp_begin, 0); };
  std::vector<size_t> ends;  // a segment ends between two timestamps
  for (size_t i = 0; i + 1 < n; ++i)
    if (stamp(i) && stamp(i + 1)) ends.push_back(i + 1);

  if (ends.empty()) {  // one segment: up to the last timestamp, else up to the window's end
    const int64_t steps = frames / 2;
    WhisperSegment s{0, static_cast<double>(steps) * kStep, 0, n};
    for (size_t i = n; i-- > 0;)
      if (stamp(i)) {
        if (generated[i] != tokens.timestamp_begin) s.end = step(i) * kStep;
        break;
      }
    cut.segments.push_back(s);
    return cut;
  }
  const bool single = n >= 2 && !stamp(n - 2) && stamp(n - 1);
  const int64_t last_pair = step(ends.back() - 1);
  if (single) ends.push_back(n);
  size_t first = 0;
  for (size_t end : ends) {
    cut.segments.push_back({step(first) * kStep, step(end - 1) * kStep, first, end - first});
    first = end;
  }
  // A lone timestamp at the end: nothing is spoken after it. Otherwise the window cuts a sentence that begins at the last pair.
  if (!single) cut.advance = std::max<int64_t>(2 * last_pair, 1);
  return cut;
}

}  // namespace sotto
