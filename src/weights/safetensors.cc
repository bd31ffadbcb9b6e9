#include "weights/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/bytes.h"
#include "weights/safetensors_header.h"
#include "weights/stored.h"

namespace sotto {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr size_t kMaxFileName = 255;

// 64 bits stand for a name, so that the checks need no table of names: equal names always meet. Different names meet
// once in 2^33 models of 65,536 tensors, and then a good file is refused; a bad one is never let through as having no
// duplicate.
uint64_t HashName(std::string_view name) {
  uint64_t h = 0xcbf29ce484222325;  // FNV-1a, then the finalizer of MurmurHash3
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccd;
  h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53;
  return h ^ (h >> 33);
}

struct Extent {
  uint64_t begin, end;  // bytes from the start of the file
  uint64_t name;        // HashName
};

struct IndexEntry {
  int shard;
  uint64_t name;  // HashName
  friend auto operator<=>(const IndexEntry&, const IndexEntry&) = default;
};

// The name behind a hash, for an error message: a second pass over the header.
std::string NameIn(const File& file, const HeaderRange& range, uint64_t hash) {
  std::string name = "?";
  (void)ReadHeader(file, range, 0, [&](const TensorHeader& t) -> Status {
    if (HashName(t.name) == hash) name = t.name;
    return {};
  }).ok();
  return name;
}

std::string NameIn(const File& index, uint64_t hash) {
  std::string name = "?";
  (void)ReadShardIndex(index, [&](std::string_view tensor, std::string_view) -> Status {
    if (HashName(tensor) == hash) name = tensor;
    return {};
  }).ok();
  return name;
}

// Tensors must tile [data_begin, size of the file) without holes or overlaps. Leaves `extents` sorted by name.
Status VerifyLayout(const File& file, const HeaderRange& range, std::vector<Extent>& extents) {
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  uint64_t at = range.data_begin;
  for (const Extent& e : extents) {
    if (e.begin != at)
      return BadModel(fmt::format(
          "{} has {} between its tensors at byte {}, before \"{}\"; the file is damaged, fetch it again", file.path(),
          e.begin > at ? "a hole" : "an overlap", std::min(at, e.begin), NameIn(file, range, e.name)));
    at = e.end;
  }
  if (at != file.size())
    return BadModel(fmt::format("{} has {} bytes after its last tensor; the file is damaged, fetch it again",
                                file.path(), file.size() - at));
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) { return a.name < b.name; });
  for (size_t i = 1; i < extents.size(); ++i)
    if (extents[i - 1].name == extents[i].name)
      return BadModel(fmt::format("{} has tensor \"{}\" twice; the file is damaged, fetch it again", file.path(),
                                  NameIn(file, range, extents[i].name)));
  return {};
}

// What the index says of a shard against what the shard holds; both sorted by name.
Status VerifyShard(const File& index, const File& shard, const HeaderRange& range, std::span<const IndexEntry> mapped,
                   std::span<const Extent> held) {
  size_t m = 0, h = 0;
  while (m < mapped.size() || h < held.size()) {
    if (h == held.size() || (m < mapped.size() && mapped[m].name < held[h].name))
      return BadModel(fmt::format("{} maps tensor \"{}\" to {}, which does not hold it; fetch both files again",
                                  index.path(), NameIn(index, mapped[m].name), shard.path()));
    if (m == mapped.size() || held[h].name < mapped[m].name)
      return BadModel(fmt::format("{} holds tensor \"{}\", which {} does not place there; fetch both files again",
                                  shard.path(), NameIn(shard, range, held[h].name), index.path()));
    ++m, ++h;
  }
  return {};
}

// A shard is a file beside its index, never a path.
Status CheckShardName(const File& index, std::string_view name) {
  const bool plain = !name.empty() && name.size() <= kMaxFileName && name != "." && name != ".." &&
                     name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
  if (plain) return {};
  return BadModel(fmt::format("{} names the shard \"{}\", which is not a plain file name; do not use this model",
                              index.path(), name.substr(0, 80)));
}

