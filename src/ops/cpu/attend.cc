// Attention of an encoder: tasks of (head, block of queries); in each, keys and values pass by in tiles that are packed
// like weight panels, so that both products run in the matrix kernels, and the softmax is the online one (Milakov and
// Gimelshein 2018; Dao et al. 2022): a running maximum and sum for every query, earlier results rescaled when the
// maximum grows.
#include <algorithm>

#include "codec/panel.h"
#include "ops/cpu/cpu_backend.h"

namespace sotto::cpu {
namespace {

constexpr int64_t kKeys = 256;     // keys of a tile
constexpr int64_t kQueries = 192;  // queries of a task: packing a tile costs about 2 % of using it

int64_t Padded(int64_t dim) { return static_cast<int64_t>(RoundUp(static_cast<uint64_t>(dim), kPanel)); }

}  // namespace

uint64_t AttendBytes(const ScratchNeed& need) {
  const auto dim = static_cast<uint64_t>(Padded(need.head_dim));
  return 4 * (2 * kKeys * dim + kQueries * dim + kMaxTileRows * (kKeys + dim) + 2 * kQueries) + 64;
}

struct CpuBackend::AttendCall {
  const Kernels& kernels;
  View q, k, v, out;  // columns of one head
  float scale;
  float *keys, *values, *mixed, *scores, *queries, *peaks, *sums;

  AttendCall(const Kernels& table, std::byte* lane, int head_dim) : kernels(table) {
    const int64_t dim = Padded(head_dim);
    keys = reinterpret_cast<float*>(lane);
    values = keys + kKeys * dim;
    mixed = values + kKeys * dim;
    scores = mixed + kQueries * dim;
    queries = scores + kMaxTileRows * kKeys;
    peaks = queries + kMaxTileRows * dim;
    sums = peaks + kQueries;
  }

  // Rows [row, row + m) of the block's queries against the packed tile of n keys.
  void Tile(int64_t first, int64_t row, int m, int64_t n, bool start) const {
    const int64_t dim = q.cols, padded = Padded(dim);
    for (int r = 0; r < m; ++r) kernels.scale(q.F32(first + row + r), dim, scale, queries + r * dim);
    for (int64_t j = 0; j < n; j += kPanel)
      kernels.f32_tile(queries, dim, m, keys + j * dim, dim, scores + j, kKeys, false);
    for (int r = 0; r < m; ++r) {
      const float shrink = kernels.soften(scores + r * kKeys, n, peaks + row + r, sums + row + r);
      if (!start && shrink != 1.0f)
        kernels.scale(mixed + (row + r) * padded, padded, shrink, mixed + (row + r) * padded);
    }
    for (int64_t d = 0; d < padded; d += kPanel)
      kernels.f32_tile(scores, kKeys, m, values + d * n, n, mixed + row * padded + d, padded, !start);
  }

  void Block(int64_t first, int64_t rows) const {
    const int64_t dim = q.cols, padded = Padded(dim);
    std::fill(peaks, peaks + rows, -__builtin_inff());
    std::fill(sums, sums + rows, 0.0f);
    for (int64_t j = 0; j < k.rows; j += kKeys) {
      const int64_t n = std::min(kKeys, k.rows - j);
      kernels.pack_keys(k.F32(j), k.stride, n, static_cast<int>(dim), keys);
      kernels.pack_values(v.F32(j), v.stride, n, static_cast<int>(dim), values);
      for (int64_t r = 0; r < rows; r += kernels.tile_rows)
        Tile(first, r, static_cast<int>(std::min<int64_t>(kernels.tile_rows, rows - r)), n, j == 0);
    }
    for (int64_t r = 0; r < rows; ++r) kernels.scale(mixed + r * padded, dim, 1.0f / sums[r], out.F32(first + r));
  }
};

void CpuBackend::Attend(View q, View k, View v, int heads, int head_dim, float scale, View out, Precision) {
  const int64_t width = int64_t{heads} * head_dim;
  CHECK(head_dim >= 1 && head_dim <= need_.head_dim);
  for (const View& view : {q, k, v, out}) CHECK(view.dtype == DType::kF32 && view.cols == width);
  CHECK(q.rows == out.rows && k.rows == v.rows && k.rows >= 1);
  const int64_t blocks = (q.rows + kQueries - 1) / kQueries;
  threads_->For(blocks * heads, 1, [&](int64_t begin, int64_t end, int thread) {
    AttendCall call(kernels_, Lane(thread), head_dim);
    call.scale = scale;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t column = task / blocks * head_dim, first = task % blocks * kQueries;
      call.q = q.Cols(column, head_dim);
      call.k = k.Cols(column, head_dim);
      call.v = v.Cols(column, head_dim);
      call.out = out.Cols(column, head_dim);
      call.Block(first, std::min(kQueries, q.rows - first));
    }
  });
}

}  // namespace sotto::cpu
