// GGUF files (v2 and v3), read as a stream of keys and tensors: nothing of the header is held, a pass costs a 16 KiB buffer.
// Not a loader: the numbers say where bytes lie.
//
//   GgufFile gguf = TRY(GgufFile::Open("model.gguf"));
//   TRY(gguf.ForEachTensor([&](const GgufTensor& t) -> Status { return Count(t); }));
//
//   byte 0    4         8           16     24
//        "GGUF" | version | n_tensors | n_kv | n_kv x (key, type, value) | n_tensors x (name, rank, dims, type, offset) | pad | data
//
// Source: github.com/ggml-org/ggml, docs/gguf.md. Dimensions stand innermost first, rows of dims[0] elements. Every file is
// hostile until Open() has returned.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/function_ref.h"
#include "base/json.h"
#include "codec/ggml_types.h"

namespace sotto {

inline constexpr uint64_t kMaxGgufKeys = 65'536, kMaxGgufTensors = 262'144, kMaxGgufHeaderBytes = 256 * kMiB;
inline constexpr uint64_t kMaxGgufName = 1024;        // bytes of a key or of a tensor's name
inline constexpr uint64_t kMaxGgufString = 4 * kMiB;  // of a value: chat templates
inline constexpr uint64_t kMaxGgufKeptArray = 4096;   // longer arrays (vocabularies) are kept as their count

struct GgufTensor {
  std::string_view name;
  const GgmlType* type = nullptr;
  int rank = 0;
  std::array<uint64_t, 4> dims{1, 1, 1, 1};  // innermost first
  uint64_t offset = 0;                       // from the start of the file
  uint64_t bytes = 0;                        // inside the file
};

class GgufFile {
 public:
  // Reads and verifies the whole header: bounds, types, overlaps with the end of the file, alignment. kBadModel.
  static Result<GgufFile> Open(const std::string& path);

  const File& file() const { return file_; }
  // All keys with their values. A string longer than 64 KiB is cut; an array longer than kMaxGgufKeptArray, and one of
  // strings, is {"count": n}.
  const Json& keys() const { return keys_; }
  uint64_t tensors() const { return tensors_; }
  uint64_t header_bytes() const { return data_; }
  // In the file's order; stops at the first error.
  Status ForEachTensor(FunctionRef<Status(const GgufTensor&)> visit) const;

 private:
  File file_;
  Json keys_;
  uint64_t tensors_ = 0, infos_ = 0, data_ = 0, alignment_ = 32;
};

}  // namespace sotto
