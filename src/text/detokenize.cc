// Tokens to text, one by one: the decoders of `tokenizers`, and SentencePiece's.
#include "text/byte_alphabet.h"
#include "text/tokenizer.h"

namespace sotto {
namespace {

// The byte that a token like <0x0A> stands for.
unsigned char NamedByte(std::string_view name) {
  const auto digit = [&](size_t i) {
    return i < name.size() ? name[i] <= '9' ? name[i] - '0' : (name[i] & 0xDF) - 'A' + 10 : 0;
  };
  return static_cast<unsigned char>(digit(3) << 4 | digit(4));
}

// Bytes at the end of `run` that may be the begin of an unfinished character: at most 3.
size_t UnfinishedBytes(std::string_view run) {
  for (size_t n = 1; n <= 3 && n <= run.size(); ++n) {
    const auto c = static_cast<unsigned char>(run[run.size() - n]);
    if (c >= 0xC0) return c >= 0xF0 || (c >= 0xE0 && n < 3) || n < 2 ? n : 0;
    if (c < 0x80) break;
  }
  return 0;
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer),
      skip_special_(skip_special),
      repair_(/*each_byte=*/tokenizer.settings_.decoding == Decoding::kSentencePiece) {}

// An added token is shown as the normalizer wrote it, as `tokenizers` does.
std::string_view StreamDecoder::Shown(uint32_t id) const {
  const TokenTables& tables = tokenizer_->tables_;
  if (tables.Has(id, TokenTables::kShownAsPattern))
    for (const AddedEntry& added : tables.added(Stage::kNormalized))
      if (added.id == id) return tables.Pattern(added);
  return tables.Bytes(id);
}

void StreamDecoder::Push(int32_t token, std::string* out) {
  if (!tokenizer_->Exists(token)) return;
  const auto id = static_cast<uint32_t>(token);
  const TokenTables& tables = tokenizer_->tables_;
  const TokenSettings& settings = tokenizer_->settings_;
  if (skip_special_ && tables.Has(id, TokenTables::kSpecial)) return;
  std::string_view text = Shown(id);
  const bool first = std::exchange(first_, false);

  if (settings.decoding == Decoding::kBytes) {
    // Every token in the byte alphabet is read in it, added ones as well, unless a character is foreign.
    if (!tables.Has(id, TokenTables::kLiteral) || !FromAlphabet(text, nullptr)) return repair_.Add(text, out);
    for (size_t at = 0; at < text.size();) {
      const Character c = CharacterAt(text, at);
      repair_.Add(static_cast<unsigned char>(ByteOf(c.code)), out);
      at += c.bytes;
    }
    return;
  }
  if (tables.Has(id, TokenTables::kByte)) return PushByte(NamedByte(text), out);
  repair_.Finish(out);
  EndRun(run_count_, out);
  if (settings.decoding == Decoding::kSentencePiece) {
    if (id == tables.unknown()) return Say(settings.unknown_text.view(), out);
    // The mark that the normalizer put before the text, or the first that it left of those it removed.
    const bool added = settings.spaces.add_prefix || settings.spaces.remove_extra;
    if (added && !said_ && !dropped_space_ && text.starts_with(kSpaceMark)) {
      text.remove_prefix(kSpaceMark.size());
      dropped_space_ = !settings.spaces.remove_extra;
    }
  }
  const bool drop_marks = first && settings.drop_marks;
  while (!text.empty()) {
    const size_t mark = text.find(kSpaceMark);
    Say(text.substr(0, mark), out);
    if (mark == text.npos) break;
    if (!drop_marks) Say(" ", out);
    text.remove_prefix(mark + kSpaceMark.size());
  }
}

void StreamDecoder::Say(std::string_view text, std::string* out) {
  if (text.empty()) return;
  if (!said_ && tokenizer_->settings_.strip_space && text.front() == ' ') text.remove_prefix(1);
  said_ = true;
  out->append(text);
}

void StreamDecoder::PushByte(unsigned char byte, std::string* out) {
  if (tokenizer_->settings_.decoding == Decoding::kSentencePiece) {
    said_ = true;
    return repair_.Add(byte, out);
  }
  if (run_count_ == kMaxRun) EndRun(kMaxRun - UnfinishedBytes({run_, kMaxRun}), out);
  run_[run_count_++] = static_cast<char>(byte);
}

// Says the first `count` byte tokens of the run: their text, or U+FFFD for each if they are not UTF-8 together.
void StreamDecoder::EndRun(size_t count, std::string* out) {
  const std::string_view run(run_, count);
  if (IsUtf8(run))
    Say(run, out);
  else
    for (size_t i = 0; i < count; ++i) Say(kReplacement, out);
  run_count_ -= count;
  std::copy(run_ + count, run_ + count + run_count_, run_);
}

void StreamDecoder::Finish(std::string* out) {
  repair_.Finish(out);
  EndRun(run_count_, out);
  said_ = dropped_space_ = false;
  first_ = true;
}

}  // namespace sotto
