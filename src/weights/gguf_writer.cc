#include "weights/gguf_writer.h"

#include <bit>

#include "base/bytes.h"

namespace sotto {
namespace {

static_assert(std::endian::native == std::endian::little);  // as the file is

constexpr uint64_t kAlignment = 32;
enum : uint32_t { kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9 };  // types of values

template <class T>
void Put(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void PutText(std::string_view text, std::string* out) {
  Put<uint64_t>(text.size(), out);
  out->append(text);
}

}  // namespace

void GgufHeader::Key(std::string_view key, uint32_t type) {
  PutText(key, &keys_);
  Put(type, &keys_);
  ++key_count_;
}

void GgufHeader::Array(std::string_view key, uint32_t type, size_t count) {
  Key(key, kArray);
  Put(type, &keys_);
  Put<uint64_t>(count, &keys_);
}

void GgufHeader::Text(std::string_view key, std::string_view value) {
  Key(key, kString);
  PutText(value, &keys_);
}

void GgufHeader::Whole(std::string_view key, uint32_t value) {
  Key(key, kU32);
  Put(value, &keys_);
}

void GgufHeader::Real(std::string_view key, float value) {
  Key(key, kF32);
  Put(value, &keys_);
}

void GgufHeader::Flag(std::string_view key, bool value) {
  Key(key, kBool);
  Put<uint8_t>(value ? 1 : 0, &keys_);
}

void GgufHeader::Texts(std::string_view key, std::span<const std::string> values) {
  Array(key, kString, values.size());
  for (const std::string& v : values) PutText(v, &keys_);
}

void GgufHeader::Wholes(std::string_view key, std::span<const int32_t> values) {
  Array(key, kI32, values.size());
  for (const int32_t v : values) Put(v, &keys_);
}

void GgufHeader::Reals(std::string_view key, std::span<const float> values) {
  Array(key, kF32, values.size());
  for (const float v : values) Put(v, &keys_);
}

void GgufHeader::Tensor(std::string_view name, const GgmlType& type, std::span<const int64_t> shape) {
  CHECK(!shape.empty() && shape.size() <= 4);
  PutText(name, &infos_);
  Put(static_cast<uint32_t>(shape.size()), &infos_);
  uint64_t rows = 1;
  for (size_t i = shape.size(); i-- > 0;) {  // innermost first
    Put(static_cast<uint64_t>(shape[i]), &infos_);
    if (i + 1 < shape.size()) rows = SatMul(rows, static_cast<uint64_t>(shape[i]));
  }
  CHECK(shape.back() % type.block == 0);
  Put(type.id, &infos_);
  Put(end_, &infos_);
  const uint64_t bytes = GgmlBytes(type, rows, static_cast<uint64_t>(shape.back()));
  offsets_.push_back(end_);
  tensor_bytes_ = SatAdd(tensor_bytes_, bytes);
  end_ = RoundUp(SatAdd(end_, bytes), kAlignment);
}

Result<GgufWriter> GgufWriter::Create(const std::string& path, const GgufHeader& h) {
  std::string begin = "GGUF";
  Put<uint32_t>(3, &begin);
  Put<uint64_t>(h.offsets_.size(), &begin);
  Put<uint64_t>(h.key_count_, &begin);
  const uint64_t infos_end = begin.size() + h.keys_.size() + h.infos_.size(), data = RoundUp(infos_end, kAlignment);
  GgufWriter w;
  w.size_ = SatAdd(data, h.end_);
  for (const uint64_t offset : h.offsets_) w.offsets_.push_back(data + offset);
  w.file_ = TRY(AtomicFile::Create(path));
  TRY(w.file_.Reserve(w.size_));
  for (const std::string_view part : {std::string_view(begin), std::string_view(h.keys_), std::string_view(h.infos_)})
    TRY(w.file_.Write(part));
  TRY(w.file_.Write(std::string(data - infos_end, '\0')));
  constexpr std::byte kZero[1] = {};
  if (h.end_ > 0) TRY(w.file_.WriteAt(w.size_ - 1, kZero));  // what lies between is zeros
  return w;
}

Status GgufWriter::Write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) const {
  return file_.WriteAt(offsets_[tensor] + offset, bytes);
}

}  // namespace sotto
