// tokenizer.model: the protobuf messages of SentencePiece (sentencepiece_model.proto), read as a stream through a small
// buffer. libsentencepiece would keep its tables on a heap of its own, where no plan can count them; of its format a dozen
// fields matter, and the others are skipped by their lengths.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/file.h"
#include "text/charsmap.h"
#include "text/token_source.h"
#include "text/utf8.h"

namespace sotto {
namespace {

struct Field {
  uint32_t number = 0;
  enum Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 } type = kVarint;
  uint64_t value = 0;  // of kVarint and kFixed32; the length of kBytes
};

// Protobuf's wire format.
class ProtoFile {
 public:
  explicit ProtoFile(const File& file) : file_(file) {}

  uint64_t position() const { return begin_ + next_; }
  Error Malformed() const {
    return BadModel(
        fmt::format("{} is not a SentencePiece model (at byte {}); fetch the file again", file_.path(), position()));
  }

  // The next field of a message that ends at `end`. Of kBytes the content is still to be taken or skipped.
  Result<Field> Next(uint64_t end) {
    const uint64_t tag = TRY(Varint(end));
    Field field{.number = static_cast<uint32_t>(tag >> 3), .type = static_cast<Field::Type>(tag & 7)};
    switch (field.type) {
      case Field::kVarint: field.value = TRY(Varint(end)); return field;
      case Field::kFixed64:
      case Field::kFixed32: {
        const int bytes = field.type == Field::kFixed64 ? 8 : 4;
        for (int i = 0; i < bytes; ++i) field.value |= uint64_t{TRY(Byte(end))} << 8 * i;
        return field;
      }
      case Field::kBytes:
        field.value = TRY(Varint(end));
        if (field.value > end - position()) return Malformed();
        return field;
    }
    return Malformed();
  }

  void Skip(uint64_t bytes) {  // REQUIRES that so many follow, here and below
    const uint64_t here = std::min<uint64_t>(bytes, filled_ - next_);
    next_ += static_cast<size_t>(here);
    begin_ += bytes - here;  // the buffer is behind: the rest is never read
  }
  template <class Part>
  Status Take(uint64_t bytes, const Part& part) {  // part(bytes) for what comes, in order
    while (bytes > 0) {
      if (next_ == filled_) TRY(Fill());
      const size_t n = static_cast<size_t>(std::min<uint64_t>(bytes, filled_ - next_));
      TRY(part(std::string_view(buffer_.data() + next_, n)));
      next_ += n;
      bytes -= n;
    }
    return {};
  }

 private:
  Result<uint8_t> Byte(uint64_t end) {
    if (position() >= end) return Malformed();
    if (next_ == filled_) TRY(Fill());
    return static_cast<uint8_t>(buffer_[next_++]);
  }
  Result<uint64_t> Varint(uint64_t end) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = TRY(Byte(end));
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    return Malformed();
  }
  Status Fill() {
    begin_ += filled_;
    next_ = 0;
    filled_ = static_cast<size_t>(std::min<uint64_t>(buffer_.size(), file_.size() - begin_));
    if (filled_ == 0) return Malformed();
    return file_.ReadAt(begin_, std::as_writable_bytes(std::span(buffer_.data(), filled_)));
  }

  const File& file_;
  uint64_t begin_ = 0;  // of the buffer in the file
  size_t next_ = 0, filled_ = 0;
  std::array<char, 16 * 1024> buffer_;
};

class SentencePieceFile {
 public:
  SentencePieceFile(const File& file, TokenSink& sink) : file_(file), proto_(file), sink_(sink) {}
  Result<TokenSettings> Read(AddAround add);

 private:
  Status Piece(uint64_t end);
  Status Trainer(uint64_t end);
  Status Normalizer(uint64_t end);
  Status Denormalizer(uint64_t end);
  Status Text(uint64_t bytes, std::string* out);
  Error Unsupported(std::string_view what) const {
    return BadModel(fmt::format("{} {}, which is not supported; use another model", file_.path(), what));
  }

  const File& file_;
  ProtoFile proto_;
  TokenSink& sink_;
  TokenSettings out_;
  uint64_t pieces_ = 0, type_ = 1;
  uint64_t bos_ = 1, eos_ = 2;
};

Status SentencePieceFile::Text(uint64_t bytes, std::string* out) {
  out->clear();
  if (bytes > kMaxNameBytes) return proto_.Malformed();
  return proto_.Take(bytes, [&](std::string_view part) -> Status { return out->append(part), Status(); });
}

