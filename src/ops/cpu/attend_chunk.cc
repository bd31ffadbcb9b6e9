// Attention of a prompt's rows over the cache of their sequence. A task is a head of the cache and a block of queries: all query
// heads that share it, so keys and values are widened and packed once for all of them. Tiles of keys lie at places that depend on
// the position alone, so a row's result does not depend on the rows beside it.
#include <algorithm>

#include "codec/half.h"
#include "codec/panel.h"
#include "ops/cpu/cpu_backend.h"

namespace sotto::cpu {
namespace {

constexpr int64_t kKeys = 256;     // keys of a tile
constexpr int64_t kQueries = 192;  // queries of a task

int64_t Padded(int64_t dim) { return static_cast<int64_t>(RoundUp(static_cast<uint64_t>(dim), kPanel)); }

struct Areas {
  float *keys, *values, *wide, *mixed, *scores, *queries, *peaks, *sums;
};

Areas Cut(std::byte* lane, int64_t padded) {
  Areas s;
  s.keys = reinterpret_cast<float*>(lane);
  s.values = s.keys + kKeys * padded;
  s.wide = s.values + kKeys * padded;  // a tile of keys or values in fp32
  s.mixed = s.wide + kKeys * padded;
  s.scores = s.mixed + kQueries * padded;
  s.queries = s.scores + kMaxTileRows * kKeys;
  s.peaks = s.queries + kMaxTileRows * padded;
  s.sums = s.peaks + kQueries;
  return s;
}

// Elements [first, first + n) of a cache as fp32, in place where they are that already.
const float* Widen(const std::byte* from, DType dtype, int64_t first, int64_t n, float* out) {
  from += static_cast<uint64_t>(first) * SizeOf(dtype);
  if (dtype == DType::kF32) return reinterpret_cast<const float*>(from);
  const auto* halves = reinterpret_cast<const uint16_t*>(from);
  dtype == DType::kF16 ? HalfToFloat(halves, n, out) : Bf16ToFloat(halves, n, out);
  return out;
}

struct Call {
  const Kernels& kernels;
  View q, out;
  const CacheView& cache;
  const HeadShape& shape;
  Areas s;

  int64_t dim() const { return shape.head_dim; }
  int64_t group() const { return shape.heads / shape.kv_heads; }
  // Query i of a head of the cache: row i / group, the group's head i % group.
  float* Of(const View& x, int64_t kv_head, int64_t i) const {
    return x.F32(i / group()) + (kv_head * group() + i % group()) * dim();
  }
  int64_t Seen(int64_t i) const { return cache.length - (q.rows - 1 - i / group()); }

  void Pack(int64_t kv_head, int64_t j, int64_t n) const {  // keys [j, j + n), which do not wrap round
    const int64_t at = kv_head * cache.head_stride + (cache.first + j) % cache.capacity * dim();
    const float* keys = Widen(cache.keys, cache.dtype, at, n * dim(), s.wide);
    kernels.pack_keys(keys, dim(), n, shape.head_dim, s.keys);
    const float* values = Widen(cache.values, cache.dtype, at, n * dim(), s.wide);
    kernels.pack_values(values, dim(), n, shape.head_dim, s.values);
  }

  // Queries [first + row, + m) against the packed tile of keys [j, j + n).
  void Tile(int64_t kv_head, int64_t first, int64_t row, int m, int64_t j, int64_t n) const {
    const int64_t padded = Padded(dim());
    for (int r = 0; r < m; ++r)
      kernels.scale(Of(q, kv_head, first + row + r), dim(), shape.scale, s.queries + r * dim());
    kernels.f32_tile(s.queries, dim(), m, {s.keys, (n + kPanel - 1) / kPanel, kPanel * dim()}, dim(), s.scores, kKeys,
                     false);
    for (int r = 0; r < m; ++r) {
      float* scores = s.scores + r * kKeys;
      const int64_t seen = std::clamp<int64_t>(Seen(first + row + r) - j, 0, n);
      if (seen > 0) {
        const float shrink = kernels.soften(scores, seen, s.peaks + row + r, s.sums + row + r);
        float* mixed = s.mixed + (row + r) * padded;
        if (shrink != 1.0F) kernels.scale(mixed, padded, shrink, mixed);
      }
      std::fill(scores + seen, scores + n, 0.0F);
    }
    kernels.f32_tile(s.scores, kKeys, m, {s.values, padded / kPanel, kPanel * n}, n, s.mixed + row * padded, padded,
                     true);
  }

  void Block(int64_t kv_head, int64_t first, int64_t rows) const {
    const int64_t padded = Padded(dim()), longest = Seen(first + rows - 1);
    std::fill(s.peaks, s.peaks + rows, -__builtin_inff());
    std::fill(s.sums, s.sums + rows, 0.0F);
    std::fill(s.mixed, s.mixed + rows * padded, 0.0F);
    for (int64_t j = 0, n = 0; j < longest; j += n) {
      n = std::min({kKeys - j % kKeys, longest - j, cache.Run(j)});
      Pack(kv_head, j, n);
      for (int64_t r = 0; r < rows; r += kernels.tile_rows) {
        const int m = static_cast<int>(std::min<int64_t>(kernels.tile_rows, rows - r));
        if (Seen(first + r + m - 1) > j) Tile(kv_head, first, r, m, j, n);
      }
    }
    for (int64_t r = 0; r < rows; ++r)
      kernels.scale(s.mixed + r * padded, dim(), 1.0F / s.sums[r], Of(out, kv_head, first + r));
  }
};

}  // namespace

uint64_t ChunkLaneBytes(const ScratchNeed& need) {
  const auto dim = static_cast<uint64_t>(Padded(need.head_dim));
  return 4 * (3 * kKeys * dim + kQueries * (dim + 2) + kMaxTileRows * (kKeys + dim));
}

void CpuBackend::AttendChunk(View q, const CacheView& cache, const HeadShape& shape, View out) {
  CHECK(q.dtype == DType::kF32 && out.dtype == DType::kF32 && q.rows == out.rows && q.rows >= 1);
  CHECK(shape.kv_heads >= 1 && shape.heads % shape.kv_heads == 0 && shape.head_dim <= need_.head_dim);
  CHECK(q.cols == int64_t{shape.heads} * shape.head_dim && out.cols == q.cols);
  CHECK(cache.length >= q.rows && cache.length <= cache.capacity && cache.first >= 0 && cache.first < cache.capacity);
  CHECK(cache.head_stride >= cache.capacity * shape.head_dim);
  const int64_t queries = q.rows * (shape.heads / shape.kv_heads), blocks = (queries + kQueries - 1) / kQueries;
  threads_->For(blocks * shape.kv_heads, 1, [&](int64_t begin, int64_t end, int thread) {
    const Call call{kernels_, q, out, cache, shape, Cut(Lane(thread), Padded(shape.head_dim))};
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task % blocks * kQueries;
      call.Block(task / blocks, first, std::min(kQueries, queries - first));
    }
  });
}

}  // namespace sotto::cpu
