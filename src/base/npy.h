// NumPy's .npy, float32, C order (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0): rows are
// appended as they come and the file appears when it is complete. Reading is for tests and small files.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace sotto {

class NpyWriter {
 public:
  // [rows, cols]; `rows` is what will be appended in all.
  static Result<NpyWriter> Create(const std::string& path, int64_t rows, int64_t cols);
  Status Append(std::span<const float> values);
  Status Commit();  // REQUIRES: rows * cols values were appended

 private:
  NpyWriter() = default;
  AtomicFile file_;
  int64_t left_ = 0;
};

struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
// float32 arrays in C order of at most 256 MiB. kBadInput for anything else.
Result<NpyArray> ReadNpy(const std::string& path);

}  // namespace sotto
