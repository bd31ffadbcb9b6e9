// Attention on the pages of a packed cache (codec/kv_page.h). Queries go in blocks: all query heads that share a head
// of the cache, of as many rows as make about kMaxGroup queries, so that what is unpacked serves all of them. The
// tokens pass by in tiles of one group; tiles are cut into parts at places that depend on the groups alone. A task is a
// head of the cache and a part: scores of all its tokens, their softmax relative to the part's maximum, and the
// weighted sum of values. Then the parts of each query are merged in order, and at last each position's mass is summed
// over the queries in order: no result depends on the threads, nor a row's on the rows beside it. Only a tile of codes
// is ever unpacked.
//
// In fixed point (PageProducts) the codes' products are exact. Queries in b bits are off by half a step: with l = 127
// (l = 32,767 at groups of 8 bits) a score by at most scale * |q|_max / (2 l) * |k|_1; a tile's weights, each times its
// value's scale, by half of 1/255 (1/32,767) of their largest.
#include <algorithm>
#include <type_traits>

#include "codec/half.h"
#include "codec/panel.h"
#include "ops/cpu/cpu_backend.h"

namespace sotto::cpu {
namespace {

constexpr int64_t kMaxParts = 16, kPartQueries = 512;  // parts of a token sequence; queries times parts
constexpr int64_t kLeastTiles = 4;                     // of a part

int64_t Padded(int64_t n) { return static_cast<int64_t>(RoundUp(static_cast<uint64_t>(n), kPanel)); }
int64_t Ceil(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }

// A block's rows, and its queries for each head of the cache.
int64_t RowsOf(int64_t group) { return std::max<int64_t>(1, kMaxGroup / group); }
// The most queries of a block, heads of the cache together; `heads` and `kv_heads` may be maxima over several shapes.
int64_t MostQueries(int64_t heads, int64_t kv_heads) { return std::max(heads, kMaxGroup * kv_heads); }
int64_t Columns(int64_t tokens) { return Padded(tokens) + (static_cast<int64_t>(PagesView::kMaxGroups) + 4) * kPanel; }
int64_t StateFloats(int64_t dim) { return 2 + Padded(dim); }

struct Tile {
  const KvGroup* group;
  int64_t first, n, column;
  int64_t before;  // tokens of PagesView::recent before it, or -1
};

// Where the tokens of a call stand: tiles, their columns of scores (a group begins at a multiple of kPanel), parts.
struct Order {
  Order(const PagesView& cache, int64_t queries) {
    int64_t recent = -1;
    const auto add = [&](const KvGroup& g) {
      CHECK(g.count >= 0 && (g.bits == 8 || (g.bits >= 2 && g.bits <= 4)));
      groups[count++] = {&g, tiles, columns, recent};
      tiles += Ceil(g.count, kPageTile);
      columns += Padded(g.count);
      tokens += g.count;
      if (recent >= 0) recent += g.count;
    };
    CHECK(cache.groups.size() + cache.recent.size() <= PagesView::kMaxGroups);
    for (const KvGroup& g : cache.groups) add(g);
    old = tokens;
    recent = 0;
    for (const KvGroup& g : cache.recent) add(g);
    const int64_t most = std::clamp<int64_t>(kPartQueries / queries, 1, kMaxParts);
    part_tiles = std::max(kLeastTiles, Ceil(tiles, most));
    parts = Ceil(tiles, part_tiles);
  }
  Tile At(int64_t tile) const {
    int g = count - 1;
    while (groups[g].tile > tile) --g;
    const Start& s = groups[g];
    const int64_t first = (tile - s.tile) * kPageTile;
    return {s.group, first, std::min(kPageTile, s.group->count - first), s.column + first,
            s.before < 0 ? -1 : s.before + first};
  }
  int64_t ColumnOf(int64_t tile) const { return tile < tiles ? At(tile).column : columns; }

