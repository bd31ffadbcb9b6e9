// GGUF files (v2 and v3), one or split into several, read as a stream of settings and tensors: vocabularies are never held, a
// pass over the tensors costs a 16 KiB buffer. Not a loader: the numbers say where bytes lie. What settings and tensors mean
// for a model is gguf_config.h.
//
//   GgufFiles gguf = TRY(GgufFiles::Open("model.gguf"));            // or model-00001-of-00003.gguf: all three
//   TRY(gguf.ForEachTensor([&](const GgufTensor& t) -> Status { return Count(t); }));
//   GgufArray tokens = TRY(gguf.Array("tokenizer.ggml.tokens"));    // value by value
//
//   byte 0    4         8           16     24
//        "GGUF" | version | n_tensors | n_keys | n_keys x (key, type, value) | n_tensors x (name, rank, dims, type, offset) | pad | data
//
// Source: github.com/ggml-org/ggml, docs/gguf.md. Dimensions stand innermost first, rows of dims[0] elements. Tensors tile the
// data in the order of their entries, each padded to the alignment. Every file is hostile until Open() has returned.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/function_ref.h"
#include "base/json.h"
#include "codec/ggml_types.h"

namespace sotto {

inline constexpr uint64_t kMaxGgufKeys = 65'536, kMaxGgufTensors = 262'144;  // of a file, of a model
inline constexpr uint64_t kMaxGgufHeaderBytes = 256 * kMiB;  // a vocabulary of 262,144 with merges takes 15 MB
inline constexpr uint64_t kMaxGgufName = 256;                // bytes of a key or of a tensor's name
inline constexpr uint64_t kMaxGgufKeptArray = 4096;          // longer arrays (vocabularies) are kept as their count
inline constexpr uint64_t kMaxGgufKeptString = 256 * kKiB;   // longer ones (a whole tokenizer.json) likewise
inline constexpr uint64_t kMaxGgufKept = 4 * kMiB;           // of memory for all strings and arrays of a file
inline constexpr int kMaxGgufSplits = 512;                   // each keeps a file descriptor open

struct GgufTensor {
  std::string_view name;  // lives until the callback returns
  const GgmlType* type = nullptr;
  int rank = 0;
  std::array<uint64_t, 4> dims{1, 1, 1, 1};  // innermost first, none is 0
  int file = 0;                              // index for GgufFiles::file()
  uint64_t offset = 0;                       // from the start of that file
  uint64_t bytes = 0;                        // inside that file

  uint64_t Elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }  // below 2^63
};

class GgufReader;

// The values of an array, in order. Holds a buffer of 16 KiB; the GgufFiles that it comes from must outlive it.
class GgufArray {
 public:
  GgufArray(GgufArray&&) noexcept;
  ~GgufArray();
  uint64_t left() const { return left_; }  // values that are still to come
  // The next value. kBadModel when there is none, when it is of the other kind, and for a string of more than
  // kMaxGgufKeptString bytes. The view lives until the next call.
  Result<std::string_view> Text();
  Result<double> Number();

 private:
  friend class GgufFiles;
  GgufArray();
  std::unique_ptr<GgufReader> reader_;
  uint32_t type_ = 0;
  uint64_t left_ = 0;
  std::string text_;
};

class GgufFiles {
 public:
  // Reads and verifies the headers of the file, and of its other parts when its name ends in -00001-of-00003.gguf: bounds,
  // types, alignment, layout, duplicates, that the parts belong together. kBadModel.
  static Result<GgufFiles> Open(const std::string& path);

  int count() const { return static_cast<int>(parts_.size()); }
  const File& file(int index) const { return parts_[static_cast<size_t>(index)].file; }
  // The settings of the (first) file: numbers, booleans, strings, arrays of them. What is too long to keep, and every array of
  // strings, is {"count": n}.
  const Json& keys() const { return parts_[0].keys; }
  // The array of the (first) file with this key, however long; none left when there is no such array. A pass over the settings.
  Result<GgufArray> Array(std::string_view key) const;
  uint64_t tensors() const { return tensors_; }  // in all files

  // In the files' order; stops at the first error. Checks each tensor's own numbers again, in case that a file changed.
  Status ForEachTensor(FunctionRef<Status(const GgufTensor&)> visit) const;
  // The tensor of this name, without its name; nothing when there is none. A pass over the headers.
  Result<std::optional<GgufTensor>> Find(std::string_view name) const;

 private:
  struct Part {
    File file;
    Json keys;
    uint64_t tensors = 0, infos = 0, data = 0, alignment = 32;  // infos, data: where entries and data begin
  };
  static Result<Part> OpenPart(const std::string& path, int index, std::vector<size_t>* names);
  static Status ReadEntries(const Part& part, int index, FunctionRef<Status(const GgufTensor&)> visit, uint64_t* end);

  std::vector<Part> parts_;
  uint64_t tensors_ = 0;
};

}  // namespace sotto
