#include "engine/pack/inspect.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/json.h"
#include "weights/safetensors.h"
#include "weights/stored.h"

namespace sotto {
namespace {

// "__metadata__" of a file; null where there is none.
Result<Json> MetadataOf(const File& file) {
  constexpr uint64_t kMost = 64 * kMiB;
  uint64_t size = 0;
  TRY(file.ReadAt(0, std::as_writable_bytes(std::span(&size, 1))));
  if (size > kMost || size + 8 > file.size()) return Json();
  std::string text(size, ' ');
  TRY(file.ReadAt(8, std::as_writable_bytes(std::span(text))));
  const Json header = TRY(ParseJson(text, file.path(), Code::kBadModel));
  const auto it = header.find("__metadata__");
  return it != header.end() && it->is_object() ? *it : Json();
}

}  // namespace

Result<Packed> Inspect(const std::string& model) {
  const ModelDir dir = TRY(FindModel(model, ModelUse::kRun));
  if (!dir.gguf_path.empty()) return Usage("inspect reads .safetensors files; `sotto plan` shows what a .gguf holds");
  const ModelFiles files = TRY(ModelFiles::Open(dir.path));
  std::vector<Json> metadata;
  for (int i = 0; i < files.count(); ++i) metadata.push_back(TRY(MetadataOf(files.file(i))));
  Packed found;
  found.file_bytes = files.total_bytes();
  TRY(files.ForEachTensor([&](const TensorHeader& t) -> Status {
    PackedTensor row{std::string(t.name), std::string(t.type), {t.shape.begin(), t.shape.end()}};
    row.bytes = t.bytes;
    row.elements = 1;
    for (const int64_t n : t.shape) row.elements = SatMul(row.elements, static_cast<uint64_t>(n));
    if (t.name.ends_with(kPlanesSuffix) && t.bytes >= sizeof(PlanesHeader)) {
      const File& file = files.file(t.file);
      PlanesHeader h;
      TRY(file.ReadAt(t.offset, std::as_writable_bytes(std::span(&h, 1))));
      TRY(CheckPlanesHeader(h, t.bytes, h.out, h.in, row.name));
      row.name.resize(row.name.size() - kPlanesSuffix.size());
      row.shape = {h.out, h.in};
      row.elements = uint64_t{h.out} * h.in;
      const Json& facts = metadata[static_cast<size_t>(t.file)];
      const std::string key = "sotto." + row.name;
      char scheme[16] = "planes";
      if (facts.is_object() && facts.contains(key) && facts[key].is_string())
        std::sscanf(facts[key].get<std::string>().c_str(), "%15s %lf bits %lf dB sensitivity %lf kl %lf", scheme,
                    &row.entropy, &row.error_db, &row.sensitivity, &row.predicted_kl);
      row.scheme = scheme;
    }
    found.Add(std::move(row));
    return {};
  }));
  return found;
}

}  // namespace sotto