  struct Start {
    const KvGroup* group;
    int64_t tile, column, before;
  };
  Start groups[PagesView::kMaxGroups];
  int count = 0;
  int64_t tiles = 0, columns = 0, tokens = 0, old = 0, part_tiles = 0, parts = 0;
};

// A thread's slice, for up to `queries` queries of a head of the cache.
struct Areas {
  Areas(std::byte* lane, int64_t dim, int64_t queries) {
    uint64_t at = reinterpret_cast<uintptr_t>(lane);
    const auto take = [&at](auto** array, int64_t elements) {
      *array = reinterpret_cast<std::remove_reference_t<decltype(*array)>>(at);
      at += RoundUp(static_cast<uint64_t>(elements) * sizeof **array, 64);
    };
    take(&codes, kPageTile * dim);
    take(&wide, kPageTile * Padded(dim));
    take(&floats, queries * dim);
    take(&words, queries * dim);
    take(&bytes, queries * dim);
    take(&weights, 2 * queries * kPageTile);
    take(&scales, kPageTile);
    for (float** array : {&query_sums, &byte_steps, &word_steps, &weight_sums, &weight_steps}) take(array, queries);
    size = at - reinterpret_cast<uintptr_t>(lane);
  }
  uint64_t size;
  std::byte *codes, *weights;  // codes: of a tile; weights: int8 or int16
  float *wide, *floats;        // a tile as floats; queries times the softmax's scale, the same in words and bytes
  int16_t* words;
  int8_t* bytes;
  float *scales, *query_sums, *byte_steps, *word_steps, *weight_sums, *weight_steps;
};

// One query's result over a part: maximum, sum of exp(score - maximum), values mixed by those exponentials.
struct State {
  float* peak;
  float* sum() const { return peak + 1; }
  float* mixed() const { return peak + 2; }
};

struct Block {
  const Kernels& kernels;
  const PageProducts* fast;  // or null
  const PagesView& cache;
  const HeadShape& shape;
  const Order& order;
  View q, out;  // of the block's rows
  std::span<const int32_t> seen;
  float *scores, *states;

  int64_t dim = shape.head_dim, group = shape.heads / shape.kv_heads;
  int64_t queries = q.rows * group;  // of a head of the cache
  int64_t ld = Columns(order.tokens), state_floats = StateFloats(dim);

  // Query i of a head of the cache: row i / group, the group's head i % group.
  float* Of(const View& x, int64_t kv_head, int64_t i) const {
    return x.F32(i / group) + (kv_head * group + i % group) * dim;
  }
  float* Scores(int64_t kv_head, int64_t i) const { return scores + (kv_head * queries + i) * ld; }
  State StateOf(int64_t kv_head, int64_t i, int64_t part) const {
    return {states + ((kv_head * queries + i) * order.parts + part) * state_floats};
  }

  void TakeQueries(int64_t kv_head, const Areas& s) const {
    for (int64_t i = 0; i < queries; ++i) {
      float* x = s.floats + i * dim;
      kernels.scale(Of(q, kv_head, i), dim, shape.scale, x);
      if (fast == nullptr) continue;
      s.byte_steps[i] = fast->quantize(x, dim, s.bytes + i * dim, s.query_sums + i);
      s.word_steps[i] = fast->wide_quantize(x, dim, s.words + i * dim);
    }
  }

  // The scales of a tile's tokens, zeros behind them.
  void TakeScales(const Tile& t, int64_t kv_head, bool values, float* to) const {
    uint16_t halves[kPageTile];
    const uint16_t* from = cache.scales + 2 * kv_head + (values ? 1 : 0);
    const int32_t* positions = t.group->positions + t.first;
    const int64_t stride = int64_t{2} * shape.kv_heads;
    for (int64_t i = 0; i < t.n; ++i) halves[i] = from[positions[i] * stride];
    std::fill(halves + t.n, halves + kPageTile, uint16_t{0});
    HalfToFloat(halves, kPageTile, to);
  }

  static float Offset(const Tile& t) { return t.group->bits == 8 ? 0.0F : 0.5F; }

  void Keys(const Tile& t, int64_t kv_head, const Areas& s) const {
    const int head = static_cast<int>(kv_head), count = static_cast<int>(queries);
    float* to = Scores(kv_head, 0) + t.column;
    const int64_t panels = Ceil(t.n, 8), stride = 8 * dim;
    const bool narrow = t.group->bits < 8;
    kernels.unpack_pages(cache.shape, *t.group, head, false, t.first, t.n, fast == nullptr, s.codes);
    TakeScales(t, kv_head, false, s.scales);
    if (fast == nullptr) {
      kernels.widen_keys(s.codes, t.n, shape.head_dim, Offset(t), s.scales, s.wide);
      for (int i = 0; i < count; i += kernels.tile_rows)
        kernels.f32_tile(s.floats + i * dim, dim, std::min(kernels.tile_rows, count - i),
                         {s.wide, Ceil(t.n, kPanel), kPanel * dim}, dim, to + i * ld, ld, false);
    } else if (narrow) {  // sum of q (code - (2^bits - 1) / 2)
      float minus[kMaxBlock];
      for (int i = 0; i < count; ++i) minus[i] = s.query_sums[i] * (static_cast<float>(1 << t.group->bits) - 1) * 0.5F;
      fast->keys(s.codes, stride, panels, dim / 4, reinterpret_cast<std::byte*>(s.bytes), dim, count, minus,
                 s.byte_steps, s.scales, to, ld);
    } else {
      const float zeros[kMaxBlock] = {};
      fast->wide(s.codes, stride, panels, dim / 4, reinterpret_cast<std::byte*>(s.words), 2 * dim, count, zeros,
                 s.word_steps, s.scales, to, ld);
    }
    if (t.before < 0 && t.n == kPageTile) return;
    for (int i = 0; i < count; ++i) {
      int64_t n = t.n;
      if (t.before >= 0) n = std::clamp<int64_t>(seen[static_cast<size_t>(i / group)] - t.before, 0, n);
      std::fill(to + i * ld + n, to + i * ld + Padded(t.n), -__builtin_inff());
    }
  }

