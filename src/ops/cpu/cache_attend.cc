// Attention of a decoding step over cached keys and values. The keys of a row are cut into parts at places that depend
// on their number alone; a part gives scores, their maximum, the sum of their exponentials and a weighted sum of
// values. Parts are merged in order, so it makes no difference to the result which thread did which part. Query heads that share
// a head of the cache go through its keys together, up to kMaxGroup of them.
#include <algorithm>

#include "ops/cpu/cpu_backend.h"

namespace sotto::cpu {
namespace {

constexpr int64_t kLeastPart = 256;  // keys

int64_t PartKeys(int64_t length) {
  const int64_t share = (length + kMaxCacheParts - 1) / kMaxCacheParts;
  return std::max(kLeastPart, static_cast<int64_t>(RoundUp(static_cast<uint64_t>(share), 64)));
}

constexpr int64_t kBatch = 256;       // scores of a head that a thread holds at a time
constexpr int64_t kGroupBatch = 128;  // of several heads, so that the values stay in the first-level cache

// A running result of one head: maximum, sum of exp(score - maximum), and the values mixed by those exponentials.
struct State {
  float* peak;  // followed by the sum and head_dim floats
  float* sum() const { return peak + 1; }
  float* mixed() const { return peak + 2; }
};

// States of heads that share keys and values.
struct States {
  float* first;
  int64_t stride;
  State operator[](int i) const { return {first + i * stride}; }
};

// Some of one row's query heads, all of one head of the cache.
struct Unit {
  int64_t row;
  int head, count, kv_head;
};

struct Call {
  const Kernels& kernels;
  int head_dim;
  float scale;
  const View* weights;
  int heads, group;  // query heads in all, and for each head of the cache

  int per_head() const { return (group + kMaxGroup - 1) / kMaxGroup; }  // units of a head of the cache
  int per_row() const { return heads / group * per_head(); }
  Unit UnitOf(int64_t index) const {
    const int kv_head = static_cast<int>(index % per_row()) / per_head();
    const int first = static_cast<int>(index % per_row()) % per_head() * kMaxGroup;
    return {index / per_row(), kv_head * group + first, std::min(kMaxGroup, group - first), kv_head};
  }

  void Clear(State s) const {
    s.peak[0] = -__builtin_inff();
    std::fill(s.sum(), s.sum() + 1 + head_dim, 0.0f);
  }

  // Adds keys [begin, end) to the states of a unit's heads. q: of its first head; scores: [count][kBatch].
  void Part(const Unit& u, const float* q, const CacheView& c, int64_t begin, int64_t end, float* scores,
            States states) const {
    const uint64_t size = SizeOf(c.dtype);
    for (int i = 0; i < u.count; ++i) Clear(states[i]);
    for (int64_t j = begin, n = 0; j < end; j += n) {
      n = std::min({u.count == 1 ? kBatch : kGroupBatch, end - j, c.Run(j)});
      const auto at = static_cast<uint64_t>(u.kv_head * c.head_stride + (c.first + j) % c.capacity * head_dim) * size;
      if (u.count == 1)
        kernels.dots(q, c.keys + at, c.dtype, n, head_dim, scale, scores);
      else
        kernels.group_dots(q, u.count, c.keys + at, c.dtype, n, head_dim, scale, scores, kBatch);
      for (int i = 0; i < u.count; ++i) {
        float* const own = scores + i * kBatch;
        if (weights != nullptr) std::copy(own, own + n, weights->F32(u.row * heads + u.head + i) + j);
        const State s = states[i];
        const float shrink = kernels.soften(own, n, s.peak, s.sum());
        if (shrink != 1.0f) kernels.scale(s.mixed(), head_dim, shrink, s.mixed());
      }
      if (u.count == 1)
        kernels.mix(scores, c.values + at, c.dtype, n, head_dim, states[0].mixed());
      else
        kernels.group_mix(scores, kBatch, u.count, c.values + at, c.dtype, n, head_dim, states[0].mixed(),
                          states.stride);
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

int64_t StateFloats(int head_dim) { return 2 + int64_t{head_dim}; }

}  // namespace

uint64_t CacheLaneBytes(const ScratchNeed& need) {
  return static_cast<uint64_t>(4 * kMaxGroup * (kBatch + 2 * StateFloats(need.head_dim)));
}

uint64_t CacheSharedBytes(const ScratchNeed& need) {
  return RoundUp(static_cast<uint64_t>(4 * StateFloats(need.head_dim) * kMaxCacheParts * kSplitBelow), 64);
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
  const int64_t units = q.rows * call.per_row(), floats = StateFloats(head_dim);
  const auto cache_of = [&](const Unit& u) -> const CacheView& { return cache[static_cast<size_t>(u.row)]; };
  const auto parts_of = [&](const Unit& u) {
    const int64_t length = cache_of(u).length;
    return (length + PartKeys(length) - 1) / PartKeys(length);
  };
  const auto do_part = [&](const Unit& u, int64_t part, float* scores, States states) {
    const CacheView& c = cache_of(u);
    const int64_t begin = part * PartKeys(c.length), end = std::min(c.length, begin + PartKeys(c.length));
    call.Part(u, q.F32(u.row) + int64_t{u.head} * head_dim, c, begin, end, scores, states);
  };
  // The first part is merged into the empty state like the others: exp(-inf) = 0 and exp(0) = 1 change no bit of it.
  const auto finish = [&](const Unit& u, int i, State s) {
    call.Finish(s, u.row, u.head + i, cache_of(u).length, out.F32(u.row) + int64_t{u.head + i} * head_dim);
  };

  if (q.rows * heads >= kSplitBelow) {
    threads_->For(units, 1, [&](int64_t begin, int64_t end, int thread) {
      auto* scores = reinterpret_cast<float*>(Lane(thread));
      const States total{scores + kMaxGroup * kBatch, floats}, part{total.first + kMaxGroup * floats, floats};
      for (int64_t index = begin; index < end; ++index) {
        const Unit u = call.UnitOf(index);
        for (int i = 0; i < u.count; ++i) call.Clear(total[i]);
        for (int64_t p = 0; p < parts_of(u); ++p) {
          do_part(u, p, scores, part);
          for (int i = 0; i < u.count; ++i) call.Merge(part[i], total[i]);
        }
        for (int i = 0; i < u.count; ++i) finish(u, i, total[i]);
      }
    });
    return;
  }
  const auto states_of = [&](const Unit& u, int64_t part) {
    const int64_t pair = u.row * heads + u.head;
    return States{reinterpret_cast<float*>(Shared()) + (pair * kMaxCacheParts + part) * floats,
                  kMaxCacheParts * floats};
  };
  threads_->For(units * kMaxCacheParts, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const Unit u = call.UnitOf(task / kMaxCacheParts);
      const int64_t part = task % kMaxCacheParts;
      if (part < parts_of(u)) do_part(u, part, reinterpret_cast<float*>(Lane(thread)), states_of(u, part));
    }
  });
  const State total{reinterpret_cast<float*>(Lane(0)) + kMaxGroup * kBatch};
  for (int64_t index = 0; index < units; ++index) {
    const Unit u = call.UnitOf(index);
    for (int i = 0; i < u.count; ++i) {
      call.Clear(total);
      for (int64_t p = 0; p < parts_of(u); ++p) call.Merge(states_of(u, p)[i], total);
      finish(u, i, total);
    }
  }
}

}  // namespace sotto::cpu
