// The pipeline that tokenizer.json describes: normalizer, pre_tokenizer, decoder, post_processor and the model's settings.
#include <charconv>

#include "text/token_events.h"

namespace sotto {
namespace {

class Pipeline {
 public:
  Pipeline(const Settings& settings, const std::string& path) : settings_(settings), path_(path) {}

  Result<TokenSettings> Read() {
    TRY(Model());
    TRY(Each("normalizer", "normalizers", &Pipeline::Normalizer));
    TRY(Each("pre_tokenizer", "pretokenizers", &Pipeline::PreTokenizer));
    TRY(Decoder());
    TRY(Each("post_processor", "processors", &Pipeline::PostProcessor));
    return out_;
  }

 private:
  std::string_view Get(const std::string& at) const { return settings_.Get(at); }
  bool Is(const std::string& at, std::string_view value) const { return Get(at) == value; }
  Error Unsupported(std::string_view what) const {
    return BadModel(fmt::format("{} {}, which is not supported; use another model", path_, what));
  }
  Error UnsupportedAt(const std::string& at) const {
    const std::string_view value = Get(at);
    return Unsupported(fmt::format("asks for {} = {}", at, value.empty() ? "nothing" : value.substr(0, 80)));
  }
  Error TooMany(const std::string& at) const { return Unsupported(fmt::format("has too long a {}", at)); }

  // step(path) for the one step at `at`, or for each of a Sequence.
  Status Each(const std::string& at, const char* list, Status (Pipeline::*step)(const std::string&)) {
    if (Get(at).empty() || Is(at, "null")) return {};
    if (!Is(at + ".type", "Sequence")) return (this->*step)(at);
    for (int i = 0; !Get(fmt::format("{}.{}.{}", at, list, i)).empty(); ++i)
      TRY((this->*step)(fmt::format("{}.{}.{}", at, list, i)));
    return {};
  }
  Status Short(const std::string& at, ShortText& out) const { return out.Set(Get(at)) ? Status() : TooMany(at); }

  Status Model();
  Status Normalizer(const std::string& at);
  Status PreTokenizer(const std::string& at);
  Status Split(const std::string& at);
  Status Metaspace(const std::string& at);
  Result<Prefix> PrefixOf(const std::string& at) const;
  Status Decoder();
  Status PostProcessor(const std::string& at);

