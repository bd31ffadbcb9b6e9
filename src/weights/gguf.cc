#include "weights/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace sotto {
namespace {

constexpr size_t kBufferBytes = 16 * kKiB, kKeptString = 64 * kKiB;

enum ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64, kTypes };
constexpr uint64_t kSizes[kTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// Reads forward through a buffer; every read is compared with the end of the file first.
class Reader {
 public:
  Reader(const File& file, uint64_t at) : file_(file), at_(at) {}
  uint64_t position() const { return at_ - (filled_ - next_); }

  Status Bytes(void* out, uint64_t n) {
    if (n > Left()) return Bad("ends in its header; it is cut short");
    auto* to = static_cast<char*>(out);
    while (n > 0) {
      if (next_ == filled_) TRY(Fill());
      const uint64_t part = std::min<uint64_t>(n, filled_ - next_);
      std::memcpy(to, buffer_.data() + next_, part);
      next_ += part;
      to += part;
      n -= part;
    }
    return {};
  }

  Status Skip(uint64_t n) {
    if (n > Left()) return Bad("ends in its header; it is cut short");
    if (position() + n > kMaxGgufHeaderBytes) return Bad("has a header larger than any model's");
    const uint64_t part = std::min<uint64_t>(n, filled_ - next_);
    next_ += part;
    at_ += n - part;
    if (n != part) next_ = filled_ = 0;
    return {};
  }

  template <class T>
  Result<T> Number() {
    T n{};
    TRY(Bytes(&n, sizeof n));
    return n;
  }

  // A string of at most `most` bytes; what is beyond `kept` is skipped.
  Result<std::string> Text(uint64_t most, uint64_t kept) {
    const auto n = TRY(Number<uint64_t>());
    if (n > most) return Bad(fmt::format("holds a string of {} bytes where at most {} are sane", n, most));
    std::string text(std::min(n, kept), '\0');
    TRY(Bytes(text.data(), text.size()));
    TRY(Skip(n - text.size()));
    return text;
  }

  Error Bad(std::string_view what) const {
    return BadModel(fmt::format("{} {} (byte {}); fetch it again", file_.path(), what, position()));
  }

 private:
  uint64_t Left() const { return file_.size() - position(); }
  Status Fill() {
    const uint64_t n = std::min<uint64_t>(kBufferBytes, file_.size() - at_);
    if (at_ + n > kMaxGgufHeaderBytes) return Bad("has a header larger than any model's");
    TRY(file_.ReadAt(at_, std::as_writable_bytes(std::span(buffer_.data(), n))));
    at_ += n;
    next_ = 0;
    filled_ = n;
    return {};
  }

  const File& file_;
  uint64_t at_;  // file offset of the buffer's end
  size_t next_ = 0, filled_ = 0;
  std::array<char, kBufferBytes> buffer_;
};

Result<Json> Scalar(Reader& r, uint32_t type) {
  switch (type) {
    case kU8: return Json(TRY(r.Number<uint8_t>()));
    case kI8: return Json(TRY(r.Number<int8_t>()));
    case kU16: return Json(TRY(r.Number<uint16_t>()));
    case kI16: return Json(TRY(r.Number<int16_t>()));
    case kU32: return Json(TRY(r.Number<uint32_t>()));
    case kI32: return Json(TRY(r.Number<int32_t>()));
    case kF32: return Json(static_cast<double>(TRY(r.Number<float>())));
    case kBool: return Json(TRY(r.Number<uint8_t>()) != 0);
    case kU64: return Json(TRY(r.Number<uint64_t>()));
    case kI64: return Json(TRY(r.Number<int64_t>()));
    case kF64: return Json(TRY(r.Number<double>()));
    default: return r.Bad(fmt::format("holds a value of the unknown type {}", type));
  }
}

Result<Json> Value(Reader& r, uint32_t type) {
  if (type == kString) return Json(TRY(r.Text(kMaxGgufString, kKeptString)));
  if (type != kArray) return Scalar(r, type);
  const auto item = TRY(r.Number<uint32_t>());
  const auto count = TRY(r.Number<uint64_t>());
  if (item >= kTypes || item == kArray) return r.Bad(fmt::format("holds an array of the type {}", item));
  if (count > kMaxGgufHeaderBytes) return r.Bad(fmt::format("holds an array of {} values", count));
  if (item == kString) {
    for (uint64_t i = 0; i < count; ++i) (void)TRY(r.Text(kMaxGgufString, 0));
    return Json{{"count", count}};
  }
  if (count > kMaxGgufKeptArray) {
    TRY(r.Skip(count * kSizes[item]));
    return Json{{"count", count}};
  }
  Json array = Json::array();
  for (uint64_t i = 0; i < count; ++i) array.push_back(TRY(Scalar(r, item)));
  return array;
}

// One tensor's entry, `data` being where the file's data begin (0: not known yet, the offset is left relative).
Status ReadTensor(Reader& r, std::string* name, GgufTensor* t, uint64_t alignment) {
  *name = TRY(r.Text(kMaxGgufName, kMaxGgufName));
  t->name = *name;
  const auto rank = TRY(r.Number<uint32_t>());
  if (rank < 1 || rank > 4) return r.Bad(fmt::format("gives the tensor '{}' {} dimensions", *name, rank));
  t->rank = static_cast<int>(rank);
  t->dims = {1, 1, 1, 1};
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    t->dims[i] = TRY(r.Number<uint64_t>());
    if (__builtin_mul_overflow(elements, t->dims[i], &elements) || elements > static_cast<uint64_t>(INT64_MAX))
      return r.Bad(fmt::format("gives the tensor '{}' more elements than 63 bits count", *name));
  }
  const auto type = TRY(r.Number<uint32_t>());
  t->type = FindGgmlType(type);
  if (t->type == nullptr) return r.Bad(fmt::format("stores the tensor '{}' as the unknown type {}", *name, type));
  if (t->dims[0] % t->type->block != 0)
    return r.Bad(fmt::format("stores the tensor '{}' with rows of {} elements as {}, whose blocks have {}", *name,
                             t->dims[0], t->type->name, t->type->block));
  t->offset = TRY(r.Number<uint64_t>());
  if (t->offset % alignment != 0)
    return r.Bad(fmt::format("places the tensor '{}' at {}, which is no multiple of {}", *name, t->offset, alignment));
  t->bytes = GgmlBytes(*t->type, t->dims[1] * t->dims[2] * t->dims[3], t->dims[0]);
  return {};
}

}  // namespace

