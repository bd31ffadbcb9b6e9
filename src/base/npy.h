// NumPy's .npy, float32, C order (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0): rows are
// appended as they come and the file appears when it is complete.
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

// A float32 array in C order, read piece by piece. kBadInput for anything else.
class NpyReader {
 public:
  static Result<NpyReader> Open(const std::string& path);
  const std::vector<int64_t>& shape() const { return shape_; }
  uint64_t count() const { return count_; }  // of values
  // The next values; kBadInput behind the last.
  Status Next(std::span<float> values);

 private:
  NpyReader() = default;
  File file_;
  std::vector<int64_t> shape_;
  uint64_t at_ = 0, count_ = 1;
};

struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
// The whole of an array of at most 256 MiB, for tests and small files.
Result<NpyArray> ReadNpy(const std::string& path);

}  // namespace sotto
