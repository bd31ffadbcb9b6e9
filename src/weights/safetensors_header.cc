#include "weights/safetensors_header.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

#include "base/bytes.h"
#include "base/json_stream.h"

namespace sotto {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr int kHeaderDepth = 4;  // {name: {shape: [...]}} is 3
constexpr int kIndexDepth = 16;  // metadata of the index may hold anything
constexpr uint64_t kMaxIndexBytes = 64 * kMiB;

// The types of the format (safetensors/src/tensor.rs, Dtype) and their bits an element.
struct FileType {
  std::string_view name;
  uint64_t bits;
  std::optional<DType> dtype;
};
constexpr FileType kFileTypes[] = {{"F32", 32, DType::kF32},
                                   {"F16", 16, DType::kF16},
                                   {"BF16", 16, DType::kBF16},
                                   {"I8", 8, DType::kI8},
                                   {"U8", 8, DType::kU8},
                                   {"I32", 32, DType::kI32},
                                   {"I64", 64, DType::kI64},
                                   {"F64", 64, DType::kF64},
                                   {"BOOL", 8, {}},
                                   {"I16", 16, {}},
                                   {"U16", 16, {}},
                                   {"U32", 32, {}},
                                   {"U64", 64, {}},
                                   {"C64", 64, {}},
                                   {"F8_E5M2", 8, {}},
                                   {"F8_E4M3", 8, {}},
                                   {"F8_E8M0", 8, {}},
                                   {"F6_E2M3", 6, {}},
                                   {"F6_E3M2", 6, {}},
                                   {"F4", 4, {}},
                                   {"F8_E4M3FNUZ", 8, {}},
                                   {"F8_E5M2FNUZ", 8, {}}};

const FileType* FindType(std::string_view name) {
  for (const FileType& type : kFileTypes)
    if (type.name == name) return &type;
  return nullptr;
}

// The grammar of a header as a state machine. `place_` says what the next event may be; any other one is an error.
class HeaderReader : public SaxHandler {
 public:
  HeaderReader(const File& file, const HeaderRange& range, int index, FunctionRef<Status(const TensorHeader&)> visit)
      : file_(file),
        data_begin_(range.data_begin),
        data_bytes_(file.size() - range.data_begin),
        index_(index),
        visit_(visit) {}

  Status StartObject() override {
    switch (place_) {
      case Place::kStart: return place_ = Place::kNames, Status();
      case Place::kMetadataValue: return place_ = Place::kMetadata, Status();
      case Place::kTensorValue: seen_ = 0; return place_ = Place::kTensor, Status();
      default: return Unexpected("an object");
    }
  }

  Status EndObject() override {
    switch (place_) {
      case Place::kNames: return place_ = Place::kEnd, Status();
      case Place::kMetadata: return place_ = Place::kNames, Status();
      case Place::kTensor: return place_ = Place::kNames, Finish();
      default: return Unexpected("the end of an object");
    }
  }

  Status Key(std::string_view key) override {
    if (place_ == Place::kNames) {
      name_ = key;
      if (key != "__metadata__") return place_ = Place::kTensorValue, Status();
      if (std::exchange(has_metadata_, true)) return Bad("has __metadata__ twice");
      return place_ = Place::kMetadataValue, Status();
    }
    if (place_ == Place::kMetadata) return {};
    if (place_ != Place::kTensor) return Unexpected("a name");
    const auto begin = [&](unsigned bit, Place next) -> Status {
      if (seen_ & bit) return Bad(fmt::format("gives \"{}\" twice for tensor \"{}\"", key, name_));
      seen_ |= bit;
      place_ = next;
      return {};
    };
    if (key == "dtype") return begin(kHasType, Place::kType);
    if (key == "shape") return begin(kHasShape, Place::kShapeValue);
    if (key == "data_offsets") return begin(kHasOffsets, Place::kOffsetsValue);
    return Bad(fmt::format("has an unknown field \"{}\" in tensor \"{}\"", key.substr(0, 80), name_));
  }

  Status String(std::string_view value) override {
    if (place_ == Place::kMetadata) return {};
    if (place_ != Place::kType) return Unexpected("a string");
    type_ = value;
    return place_ = Place::kTensor, Status();
  }

  Status StartArray() override {
    if (place_ == Place::kShapeValue) return rank_ = 0, place_ = Place::kShape, Status();
    if (place_ == Place::kOffsetsValue) return offset_count_ = 0, place_ = Place::kOffsets, Status();
    return Unexpected("a list");
  }

