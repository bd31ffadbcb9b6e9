// Attention of an encoder: tasks of (head, block of queries); in each, keys and values pass by in tiles that are packed
// like weight panels, so that both products run in the matrix kernels, and the softmax is the online one (Milakov and
// Gimelshein 2018; Dao et al. 2022): a running maximum and sum for every query, earlier results rescaled when the
// maximum grows.
#include <algorithm>
#include <cmath>

#include "codec/panel.h"
#include "ops/cpu/cpu_backend.h"

namespace sotto::cpu {
namespace {

constexpr int64_t kKeys = 256;     // keys of a tile
constexpr int64_t kQueries = 192;  // queries of a task: packing a tile costs about 2 % of using it

int64_t Padded(int64_t dim) { return static_cast<int64_t>(RoundUp(static_cast<uint64_t>(dim), kPanel)); }

}  // namespace

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

  static uint64_t Bytes(uint64_t dim) {
    return 4 * (2 * kKeys * dim + kQueries * (dim + 2) + kMaxTileRows * (kKeys + dim));
  }

  // Rows [row, row + m) of the block's queries against the packed tile of n keys.
  void Tile(int64_t first, int64_t row, int m, int64_t n, bool start) const {
    const int64_t dim = q.cols, padded = Padded(dim);
    for (int r = 0; r < m; ++r) kernels.scale(q.F32(first + row + r), dim, scale, queries + r * dim);
    kernels.f32_tile(queries, dim, m, {keys, (n + kPanel - 1) / kPanel, kPanel * dim}, dim, scores, kKeys, false);
    for (int r = 0; r < m; ++r) {
      const float shrink = kernels.soften(scores + r * kKeys, n, peaks + row + r, sums + row + r);
      if (!start && shrink != 1.0f)
        kernels.scale(mixed + (row + r) * padded, padded, shrink, mixed + (row + r) * padded);
    }
    kernels.f32_tile(scores, kKeys, m, {values, padded / kPanel, kPanel * n}, n, mixed + row * padded, padded, !start);
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

// The same in 16-bit fixed point. Queries (a scale each), keys (one scale a tile) and values (a scale each column of a
// tile) are codes of up to `kLimit`, chosen so that sums of products stay inside 32 bits; weights are relative to their
// tile's maximum, in steps of 2^-13, so a tile's rounding is relative to its own largest weight. With d = head_dim the
// scores are off by at most d / (2 * kLimit) * (|q| |k| scale), | | largest elements, and a value by 1/2046 of its
// column's largest.
struct CpuBackend::Attend16Call {
  static constexpr float kValueLimit = 1023;  // * 256 keys * 2^13 < 2^31
  const Kernels& kernels;
  const Attend16& parts;
  View q, k, v, out;
  float scale;
  int16_t *keys, *values, *weights, *queries;
  int32_t *scores, *products;
  float *mixed, *column_scales, *peaks, *sums, *query_scales;

  Attend16Call(const Kernels& table, std::byte* lane, int head_dim) : kernels(table), parts(*table.attend16) {
    const int64_t dim = Padded(head_dim);
    keys = reinterpret_cast<int16_t*>(lane);
    values = keys + kKeys * dim;
    weights = values + kKeys * dim;
    queries = weights + kMaxTileRows * kKeys;
    scores = reinterpret_cast<int32_t*>(queries + kQueries * dim);
    products = scores + kMaxTileRows * kKeys;
    mixed = reinterpret_cast<float*>(products + kMaxTileRows * dim);
    column_scales = mixed + kQueries * dim;
    peaks = column_scales + dim;
    sums = peaks + kQueries;
    query_scales = sums + kQueries;
  }
  static uint64_t Bytes(uint64_t dim) {
    return 2 * ((2 * kKeys + kQueries) * dim + kMaxTileRows * kKeys) +
           4 * (kMaxTileRows * (kKeys + dim) + kQueries * (dim + 3) + dim);
  }

  void Tile(int64_t row, int m, int64_t n, float key_factor) const {
    const int64_t dim = q.cols, padded = Padded(dim), padded_keys = Padded(n);
    kernels.i16_tile(queries + row * padded, padded, m, {keys, padded_keys / kPanel, kPanel * padded}, padded, scores,
                     kKeys, false);
    float tile_factor[kMaxTileRows], shrink[kMaxTileRows];
    for (int r = 0; r < m; ++r) {
      float here, &peak = peaks[row + r], &sum = sums[row + r];
      const int32_t tile_sum =
          parts.soften(scores + r * kKeys, n, query_scales[row + r] * key_factor, &here, weights + r * kKeys);
      const float now = std::max(peak, here);
      shrink[r] = peak < now ? std::exp2(peak - now) : 1.0f;
      tile_factor[r] = (here < now ? std::exp2(here - now) : 1.0f) * 0x1p-13f;
      sum = sum * shrink[r] + static_cast<float>(tile_sum) * tile_factor[r];
      peak = now;
    }
    kernels.i16_tile(weights, kKeys, m, {values, padded / kPanel, kPanel * padded_keys}, padded_keys, products, padded,
                     false);
    for (int r = 0; r < m; ++r)
      parts.mix(products + r * padded, padded, column_scales, tile_factor[r], shrink[r], mixed + (row + r) * padded);
  }

  void Block(int64_t first, int64_t rows) const {
    const int64_t dim = q.cols, padded = Padded(dim);
    std::fill(peaks, peaks + rows, -__builtin_inff());
    std::fill(sums, sums + rows, 0.0f);
    std::fill(mixed, mixed + rows * padded, 0.0f);
    for (int64_t r = 0; r < rows; ++r)
      query_scales[r] = parts.quantize(q.F32(first + r), dim, padded, Limit(dim), queries + r * padded);
    for (int64_t j = 0; j < k.rows; j += kKeys) {
      const int64_t n = std::min(kKeys, k.rows - j);
      const float key_scale = parts.pack_keys(k.F32(j), k.stride, n, static_cast<int>(dim), Limit(dim), keys);
      const float key_factor = key_scale * scale * 1.44269504f;  // scores as powers of two
      parts.pack_values(v.F32(j), v.stride, n, static_cast<int>(dim), kValueLimit, values, column_scales);
      for (int64_t r = 0; r < rows; r += kernels.tile_rows)
        Tile(r, static_cast<int>(std::min<int64_t>(kernels.tile_rows, rows - r)), n, key_factor);
    }
    for (int64_t r = 0; r < rows; ++r) kernels.scale(mixed + r * padded, dim, 1.0f / sums[r], out.F32(first + r));
  }

  // dim products of two codes stay inside 32 bits.
  static float Limit(int64_t dim) {
    return std::floor(std::min(std::sqrt(2147483647.0f / static_cast<float>(dim)) - 1, 32766.0f));
  }
};

uint64_t CpuBackend::AttendBytes(int head_dim) {
  const auto dim = static_cast<uint64_t>(Padded(head_dim));
  return std::max(AttendCall::Bytes(dim), Attend16Call::Bytes(dim));
}

template <class Call>
void CpuBackend::AttendHeads(View q, View k, View v, int heads, int head_dim, float scale, View out) {
  const int64_t blocks = (q.rows + kQueries - 1) / kQueries;
  threads_->For(blocks * heads, 1, [&](int64_t begin, int64_t end, int thread) {
    Call call(kernels_, Lane(thread), head_dim);
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

void CpuBackend::Attend(View q, View k, View v, int heads, int head_dim, float scale, View out, Precision precision) {
  const int64_t width = int64_t{heads} * head_dim;
  CHECK(head_dim >= 1 && head_dim <= need_.head_dim);
  for (const View& view : {q, k, v, out}) CHECK(view.dtype == DType::kF32 && view.cols == width);
  CHECK(q.rows == out.rows && k.rows == v.rows && k.rows >= 1);
  // Scores of a negative scale would need their minimum; nobody has one.
  if (precision == Precision::kFast && kernels_.attend16 != nullptr && scale > 0)
    AttendHeads<Attend16Call>(q, k, v, heads, head_dim, scale, out);
  else
    AttendHeads<AttendCall>(q, k, v, heads, head_dim, scale, out);
}

}  // namespace sotto::cpu