  const Settings& settings_;
  const std::string& path_;
  TokenSettings out_;
};

Status Pipeline::Model() {
  TRY(settings_.Expect("model.type", {"BPE", "Unigram"}));
  for (const char* name : {"model.dropout", "model.continuing_subword_prefix", "model.end_of_word_suffix"})
    TRY(settings_.Expect(name, {}));
  out_.byte_fallback = Is("model.byte_fallback", "true");
  out_.fuse_unknown = Is("model.fuse_unk", "true");
  out_.ignore_merges = Is("model.ignore_merges", "true");
  if (Is("model.type", "Unigram")) {
    out_.model = TokenModel::kUnigram;
    const std::string_view id = Get("model.unk_id");
    uint32_t number = 0;
    if (std::from_chars(id.begin(), id.end(), number).ec == std::errc()) out_.unknown_id = number;
    return {};
  }
  out_.model = TokenModel::kMerges;  // unless a pre-tokenizer makes bytes of the text
  return Is("model.unk_token", "null") ? Status() : Short("model.unk_token", out_.unknown);
}

Status Pipeline::Normalizer(const std::string& at) {
  const std::string_view type = Get(at + ".type");
  NormalStep step{};
  if (type == "NFC") {
    step.kind = NormalStep::kNfc;
  } else if (type == "Prepend") {
    step.kind = NormalStep::kPrepend;
    TRY(Short(at + ".prepend", step.to));
  } else if (type == "Replace") {
    const bool spaces = Is(at + ".pattern.Regex", " {2,}");
    if (!spaces && Get(at + ".pattern.String").empty()) return UnsupportedAt(at + ".pattern.Regex");
    step.kind = spaces ? NormalStep::kReplaceSpaces : NormalStep::kReplace;
    if (!spaces) TRY(Short(at + ".pattern.String", step.from));
    TRY(Short(at + ".content", step.to));
  } else if (type == "Precompiled") {
    for (const NormalStep& other : out_.normalizer)
      if (other.kind == NormalStep::kCharsmap) return Unsupported("has two character maps");
    step.kind = NormalStep::kCharsmap;
  } else if (type == "Strip") {
    step.kind = NormalStep::kStripLeft;
    if (Is(at + ".strip_left", "true") && !out_.normalizer.Add(step)) return TooMany("normalizer");
    if (!Is(at + ".strip_right", "true")) return {};
    step.kind = NormalStep::kStripRight;
  } else {
    return UnsupportedAt(at + ".type");
  }
  return out_.normalizer.Add(step) ? Status() : TooMany("normalizer");
}

Status Pipeline::PreTokenizer(const std::string& at) {
  const std::string_view type = Get(at + ".type");
  if (out_.metaspace.on || out_.model == TokenModel::kBytes)
    return Unsupported(fmt::format("cuts text by {} after {}", type, out_.metaspace.on ? "Metaspace" : "ByteLevel"));
  if (type == "Split") return Split(at);
  if (type == "Metaspace") return Metaspace(at);
  std::optional<Splitting> splitting;
  if (type == "Digits") {
    splitting = Is(at + ".individual_digits", "true") ? Splitting::kNumber : Splitting::kNumbers;
  } else if (type == "WhitespaceSplit") {
    splitting = Splitting::kSpaces;
  } else if (type == "ByteLevel") {
    if (!Is(at + ".add_prefix_space", "false"))
      return Unsupported(fmt::format("puts a space before the text ({}.add_prefix_space)", at));
    if (out_.model != TokenModel::kMerges) return Unsupported("has a model of characters and a pre-tokenizer of bytes");
    out_.model = TokenModel::kBytes;
    out_.unknown = {};
    if (!Is(at + ".use_regex", "false")) splitting = Splitting::kGpt2;
  } else {
    return UnsupportedAt(at + ".type");
  }
  return !splitting || out_.splittings.Add(*splitting) ? Status() : TooMany("pre_tokenizer");
}

Status Pipeline::Split(const std::string& at) {
  TRY(settings_.Expect(at + ".invert", {"false"}));
  if (Is(at + ".pattern.String", " ") && Is(at + ".behavior", "MergedWithPrevious")) {
    // Gemma's, which finds nothing: its normalizer has replaced all spaces.
    for (const NormalStep& step : out_.normalizer)
      if (step.kind == NormalStep::kReplace && step.from.view() == " ") return {};
  }
  TRY(settings_.Expect(at + ".behavior", {"Isolated"}));
  const std::string_view regex = Get(at + ".pattern.Regex");
  const std::optional<Splitting> known = SplittingOf(regex);
  if (!known)
    return BadModel(fmt::format("{} splits text by the expression '{}', which is not a known one; use another model",
                                path_, (regex.empty() ? Get(at + ".pattern.String") : regex).substr(0, 200)));
  return out_.splittings.Add(*known) ? Status() : TooMany("pre_tokenizer");
}

// Of a Metaspace: newer files say prepend_scheme, older ones add_prefix_space.
Result<Prefix> Pipeline::PrefixOf(const std::string& at) const {
  const std::string_view scheme = Get(at + ".prepend_scheme");
  if (scheme == "never" || (scheme.empty() && Is(at + ".add_prefix_space", "false"))) return Prefix::kNever;
  if (scheme == "always" || scheme.empty()) return Prefix::kAlways;
  if (scheme == "first") return Prefix::kFirst;
  return UnsupportedAt(at + ".prepend_scheme");
}

Status Pipeline::Metaspace(const std::string& at) {
  TRY(settings_.Expect(at + ".replacement", {kSpaceMark}));
  out_.metaspace = {.on = true, .split = !Is(at + ".split", "false"), .prefix = TRY(PrefixOf(at))};
  return {};
}

Status Pipeline::Decoder() {
  const std::string type = "decoder.type";
  if (out_.model == TokenModel::kBytes) return Is("decoder.type", "ByteLevel") ? Status() : UnsupportedAt(type);
  if (Is("decoder.type", "Metaspace")) {
    TRY(settings_.Expect("decoder.replacement", {kSpaceMark}));
    out_.decoding = Decoding::kMetaspace;
    out_.drop_marks = TRY(PrefixOf("decoder")) != Prefix::kNever;
    return {};
  }
  // Replace the mark, bytes to characters, all in one, and perhaps without the first space.
  if (!Is("decoder.type", "Sequence")) return UnsupportedAt(type);
  const auto step = [](int i, const char* what) { return fmt::format("decoder.decoders.{}.{}", i, what); };
  constexpr std::string_view kSteps[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
  int count = 0;
  for (; !Get(step(count, "type")).empty(); ++count)
    if (count == 4 || !Is(step(count, "type"), kSteps[count])) return UnsupportedAt(step(count, "type"));
  if (count < 3) return Unsupported("has a decoder without Replace, ByteFallback and Fuse");
  TRY(settings_.Expect(step(0, "pattern.String"), {kSpaceMark}));
  if (!Is(step(0, "content"), " ")) return UnsupportedAt(step(0, "content"));
  if (count == 4) {
    if (!Is(step(3, "content"), " ")) return UnsupportedAt(step(3, "content"));
    TRY(settings_.Expect(step(3, "start"), {"1"}));
    TRY(settings_.Expect(step(3, "stop"), {"0"}));
  }
  out_.decoding = Decoding::kPieces;
  out_.strip_space = count == 4;
  return {};
}

Status Pipeline::PostProcessor(const std::string& at) {
  const std::string_view type = Get(at + ".type");
  if (type == "ByteLevel") return {};  // about offsets
  if (type != "TemplateProcessing") return UnsupportedAt(at + ".type");
  bool behind = false;
  for (int i = 0; !Get(fmt::format("{}.single.{}", at, i)).empty(); ++i) {
    const std::string piece = fmt::format("{}.single.{}", at, i);
    if (!Get(piece + ".Sequence").empty()) {
      if (behind || !Is(piece + ".Sequence.id", "A")) return Unsupported("has a template with several texts");
      behind = true;
      continue;
    }
    const std::string ids = fmt::format("{}.special_tokens.{}.ids", at, Get(piece + ".SpecialToken.id"));
    for (int k = 0; k == 0 || !Get(fmt::format("{}.{}", ids, k)).empty(); ++k) {
      const std::string_view text = Get(fmt::format("{}.{}", ids, k));
      int32_t id = 0;
      const auto parsed = std::from_chars(text.begin(), text.end(), id);
      if (parsed.ec != std::errc() || parsed.ptr != text.end() || id < 0) return UnsupportedAt(ids);
      if (!(behind ? out_.after : out_.before).Add(id)) return TooMany(at);
    }
  }
  return {};
}

}  // namespace

Result<TokenSettings> ReadPipeline(const Settings& settings, const std::string& path) {
  return Pipeline(settings, path).Read();
}

}  // namespace sotto
