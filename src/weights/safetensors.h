// safetensors files: the list of a model's tensors, read from one model.safetensors or from the shards that
// model.safetensors.index.json names. Headers are streamed: nothing of them is held, no table of names exists, and a
// pass over them costs a 16 KiB buffer. Not a loader (store.h): the numbers say where bytes lie, and the reader takes
// them from file().
//
//   ModelFiles files = TRY(ModelFiles::Open(dir));
//   TRY(files.ForEachTensor([&](const TensorHeader& t) -> Status { return Match(t); }));
//
//   byte 0        8                     8 + N                           end of file
//        | N u64 | JSON of N bytes, N <= 100 MB | tensors, one after the other, no holes |
//        {"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}, …, "__metadata__": {"format": "pt"}}
//
// Source: github.com/huggingface/safetensors, README "Format" and safetensors/src/tensor.rs. Every file is hostile
// until Open() has returned: see kMax… below, and safetensors_test.cc for the attacks by name.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/function_ref.h"
#include "base/result.h"
#include "plan/dtype.h"

namespace sotto {

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's cap
inline constexpr uint64_t kMaxHeaderToken = 24 * 1024;    // bytes of one name, number or metadata string, as written
inline constexpr uint64_t kMaxTensorsInFile = 65'536;  // largest audio models: about 27,000 (30 B parameters, experts)
inline constexpr uint64_t kMaxTensorsInModel = 262'144;
inline constexpr int kMaxTensorRank = 16;
inline constexpr int kMaxShards = 512;  // each keeps a file descriptor open

// One tensor of a file. The views live until the callback returns.
struct TensorHeader {
  std::string_view name;
  std::string_view type;       // as the file writes it: "F32", "BF16", "F8_E4M3" …
  std::optional<DType> dtype;  // nothing for a type that sotto cannot compute with; ModelFiles::TypeOf makes the error
  std::span<const int64_t> shape;  // empty for a scalar; every dimension >= 0
  int file = 0;                    // index for ModelFiles::file()
  uint64_t offset = 0;             // bytes from the start of that file
  uint64_t bytes = 0;              // inside that file; product of shape x size of dtype whenever dtype is known
};

class ModelFiles {
 public:
  // Opens and verifies every header: bounds, layout, duplicates, agreement with the index. Reads no tensor. kBadModel.
  static Result<ModelFiles> Open(const std::string& dir);

  int count() const { return static_cast<int>(files_.size()); }
  const File& file(int index) const { return files_[static_cast<size_t>(index)]; }
  uint64_t tensors() const { return tensors_; }            // in all files
  uint64_t header_bytes() const { return header_bytes_; }  // of all files: what a pass reads
  uint64_t total_bytes() const { return total_bytes_; }    // sizes of all files
  bool holds_int8() const { return holds_int8_; }          // codes, as docs/int8.md has them
  bool holds_packed() const { return holds_packed_; }      // matrices in the plane code, docs/format.md

  // Calls back for each tensor, in the order of the files and of their headers. Stops at the first error and returns
  // it. Checks each tensor's own numbers again, in case that a file changed since Open().
  Status ForEachTensor(FunctionRef<Status(const TensorHeader&)> visit) const;

  // The element type, or kBadModel naming the tensor, its type and its file.
  Result<DType> TypeOf(const TensorHeader& tensor) const;

 private:
  std::vector<File> files_;
  uint64_t tensors_ = 0, header_bytes_ = 0, total_bytes_ = 0;
  bool holds_int8_ = false, holds_packed_ = false;
};

}  // namespace sotto
