#include "text/gguf_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "text/token_events.h"
#include "text/utf8.h"

namespace sotto {
namespace {

const std::string kPrefix = "tokenizer.ggml.";

// What a name in tokenizer.ggml.pre stands for: the pipeline that the models of that name were published with. Names and
// defaults: llama.cpp, src/llama-vocab.cpp. What it leaves out there (Qwen's NFC) is done here, as in the originals.
struct Known {
  std::string_view name;
  std::initializer_list<Splitting> splittings;
  bool ignore_merges = false, add_bos = false, nfc = false;
};
using enum Splitting;
const Known kKnown[] = {
    {"default", {kSymbols, kGpt2, kNumbers, kThreeDigits}},
    {"gpt-2", {kGpt2}},
    {"phi-2", {kGpt2}},
    {"llama-bpe", {kLlama3}, /*ignore_merges=*/true, /*add_bos=*/true},
    {"llama3", {kLlama3}, true, true},
    {"llama-v3", {kLlama3}, true, true},
    {"smaug-bpe", {kLlama3}},
    {"qwen2", {kQwen2}, false, false, /*nfc=*/true},
    {"deepseek-r1-qwen", {kQwen2}, false, false, true},
    {"tekken", {kTekken}, true, true},
    {"smollm", {kNumber, kGpt2}},
    {"starcoder", {kNumber, kGpt2}},
    {"refact", {kNumber, kGpt2}},
};

std::optional<std::string> TextOf(const GgufFiles& gguf, const std::string& key) {
  const auto at = gguf.keys().find(key);
  return at != gguf.keys().end() && at->is_string() ? std::optional(at->get<std::string>()) : std::nullopt;
}

// A whole number, or a flag as 0 or 1.
std::optional<uint64_t> NumberOf(const GgufFiles& gguf, const std::string& key) {
  const auto at = gguf.keys().find(key);
  if (at == gguf.keys().end()) return std::nullopt;
  if (at->is_boolean()) return at->get<bool>();
  return at->is_number_unsigned() ? std::optional(at->get<uint64_t>()) : std::nullopt;
}

class GgufTokens {
 public:
  GgufTokens(const GgufFiles& gguf, TokenSink& sink) : gguf_(gguf), sink_(sink) {}

  Result<TokenSettings> Read() {
    const std::string model = TextOf(gguf_, kPrefix + "model").value_or("");
    if (model == "gpt2") return Bytes();
    if (model == "llama") return Pieces(TokenModel::kScores);
    if (model == "t5") return Pieces(TokenModel::kUnigram);
    return BadModel(fmt::format(
        "{} has a tokenizer of the model '{}' (tokenizer.ggml.model), which is not supported; use another model",
        where_, model.substr(0, 40)));
  }

 private:
  bool Flag(const char* key, bool otherwise) const { return NumberOf(gguf_, kPrefix + key).value_or(otherwise) != 0; }
  std::optional<uint32_t> Id(const char* key) const {
    const auto id = NumberOf(gguf_, kPrefix + key);
    return id && *id < count_ ? std::optional(static_cast<uint32_t>(*id)) : std::nullopt;
  }
  AddAround Around() const {
    AddAround add;
    if (const auto bos = NumberOf(gguf_, kPrefix + "add_bos_token")) add.bos = *bos != 0;
    if (const auto eos = NumberOf(gguf_, kPrefix + "add_eos_token")) add.eos = *eos != 0;
    return add;
  }
  Error Damaged(std::string_view what) const {
    return BadModel(fmt::format("{} has {}; fetch the file again", where_, what));
  }
  template <class Each>
  Status EachToken(const Each& each);
  Result<TokenSettings> Bytes();
  Result<TokenSettings> Pieces(TokenModel model);

