// tokenizer.json of Hugging Face: the parts that say how text becomes ids, and ids text. Truncation and padding are not
// read.
#include <array>
#include <charconv>
#include <cmath>

#include "text/charsmap.h"
#include "text/token_events.h"

namespace sotto {
namespace {

// A number as `tokenizers` understands it: its JSON reader makes an integer of the digits and divides by a power of ten,
// which rounds twice. The digits are the fewest that say `exact`, as every writer of such files prints them.
double AsReferenceReads(double exact) {
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), exact, std::chars_format::scientific).ptr;
  uint64_t digits = 0;
  int exponent = 0, after_point = -1;
  for (const char* c = text.data(); c != end; ++c) {
    if (*c == 'e') {
      std::from_chars(c + (c[1] == '+' ? 2 : 1), end, exponent);
      break;
    }
    if (*c == '.') after_point = 0;
    if (*c < '0' || *c > '9') continue;
    digits = 10 * digits + static_cast<uint64_t>(*c - '0');  // at most 17
    if (after_point >= 0) ++after_point;
  }
  exponent -= std::max(after_point, 0);
  const double read = static_cast<double>(digits) * std::copysign(1.0, exact);
  return exponent >= 0 ? read * std::pow(10, exponent) : read / std::pow(10, -exponent);
}

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
  enum Part {
    kTop,
    kSkipped,
    kSettings,
    kModel,
    kModelSetting,
    kVocab,
    kScores,
    kScore,
    kMerges,
    kMerge,
    kAddedList,
    kAdded
  };
  static constexpr std::string_view kPipeline[] = {"normalizer", "pre_tokenizer", "decoder", "post_processor"};

  Status On(const Event& event) override;
  Status Top(const Event& event);
  Status Model(const Event& event);
  Status Once(bool& seen, std::string_view what);
  Error Malformed(std::string_view what) const {
    return BadModel(fmt::format("{} is not a tokenizer: {}; fetch the file again", path_, what));
  }
  // One event of a settings subtree; in the second pass, of something to skip. `back` is the part around it.
  Status Setting(Event event, Part back) {
    if (event.kind == Event::kString && settings_.path().ends_with(".precompiled_charsmap")) {
      const std::optional<std::string> map = FromBase64(event.text);
      if (!map) return Malformed("its character map is not base64");
      if (!only_merges_) TRY(sink_.Charsmap(*map));
      event.text = "given";
    }
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
  uint64_t next_id_ = 0;  // of a vocabulary that is a list
  bool seen_model_ = false, seen_added_ = false, seen_vocab_ = false, seen_merges_ = false;
  bool merges_missed_ = false, only_merges_ = false;
  bool listed_ = false;  // the vocabulary is a list
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
    if (event.kind != Event::kStartObject && event.kind != Event::kStartArray)
      return Malformed("its vocabulary is neither an object nor a list");
    listed_ = event.kind == Event::kStartArray;
    part_ = listed_ ? kScores : kVocab;
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
        return only_merges_ ? Status() : sink_.Token({.name = entry_.name(), .id = id});
      }
    case kScores:
      if (event.kind != Event::kStartArray && event.kind != Event::kEndArray)
        return Malformed("a token of its vocabulary is not a pair of name and score");
      part_ = event.kind == Event::kStartArray ? kScore : kModel;
      merge_parts_ = 0;
      return {};
    case kScore:
      if (event.kind == Event::kString && merge_parts_ == 0) {
        left_ = event.text;
        merge_parts_ = 1;
        return {};
      }
      if ((event.kind == Event::kReal || event.kind == Event::kUnsigned) && merge_parts_ == 1) {
        merge_parts_ = 2;
        if (only_merges_) return {};
        return sink_.Token({.name = left_, .id = next_id_++, .score = AsReferenceReads(event.real)});
      }
      if (event.kind != Event::kEndArray || merge_parts_ != 2)
        return Malformed("a token of its vocabulary is not a pair of name and score");
      part_ = kScores;
      return {};
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

Result<TokenSettings> TokenizerJson::Finish() const {
  const TokenSettings out = TRY(ReadPipeline(settings_, path_));
  const bool unigram = out.model == TokenModel::kUnigram;
  if (!seen_model_ || !seen_vocab_ || (!unigram && !seen_merges_))
    return Malformed("it lacks a model with vocab and merges");
  if (listed_ != unigram) return Malformed("its vocabulary is of another model");
  return out;
}

}  // namespace

Result<TokenSettings> ReadTokenizerJson(const std::string& path, TokenSink& sink) {
  const File file = TRY(File::Open(path, Code::kBadModel));
  TokenizerJson handler(path, sink);
  const SaxLimits limits{.bytes = kMaxTokenizerFileBytes, .token = kMaxCharsmapBytes};
  TRY(SaxParse(file, 0, file.size(), handler, Code::kBadModel, limits));
  if (!handler.complete()) {
    handler.OnlyMerges();
    TRY(SaxParse(file, 0, file.size(), handler, Code::kBadModel, limits));
  }
  return handler.Finish();
}

}  // namespace sotto
