#include "kv/packed.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kv/packed_tokens.h"

namespace sotto {
namespace {

constexpr int64_t kPieceRows = 64;

class PackedKv final : public KvStore {
 public:
  PackedKv(const Scope& at, std::span<const KvShape> layers, int64_t sequences, const PackedKvOptions& options)
      : options_(options),
        sizes_(SizePackedKv(layers[0], static_cast<int64_t>(layers.size()), sequences, options)),
        index_(sizes_, options) {
    const KvPageShape& page = sizes_.page;
    const int64_t planes = sequences * page.kv_heads;
    const Shard by_head{Shard::kFirst, sequences};
    pages_ = Cache(at, "pages", planes, sizes_.pages, 2 * page.block_bytes(), DType::kU8, by_head);
    free_ = Table(at, "free", static_cast<uint64_t>(sequences * sizes_.pages) * sizeof(std::byte*), Role::kKv);
    for (size_t i = 0; i < layers.size(); ++i) {
      const Scope here = at.Layer(static_cast<int>(i));
      layers_.push_back(
          {Cache(here, std::to_string(i) + ".scales", planes, sizes_.capacity, 2, DType::kF16, by_head),
           Table(here, std::to_string(i) + ".index", static_cast<uint64_t>(sequences) * index_.total, Role::kKv)});
    }
    // A piece's own tokens, until attention has read them.
    staged_ =
        Table(at, "staged", static_cast<uint64_t>(KvGroupPages(8, kPieceRows) * page.page_bytes()), Role::kActivation);
    if (SparePages(options.widths) > 0) weights_ = Buffer(at, "weights", sizes_.layers, sizes_.capacity);
    if (Observes(options)) mass_ = Buffer(at, "mass", 1, sizes_.capacity);
    state_.resize(static_cast<size_t>(sequences));
    for (PackedKvState& s : state_) {
      s.layers.resize(layers.size());
      s.parts.reserve(layers.size());
      for (PackedKvLayer& l : s.layers) l.sinks.resize(static_cast<size_t>(options.sinks));
    }
  }

  void Store(Backend& ops, const Run&, int layer, BatchRows rows, View k, View v) override {
    const KvPageShape& page = sizes_.page;
    CHECK(page.ok() && k.rows == rows.count() && v.rows == rows.count() && k.cols == page.kv_heads * page.head_dim);
    ops.Hadamard(k, page.head_dim);
    ops.Hadamard(v, page.head_dim);
    keys_ = k;
    values_ = v;
    stored_layer_ = layer;
  }

  void Attend(Backend& ops, const Run& run, int layer, BatchRows rows, View q, const AttnSpec& spec, View out,
              View* mass) override {
    CHECK(layer == stored_layer_ && mass == nullptr && spec.keys == 0 && keys_.rows == rows.count());
    ops.Hadamard(q, sizes_.page.head_dim);
    for (int64_t begin = 0, end = 0; begin < rows.count(); begin = end) {
      const auto follows = [&](int64_t r) {
        const auto i = static_cast<size_t>(r);
        return rows.seq[i] == rows.seq[i - 1] && rows.pos[i] == rows.pos[i - 1] + 1;
      };
      for (end = begin + 1; end < rows.count() && end - begin < kPieceRows && follows(end);) ++end;
      AttendPiece(ops, run, static_cast<size_t>(layer), rows, begin, end - begin, q, spec, out);
    }
    ops.Hadamard(out, sizes_.page.head_dim);
  }

  KvUse Use() const override {
    KvUse use;
    for (const PackedKvState& s : state_)
      for (const PackedKvLayer& l : s.layers)
        for (size_t i = 0; i < std::size(kKvWidths); ++i) use.tokens[static_cast<size_t>(kKvWidths[i])] += l.count[i];
    return use;
  }

 private:
  struct Layer {
    Cache scales;
    Table index;
  };

  // Rows [first, first + count) of the step, which are of one sequence and one behind the other.
  void AttendPiece(Backend& ops, const Run& run, size_t layer, BatchRows rows, int64_t first, int64_t count, View q,
                   const AttnSpec& spec, View out) {
    const KvPageShape& page = sizes_.page;
    const int64_t sequence = rows.seq[static_cast<size_t>(first)], position = rows.pos[static_cast<size_t>(first)];
    const int64_t length = position + count;
    PackedKvState& state = state_[static_cast<size_t>(sequence)];
    const auto index = [&](size_t l) {
      return run[layers_[l].index].data() + static_cast<uint64_t>(sequence) * index_.total;
    };
    const auto scales_of = [&](size_t l) {
      return reinterpret_cast<uint16_t*>(run[layers_[l].scales].data) + sequence * sizes_.capacity * page.kv_heads * 2;
    };
    PackedTokens tokens(sizes_, index_, options_,
                        {run[pages_].data + sequence * sizes_.pages * page.page_bytes(),
                         reinterpret_cast<std::byte**>(run[free_].data()) + sequence * sizes_.pages, index, scales_of,
                         SparePages(options_.widths) > 0 ? run[weights_].F32() : nullptr},
                        &state);
    PackedKvLayer& l = state.layers[layer];
    CHECK(position <= l.tokens && length <= sizes_.capacity);
    if (!state.cleared || (position == 0 && l.tokens > 0))
      tokens.Clear();
    else if (position < l.tokens)
      tokens.Forget(layer, position);

    std::byte* pages[KvGroupPages(8, kPieceRows)];
    int32_t positions[kPieceRows], seen[kPieceRows];
    for (int64_t i = 0; i < std::ssize(pages); ++i) pages[i] = run[staged_].data() + i * page.page_bytes();
    const KvGroup staged{8, pages, nullptr, count, positions};
    uint16_t* const scales = scales_of(layer);
    for (int64_t i = 0; i < count; ++i) {
      positions[i] = static_cast<int32_t>(position + i);
      seen[i] = static_cast<int32_t>(i + 1);
      const float *k = keys_.F32(first + i), *v = values_.F32(first + i);
      PutToken(page, k, v, staged, i, scales + positions[i] * page.kv_heads * 2);
      for (int64_t j = 0; j < values_.cols; ++j) l.value_energy += double{v[j]} * v[j];
    }
    l.values += count;

    KvGroup groups[std::size(kKvWidths)];
    const PagesView view{page, tokens.Groups(layer, groups), {&staged, 1}, {seen, static_cast<size_t>(count)}, scales};
    PagesMass mass;
    if (Observes(options_)) {
      mass.weights = run[mass_].F32();
      std::fill_n(mass.weights, length, 0.0F);
    }
    ops.AttendPages(q.Rows(first, count), view, {spec.heads, page.kv_heads, spec.head_dim, spec.scale},
                    out.Rows(first, count), Precision::kFast, mass);
    if (Observes(options_)) tokens.Observe(layer, {mass.weights, static_cast<size_t>(length)}, count);
    for (int64_t i = 0; i < count; ++i) tokens.Append(layer, staged, i);
  }