  Status EndArray() override {
    if (place_ == Place::kOffsets && offset_count_ != 2)
      return Bad(fmt::format("gives {} data_offsets for tensor \"{}\" instead of 2", offset_count_, name_));
    if (place_ != Place::kOffsets && place_ != Place::kShape) return Unexpected("the end of a list");
    return place_ = Place::kTensor, Status();
  }

  Status Unsigned(uint64_t value) override {
    if (place_ == Place::kShape) {
      if (rank_ == kMaxTensorRank)
        return Bad(fmt::format("gives tensor \"{}\" more than {} dimensions", name_, kMaxTensorRank));
      if (value > static_cast<uint64_t>(INT64_MAX))
        return Bad(fmt::format("gives tensor \"{}\" a dimension of {}", name_, value));
      shape_[static_cast<size_t>(rank_++)] = static_cast<int64_t>(value);
      return {};
    }
    if (place_ != Place::kOffsets) return Unexpected("a number");
    if (offset_count_ == 2) return Bad(fmt::format("gives more than 2 data_offsets for tensor \"{}\"", name_));
    offsets_[static_cast<size_t>(offset_count_++)] = value;
    return {};
  }

  Status Negative(int64_t value) override { return Unexpected(fmt::format("the negative number {}", value)); }
  Status Float(double value) override {
    return Unexpected(fmt::format("the number {}, not a whole one that fits,", value));
  }
  Status Bool(bool) override { return Unexpected("a boolean"); }
  Status Null() override { return Unexpected("null"); }

 private:
  enum class Place {
    kStart,
    kNames,
    kMetadataValue,
    kMetadata,
    kTensorValue,
    kTensor,
    kType,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kEnd
  };
  static constexpr unsigned kHasType = 1, kHasShape = 2, kHasOffsets = 4;

  Error Bad(const std::string& what) const {
    return BadModel(fmt::format("the header of {} {}; the file is damaged or not a safetensors file, fetch it again",
                                file_.path(), what));
  }
  Error Unexpected(std::string_view what) const {
    return Bad(
        fmt::format("has {} where none belongs, {} \"{}\"", what, name_.empty() ? "at the start," : "at", name_));
  }

  // The tensor is complete: compares its numbers with each other and with the file, then hands it out.
  Status Finish() {
    if (seen_ != (kHasType | kHasShape | kHasOffsets))
      return Bad(fmt::format("lacks dtype, shape or data_offsets for tensor \"{}\"", name_));
    const auto [begin, end] = offsets_;
    if (begin > end || end > data_bytes_)
      return Bad(fmt::format("places tensor \"{}\" in bytes {} to {} of {}", name_, begin, end, data_bytes_));
    const FileType* type = FindType(type_);
    if (type != nullptr) {
      uint64_t bits = type->bits;
      for (int i = 0; i < rank_; ++i)
        if (__builtin_mul_overflow(bits, static_cast<uint64_t>(shape_[static_cast<size_t>(i)]), &bits))
          return Bad(fmt::format("gives tensor \"{}\" a shape whose size passes 64 bits", name_));
      if (bits % 8 != 0 || bits / 8 != end - begin)
        return Bad(fmt::format("gives tensor \"{}\" {} bytes, but its shape and type {} need {}", name_, end - begin,
                               type_, bits / 8));
    }
    TensorHeader tensor;
    tensor.name = name_;
    tensor.type = type_;
    if (type != nullptr) tensor.dtype = type->dtype;
    tensor.shape = std::span<const int64_t>(shape_.data(), static_cast<size_t>(rank_));
    tensor.file = index_;
    tensor.offset = data_begin_ + begin;
    tensor.bytes = end - begin;
    return visit_(tensor);
  }

  const File& file_;
  uint64_t data_begin_, data_bytes_;
  int index_;
  FunctionRef<Status(const TensorHeader&)> visit_;
  Place place_ = Place::kStart;
  bool has_metadata_ = false;
  unsigned seen_ = 0;
  std::string name_, type_;
  int rank_ = 0, offset_count_ = 0;
  std::array<int64_t, kMaxTensorRank> shape_{};
  std::array<uint64_t, 2> offsets_{};
};

// {"metadata": anything, "weight_map": {"tensor": "shard"}}
class IndexReader : public SaxHandler {
 public:
  IndexReader(const File& file, FunctionRef<Status(std::string_view, std::string_view)> visit)
      : file_(file), visit_(visit) {}