  void Values(const Tile& t, int64_t kv_head, int64_t part, const Areas& s) const {
    const int head = static_cast<int>(kv_head), count = static_cast<int>(queries);
    const float* e = Scores(kv_head, 0) + t.column;
    const int64_t ldo = order.parts * state_floats, quads = 2 * Ceil(t.n, 8);
    float* mixed = StateOf(kv_head, 0, part).mixed();
    kernels.unpack_pages(cache.shape, *t.group, head, true, t.first, t.n, true, s.codes);
    TakeScales(t, kv_head, true, s.scales);
    if (fast == nullptr) {
      kernels.widen_values(s.codes, t.n, shape.head_dim, Offset(t), s.scales, s.wide);
      for (int i = 0; i < count; i += kernels.tile_rows)
        kernels.f32_tile(e + i * ld, ld, std::min(kernels.tile_rows, count - i),
                         {s.wide, Padded(dim) / kPanel, kPanel * t.n}, t.n, mixed + i * ldo, ldo, true);
      return;
    }
    const bool narrow = t.group->bits < 8;
    float minus[kMaxBlock] = {};
    for (int i = 0; i < count; ++i)
      if (narrow) {  // sum of w (code + 1/2)
        s.weight_steps[i] =
            fast->weights(e + i * ld, s.scales, t.n, reinterpret_cast<uint8_t*>(s.weights) + i * kPageTile, minus + i);
        minus[i] *= -0.5F;
      } else {
        s.weight_steps[i] =
            fast->wide_weights(e + i * ld, s.scales, t.n, reinterpret_cast<int16_t*>(s.weights) + i * kPageTile);
      }
    const auto product = narrow ? fast->values : fast->wide;
    product(s.codes, 8 * kPageTile, dim / 8, quads, s.weights, narrow ? kPageTile : 2 * kPageTile, count, minus,
            s.weight_steps, nullptr, mixed, ldo);
  }

  void Part(int64_t kv_head, int64_t part, const Areas& s) const {
    const int64_t begin = part * order.part_tiles, end = std::min(order.tiles, begin + order.part_tiles);
    for (int64_t t = begin; t < end; ++t) Keys(order.At(t), kv_head, s);
    const Tile first = order.At(begin);
    const int64_t columns = order.ColumnOf(end) - first.column;
    for (int64_t i = 0; i < queries; ++i) {
      const State state = StateOf(kv_head, i, part);
      float* row = Scores(kv_head, i) + first.column;
      std::fill(state.peak, state.peak + state_floats, 0.0F);
      *state.peak = -__builtin_inff();
      if (first.before < 0 || seen[static_cast<size_t>(i / group)] > first.before)
        kernels.soften(row, columns, state.peak, state.sum());
      else
        std::fill(row, row + columns, 0.0F);  // sees nothing of the part
    }
    for (int64_t t = begin; t < end; ++t) Values(order.At(t), kv_head, part, s);
  }

  // Merges a query's parts; each one's maximum gives way to the factor that makes its exponentials weights.
  void Merge(int64_t kv_head, int64_t i) const {
    float factors[kMaxParts], peak = -__builtin_inff(), sum = 0;
    for (int64_t p = 0; p < order.parts; ++p) peak = std::max(peak, factors[p] = *StateOf(kv_head, i, p).peak);
    kernels.exp_shifted(factors, order.parts, peak, factors);
    for (int64_t p = 0; p < order.parts; ++p) sum += factors[p] * *StateOf(kv_head, i, p).sum();
    float* to = Of(out, kv_head, i);
    std::fill(to, to + dim, 0.0F);
    for (int64_t p = 0; p < order.parts; ++p) {
      const State s = StateOf(kv_head, i, p);
      *s.peak = factors[p] / sum;
      kernels.add_scaled(s.mixed(), dim, *s.peak, to, nullptr);
    }
  }

