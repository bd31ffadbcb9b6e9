// tokenizer.json of Hugging Face: the parts that say how text becomes ids. Post-processor, truncation and padding are
// not read: what surrounds a text is the model's business.
#include "text/token_events.h"

namespace sotto {
namespace {

class TokenizerJson : public EventHandler {
 public:
  TokenizerJson(const std::string& path, TokenSink& sink) : path_(path), sink_(sink), settings_(path) {}

  // False after a pass in which the merges came before the vocabulary: another pass is needed.
  bool complete() const { return !merges_missed_; }
  void OnlyMerges() {
    only_merges_ = true;
    merges_missed_ = false;
    part_ = kTop;
  }
  Result<TokenSettings> Finish() const;

 private:
  enum Part { kTop, kSkipped, kSettings, kModel, kModelSetting, kVocab, kMerges, kMerge, kAddedList, kAdded };
  static constexpr std::string_view kPipeline[] = {"normalizer", "pre_tokenizer", "decoder"};

  Status On(const Event& event) override;
  Status Top(const Event& event);
  Status Model(const Event& event);
  Status Once(bool& seen, std::string_view what);
  Error Malformed(std::string_view what) const {
    return BadModel(fmt::format("{} is not a tokenizer: {}; fetch the file again", path_, what));
  }
  Error Unsupported(std::string_view what) const {
    return BadModel(fmt::format("{} {}, which is not supported; use a byte-level BPE tokenizer", path_, what));
  }
  // One event of a settings subtree; in the second pass, of something to skip. `back` is the part around it.
  Status Setting(const Event& event, Part back) {
    if (!only_merges_) TRY(settings_.Add(event));
    if (only_merges_ ? Ends(event, back) : settings_.done()) part_ = back;
    return {};
  }
  // Whether the value that `part_` skips is complete with this event.
  bool Ends(const Event& event, Part back) const {
    const int base = back == kTop ? 1 : 2;
    const bool closes = event.kind == Event::kEndObject || event.kind == Event::kEndArray;
    const bool scalar = event.kind >= Event::kString;
    return (closes && depth() == base + 1) || (scalar && depth() == base);
  }

