// GGUF v3 files, written: settings and tensors are named first, their bytes then come in any order and from any thread. The file
// has its name only when it is complete. Reading is gguf.h, where the layout is drawn.
//
//   GgufHeader header;
//   header.Text("general.architecture", "llama");
//   header.Tensor("token_embd.weight", type, {32000, 2048});        // outermost first
//   GgufWriter file = TRY(GgufWriter::Create("model.gguf", header));
//   TRY(file.Write(0, 0, bytes));                                   // tensor 0, from its byte 0 on
//   TRY(file.Commit());
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "codec/ggml_types.h"

namespace sotto {

// Keys and tensors stand in the file in the order of the calls.
class GgufHeader {
 public:
  void Text(std::string_view key, std::string_view value);
  void Whole(std::string_view key, uint32_t value);
  void Real(std::string_view key, float value);
  void Flag(std::string_view key, bool value);
  void Texts(std::string_view key, std::span<const std::string> values);
  void Wholes(std::string_view key, std::span<const int32_t> values);
  void Reals(std::string_view key, std::span<const float> values);

  // REQUIRES: rows of whole blocks, 1 to 4 dimensions.
  void Tensor(std::string_view name, const GgmlType& type, std::span<const int64_t> shape);
  uint64_t tensor_bytes() const { return tensor_bytes_; }  // without what aligns them

 private:
  friend class GgufWriter;
  void Key(std::string_view key, uint32_t type);
  void Array(std::string_view key, uint32_t type, size_t count);

  std::string keys_, infos_;
  uint64_t key_count_ = 0, tensor_bytes_ = 0, end_ = 0;  // end: of the tensors, from where data begins
  std::vector<uint64_t> offsets_;                        // of tensors, likewise
};

class GgufWriter {
 public:
  // Takes the room on the disk and writes the header.
  static Result<GgufWriter> Create(const std::string& path, const GgufHeader& header);
  Status Write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) const;
  Status Commit() { return file_.Commit(); }
  uint64_t size() const { return size_; }

 private:
  AtomicFile file_;
  std::vector<uint64_t> offsets_;  // from the start of the file
  uint64_t size_ = 0;
};

}  // namespace sotto
