// How a model's weights are stored in its files, slot by slot, and the names by which files and slots find each other.
#pragma once
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "codec/ggml_types.h"
#include "plan/anatomy.h"

namespace sotto {

// A weight slot as the files hold it.
struct Kept {
  uint64_t elements = 0, bytes = 0;
  const GgmlType* type = nullptr;  // when it is one tensor of a GGUF type
  bool planes = false;             // when it is a block of codec/planes.h
  uint64_t offset = 0;             // of that block in its file
};

// Whole pages of a file.
struct FilePages {
  uint64_t begin = 0, bytes = 0;
};
// Those that blocks lie in. REQUIRES: there is one.
FilePages PagesOfPlanes(std::span<const Kept> kept);

// Where a slot's tensor lies.
struct WeightOrigin {
  const File* file = nullptr;
  uint64_t offset = 0, bytes = 0;
  const GgmlType* type = nullptr;
  int64_t paired = 0;  // half a head's rows, when they stand as 0, n/2, 1, n/2 + 1 … (gguf_names.h); else 0
};

// Of a packed matrix's tensor (docs/format.md), behind the matrix's name.
inline constexpr std::string_view kPlanesSuffix = ".planes";

// What planning learns from the headers.
struct StoredWeights {
  DType dtype = DType::kF32;                // plain numbers: of most of the matrices' bytes
  uint64_t parameters = 0;                  // in the files; 0 where packing hides it
  std::string format;                       // "gguf", "gptq 4-bit", "fp8" …; "" for plain numbers
  std::vector<Kept> kept;                   // each weight slot, in the anatomy's order; empty for plain numbers
  std::map<std::string, uint64_t> by_type;  // bytes of all tensors in the files: "q4_k", "i32" …

  std::string Name() const { return format.empty() ? std::string(NameOf(dtype)) : format; }
};

// Without the wrappers that tools and versions put around the same modules: "model.language_model.layers.0.mlp.up_proj.weight",
// "language_model.model.layers.0…" and "thinker.model.layers.0…" are all "layers.0.mlp.up_proj.weight".
std::string PlainName(std::string_view name);

// Whether a tensor of this shape, outermost first, is the slot's: dimensions of 1 don't count, and neighbours may be one in the
// slot (a convolution's taps, stacked experts).
bool FitsSlot(const Slot& slot, std::span<const int64_t> shape);

// The weight slots of an anatomy by their plain names.
class WeightNames {
 public:
  explicit WeightNames(const Anatomy& anatomy);
  size_t count() const { return ids_.size(); }
  const Slot& slot(size_t weight) const { return anatomy_.at(ids_[weight]); }  // in the anatomy's order
  uint32_t id(size_t weight) const { return ids_[weight]; }
  std::optional<size_t> Find(const std::string& plain) const;

 private:
  const Anatomy& anatomy_;
  std::vector<uint32_t> ids_;
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace sotto
