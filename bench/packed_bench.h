// The parts of sotto_bench_packed (packed_bench.cc says what it measures).
#pragma once
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/threads.h"
#include "codec/planes.h"
#include "engine/pack/sources.h"

namespace sotto {

struct PackedBench {
  std::string model = "models/demo-lm";
  std::vector<int64_t> sizes;
  int threads = 0, zstd_level = 3;
  int64_t stream_mib = 256;  // weights' bytes that pass by, of each kind
  double seconds = 12;       // of rounds, for each number of threads
};

// A matrix in memory and what a reading of it tells.
struct Tensor {
  int64_t rows = 0, cols = 0;
  std::vector<float> values;
  int64_t size() const { return rows * cols; }
};
enum class Shape { kGaussian, kLaplace, kStudent6 };
inline constexpr Shape kShapes[] = {Shape::kGaussian, Shape::kLaplace, Shape::kStudent6};
std::string NameOf(Shape shape);
Tensor Draw(Shape shape, int64_t rows, int64_t cols, Threads& threads);  // of a fixed seed
// `data` holds the tensor in `type` and outlives what is made.
Result<PackedMatrix> MatrixOf(const Tensor& tensor, const void* data, std::string_view type, Threads& threads);
struct PlaneCount {
  std::string name;
  PlanesLevel level;
};
std::vector<PlaneCount> PlaneCounts();  // the levels of `sotto pack`, and 2 planes; fewest first

// Tables: {"title": rows}, a row {"column": figure}.
Result<Json> MeasureTables(const PackedBench& o);
Result<Json> MeasureSpeed(const PackedBench& o);

}  // namespace sotto