  const std::string& path_;
  TokenSink& sink_;
  Settings settings_;
  Part part_ = kTop;
  std::string key_;
  NameToId entry_;
  AddedTokenFields added_;
  std::string left_, right_;
  int merge_parts_ = 0;
  bool seen_model_ = false, seen_added_ = false, seen_vocab_ = false, seen_merges_ = false;
  bool merges_missed_ = false, only_merges_ = false;
};

Status TokenizerJson::Once(bool& seen, std::string_view what) {
  if (seen && !only_merges_) return Malformed(fmt::format("it has {} twice", what));
  seen = true;
  return {};
}

Status TokenizerJson::Top(const Event& event) {
  if (depth() == 1 && event.kind == Event::kKey) {
    key_ = event.text;
    if (key_ == "model") TRY(Once(seen_model_, "a model"));
    if (key_ == "added_tokens") TRY(Once(seen_added_, "added tokens"));
    return {};
  }
  if (depth() == 1 && (event.kind == Event::kStartObject || event.kind == Event::kEndObject)) return {};
  if (depth() == 0) return Malformed("it is not an object");
  if (key_ == "model") {
    if (event.kind != Event::kStartObject) return Malformed("its model is not an object");
    part_ = kModel;
    return {};
  }
  if (key_ == "added_tokens") {
    if (event.kind == Event::kOther) return {};
    if (event.kind != Event::kStartArray) return Malformed("its added_tokens are not a list");
    part_ = kAddedList;
    return {};
  }
  for (const std::string_view name : kPipeline)
    if (key_ == name) {
      part_ = kSettings;
      settings_.Begin(name);
      return Setting(event, kTop);
    }
  part_ = Ends(event, kTop) ? kTop : kSkipped;
  return {};
}

Status TokenizerJson::Model(const Event& event) {
  if (event.kind == Event::kEndObject) {
    part_ = kTop;
    return {};
  }
  if (event.kind == Event::kKey) {
    key_ = event.text;
    if (key_ == "vocab") TRY(Once(seen_vocab_, "a vocabulary"));
    if (key_ == "merges") TRY(Once(seen_merges_, "merges"));
    return {};
  }
  if (key_ == "vocab") {
    TRY(settings_.Expect("model.type", {"BPE"}));
    if (event.kind != Event::kStartObject) return Malformed("its vocabulary is not an object");
    part_ = kVocab;
    return {};
  }
  if (key_ == "merges") {
    if (event.kind != Event::kStartArray) return Malformed("its merges are not a list");
    // The sink resolves names: it needs the vocabulary first, whatever the file's order.
    merges_missed_ = !only_merges_ && !seen_vocab_;
    part_ = kMerges;
    return {};
  }
  part_ = kModelSetting;
  settings_.Begin("model." + key_);
  return Setting(event, kModel);
}

Status TokenizerJson::On(const Event& event) {
  switch (part_) {
    case kTop: return Top(event);
    case kModel: return Model(event);
    case kSettings: return Setting(event, kTop);
    case kModelSetting: return Setting(event, kModel);
    case kSkipped:
      if (Ends(event, kTop)) part_ = kTop;
      return {};
    case kVocab:
      if (event.kind == Event::kEndObject) {
        part_ = kModel;
        return {};
      }
      if (event.kind == Event::kKey) {
        entry_.Key(event.text);
        return {};
      }
      {
        const uint64_t id = TRY(entry_.Id(event, path_));
        return only_merges_ ? Status() : sink_.Token(entry_.name(), id);
      }
    case kMerges: {
      if (event.kind == Event::kEndArray) {
        part_ = kModel;
        return {};
      }
      if (event.kind == Event::kStartArray) {
        part_ = kMerge;
        merge_parts_ = 0;
        return {};
      }
      if (event.kind != Event::kString) return Malformed("a merge is neither a string nor a pair");
      if (merges_missed_ || event.text.starts_with("#version")) return {};
      const auto [left, right] = TRY(SplitMerge(event.text, path_));
      return sink_.Merge(left, right);
    }
    case kMerge:
      if (event.kind == Event::kString && merge_parts_ < 2) {
        (merge_parts_++ == 0 ? left_ : right_) = event.text;
        return {};
      }
      if (event.kind != Event::kEndArray || merge_parts_ != 2) return Malformed("a merge is not a pair of strings");
      part_ = kMerges;
      return merges_missed_ ? Status() : sink_.Merge(left_, right_);
    case kAddedList:
      if (event.kind == Event::kEndArray) {
        part_ = kTop;
        return {};
      }
      if (event.kind != Event::kStartObject) return Malformed("an added token is not an object");
      added_.Begin();
      part_ = kAdded;
      return {};
    case kAdded:
      if (event.kind == Event::kKey) {
        added_.Key(event.text);
        return {};
      }
      if (event.kind != Event::kEndObject) return added_.Value(event, path_);
      part_ = kAddedList;
      const AddedToken token = TRY(added_.Token(path_, true));
      return only_merges_ ? Status() : sink_.Added(token);
  }
  return {};
}

// What the pipeline says, or which part of it is not supported.
Result<TokenSettings> TokenizerJson::Finish() const {
  TRY(settings_.Expect("model.type", {"BPE"}));
  if (!seen_model_ || !seen_vocab_ || !seen_merges_) return Malformed("it lacks a model with vocab and merges");
  for (const char* name : {"model.dropout", "model.continuing_subword_prefix", "model.end_of_word_suffix"})
    TRY(settings_.Expect(name, {}));
  for (const char* name : {"normalizer.type", "normalizer"}) TRY(settings_.Expect(name, {}));
  if (settings_.Get("decoder.type") != "ByteLevel") {
    TRY(settings_.Expect("decoder.type", {}));
    return Unsupported("has no ByteLevel decoder");
  }
  TokenSettings out;
  out.ignore_merges = settings_.Get("model.ignore_merges") == "true";
  std::string last = "pre_tokenizer";
  if (settings_.Get("pre_tokenizer.type") == "Sequence") {
    last = "pre_tokenizer.pretokenizers.0";
    if (settings_.Get(last + ".type") == "Split") {
      const std::string_view regex = settings_.Get(last + ".pattern.Regex");
      const std::optional<Splitting> known = SplittingOf(regex);
      if (!known)
        return BadModel(
            fmt::format("{} splits text by the expression '{}', which is not a known one; use another model", path_,
                        regex.substr(0, 200)));
      out.splitting = *known;
      TRY(settings_.Expect(last + ".behavior", {"Isolated"}));
      TRY(settings_.Expect(last + ".invert", {"false"}));
      last = "pre_tokenizer.pretokenizers.1";
      TRY(settings_.Expect(last + ".use_regex", {"false"}));
      if (settings_.Get(last + ".use_regex") != "false")
        return Unsupported("splits text by Split and again by ByteLevel");
    }
    const std::string rest = fmt::format("pre_tokenizer.pretokenizers.{}", last.back() - '0' + 1);
    TRY(settings_.Expect(rest + ".type", {}));
    TRY(settings_.Expect(rest, {}));
  }
  if (settings_.Get(last + ".type") != "ByteLevel") {
    TRY(settings_.Expect(last + ".type", {}));
    return Unsupported("has no ByteLevel pre-tokenizer");
  }
  if (settings_.Get(last + ".add_prefix_space") != "false")
    return Unsupported("puts a space before the text (add_prefix_space)");
  if (last == "pre_tokenizer" || last.back() == '0')
    out.splitting = settings_.Get(last + ".use_regex") == "false" ? Splitting::kWhole : Splitting::kGpt2;
  return out;
}

}  // namespace

Result<TokenSettings> ReadTokenizerJson(const std::string& path, TokenSink& sink) {
  const File file = TRY(File::Open(path, Code::kBadModel));
  TokenizerJson handler(path, sink);
  const SaxLimits limits{.bytes = kMaxTokenizerFileBytes};
  TRY(SaxParse(file, 0, file.size(), handler, Code::kBadModel, limits));
  if (!handler.complete()) {
    handler.OnlyMerges();
    TRY(SaxParse(file, 0, file.size(), handler, Code::kBadModel, limits));
  }
  return handler.Finish();
}

}  // namespace sotto