  void Mass(int64_t tile, const PagesMass& mass) const {
    const Tile t = order.At(tile);
    float sums[kPageTile] = {}, squares[kPageTile] = {};
    for (int64_t h = 0; h < shape.kv_heads; ++h)
      for (int64_t i = 0; i < queries; ++i)
        kernels.add_scaled(Scores(h, i) + t.column, t.n, *StateOf(h, i, tile / order.part_tiles).peak, sums,
                           mass.squares != nullptr ? squares : nullptr);
    for (int64_t j = 0; j < t.n; ++j) {
      const int32_t position = t.group->positions[t.first + j];
      if (mass.weights != nullptr) mass.weights[position] += sums[j];
      if (mass.squares != nullptr) mass.squares[position] += squares[j];
    }
  }

  static constexpr int64_t kMaxBlock = 256;
};

}  // namespace

uint64_t PageLaneBytes(const ScratchNeed& need) {
  if (need.page_tokens == 0) return 0;
  return Areas(nullptr, need.head_dim, std::max<int64_t>(need.heads, kMaxGroup)).size;
}

// For each token 4 bytes for each query of a block: 4 * max(heads, 8 * kv_heads).
uint64_t PageSharedBytes(const ScratchNeed& need) {
  if (need.page_tokens == 0) return 0;
  const int64_t queries = MostQueries(need.heads, need.kv_heads);
  const int64_t states = std::max(kPartQueries, queries) * StateFloats(need.head_dim);
  return RoundUp(static_cast<uint64_t>(4 * (queries * Columns(need.page_tokens) + states)), 64);
}

void CpuBackend::AttendPages(View q, const PagesView& cache, const HeadShape& shape, View out, Precision precision,
                             const PagesMass& mass) {
  CHECK(q.dtype == DType::kF32 && out.dtype == DType::kF32 && q.rows == out.rows && q.rows >= 1);
  CHECK(cache.shape.ok() && cache.shape.kv_heads == shape.kv_heads && cache.shape.head_dim == shape.head_dim);
  CHECK(shape.heads >= 1 && shape.heads % shape.kv_heads == 0 && shape.head_dim <= need_.head_dim);
  CHECK(shape.heads <= need_.heads && shape.kv_heads <= need_.kv_heads);
  CHECK(q.cols == int64_t{shape.heads} * shape.head_dim && out.cols == q.cols);
  CHECK(static_cast<int64_t>(cache.seen.size()) == q.rows);
  const int64_t group = shape.heads / shape.kv_heads, rows = RowsOf(group), most = group * rows * shape.kv_heads;
  CHECK(group * rows <= Block::kMaxBlock);
  const Order order(cache, most);
  CHECK(order.tokens <= need_.page_tokens);
  for (const int32_t n : cache.seen) CHECK(n >= 0 && order.old + n >= 1 && order.old + n <= order.tokens);

  const PageProducts* fast = precision == Precision::kFast ? kernels_.pages : nullptr;
  auto* scores = reinterpret_cast<float*>(Shared());
  float* states = scores + most * Columns(order.tokens);
  for (int64_t r = 0; r < q.rows; r += rows) {
    const int64_t n = std::min(rows, q.rows - r);
    const Block block{
        kernels_, fast,         cache,          shape,
        order,    q.Rows(r, n), out.Rows(r, n), cache.seen.subspan(static_cast<size_t>(r), static_cast<size_t>(n)),
        scores,   states};
    threads_->For(shape.kv_heads * order.parts, 1, [&](int64_t begin, int64_t end, int thread) {
      const Areas areas(Lane(thread), shape.head_dim, group * rows);
      for (int64_t task = begin; task < end; ++task) {
        if (task == begin || task % order.parts == 0) block.TakeQueries(task / order.parts, areas);
        block.Part(task / order.parts, task % order.parts, areas);
      }
    });
    threads_->For(shape.kv_heads * block.queries, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) block.Merge(i / block.queries, i % block.queries);
    });
    if (mass.weights == nullptr && mass.squares == nullptr) continue;
    threads_->For(order.tiles, kLeastTiles, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) block.Mass(t, mass);
    });
  }
}

}  // namespace sotto::cpu