  const GgufFiles& gguf_;
  const std::string& where_ = gguf_.file(0).path();
  TokenSink& sink_;
  uint64_t count_ = 0;
};

// each(name, score, type) for every token, counted by count_. A file need not give scores (0) and types (1).
template <class Each>
Status GgufTokens::EachToken(const Each& each) {
  GgufArray names = TRY(gguf_.Array(kPrefix + "tokens"));
  GgufArray scores = TRY(gguf_.Array(kPrefix + "scores"));
  GgufArray types = TRY(gguf_.Array(kPrefix + "token_type"));
  const bool scored = scores.left() > 0, typed = types.left() > 0;
  if (names.left() == 0) return Damaged("a tokenizer without tokens (tokenizer.ggml.tokens)");
  if ((scored && scores.left() != names.left()) || (typed && types.left() != names.left()))
    return Damaged("scores or types for another number of tokens than it lists");
  for (; names.left() > 0; ++count_) {
    const double score = scored ? TRY(scores.Number()) : 0;
    const double type = typed ? TRY(types.Number()) : 1;
    const std::string_view name = TRY(names.Text());
    if (!IsUtf8(name) || !std::isfinite(score) || std::abs(score) > std::numeric_limits<float>::max() ||
        !(type >= 0 && type <= 6))
      return Damaged(fmt::format("a damaged token with the id {}", count_));
    TRY(each(name, score, type == 0 ? TokenKind::kNormal : static_cast<TokenKind>(type)));
  }
  return {};
}

Result<TokenSettings> GgufTokens::Bytes() {
  const std::string pre = TextOf(gguf_, kPrefix + "pre").value_or("default");
  const Known* known = nullptr;
  for (const Known& k : kKnown)
    if (pre == k.name) known = &k;
  if (known == nullptr)
    return BadModel(
        fmt::format("{} cuts text by the rules of '{}' (tokenizer.ggml.pre), which are not known; use another model",
                    where_, pre.substr(0, 40)));
  TRY(EachToken([&](std::string_view name, double, TokenKind kind) -> Status {
    const bool special = kind == TokenKind::kControl || kind == TokenKind::kUnknown;
    if (special || kind == TokenKind::kUserDefined)
      TRY(sink_.Added({.content = name, .id = count_, .special = special, .normalized = false}));
    return sink_.Token({.name = name, .id = count_});
  }));
  for (GgufArray merges = TRY(gguf_.Array(kPrefix + "merges")); merges.left() > 0;) {
    const std::string_view merge = TRY(merges.Text());
    if (!IsUtf8(merge)) return Damaged("a merge that is not UTF-8");
    const auto [left, right] = TRY(SplitMerge(merge, where_));
    TRY(sink_.Merge(left, right));
  }
  TokenSettings out;
  for (const Splitting splitting : known->splittings) out.splittings.Add(splitting);
  if (known->nfc) out.normalizer.Add({.kind = NormalStep::kNfc});
  out.ignore_merges = known->ignore_merges;
  const AddAround add = Around();
  if (const auto bos = Id("bos_token_id"); bos && add.bos.value_or(known->add_bos))
    out.before.Add(static_cast<int32_t>(*bos));
  if (const auto eos = Id("eos_token_id"); eos && add.eos.value_or(false)) out.after.Add(static_cast<int32_t>(*eos));
  return out;
}

Result<TokenSettings> GgufTokens::Pieces(TokenModel model) {
  TokenSettings out{.model = model};
  TRY(EachToken([&](std::string_view name, double score, TokenKind kind) {
    if (kind == TokenKind::kByte) out.byte_fallback = true;
    return sink_.Token({.name = name, .id = count_, .score = score, .kind = kind});
  }));
  for (GgufArray map = TRY(gguf_.Array(kPrefix + "precompiled_charsmap")); map.left() > 0;) {
    std::array<char, 4096> part;  // int8 or uint8 values
    size_t n = 0;
    for (; n < part.size() && map.left() > 0; ++n)
      part[n] = static_cast<char>(static_cast<int64_t>(TRY(map.Number())) & 0xFF);
    TRY(sink_.Charsmap({part.data(), n}));
  }
  out.unknown_id = Id("unknown_token_id");
  out.unknown_text.Set(" \xE2\x81\x87 ");
  out.spaces = {.add_prefix = Flag("add_space_prefix", true),
                .remove_extra = Flag("remove_extra_whitespaces", false),
                .escape = true};
  SetSentencePiece(out, Id("bos_token_id"), Id("eos_token_id"), Around());
  return out;
}

}  // namespace

Result<TokenSettings> ReadGgufTokens(const GgufFiles& gguf, TokenSink& sink) { return GgufTokens(gguf, sink).Read(); }

Result<GgufChat> ReadGgufChat(const GgufFiles& gguf) {
  constexpr std::pair<const char*, const char*> kNames[] = {
      {"bos_token", "bos"},       {"eos_token", "eos"},   {"unk_token", "unknown"}, {"pad_token", "padding"},
      {"sep_token", "seperator"}, {"mask_token", "mask"}, {"eot_token", "eot"},     {"eom_token", "eom"}};  // sic
  const std::string& where = gguf.file(0).path();
  GgufChat chat;
  chat.chat_template = TextOf(gguf, "tokenizer.chat_template").value_or("");
  std::multimap<uint64_t, GgufChat::Token*> by_id;
  for (const auto& [name, key] : kNames) {
    const auto id = NumberOf(gguf, kPrefix + key + "_token_id");
    if (!id) continue;
    if (*id > INT32_MAX) return BadModel(fmt::format("{} gives {} the id {}; fetch the file again", where, name, *id));
    by_id.emplace(*id, &(chat.tokens[name] = {static_cast<int32_t>(*id), {}}));
  }
  GgufArray names = TRY(gguf.Array(kPrefix + "tokens"));
  auto next = by_id.begin();
  for (uint64_t id = 0; next != by_id.end() && names.left() > 0; ++id) {
    const std::string_view text = TRY(names.Text());
    for (; next != by_id.end() && next->first == id; ++next) next->second->text = text;
  }
  if (next != by_id.end())
    return BadModel(fmt::format("{} gives a special token the id {}, which no token has; fetch the file again", where,
                                next->first));
  for (const auto& [name, token] : chat.tokens)
    if (!IsUtf8(token.text)) return BadModel(fmt::format("{} has a {} that is not UTF-8; fetch it again", where, name));
  if (!IsUtf8(chat.chat_template))
    return BadModel(fmt::format("{} has a chat template that is not UTF-8; fetch it again", where));
  return chat;
}

std::string_view GgufSplitting(const TokenSettings& settings) {
  std::string_view like;  // but for whole words that are tokens
  for (const Known& k : kKnown) {
    if (!std::equal(k.splittings.begin(), k.splittings.end(), settings.splittings.begin(), settings.splittings.end()))
      continue;
    if (k.ignore_merges == settings.ignore_merges) return k.name;
    if (like.empty()) like = k.name;
  }
  return like;
}

}  // namespace sotto