Status SentencePieceFile::Piece(uint64_t end) {
  std::string name;
  float score = 0;
  uint64_t kind = 1;
  while (proto_.position() < end) {
    const Field field = TRY(proto_.Next(end));
    if (field.number == 1 && field.type == Field::kBytes) {
      TRY(Text(field.value, &name));
      continue;
    }
    if (field.number == 2 && field.type == Field::kFixed32)
      score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
    if (field.number == 3 && field.type == Field::kVarint) kind = field.value;
    if (field.type == Field::kBytes) proto_.Skip(field.value);
  }
  if (name.empty() || !IsUtf8(name) || !std::isfinite(score) || kind < 1 || kind > 6)
    return BadModel(fmt::format("{} has a damaged piece with the id {}; fetch the file again", file_.path(), pieces_));
  return sink_.Token({.name = name, .id = pieces_++, .score = score, .kind = static_cast<TokenKind>(kind)});
}

Status SentencePieceFile::Trainer(uint64_t end) {
  while (proto_.position() < end) {
    const Field field = TRY(proto_.Next(end));
    if (field.number == 44 && field.type == Field::kBytes) {
      std::string text;
      TRY(Text(field.value, &text));
      if (!IsUtf8(text) || !out_.unknown_text.Set(text)) return Unsupported("has a long text for unknown tokens");
      continue;
    }
    if (field.type == Field::kBytes) proto_.Skip(field.value);
    if (field.type != Field::kVarint) continue;
    switch (field.number) {
      case 3: type_ = field.value; break;
      case 24: out_.spaces.suffix = field.value != 0; break;
      case 35: out_.byte_fallback = field.value != 0; break;
      case 41: bos_ = field.value; break;  // -1: none
      case 42: eos_ = field.value; break;
      default: break;
    }
  }
  return {};
}

Status SentencePieceFile::Normalizer(uint64_t end) {
  while (proto_.position() < end) {
    const Field field = TRY(proto_.Next(end));
    if (field.number == 2 && field.type == Field::kBytes) {
      TRY(proto_.Take(field.value, [&](std::string_view part) { return sink_.Charsmap(part); }));
      continue;
    }
    if (field.type == Field::kBytes) proto_.Skip(field.value);
    if (field.type != Field::kVarint) continue;
    if (field.number == 3) out_.spaces.add_prefix = field.value != 0;
    if (field.number == 4) out_.spaces.remove_extra = field.value != 0;
    if (field.number == 5) out_.spaces.escape = field.value != 0;
  }
  return {};
}

Status SentencePieceFile::Denormalizer(uint64_t end) {
  while (proto_.position() < end) {
    const Field field = TRY(proto_.Next(end));
    if (field.number == 2 && field.value != 0) return Unsupported("maps characters when decoding (denormalizer_spec)");
    if (field.type == Field::kBytes) proto_.Skip(field.value);
  }
  return {};
}

Result<TokenSettings> SentencePieceFile::Read(AddAround add) {
  if (file_.size() > kMaxTokenizerFileBytes) return proto_.Malformed();
  out_.unknown_text.Set(" \xE2\x81\x87 ");
  while (proto_.position() < file_.size()) {
    const Field field = TRY(proto_.Next(file_.size()));
    if (field.type != Field::kBytes) return proto_.Malformed();
    const uint64_t end = proto_.position() + field.value;
    switch (field.number) {
      case 1: TRY(Piece(end)); break;
      case 2: TRY(Trainer(end)); break;
      case 3: TRY(Normalizer(end)); break;
      case 5: TRY(Denormalizer(end)); break;
      default: proto_.Skip(field.value);
    }
  }
  if (pieces_ == 0) return proto_.Malformed();
  if (type_ != 1 && type_ != 2) return Unsupported(fmt::format("has a model of type {} (not UNIGRAM or BPE)", type_));
  out_.model = type_ == 1 ? TokenModel::kUnigram : TokenModel::kScores;
  const auto id = [&](uint64_t n) { return n < pieces_ ? std::optional(static_cast<uint32_t>(n)) : std::nullopt; };
  SetSentencePiece(out_, id(bos_), id(eos_), add);
  return out_;
}

}  // namespace

void SetSentencePiece(TokenSettings& settings, std::optional<uint32_t> bos, std::optional<uint32_t> eos,
                      AddAround add) {
  const bool unigram = settings.model == TokenModel::kUnigram;
  settings.sentencepiece = true;
  settings.decoding = Decoding::kSentencePiece;
  settings.normalizer.Add({.kind = NormalStep::kSentencePiece});
  if (bos && add.bos.value_or(!unigram)) settings.before.Add(static_cast<int32_t>(*bos));
  if (eos && add.eos.value_or(unigram)) settings.after.Add(static_cast<int32_t>(*eos));
}

Result<TokenSettings> ReadSentencePiece(const std::string& path, AddAround add, TokenSink& sink) {
  const File file = TRY(File::Open(path, Code::kBadModel));
  return SentencePieceFile(file, sink).Read(add);
}

}  // namespace sotto