  PackedKvOptions options_;
  PackedKvSizes sizes_;
  PackedKvIndex index_;
  Cache pages_;
  Table free_, staged_;
  std::vector<Layer> layers_;
  std::vector<PackedKvState> state_;
  Buffer weights_, mass_;
  View keys_, values_;
  int stored_layer_ = -1;
};

class PackedPolicy final : public KvPolicy {
 public:
  PackedPolicy(std::string name, const PackedKvOptions& options)
      : KvPolicy(std::move(name), DType::kF16), options_(options) {}

  std::unique_ptr<KvStore> Declare(const Scope& at, std::span<const KvShape> layers, int64_t sequences) const override {
    return std::make_unique<PackedKv>(at, layers, sequences, options_);
  }

  Status Check(std::span<const KvShape> layers, int64_t sequences) const override {
    for (const KvShape& l : layers) {
      if (l.window > 0)
        return Usage(
            fmt::format("--kv {}: a layer of this model sees {} positions only, and its cache is a ring of so many; "
                        "choose fp16, or a --context of at most {}",
                        name, l.window, l.window));
      if (!KvPageShape{static_cast<int>(l.heads), static_cast<int>(l.head_dim)}.ok() || l.v_dim % l.head_dim != 0)
        return Usage(
            fmt::format("--kv {}: heads of {} numbers have no pages, which take multiples of 8 up to {}; "
                        "choose fp16",
                        name, l.head_dim, kMaxKvHeadDim));
      if (l.heads != layers[0].heads || l.head_dim != layers[0].head_dim)
        return Usage(fmt::format("--kv {}: the layers of this model differ in their heads; choose fp16", name));
    }
    const int64_t count = std::ssize(layers);
    const PackedKvSizes all = SizePackedKv(layers[0], count, sequences, options_);
    const auto needs = [&](int64_t context) {
      KvShape shape = layers[0];
      shape.capacity = context;
      const PackedKvSizes s = SizePackedKv(shape, count, sequences, options_);
      return std::pair(s.Bytes(options_) * static_cast<uint64_t>(sequences), Budget(s, sequences));
    };
    const auto [least, budget] = needs(all.capacity);
    if (least <= budget) return {};
    int64_t fits = 0;
    for (int64_t most = all.capacity; most - fits > 1;) {
      const int64_t middle = fits + (most - fits) / 2;
      const auto [bytes, room] = needs(middle);
      (bytes <= room ? fits : most) = middle;
    }
    const double share =
        static_cast<double>(least) / static_cast<double>(all.DenseBytes() * static_cast<uint64_t>(sequences));
    Error e = Usage(fmt::format(
        "--kv {}: {} positions take at least {} bytes, and the cache's budget is {}; pass budget={} or budget={:.3f}{}",
        name, all.capacity, least, budget, least, std::ceil(1000 * share) / 1000,
        fits > 0 ? fmt::format(", or a --context of at most {}", fits) : ""));
    e.code = Code::kOverBudget;
    return e;
  }

  double BytesPerElement(const KvShape& shape) const override {
    const PackedKvSizes s = SizePackedKv(shape, 1, 1, options_);
    return s.DenseBytes() == 0 ? 0 : 2 * static_cast<double>(s.Bytes(options_)) / static_cast<double>(s.DenseBytes());
  }

  double Noise() const override {
    if (options_.uniform() || options_.budget_bytes > 0) return KvNoise(options_.widths.least());
    // At the average width: 6 dB a bit, 19.4 at 4.
    const double bits = std::clamp(16 * options_.budget_share, 2.0, 8.0);
    return std::pow(10.0, -(19.4 + 6.02 * (bits - 4)) / 10);
  }

  int64_t PageTokens(int64_t context) const override { return context + kPieceRows; }

 private:
  uint64_t Budget(const PackedKvSizes& s, int64_t sequences) const {
    if (options_.uniform()) return UINT64_MAX;
    if (options_.budget_bytes > 0) return options_.budget_bytes;
    return static_cast<uint64_t>(options_.budget_share * static_cast<double>(s.DenseBytes())) *
           static_cast<uint64_t>(sequences);
  }

  PackedKvOptions options_;
};

}  // namespace

std::unique_ptr<KvPolicy> MakePackedKv(std::string name, const PackedKvOptions& options) {
  return std::make_unique<PackedPolicy>(std::move(name), options);
}

}  // namespace sotto
