#include "weights/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>

namespace sotto {

// Reads forward through a buffer; every length is compared with what is left of the file before it is used.
class GgufReader {
 public:
  GgufReader(const File& file, uint64_t at) : file_(file), at_(at) {}
  uint64_t position() const { return at_ - (filled_ - next_); }

  Status Bytes(void* out, uint64_t n) {
    TRY(Ahead(n));
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
    TRY(Ahead(n));
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

  Result<std::string> Text(uint64_t n) {
    TRY(Ahead(n));
    std::string text(n, '\0');
    TRY(Bytes(text.data(), n));
    return text;
  }

  // A key or the name of a tensor: printable, without spaces, so that it can stand in an error message.
  Result<std::string> Name() {
    const auto n = TRY(Number<uint64_t>());
    if (n == 0 || n > kMaxGgufName)
      return Bad(fmt::format("holds a name of {} bytes where 1 to {} are sane", n, kMaxGgufName));
    std::string name = TRY(Text(n));
    if (std::any_of(name.begin(), name.end(), [](char c) { return c <= ' ' || c > '~'; }))
      return Bad("holds a name with characters that no name has");
    return name;
  }

  Error Bad(std::string_view what) const {
    return BadModel(fmt::format("{} {} (byte {}); fetch it again", file_.path(), what, position()));
  }

 private:
  Status Ahead(uint64_t n) const {
    if (n > file_.size() - position()) return Bad("ends in its header; it is cut short");
    if (n > kMaxGgufHeaderBytes - std::min(position(), kMaxGgufHeaderBytes))
      return Bad("has a header larger than any model's");
    return {};
  }
  Status Fill() {
    const uint64_t n = std::min<uint64_t>(buffer_.size(), file_.size() - at_);
    TRY(file_.ReadAt(at_, std::as_writable_bytes(std::span(buffer_.data(), n))));
    at_ += n;
    next_ = 0;
    filled_ = n;
    return {};
  }

  const File& file_;
  uint64_t at_;  // file offset of the buffer's end
  size_t next_ = 0, filled_ = 0;
  std::array<char, 16 * kKiB> buffer_;
};

namespace {

using Reader = GgufReader;

enum ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64, kTypes };
constexpr uint64_t kSizes[kTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// As a JSON file would have it: only negative numbers are signed.
Json Whole(int64_t n) { return n < 0 ? Json(n) : Json(static_cast<uint64_t>(n)); }

Result<Json> Scalar(Reader& r, uint32_t type) {
  switch (type) {
    case kU8: return Whole(TRY(r.Number<uint8_t>()));
    case kI8: return Whole(TRY(r.Number<int8_t>()));
    case kU16: return Whole(TRY(r.Number<uint16_t>()));
    case kI16: return Whole(TRY(r.Number<int16_t>()));
    case kU32: return Whole(TRY(r.Number<uint32_t>()));
    case kI32: return Whole(TRY(r.Number<int32_t>()));
    case kF32: return Json(static_cast<double>(TRY(r.Number<float>())));
    case kBool: {
      const auto value = TRY(r.Number<uint8_t>());
      if (value > 1) return r.Bad(fmt::format("holds {} where true or false stands", value));
      return Json(value == 1);
    }
    case kU64: return Json(TRY(r.Number<uint64_t>()));
    case kI64: return Whole(TRY(r.Number<int64_t>()));
    case kF64: return Json(TRY(r.Number<double>()));
    default: return r.Bad(fmt::format("holds a value of the unknown type {}", type));
  }
}

Json Count(uint64_t n) { return Json{{"count", n}}; }

// A value; one that is too long, or would take more than `*room` bytes, is counted, not kept.
Result<Json> Value(Reader& r, uint32_t type, uint64_t* room) {
  if (type == kString) {
    const auto n = TRY(r.Number<uint64_t>());
    if (n > std::min(kMaxGgufKeptString, *room)) {
      TRY(r.Skip(n));
      return Count(n);
    }
    *room -= n;
    return Json(TRY(r.Text(n)));
  }
  if (type != kArray) return Scalar(r, type);
  const auto item = TRY(r.Number<uint32_t>());
  const auto count = TRY(r.Number<uint64_t>());
  if (item >= kTypes || item == kArray) return r.Bad(fmt::format("holds an array of the type {}", item));
  if (count > kMaxGgufHeaderBytes) return r.Bad(fmt::format("holds an array of {} values", count));
  if (item == kString) {
    for (uint64_t i = 0; i < count; ++i) TRY(r.Skip(TRY(r.Number<uint64_t>())));
    return Count(count);
  }
  if (count > std::min(kMaxGgufKeptArray, *room / sizeof(Json))) {
    TRY(r.Skip(count * kSizes[item]));
    return Count(count);
  }
  *room -= count * sizeof(Json);
  Json array = Json::array();
  for (uint64_t i = 0; i < count; ++i) array.push_back(TRY(Scalar(r, item)));
  return array;
}

// One tensor's entry; its offset is left relative to the data.
Status ReadEntry(Reader& r, std::string* name, GgufTensor* t) {
  *name = TRY(r.Name());
  t->name = *name;
  const auto rank = TRY(r.Number<uint32_t>());
  if (rank < 1 || rank > t->dims.size()) return r.Bad(fmt::format("gives the tensor '{}' {} dimensions", *name, rank));
  t->rank = static_cast<int>(rank);
  t->dims = {1, 1, 1, 1};
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    t->dims[i] = TRY(r.Number<uint64_t>());
    if (t->dims[i] == 0) return r.Bad(fmt::format("gives the tensor '{}' a dimension of 0", *name));
    if (t->dims[i] > static_cast<uint64_t>(INT64_MAX) / elements)
      return r.Bad(fmt::format("gives the tensor '{}' more elements than 63 bits count", *name));
    elements *= t->dims[i];
  }
  const auto type = TRY(r.Number<uint32_t>());
  t->type = FindGgmlType(type);
  if (t->type == nullptr) return r.Bad(fmt::format("stores the tensor '{}' as the unknown type {}", *name, type));
  if (t->dims[0] % t->type->block != 0)
    return r.Bad(fmt::format("stores the tensor '{}' with rows of {} elements as {}, whose blocks have {}", *name,
                             t->dims[0], t->type->name, t->type->block));
  t->offset = TRY(r.Number<uint64_t>());
  t->bytes = GgmlBytes(*t->type, elements / t->dims[0], t->dims[0]);
  return {};
}

Result<uint64_t> Alignment(const Reader& r, const Json& keys) {
  const auto it = keys.find("general.alignment");
  if (it == keys.end()) return uint64_t{32};
  if (!it->is_number_unsigned()) return r.Bad("has a general.alignment that is no whole number");
  const auto alignment = it->get<uint64_t>();
  if (alignment < 8 || alignment > 64 * kKiB || (alignment & (alignment - 1)) != 0)
    return r.Bad(fmt::format("has an alignment of {}", alignment));
  return alignment;
}

// "…-00001-of-00003.gguf": the text before, and how many there are; 1 for any other name.
std::pair<std::string, int> SplitName(const std::string& path) {
  constexpr std::string_view kForm = "-00001-of-00003.gguf";
  if (path.size() <= kForm.size()) return {path, 1};
  const std::string_view end = std::string_view(path).substr(path.size() - kForm.size());
  for (size_t i = 0; i < kForm.size(); ++i) {
    const bool digit = kForm[i] >= '0' && kForm[i] <= '9';
    if (digit ? end[i] < '0' || end[i] > '9' : end[i] != kForm[i]) return {path, 1};
  }
  return {path.substr(0, path.size() - kForm.size()), std::stoi(std::string(end.substr(10, 5)))};
}

}  // namespace

Status GgufFiles::ReadEntries(const Part& part, int index, FunctionRef<Status(const GgufTensor&)> visit,
                              uint64_t* end) {
  Reader r(part.file, part.infos);
  std::string name;
  GgufTensor t;
  t.file = index;
  uint64_t next = 0;  // where the tensor's data must begin: nothing overlaps, nothing is left out
  for (uint64_t i = 0; i < part.tensors; ++i) {
    TRY(ReadEntry(r, &name, &t));
    if (t.offset != next)
      return r.Bad(fmt::format("places the tensor '{}' at {} of its data, where {} is next", name, t.offset, next));
    next = RoundUp(SatAdd(next, t.bytes), part.alignment);
    if (SatAdd(part.data, SatAdd(t.offset, t.bytes)) > part.file.size())
      return BadModel(
          fmt::format("{} has {} bytes, but its tensor '{}' ends at {}; the file is cut short, fetch it again",
                      part.file.path(), part.file.size(), name, SatAdd(part.data, SatAdd(t.offset, t.bytes))));
    t.offset += part.data;
    TRY(visit(t));
  }
  *end = r.position();
  return {};
}

Result<GgufFiles::Part> GgufFiles::OpenPart(const std::string& path, int index, std::vector<size_t>* names) {
  Part part;
  part.file = TRY(File::Open(path, Code::kBadModel));
  Reader r(part.file, 0);
  char magic[4];
  TRY(r.Bytes(magic, 4));
  if (std::memcmp(magic, "GGUF", 4) != 0) return r.Bad("does not start with GGUF, so it is no such file");
  const auto version = TRY(r.Number<uint32_t>());
  if (version == 0x02000000 || version == 0x03000000)
    return BadModel(path + " is a big-endian GGUF file, which sotto does not read; convert the model again");
  if (version != 2 && version != 3)
    return BadModel(fmt::format("{} is GGUF version {}; sotto reads 2 and 3; convert the model again", path, version));
  part.tensors = TRY(r.Number<uint64_t>());
  const auto keys = TRY(r.Number<uint64_t>());
  if (part.tensors > kMaxGgufTensors) return r.Bad(fmt::format("claims {} tensors", part.tensors));
  if (keys > kMaxGgufKeys) return r.Bad(fmt::format("claims {} keys", keys));
  part.keys = Json::object();
  uint64_t room = kMaxGgufKept;
  for (uint64_t i = 0; i < keys; ++i) {
    const std::string key = TRY(r.Name());
    if (part.keys.contains(key)) return r.Bad(fmt::format("has the key '{}' twice", key));
    part.keys[key] = TRY(Value(r, TRY(r.Number<uint32_t>()), &room));
  }
  part.alignment = TRY(Alignment(r, part.keys));
  part.infos = r.position();
  uint64_t end = 0;
  // Once to know where the entries end and the data begin, then again against that.
  TRY(ReadEntries(
      part, index, [](const GgufTensor&) -> Status { return {}; }, &end));
  part.data = RoundUp(end, part.alignment);
  TRY(ReadEntries(
      part, index,
      [&](const GgufTensor& t) -> Status {
        names->push_back(std::hash<std::string_view>{}(t.name));
        return {};
      },
      &end));
  return part;
}

Result<GgufFiles> GgufFiles::Open(const std::string& path) {
  const auto [stem, count] = SplitName(path);
  if (count < 1 || count > kMaxGgufSplits)
    return BadModel(fmt::format("{} says that it is one of {} parts; 1 to {} are sane", path, count, kMaxGgufSplits));
  GgufFiles g;
  std::vector<size_t> names;  // hashes: equal names always meet
  for (int i = 0; i < count; ++i) {
    const std::string name = count == 1 ? path : fmt::format("{}-{:05}-of-{:05}.gguf", stem, i + 1, count);
    g.parts_.push_back(TRY(OpenPart(name, i, &names)));
    const Part& part = g.parts_.back();
    g.tensors_ += part.tensors;
    if (g.tensors_ > kMaxGgufTensors)
      return BadModel(fmt::format("{} and its parts claim more than {} tensors", path, kMaxGgufTensors));
    if (part.keys.value("split.count", Json(1)) != count || part.keys.value("split.no", Json(0)) != i)
      return BadModel(
          fmt::format("{} does not say that it is part {} of {}; keep the names that the parts were published under",
                      name, i + 1, count));
  }
  if (const auto all = g.keys().find("split.tensors.count"); all != g.keys().end() && *all != g.tensors_)
    return BadModel(
        fmt::format("the parts of {} hold {} tensors, and not as many as the first one says; fetch them "
                    "again",
                    path, g.tensors_));
  std::sort(names.begin(), names.end());
  if (std::adjacent_find(names.begin(), names.end()) != names.end())
    return BadModel(fmt::format("{} has two tensors of one name; fetch it again", path));
  return g;
}

Status GgufFiles::ForEachTensor(FunctionRef<Status(const GgufTensor&)> visit) const {
  uint64_t end = 0;
  for (int i = 0; i < count(); ++i) TRY(ReadEntries(parts_[static_cast<size_t>(i)], i, visit, &end));
  return {};
}

GgufArray::GgufArray() = default;
GgufArray::GgufArray(GgufArray&&) noexcept = default;
GgufArray::~GgufArray() = default;

Result<GgufArray> GgufFiles::Array(std::string_view key) const {
  constexpr uint64_t kSettings = 24;  // where they begin
  GgufArray array;
  array.reader_ = std::make_unique<GgufReader>(file(0), kSettings);
  GgufReader& r = *array.reader_;
  for (size_t i = 0; i < keys().size(); ++i) {
    const std::string name = TRY(r.Name());
    const auto type = TRY(r.Number<uint32_t>());
    uint64_t room = 0;  // nothing is kept
    if (name != key || type != kArray) {
      TRY(Value(r, type, &room));
      continue;
    }
    array.type_ = TRY(r.Number<uint32_t>());
    array.left_ = TRY(r.Number<uint64_t>());
    break;
  }
  return array;
}

Result<std::string_view> GgufArray::Text() {
  if (left_ == 0 || type_ != kString) return reader_->Bad("has an array without the string that is looked for");
  --left_;
  const auto n = TRY(reader_->Number<uint64_t>());
  if (n > kMaxGgufKeptString) return reader_->Bad(fmt::format("holds a string of {} bytes in an array", n));
  text_.resize(n);
  TRY(reader_->Bytes(text_.data(), n));
  return std::string_view(text_);
}

Result<double> GgufArray::Number() {
  if (left_ == 0 || type_ == kString || type_ == kBool)
    return reader_->Bad("has an array without the number that is looked for");
  --left_;
  return TRY(Scalar(*reader_, type_)).get<double>();
}

Result<std::optional<GgufTensor>> GgufFiles::Find(std::string_view name) const {
  std::optional<GgufTensor> found;
  TRY(ForEachTensor([&](const GgufTensor& t) -> Status {
    if (t.name == name) (found = t)->name = {};
    return {};
  }));
  return found;
}

}  // namespace sotto