Error NoWeights(const std::string& dir) {
  for (const char* pickle : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    if (FileExists(dir + "/" + pickle))
      return BadModel(
          fmt::format("{} has its weights as {}, a pickle, which sotto does not open because a pickle can run code; "
                      "convert it with "
                      "transformers: python3 -c \"from transformers import AutoModel as M; "
                      "M.from_pretrained('{}').save_pretrained('OUT')\", and copy the other files beside it",
                      dir, pickle, dir));
  return BadModel(
      fmt::format("{} has neither {} nor {}; fetch the weights with `sotto pull owner/name`", dir, kSingle, kIndex));
}

struct Shards {
  std::vector<std::string> names;
  std::vector<IndexEntry> entries;  // sorted by shard, then name
};

Result<Shards> ReadShards(const File& index) {
  Shards shards;
  std::map<std::string, int, std::less<>> numbers;
  TRY(ReadShardIndex(index, [&](std::string_view tensor, std::string_view shard) -> Status {
    auto at = numbers.find(shard);
    if (at == numbers.end()) {
      TRY(CheckShardName(index, shard));
      if (shards.names.size() == kMaxShards)
        return BadModel(fmt::format("{} names more than {} shards; merge some of them", index.path(), kMaxShards));
      at = numbers.emplace(shard, static_cast<int>(shards.names.size())).first;
      shards.names.emplace_back(shard);
    }
    if (shards.entries.size() == kMaxTensorsInModel)
      return BadModel(fmt::format("{} names more than {} tensors; no model that sotto knows has as many", index.path(),
                                  kMaxTensorsInModel));
    shards.entries.push_back({at->second, HashName(tensor)});
    return {};
  }));
  if (shards.names.empty()) return BadModel(fmt::format("{} maps no tensor; fetch it again", index.path()));
  std::sort(shards.entries.begin(), shards.entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (size_t i = 1; i < shards.entries.size(); ++i)
    if (shards.entries[i - 1].name == shards.entries[i].name)
      return BadModel(fmt::format("{} maps tensor \"{}\" twice; fetch it again", index.path(),
                                  NameIn(index, shards.entries[i].name)));
  std::sort(shards.entries.begin(), shards.entries.end());
  return shards;
}

}  // namespace

Result<ModelFiles> ModelFiles::Open(const std::string& dir) {
  const std::string single = dir + "/" + kSingle, index_path = dir + "/" + kIndex;
  Shards shards;
  std::optional<File> index;
  if (FileExists(single)) {
    shards.names.push_back(kSingle);
  } else if (FileExists(index_path)) {
    index = TRY(File::Open(index_path, Code::kBadModel));
    shards = TRY(ReadShards(*index));
  } else {
    return NoWeights(dir);
  }

  ModelFiles model;
  std::vector<Extent> extents;  // of one file at a time
  auto mapped = shards.entries.begin();
  for (const std::string& name : shards.names) {
    File file = TRY(File::Open(dir + "/" + name, Code::kBadModel));
    const HeaderRange range = TRY(ReadHeaderRange(file));
    extents.clear();
    TRY(ReadHeader(file, range, model.count(), [&](const TensorHeader& t) -> Status {
      if (extents.size() == kMaxTensorsInFile)
        return BadModel(
            fmt::format("{} holds more than {} tensors; split it into shards", file.path(), kMaxTensorsInFile));
      extents.push_back({t.offset, t.offset + t.bytes, HashName(t.name)});
      model.holds_int8_ |= t.dtype == DType::kI8;
      model.holds_packed_ |= t.name.ends_with(kPlanesSuffix);
      return {};
    }));
    TRY(VerifyLayout(file, range, extents));
    if (index) {
      auto end = mapped;
      while (end != shards.entries.end() && end->shard == model.count()) ++end;
      TRY(VerifyShard(*index, file, range, {mapped, end}, extents));
      mapped = end;
    }
    model.tensors_ += extents.size();
    model.header_bytes_ += range.data_begin;
    model.total_bytes_ = SatAdd(model.total_bytes_, file.size());
    model.files_.push_back(std::move(file));
  }
  return model;
}

Status ModelFiles::ForEachTensor(FunctionRef<Status(const TensorHeader&)> visit) const {
  for (int i = 0; i < count(); ++i) {
    const HeaderRange range = TRY(ReadHeaderRange(file(i)));
    TRY(ReadHeader(file(i), range, i, visit));
  }
  return {};
}

Result<DType> ModelFiles::TypeOf(const TensorHeader& tensor) const {
  if (tensor.dtype) return *tensor.dtype;
  return BadModel(
      fmt::format("tensor \"{}\" in {} has type {}, which sotto does not read; convert the model to BF16 or F16",
                  tensor.name, file(tensor.file).path(), tensor.type));
}

}  // namespace sotto
