#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <unordered_map>

#include "base/file.h"
#include "engine/convert/gguf.h"
#include "text/gguf_tokens.h"

namespace sotto {
namespace {

// A tokenizer's tokens and merges, by id.
class Vocabulary final : public TokenSink {
 public:
  Vocabulary(const std::string& where, int64_t count)
      : names(static_cast<size_t>(count)), kinds(names.size()), scores(names.size()), where_(where) {}

  std::vector<std::string> names, merges;
  std::vector<int32_t> kinds;  // 0: no token has this id
  std::vector<float> scores;

  std::optional<uint32_t> Find(std::string_view name) const {
    const auto it = std::find(names.begin(), names.end(), name);
    return it == names.end() ? std::nullopt : std::optional(static_cast<uint32_t>(it - names.begin()));
  }

 private:
  Status Token(const VocabularyToken& token) override {
    TRY(Check(token.id, token.name));
    if (added_.contains(token.id)) return {};
    names[token.id] = token.name;
    scores[token.id] = static_cast<float>(token.score);
    kinds[token.id] = static_cast<int32_t>(token.kind);
    return {};
  }
  Status Added(const AddedToken& token) override {
    TRY(Check(token.id, token.content));
    added_.insert(token.id);
    names[token.id] = token.content;
    kinds[token.id] = static_cast<int32_t>(token.special ? TokenKind::kControl : TokenKind::kUserDefined);
    return {};
  }
  Status Merge(std::string_view left, std::string_view right) override {
    merges.push_back(std::string(left) + " " + std::string(right));
    return {};
  }
  Status Charsmap(std::string_view) override { return {}; }

  Status Check(uint64_t id, std::string_view name) const {
    if (id < names.size()) return {};
    return BadModel(fmt::format(
        "the tokenizer in {} has the token '{}' with the id {}, but the model has only {} embeddings, and a "
        "GGUF file one for each token; remove the token, or resize the model's embeddings",
        where_, name.substr(0, 40), id, names.size()));
  }

  const std::string& where_;
  std::set<uint64_t> added_;
};

// Scores of SentencePiece for a model that has merges instead: a merge that comes earlier has the higher one.
void ScoreByMerges(Vocabulary* v) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t id = 0; id < v->names.size(); ++id) ids.emplace(v->names[id], id);
  const auto last = -static_cast<float>(v->merges.size());
  for (size_t id = 0; id < v->names.size(); ++id)
    v->scores[id] = v->kinds[id] == static_cast<int32_t>(TokenKind::kNormal) ? last : 0;
  std::vector<bool> scored(v->names.size());
  for (size_t rank = 0; rank < v->merges.size(); ++rank) {
    std::string piece = v->merges[rank];
    piece.erase(piece.find(' '), 1);
    const auto it = ids.find(piece);
    if (it == ids.end() || scored[it->second]) continue;
    scored[it->second] = true;
    v->scores[it->second] = -static_cast<float>(rank);
  }
}

bool IsByte(std::string_view name) { return name.size() == 6 && name.starts_with("<0x") && name.ends_with('>'); }

// A token's text in tokenizer_config.json: "…" or {"content": "…"}.
std::string TokenText(const Json& config, const char* key) {
  const auto it = config.find(key);
  if (it == config.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  const auto content = it->is_object() ? it->find("content") : it->end();
  return it->is_object() && content != it->end() && content->is_string() ? content->get<std::string>() : "";
}

// eos_token_id and its like: a number, or a list of them.
std::vector<uint32_t> Ids(const Json& config, const char* key, size_t vocab_size) {
  std::vector<uint32_t> ids;
  const auto add = [&](const Json& id) {
    if (id.is_number_unsigned() && id.get<uint64_t>() < vocab_size) ids.push_back(id.get<uint32_t>());
  };
  const auto it = config.find(key);
  if (it == config.end()) return ids;
  if (it->is_array())
    std::for_each(it->begin(), it->end(), add);
  else
    add(*it);
  return ids;
}

Result<Json> ReadIfThere(const std::string& path) {
  return FileExists(path) ? ReadJson(path, Code::kBadModel) : Result<Json>(Json::object());
}

// Tokens that begin and end texts: what the tokenizer's config names, else what the model's does.
void WriteSpecial(const Original& s, const Json& tokenizer, const Json& generation, const TokenSettings& settings,
                  const Vocabulary& v, GgufHeader* h) {
  const auto named = [&](const char* key, const char* id_key,
                         const Few<int32_t, 8>& around = {}) -> std::optional<uint32_t> {
    if (!around.empty()) return static_cast<uint32_t>(*around.begin());
    if (const std::string text = TokenText(tokenizer, key); !text.empty())
      if (const auto id = v.Find(text)) return id;
    for (const Json* config : {&s.config, &generation})
      if (const auto ids = Ids(*config, id_key, v.names.size()); !ids.empty()) return ids[0];
    return std::nullopt;
  };
  const auto write = [&](const char* key, std::optional<uint32_t> id) {
    if (id) h->Whole(std::string("tokenizer.ggml.") + key, *id);
  };
  const auto end = named("eos_token", "eos_token_id", settings.after);
  write("bos_token_id", named("bos_token", "bos_token_id", settings.before));
  write("eos_token_id", end);
  write("unknown_token_id", named("unk_token", "unk_token_id"));
  write("padding_token_id", named("pad_token", "pad_token_id"));
  // Further ids that end an answer stand under the names of an end of turn and of message.
  std::vector<uint32_t> more;
  for (const Json* config : {&generation, &s.config})
    for (const uint32_t id : Ids(*config, "eos_token_id", v.names.size()))
      if (id != end && std::find(more.begin(), more.end(), id) == more.end()) more.push_back(id);
  if (!more.empty()) write("eot_token_id", more[0]);
  if (more.size() > 1) write("eom_token_id", more[1]);
}

// chat_template.jinja, else "chat_template" of tokenizer_config.json: a text, or a list of named ones.
Status WriteTemplate(const Original& s, const Json& tokenizer, GgufHeader* h) {
  constexpr uint64_t kMost = kMiB;
  if (const std::string path = s.dir.path + "/chat_template.jinja"; FileExists(path)) {
    h->Text("tokenizer.chat_template", TRY(ReadSmallFile(path, kMost, Code::kBadModel)));
    return {};
  }
  const auto it = tokenizer.find("chat_template");
  if (it == tokenizer.end()) return {};
  if (it->is_string()) h->Text("tokenizer.chat_template", it->get<std::string>());
  for (const Json& entry : it->is_array() ? *it : Json::array()) {
    const std::string name = TokenText(entry, "name"), text = TokenText(entry, "template");
    if (name == "default" && !text.empty()) h->Text("tokenizer.chat_template", text);
  }
  return {};
}

// The settings of a file, as they are.
Status CopyVocabulary(const GgufFiles& from, GgufHeader* h) {
  for (const auto& [key, value] : from.keys().items()) {
    if (!key.starts_with("tokenizer.")) continue;
    if (value.is_string()) h->Text(key, value.get<std::string>());
    if (value.is_boolean()) h->Flag(key, value.get<bool>());
    if (value.is_number_unsigned()) h->Whole(key, static_cast<uint32_t>(value.get<uint64_t>()));
    if (value.is_number_float()) h->Real(key, value.get<float>());
    if (value.is_primitive()) continue;
    GgufArray array = TRY(from.Array(key));
    std::vector<std::string> texts;
    std::vector<float> numbers;
    const bool of_texts = key == "tokenizer.ggml.tokens" || key == "tokenizer.ggml.merges";
    while (array.left() > 0) {
      if (of_texts)
        texts.emplace_back(TRY(array.Text()));
      else
        numbers.push_back(static_cast<float>(TRY(array.Number())));
    }
    if (of_texts)
      h->Texts(key, texts);
    else if (key == "tokenizer.ggml.scores")
      h->Reals(key, numbers);
    else if (key == "tokenizer.ggml.token_type")
      h->Wholes(key, std::vector<int32_t>(numbers.begin(), numbers.end()));
  }
  return {};
}

}  // namespace

