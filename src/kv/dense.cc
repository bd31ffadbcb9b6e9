// Dense caches: one element type for all positions, head by head, [sequences * heads, capacity, head_dim], so that a head's keys
// are one contiguous read.
#include <cmath>

#include "codec/half.h"
#include "kv/store.h"

namespace sotto {
namespace {

void Convert(const float* from, int64_t n, DType to, std::byte* out) {
  switch (to) {
    case DType::kF32: std::copy(from, from + n, reinterpret_cast<float*>(out)); break;
    case DType::kF16: FloatToHalf(from, n, reinterpret_cast<uint16_t*>(out)); break;
    case DType::kBF16: FloatToBf16(from, n, reinterpret_cast<uint16_t*>(out)); break;
    default: CHECK(false);
  }
}

class DenseKv final : public KvStore {
 public:
  DenseKv(const Scope& at, std::span<const KvShape> layers, int64_t sequences, DType dtype) : dtype_(dtype) {
    int layer = 0;
    for (const KvShape& s : layers) {
      const Scope here = at.Layer(layer++);
      const std::string number = std::to_string(layer - 1);
      const int64_t planes = sequences * s.heads, v_dim = s.v_dim == 0 ? s.head_dim : s.v_dim;
      const Shard by_head{Shard::kFirst, sequences};
      layers_.push_back({s, Cache(here, number + ".k", planes, s.capacity, s.head_dim, dtype, by_head),
                         Cache(here, number + ".v", planes, s.capacity, v_dim, dtype, by_head)});
    }
  }

  void Store(Backend& /*ops*/, const Run& run, int layer, BatchRows rows, View k, View v) override {
    const Layer& l = layers_[static_cast<size_t>(layer)];
    CHECK(k.rows == rows.count() && v.rows == rows.count() && k.cols == l.shape.heads * l.shape.head_dim);
    const View keys = run[l.k], values = run[l.v];
    for (int64_t r = 0; r < rows.count(); ++r) {
      const auto i = static_cast<size_t>(r);
      CHECK(rows.pos[i] >= 0 && (l.shape.window > 0 || rows.pos[i] < l.shape.capacity));
      for (int64_t h = 0; h < l.shape.heads; ++h) {
        const int64_t row = (rows.seq[i] * l.shape.heads + h) * l.shape.capacity + rows.pos[i] % l.shape.capacity;
        Convert(k.F32(r) + h * l.shape.head_dim, l.shape.head_dim, dtype_, keys.Rows(row, 1).data);
        Convert(v.F32(r) + h * l.shape.head_dim, l.shape.head_dim, dtype_, values.Rows(row, 1).data);
      }
    }
  }

  void Attend(Backend& ops, const Run& run, int layer, BatchRows rows, View q, const AttnSpec& spec, View out,
              View* mass) override {
    const Layer& l = layers_[static_cast<size_t>(layer)];
    CHECK(spec.heads % l.shape.heads == 0 && spec.head_dim == l.shape.head_dim);
    const HeadShape shape{spec.heads, static_cast<int>(l.shape.heads), spec.head_dim, spec.scale};
    const View keys = run[l.k], values = run[l.v];
    if (mass == nullptr && spec.keys == 0 && l.shape.window == 0 && IsPiece(rows)) {
      const int64_t plane = rows.seq[0] * l.shape.heads * l.shape.capacity;
      const CacheView cache{
          keys.Rows(plane, 1).data, values.Rows(plane, 1).data, dtype_, l.shape.capacity * l.shape.head_dim,
          rows.pos.back() + 1,      l.shape.capacity,           0};
      return ops.AttendChunk(q, cache, shape, out);
    }
    const int64_t per_sequence = l.shape.heads * l.shape.capacity;
    for (int64_t at = 0; at < rows.count(); at += kMaxRows) {
      CacheView views[kMaxRows];
      const int64_t count = std::min<int64_t>(kMaxRows, rows.count() - at);
      for (int64_t r = 0; r < count; ++r) {
        const auto i = static_cast<size_t>(at + r);
        int64_t length = spec.keys != 0 ? spec.keys : rows.pos[i] + 1;
        if (l.shape.window > 0) length = std::min(length, l.shape.window);
        const int64_t first = spec.keys != 0 ? 0 : (rows.pos[i] + 1 - length) % l.shape.capacity;
        views[r] = {keys.Rows(rows.seq[i] * per_sequence, per_sequence).data,
                    values.Rows(rows.seq[i] * per_sequence, per_sequence).data,
                    dtype_,
                    l.shape.capacity * l.shape.head_dim,
                    length,
                    l.shape.capacity,
                    first};
      }
      View part;
      if (mass != nullptr) part = mass->Rows(at * spec.heads, count * spec.heads);
      ops.AttendCache(q.Rows(at, count), {views, static_cast<size_t>(count)}, shape, out.Rows(at, count),
                      mass != nullptr ? &part : nullptr);
    }
  }

 private:
  // Several rows of one sequence, one behind the other.
  static bool IsPiece(BatchRows rows) {
    if (rows.count() < 2) return false;
    for (size_t i = 1; i < rows.seq.size(); ++i)
      if (rows.seq[i] != rows.seq[0] || rows.pos[i] != rows.pos[i - 1] + 1) return false;
    return true;
  }

  static constexpr int64_t kMaxRows = 64;
  struct Layer {
    KvShape shape;
    Cache k, v;
  };
  DType dtype_;
  std::vector<Layer> layers_;
};

// Rounding to n bits of mantissa: a third of the square of half a unit, for numbers between powers of two.
double RoundingNoise(int mantissa) { return std::exp2(-2.0 * (mantissa + 1)) / 6; }

class DensePolicy final : public KvPolicy {
 public:
  explicit DensePolicy(DType dtype) : KvPolicy(std::string(NameOf(dtype)), dtype) {}
  std::unique_ptr<KvStore> Declare(const Scope& at, std::span<const KvShape> layers, int64_t sequences) const override {
    return std::make_unique<DenseKv>(at, layers, sequences, dtype);
  }
  Status Check(std::span<const KvShape>, int64_t) const override { return {}; }
  double BytesPerElement(const KvShape&) const override { return static_cast<double>(SizeOf(dtype)); }
  double Noise() const override { return dtype == DType::kF32 ? 0 : RoundingNoise(dtype == DType::kF16 ? 10 : 7); }
  int64_t PageTokens(int64_t) const override { return 0; }
};

}  // namespace

const KvPolicy* DenseKvPolicy(DType dtype) {
  static const DensePolicy kPolicies[] = {DensePolicy(DType::kF32), DensePolicy(DType::kF16),
                                          DensePolicy(DType::kBF16)};
  return &kPolicies[dtype == DType::kF32 ? 0 : dtype == DType::kF16 ? 1 : 2];
}

}  // namespace sotto