Result<GgufFile> GgufFile::Open(const std::string& path) {
  GgufFile g;
  g.file_ = TRY(File::Open(path, Code::kBadModel));
  Reader r(g.file_, 0);
  char magic[4];
  TRY(r.Bytes(magic, 4));
  if (std::memcmp(magic, "GGUF", 4) != 0) return r.Bad("does not start with GGUF, so it is no such file");
  const auto version = TRY(r.Number<uint32_t>());
  if (version == 0x02000000 || version == 0x03000000)
    return BadModel(path + " is a big-endian GGUF file, which sotto does not read; convert the model again");
  if (version != 2 && version != 3)
    return BadModel(fmt::format("{} is GGUF version {}; sotto reads 2 and 3; convert the model again", path, version));
  g.tensors_ = TRY(r.Number<uint64_t>());
  const auto keys = TRY(r.Number<uint64_t>());
  if (g.tensors_ > kMaxGgufTensors) return r.Bad(fmt::format("claims {} tensors", g.tensors_));
  if (keys > kMaxGgufKeys) return r.Bad(fmt::format("claims {} keys", keys));
  g.keys_ = Json::object();
  for (uint64_t i = 0; i < keys; ++i) {
    const std::string key = TRY(r.Text(kMaxGgufName, kMaxGgufName));
    if (g.keys_.contains(key)) return r.Bad(fmt::format("has the key '{}' twice", key));
    g.keys_[key] = TRY(Value(r, TRY(r.Number<uint32_t>())));
  }
  if (const auto it = g.keys_.find("general.alignment"); it != g.keys_.end()) {
    if (!it->is_number_unsigned()) return r.Bad("has a general.alignment that is no whole number");
    g.alignment_ = it->get<uint64_t>();
    if (g.alignment_ < 8 || g.alignment_ > 64 * kKiB || (g.alignment_ & (g.alignment_ - 1)) != 0)
      return r.Bad(fmt::format("has an alignment of {}", g.alignment_));
  }
  g.infos_ = r.position();
  uint64_t end = 0;
  std::string name;
  GgufTensor t;
  std::vector<std::pair<uint64_t, uint64_t>> places;
  for (uint64_t i = 0; i < g.tensors_; ++i) {
    TRY(ReadTensor(r, &name, &t, g.alignment_));
    end = std::max(end, SatAdd(t.offset, t.bytes));
    places.emplace_back(t.offset, SatAdd(t.offset, t.bytes));
  }
  g.data_ = RoundUp(r.position(), g.alignment_);
  if (g.tensors_ > 0 && SatAdd(g.data_, end) > g.file_.size())
    return BadModel(fmt::format("{} has {} bytes, but its tensors end at {}; the file is cut short, fetch it again",
                                path, g.file_.size(), SatAdd(g.data_, end)));
  std::sort(places.begin(), places.end());
  for (size_t i = 1; i < places.size(); ++i)
    if (places[i].first < places[i - 1].second)
      return BadModel(fmt::format("{} lays two tensors over each other; fetch it again", path));
  return g;
}

Status GgufFile::ForEachTensor(FunctionRef<Status(const GgufTensor&)> visit) const {
  Reader r(file_, infos_);
  std::string name;
  GgufTensor t;
  for (uint64_t i = 0; i < tensors_; ++i) {
    TRY(ReadTensor(r, &name, &t, alignment_));
    t.offset = SatAdd(t.offset, data_);
    if (SatAdd(t.offset, t.bytes) > file_.size()) return r.Bad("changed while it was read");
    TRY(visit(t));
  }
  return {};
}

}  // namespace sotto
