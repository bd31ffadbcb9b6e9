// A model directory that is there as a whole or not at all, and what is copied into it.
#pragma once
#include <string>

#include "base/file.h"
#include "engine/convert/original.h"

namespace sotto {

// A directory under another name until Commit(); removed without it, unless Keep() leaves it for a later run.
class PartialDirectory {
 public:
  explicit PartialDirectory(std::string path) : path_(std::move(path)), partial_(path_ + ".partial") {}
  PartialDirectory(const PartialDirectory&) = delete;
  PartialDirectory& operator=(const PartialDirectory&) = delete;
  ~PartialDirectory();
  const std::string& partial() const { return partial_; }

  Status Create() const;
  // One step, also where there is a directory already, which is then removed.
  Status Commit() const;
  void Keep() { kept_ = true; }

 private:
  std::string path_, partial_;
  bool kept_ = false;
};

// Byte by byte, in pieces.
Status CopyBytes(const File& from, uint64_t offset, uint64_t bytes, const AtomicFile& to, uint64_t at, Meter* meter);

// Everything beside the weights that a model directory has: config, tokenizer, templates.
Status CopyCompanions(const std::string& from, const std::string& to);

// The tensors of a .safetensors file that is being made.
struct Listing {
  struct Entry {
    std::string name, type, shape;  // as the header writes them
    uint64_t offset = 0, bytes = 0;
  };
  std::vector<Entry> entries;
  uint64_t bytes = 0;

  void Add(std::string name, std::string type, std::string shape, uint64_t n);
  // Length and JSON, filled up with spaces: to a multiple of 8, as the reference implementation does, and to `room` bytes.
  std::string Header(const std::string& metadata, uint64_t room = 0) const;
};

// "[768,3072]"
std::string ShapeOf(const Slot& slot);

}  // namespace sotto