  Status StartObject() override { return Open(/*object=*/true); }
  Status StartArray() override { return Open(/*object=*/false); }
  Status EndObject() override { return Close(); }
  Status EndArray() override { return Close(); }
  Status Key(std::string_view key) override {
    if (depth_ == 1) {
      awaiting_map_ = key == "weight_map";
      if (awaiting_map_ && std::exchange(has_map_, true)) return Bad("has weight_map twice");
    }
    if (in_map_) name_ = key;
    return {};
  }
  Status String(std::string_view value) override { return in_map_ ? visit_(name_, value) : Scalar(); }
  Status Unsigned(uint64_t) override { return Scalar(); }
  Status Negative(int64_t) override { return Scalar(); }
  Status Float(double) override { return Scalar(); }
  Status Bool(bool) override { return Scalar(); }
  Status Null() override { return Scalar(); }

  Status Finish() const { return has_map_ ? Status() : Bad("has no weight_map"); }

 private:
  Error Bad(std::string_view what) const {
    return BadModel(fmt::format("{} {}; it is not a safetensors index, fetch it again", file_.path(), what));
  }
  Status Open(bool object) {
    if (in_map_) return Bad(fmt::format("maps tensor \"{}\" to something that is not a file name", name_));
    if (depth_ == 0 && !object) return Bad("is not a JSON object");
    if (awaiting_map_) {
      if (!object) return Bad("has a weight_map that is not an object");
      awaiting_map_ = false;
      in_map_ = true;
    }
    ++depth_;
    return {};
  }
  Status Close() {
    --depth_;
    in_map_ = false;
    return {};
  }
  Status Scalar() {
    if (depth_ == 0) return Bad("is not a JSON object");
    if (in_map_) return Bad(fmt::format("maps tensor \"{}\" to something that is not a file name", name_));
    return awaiting_map_ ? Bad("has a weight_map that is not an object") : Status();
  }

  const File& file_;
  FunctionRef<Status(std::string_view, std::string_view)> visit_;
  int depth_ = 0;
  bool awaiting_map_ = false, in_map_ = false, has_map_ = false;
  std::string name_;
};

}  // namespace

Result<HeaderRange> ReadHeaderRange(const File& file) {
  if (file.size() <= kLengthBytes)
    return BadModel(
        fmt::format("{} has {} bytes, too few for a safetensors file; fetch it again", file.path(), file.size()));
  std::array<unsigned char, kLengthBytes> raw;
  TRY(file.ReadAt(0, std::as_writable_bytes(std::span(raw))));
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | raw[i];  // little-endian
  if (length > kMaxHeaderBytes)
    return BadModel(
        fmt::format("the header of {} claims {} bytes, more than the {} allowed; it is not a safetensors file",
                    file.path(), length, kMaxHeaderBytes));
  if (length > file.size() - kLengthBytes)
    return BadModel(
        fmt::format("the header of {} claims {} bytes but only {} follow; the file is cut short, fetch it again",
                    file.path(), length, file.size() - kLengthBytes));
  HeaderRange range{kLengthBytes, kLengthBytes + length, kLengthBytes + length};
  char first = 0;
  if (length > 0) TRY(file.ReadAt(kLengthBytes, std::as_writable_bytes(std::span(&first, 1))));
  if (first != '{')
    return BadModel(
        fmt::format("the header of {} does not start with '{{'; it is not a safetensors file", file.path()));
  // Writers pad the object with spaces so that the tensors start aligned; a padding of any length costs no memory here.
  std::array<char, 4096> tail;
  while (range.json_end > range.json_begin) {
    const uint64_t take = std::min<uint64_t>(tail.size(), range.json_end - range.json_begin);
    TRY(file.ReadAt(range.json_end - take, std::as_writable_bytes(std::span(tail.data(), take))));
    uint64_t kept = take;
    while (kept > 0 && tail[kept - 1] == ' ') --kept;
    range.json_end -= take - kept;
    if (kept > 0) break;
  }
  return range;
}

Status ReadHeader(const File& file, const HeaderRange& range, int index,
                  FunctionRef<Status(const TensorHeader&)> visit) {
  HeaderReader reader(file, range, index, visit);
  const SaxLimits limits{kMaxHeaderBytes, kMaxHeaderToken, kHeaderDepth};
  return SaxParse(file, range.json_begin, range.json_end, reader, Code::kBadModel, limits);
}

Status ReadShardIndex(const File& file, FunctionRef<Status(std::string_view, std::string_view)> visit) {
  IndexReader reader(file, visit);
  TRY(SaxParse(file, 0, file.size(), reader, Code::kBadModel, {kMaxIndexBytes, kMaxHeaderToken, kIndexDepth}));
  return reader.Finish();
}

}  // namespace sotto