Status WriteVocabulary(const Original& s, int64_t vocab_size, GgufHeader* h, std::vector<std::string>* notes) {
  if (s.gguf) return CopyVocabulary(TRY(GgufFiles::Open(s.gguf->path())), h);
  const std::string& dir = s.dir.path;
  if (!HasTokenizer(dir)) {
    h->Text("tokenizer.ggml.model", "no_vocab");
    notes->push_back(fmt::format("{} has no tokenizer: the file takes and gives token ids only", dir));
    return {};
  }
  const Json tokenizer = TRY(ReadIfThere(dir + "/tokenizer_config.json"));
  const Json generation = TRY(ReadIfThere(dir + "/generation_config.json"));
  Vocabulary v(dir, vocab_size);
  const TokenSettings settings = TRY(ReadTokens(dir, v));
  const bool bytes = settings.model == TokenModel::kBytes;
  const std::string_view pre = bytes ? GgufSplitting(settings) : "default";
  if (pre.empty() || settings.by_rank || settings.model == TokenModel::kUnigram)
    return BadModel(fmt::format("the tokenizer in {} has no name in GGUF files: {}; keep the model as it is", dir,
                                settings.by_rank ? "it has no merges"
                                : pre.empty()    ? "it cuts text by rules of its own"
                                                 : "it is a unigram model"));
  for (size_t id = 0; id < v.names.size(); ++id) {
    int32_t& kind = v.kinds[id];
    const bool normal = kind == static_cast<int32_t>(TokenKind::kNormal);
    if (kind == 0) {  // rows of the embedding that no token has
      v.names[id] = fmt::format("[PAD{}]", id);
      kind = static_cast<int32_t>(TokenKind::kUnused);
    } else if (!bytes && (settings.unknown_id == id || v.names[id] == settings.unknown.view())) {
      kind = static_cast<int32_t>(TokenKind::kUnknown);
    } else if (normal && settings.byte_fallback && IsByte(v.names[id])) {
      kind = static_cast<int32_t>(TokenKind::kByte);
    }
  }
  if (settings.model == TokenModel::kMerges) ScoreByMerges(&v);

  h->Text("tokenizer.ggml.model", bytes ? "gpt2" : "llama");
  h->Text("tokenizer.ggml.pre", pre);
  h->Texts("tokenizer.ggml.tokens", v.names);
  if (!bytes) h->Reals("tokenizer.ggml.scores", v.scores);
  h->Wholes("tokenizer.ggml.token_type", v.kinds);
  if (bytes) h->Texts("tokenizer.ggml.merges", v.merges);
  WriteSpecial(s, tokenizer, generation, settings, v, h);
  h->Flag("tokenizer.ggml.add_bos_token", !settings.before.empty());
  h->Flag("tokenizer.ggml.add_eos_token", !settings.after.empty());
  if (!bytes) {
    const bool prepends = std::any_of(settings.normalizer.begin(), settings.normalizer.end(),
                                      [](const NormalStep& step) { return step.kind == NormalStep::kPrepend; });
    h->Flag("tokenizer.ggml.add_space_prefix", settings.model == TokenModel::kScores
                                                   ? settings.spaces.add_prefix
                                                   : prepends || settings.metaspace.prefix != Prefix::kNever);
  }
  return WriteTemplate(s, tokenizer, h);
}

}  // namespace sotto
