// Attention of a decoding step over cached keys and values. The keys of a row are cut into parts at places that depend
// on their number alone; a part gives scores, their maximum, the sum of their exponentials and a weighted sum of
// values. Parts are merged in order, so it makes no difference to the result which thread did which part.
#include <algorithm>

#include "ops/cpu/cpu_backend.h"

namespace sotto::cpu {
namespace {

constexpr int64_t kLeastPart = 256;  // keys

int64_t PartKeys(int64_t length) {
  const int64_t share = (length + kMaxCacheParts - 1) / kMaxCacheParts;
  return std::max(kLeastPart, static_cast<int64_t>(RoundUp(static_cast<uint64_t>(share), 64)));
}

constexpr int64_t kBatch = 256;  // scores that a thread holds at a time

// A running result: maximum, sum of exp(score - maximum), and the values mixed by those exponentials.
struct State {
  float* peak;  // followed by the sum and head_dim floats
  float* sum() const { return peak + 1; }
  float* mixed() const { return peak + 2; }
};

struct Call {
  const Kernels& kernels;
  int head_dim;
  float scale;
  const View* weights;
  int heads, group;  // query heads in all, and for each head of the cache

  void Clear(State s) const {
    s.peak[0] = -__builtin_inff();
    std::fill(s.sum(), s.sum() + 1 + head_dim, 0.0f);
  }

  // Adds keys [begin, end) of one head to the state.
  void Part(const float* q, const CacheView& c, int64_t row, int head, int64_t begin, int64_t end, float* scores,
            State s) const {
    const uint64_t size = SizeOf(c.dtype);
    const int64_t kv_head = head / group;
    for (int64_t j = begin, n = 0; j < end; j += n) {
      n = std::min({kBatch, end - j, c.Run(j)});
      const auto at = static_cast<uint64_t>(kv_head * c.head_stride + (c.first + j) % c.capacity * head_dim) * size;
      kernels.dots(q, c.keys + at, c.dtype, n, head_dim, scale, scores);
      if (weights != nullptr) std::copy(scores, scores + n, weights->F32(row * heads + head) + j);
      const float shrink = kernels.soften(scores, n, s.peak, s.sum());
      if (shrink != 1.0f) kernels.scale(s.mixed(), head_dim, shrink, s.mixed());
      kernels.mix(scores, c.values + at, c.dtype, n, head_dim, s.mixed());
    }
  }

  void Merge(State part, State into) const {
    float two[2] = {*into.peak, *part.peak};
    const float peak = std::max(two[0], two[1]);
    kernels.exp_shifted(two, 2, peak, two);
    *into.peak = peak;
    *into.sum() = *into.sum() * two[0] + *part.sum() * two[1];
    for (int d = 0; d < head_dim; ++d) into.mixed()[d] = into.mixed()[d] * two[0] + part.mixed()[d] * two[1];
  }

  void Finish(State s, int64_t row, int head, int64_t length, float* out) const {
    kernels.scale(s.mixed(), head_dim, 1.0f / *s.sum(), out);
    if (weights == nullptr) return;
    float* w = weights->F32(row * heads + head);
    kernels.exp_shifted(w, length, *s.peak, w);
    kernels.scale(w, length, 1.0f / *s.sum(), w);
  }
};

uint64_t StateFloats(int head_dim) { return 2 + static_cast<uint64_t>(head_dim); }

}  // namespace

uint64_t CacheLaneBytes(const ScratchNeed& need) { return 4 * (kBatch + 2 * StateFloats(need.head_dim)); }

uint64_t SharedBytes(const ScratchNeed& need) {
  return RoundUp(4 * StateFloats(need.head_dim) * kMaxCacheParts * kSplitBelow, 64);
}

void CpuBackend::AttendCache(View q, std::span<const CacheView> cache, const HeadShape& shape, View out,
                             const View* weights) {
  const int heads = shape.heads, head_dim = shape.head_dim;
  CHECK(shape.kv_heads >= 1 && heads % shape.kv_heads == 0);
  CHECK(q.dtype == DType::kF32 && out.dtype == DType::kF32 && head_dim >= 1 && head_dim <= need_.head_dim &&
        heads >= 1);
  CHECK(q.cols == int64_t{heads} * head_dim && out.cols == q.cols && q.rows == out.rows);
  CHECK(static_cast<int64_t>(cache.size()) == q.rows);
  for (const CacheView& c : cache) {
    CHECK(c.dtype == DType::kF32 || c.dtype == DType::kF16 || c.dtype == DType::kBF16);
    CHECK(c.length >= 1 && c.length <= c.capacity && c.first >= 0 && c.first < c.capacity);
    CHECK(c.head_stride >= c.capacity * head_dim);
    CHECK(weights == nullptr ||
          (weights->dtype == DType::kF32 && weights->rows == q.rows * heads && weights->cols >= c.length));
  }
  const Call call{kernels_, head_dim, shape.scale, weights, heads, heads / shape.kv_heads};
  const int64_t pairs = q.rows * heads;
  const auto parts_of = [&](int64_t pair) {
    const int64_t length = cache[static_cast<size_t>(pair / heads)].length;
    return (length + PartKeys(length) - 1) / PartKeys(length);
  };
  const auto do_part = [&](int64_t pair, int64_t part, float* scores, State s) {
    const int64_t row = pair / heads, head = pair % heads;
    const CacheView& c = cache[static_cast<size_t>(row)];
    const int64_t begin = part * PartKeys(c.length), end = std::min(c.length, begin + PartKeys(c.length));
    call.Clear(s);
    call.Part(q.F32(row) + head * head_dim, c, row, static_cast<int>(head), begin, end, scores, s);
  };
  // The first part is merged into the empty state like the others: exp(-inf) = 0 and exp(0) = 1 change no bit of it.
  const auto finish = [&](int64_t pair, State s) {
    const int64_t row = pair / heads, head = pair % heads;
    call.Finish(s, row, static_cast<int>(head), cache[static_cast<size_t>(row)].length, out.F32(row) + head * head_dim);
  };

  if (pairs >= kSplitBelow) {
    threads_->For(pairs, 1, [&](int64_t begin, int64_t end, int thread) {
      auto* scores = reinterpret_cast<float*>(Lane(thread));
      const State total{scores + kBatch}, part{total.peak + StateFloats(head_dim)};
      for (int64_t pair = begin; pair < end; ++pair) {
        call.Clear(total);
        for (int64_t p = 0; p < parts_of(pair); ++p) {
          do_part(pair, p, scores, part);
          call.Merge(part, total);
        }
        finish(pair, total);
      }
    });
    return;
  }
  auto* states = reinterpret_cast<float*>(Shared());
  const auto state = [&](int64_t pair, int64_t part) {
    return State{states + static_cast<uint64_t>(pair * kMaxCacheParts + part) * StateFloats(head_dim)};
  };
  threads_->For(pairs * kMaxCacheParts, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t pair = task / kMaxCacheParts, part = task % kMaxCacheParts;
      if (part < parts_of(pair)) do_part(pair, part, reinterpret_cast<float*>(Lane(thread)), state(pair, part));
    }
  });
  const State total{reinterpret_cast<float*>(Lane(0)) + kBatch};
  for (int64_t pair = 0; pair < pairs; ++pair) {
    call.Clear(total);
    for (int64_t p = 0; p < parts_of(pair); ++p) call.Merge(state(pair, p), total);
    finish(pair, total);
  }
}

}  // namespace sotto::cpu
