#include "kv/packed.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sotto {
namespace {

constexpr int64_t kPieceRows = 64;
constexpr int kWidths[] = {8, 4, 3, 2};
constexpr int kBitsPerPage = 64;  // of width: 8 tokens of 8 bits, 16 of 4, …
// Bytes of a token's position, and of a page's address.
constexpr uint64_t kPositionBytes = sizeof(int32_t), kPageEntryBytes = sizeof(std::byte*);

int PagesOfStep(int bits) { return bits == 3 ? 2 : 1; }
// While tokens go from one width to another each width may have a page that is not full yet.
int64_t Slack(KvWidths widths) {
  if (widths.least() == widths.most()) return 0;
  int64_t pages = 0;
  for (const int bits : kWidths) pages += widths.Has(bits) ? PagesOfStep(bits) : 0;
  return pages;
}
bool Observes(const PackedKvOptions& o) { return o.rule == KvRule::kSmart || o.rule == KvRule::kHistory; }

// Where the arrays of one layer and sequence stand behind each other.
struct IndexLayout {
  struct Group {
    uint64_t positions = 0, pages = 0, planes = 0;
  };
  Group groups[std::size(kWidths)];
  uint64_t free = 0, by_distance = 0, observed = 0, widths = 0, total = 0;

  IndexLayout(const PackedKvSizes& s, const PackedKvOptions& o) {
    const auto take = [this](uint64_t* at, int64_t count, uint64_t each) {
      *at = total;
      total += RoundUp(static_cast<uint64_t>(count) * each, 8);
    };
    take(&free, s.pages, kPageEntryBytes);
    for (size_t i = 0; i < std::size(kWidths); ++i) {
      const int bits = kWidths[i];
      if (!o.widths.Has(bits)) continue;
      const int64_t tokens = s.Tokens(bits);
      take(&groups[i].pages, KvGroupPages(bits == 3 ? 2 : bits, tokens), kPageEntryBytes);
      if (bits == 3) take(&groups[i].planes, KvGroupPages(1, tokens), kPageEntryBytes);
      take(&groups[i].positions, tokens, kPositionBytes);
    }
    if (Slack(o.widths) > 0) take(&widths, s.capacity, 1);
    if (!Observes(o)) return;
    take(&by_distance, 1, sizeof(MassByDistance));
    take(&observed, s.capacity, sizeof(float));
  }
};

}  // namespace

int64_t PackedKvSizes::Tokens(int bits) const {
  return std::min(capacity, bits == 3 ? pages * kBitsPerPage / 3 : pages * KvPageTokens(bits));
}

uint64_t PackedKvSizes::Bytes(const PackedKvOptions& options) const {
  const uint64_t scales = static_cast<uint64_t>(capacity) * static_cast<uint64_t>(page.kv_heads) * 2 * sizeof(uint16_t);
  return static_cast<uint64_t>(pages) * static_cast<uint64_t>(page.page_bytes()) + scales +
         IndexLayout(*this, options).total;
}

int64_t PackedKvSizes::LeastPages(const PackedKvOptions& o) const {
  const int64_t held = Slack(o.widths) == 0 ? 0 : std::min(capacity, o.sinks + o.recent);
  return KvGroupPages(o.widths.most(), held) + KvGroupPages(o.widths.least(), capacity - held) +
         (Slack(o.widths) == 0 ? 0 : Slack(o.widths) + PagesOfStep(o.widths.most()));
}

PackedKvSizes SizePackedKv(const KvShape& shape, const PackedKvOptions& options, int64_t layers) {
  PackedKvSizes s{{static_cast<int>(shape.heads), static_cast<int>(shape.head_dim)}, shape.capacity, 0};
  s.pages = s.LeastPages(options);
  if (options.uniform()) return s;
  const double dense = 4.0 * static_cast<double>(shape.heads * shape.head_dim) * static_cast<double>(shape.capacity);
  const uint64_t budget = options.budget_bytes > 0
                              ? options.budget_bytes / static_cast<uint64_t>(std::max<int64_t>(layers, 1))
                              : static_cast<uint64_t>(options.budget_share * dense);
  int64_t most = KvGroupPages(options.widths.most(), s.capacity) + Slack(options.widths) + 1;
  while (s.pages < most) {  // the largest number that fits
    PackedKvSizes more = s;
    more.pages = s.pages + (most - s.pages + 1) / 2;
    if (more.Bytes(options) <= budget)
      s = more;
    else
      most = more.pages - 1;
  }
  return s;
}

namespace {

// The tokens of one width in one layer and sequence.
struct Group {
  int bits = 0;
  std::byte **pages = nullptr, **planes = nullptr;
  int32_t* positions = nullptr;
  int64_t* count = nullptr;

  KvGroup view() const { return {bits, pages, planes, *count, positions}; }
};

// One layer of one sequence: what it has where. A view on planned memory, and the few numbers that its arrays don't tell.
struct Counts {
  int64_t tokens = 0, free = 0;  // positions stored; pages free
  int64_t of[std::size(kWidths)] = {};
  size_t sinks = 0;
  bool found_sinks = false;
};

class Tokens {
 public:
  Tokens(const PackedKvSizes& sizes, const PackedKvOptions& options, std::byte* index, std::byte* pages,
         uint16_t* scales, Counts* counts, std::vector<int32_t>* sinks)
      : sizes_(sizes), options_(options), pages_(pages), scales_(scales), counts_(*counts), sinks_(*sinks) {
    const IndexLayout at(sizes, options);
    const auto array = [index]<class T>(uint64_t offset, T*) { return reinterpret_cast<T*>(index + offset); };
    free_ = array(at.free, static_cast<std::byte**>(nullptr));
    widths_ = array(at.widths, static_cast<uint8_t*>(nullptr));
    observed_ = array(at.observed, static_cast<float*>(nullptr));
    by_distance_ = array(at.by_distance, static_cast<MassByDistance*>(nullptr));
    for (size_t i = 0; i < std::size(kWidths); ++i)
      groups_[i] = {kWidths[i], array(at.groups[i].pages, static_cast<std::byte**>(nullptr)),
                    array(at.groups[i].planes, static_cast<std::byte**>(nullptr)),
                    array(at.groups[i].positions, static_cast<int32_t*>(nullptr)), &counts_.of[i]};
  }

  std::span<const KvGroup> Views() {
    size_t n = 0;
    for (const Group& g : groups_)
      if (*g.count > 0) views_[n++] = g.view();
    return {views_, n};
  }
  int64_t size() const { return counts_.tokens; }

  // Keeps positions [0, length).
  void Forget(int64_t length) {
    if (length == 0) {
      counts_ = {};
      for (int64_t i = 0; i < sizes_.pages; ++i)
        free_[counts_.free++] = pages_ + (sizes_.pages - 1 - i) * sizes_.page.page_bytes();
      if (Observes(options_)) *by_distance_ = {};
      return;
    }
    for (Group& g : groups_)
      for (int64_t slot = *g.count; slot-- > 0;)
        if (g.positions[slot] >= length) Remove(g, slot);
    size_t kept = 0;
    for (size_t i = 0; i < counts_.sinks; ++i)
      if (sinks_[i] < length) sinks_[kept++] = sinks_[i];
    counts_.sinks = kept;
    counts_.tokens = length;
  }

  // What the last `queries` tokens paid to each position, theirs included.
  void Observe(std::span<const float> mass, int64_t queries) {
    std::fill_n(observed_ + mass.size() - queries, queries, 0.0F);
    sotto::Observe(mass, queries, {observed_, mass.size()}, by_distance_);
  }

  // The next position, from a slot of 8 bits. `weights`: [capacity] scratch.
  void Append(const KvGroup& from, int64_t slot, std::span<float> weights) {
    const int most = options_.widths.most();
    Group& g = GroupOf(most);
    const auto position = static_cast<int32_t>(counts_.tokens);
    if (counts_.free < KvGroupPages(most, *g.count + 1) - KvGroupPages(most, *g.count) + Slack(options_.widths))
      MakeRoom(weights);
    Put(from, slot, position, g);
    if (Slack(options_.widths) > 0) widths_[position] = static_cast<uint8_t>(most);
    ++counts_.tokens;
  }

 private:
  Group& GroupOf(int bits) {
    return groups_[std::find(std::begin(kWidths), std::end(kWidths), bits) - std::begin(kWidths)];
  }
  uint16_t* ScalesOf(int32_t position) const { return scales_ + int64_t{position} * sizes_.page.kv_heads * 2; }

  // Copies a token to the end of a group, which takes a page when it has to.
  void Put(const KvGroup& from, int64_t slot, int32_t position, Group& to) {
    const int64_t n = *to.count;
    const auto take = [this](std::byte** page) {
      CHECK(counts_.free > 0);
      *page = free_[--counts_.free];
    };
    const int bits = to.bits == 3 ? 2 : to.bits;
    if (n % KvPageTokens(bits) == 0) take(&to.pages[n / KvPageTokens(bits)]);
    if (to.bits == 3 && n % KvPageTokens(1) == 0) take(&to.planes[n / KvPageTokens(1)]);
    MoveToken(sizes_.page, from, slot, to.view(), n, ScalesOf(position));
    to.positions[n] = position;
    ++*to.count;
  }

  // The last token takes the slot; a page that is empty then is free.
  void Remove(Group& g, int64_t slot) {
    const int64_t last = --*g.count;
    if (slot != last) {
      const KvGroup view{g.bits, g.pages, g.planes, last + 1, g.positions};
      MoveToken(sizes_.page, view, last, view, slot, ScalesOf(g.positions[last]));
      g.positions[slot] = g.positions[last];
    }
    const int bits = g.bits == 3 ? 2 : g.bits;
    if (last % KvPageTokens(bits) == 0) free_[counts_.free++] = g.pages[last / KvPageTokens(bits)];
    if (g.bits == 3 && last % KvPageTokens(1) == 0) free_[counts_.free++] = g.planes[last / KvPageTokens(1)];
  }

  // Lowers widths until a new token has its page, and some more have, so that this is seldom asked for.
  void MakeRoom(std::span<float> weights) {
    const auto n = static_cast<size_t>(counts_.tokens);
    const std::span<float> used = weights.first(n);
    // Rules that don't ask what was observed ask how many there are.
    const std::span<const float> observed{Observes(options_) ? observed_ : weights.data(), n};
    if (Observes(options_) && !counts_.found_sinks) {
      counts_.sinks =
          FindSinks(observed, *by_distance_, -1, std::span(sinks_).first(static_cast<size_t>(options_.sinks)));
      counts_.found_sinks = true;
    }
    TokenWeights(options_.rule, observed, Observes(options_) ? *by_distance_ : MassByDistance(), 1, used);
    HoldTokens(std::span<const int32_t>(sinks_).first(counts_.sinks), options_.recent, used);
    const int64_t enough = Slack(options_.widths) + PagesOfStep(options_.widths.most()) + counts_.tokens / 512;
    while (counts_.free < enough) {
      const KvPart part{used, {widths_, n}};
      if (Demote({&part, 1}, options_.widths, (enough - counts_.free) * kBitsPerPage).bits == 0) break;
      for (Group& g : groups_)
        for (int64_t slot = *g.count; slot-- > 0;) {
          const int32_t position = g.positions[slot];
          if (widths_[position] == g.bits) continue;
          Put(g.view(), slot, position, GroupOf(widths_[position]));
          Remove(g, slot);
        }
    }
  }

  const PackedKvSizes& sizes_;
  const PackedKvOptions& options_;
  std::byte* pages_;
  uint16_t* scales_;
  Counts& counts_;
  std::vector<int32_t>& sinks_;
  std::byte** free_;
  uint8_t* widths_;
  float* observed_;
  MassByDistance* by_distance_;
  Group groups_[std::size(kWidths)];
  KvGroup views_[std::size(kWidths)];
};

class PackedKv final : public KvStore {
 public:
  PackedKv(const Scope& at, std::span<const KvShape> layers, int64_t sequences, const PackedKvOptions& options)
      : options_(options), sequences_(sequences) {
    const auto caches = static_cast<int64_t>(layers.size()) * sequences;
    int64_t page_bytes = 0, capacity = 0;
    for (const KvShape& shape : layers) {
      const int number = static_cast<int>(layers_.size());
      const Scope here = at.Layer(number);
      const PackedKvSizes s = SizePackedKv(shape, options, caches);
      const std::string name = std::to_string(number);
      const int64_t planes = sequences * shape.heads;
      const Shard by_head{Shard::kFirst, sequences};
      layers_.push_back(
          {s, IndexLayout(s, options).total,
           Cache(here, name + ".pages", planes, s.pages, 2 * s.page.block_bytes(), DType::kU8, by_head),
           Cache(here, name + ".scales", planes, s.capacity, 2, DType::kF16, by_head),
           Table(here, name + ".index", IndexLayout(s, options).total * static_cast<uint64_t>(sequences), Role::kKv)});
      page_bytes = std::max(page_bytes, s.page.page_bytes());
      capacity = std::max(capacity, s.capacity);
    }
    state_.resize(layers_.size() * static_cast<size_t>(sequences));
    for (State& s : state_) s.sinks.resize(static_cast<size_t>(options.sinks));
    // A piece's own tokens, until attention has read them.
    staged_bytes_ = static_cast<uint64_t>(page_bytes);
    staged_ = Table(at, "staged", KvGroupPages(8, kPieceRows) * staged_bytes_, Role::kActivation);
    if (Slack(options.widths) > 0) weights_ = Buffer(at, "weights", 1, capacity);
    if (Observes(options)) mass_ = Buffer(at, "mass", 1, capacity);
  }

  void Store(Backend& ops, const Run&, int layer, BatchRows rows, View k, View v) override {
    const KvPageShape& page = layers_[static_cast<size_t>(layer)].sizes.page;
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
    const int head_dim = layers_[static_cast<size_t>(layer)].sizes.page.head_dim;
    ops.Hadamard(q, head_dim);
    for (int64_t begin = 0, end = 0; begin < rows.count(); begin = end) {
      const auto follows = [&](int64_t r) {
        const auto i = static_cast<size_t>(r);
        return rows.seq[i] == rows.seq[i - 1] && rows.pos[i] == rows.pos[i - 1] + 1;
      };
      for (end = begin + 1; end < rows.count() && end - begin < kPieceRows && follows(end);) ++end;
      const auto i = static_cast<size_t>(begin);
      AttendPiece(ops, run, layer, rows.seq[i], rows.pos[i], begin, end - begin, q, spec, out);
    }
    ops.Hadamard(out, head_dim);
  }

 private:
  struct Layer {
    PackedKvSizes sizes;
    uint64_t index_bytes;  // of a sequence
    Cache pages, scales;
    Table index;
  };
  struct State {
    Counts counts;
    std::vector<int32_t> sinks;
  };

  // Rows [first, first + count) of the step, at positions from `position` on.
  void AttendPiece(Backend& ops, const Run& run, int layer, int32_t sequence, int64_t position, int64_t first,
                   int64_t count, View q, const AttnSpec& spec, View out) {
    const Layer& l = layers_[static_cast<size_t>(layer)];
    const PackedKvSizes& s = l.sizes;
    State& state = state_[static_cast<size_t>(layer * sequences_ + sequence)];
    auto* scales = reinterpret_cast<uint16_t*>(run[l.scales].data) + sequence * s.capacity * s.page.kv_heads * 2;
    Tokens tokens(s, options_, run[l.index].data() + static_cast<uint64_t>(sequence) * l.index_bytes,
                  run[l.pages].data + sequence * s.pages * s.page.page_bytes(), scales, &state.counts, &state.sinks);
    CHECK(position <= tokens.size() && position + count <= s.capacity);
    if (position < tokens.size() || position == 0) tokens.Forget(position);

    std::byte* pages[KvGroupPages(8, kPieceRows)];
    int32_t positions[kPieceRows], seen[kPieceRows];
    for (size_t i = 0; i < std::size(pages); ++i) pages[i] = run[staged_].data() + i * staged_bytes_;
    const KvGroup staged{8, pages, nullptr, count, positions};
    for (int64_t i = 0; i < count; ++i) {
      positions[i] = static_cast<int32_t>(position + i);
      seen[i] = static_cast<int32_t>(i + 1);
      PutToken(s.page, keys_.F32(first + i), values_.F32(first + i), staged, i,
               scales + positions[i] * s.page.kv_heads * 2);
    }
    const HeadShape shape{spec.heads, s.page.kv_heads, spec.head_dim, spec.scale};
    const PagesView view{s.page, tokens.Views(), {&staged, 1}, {seen, static_cast<size_t>(count)}, scales};
    PagesMass mass;
    if (Observes(options_)) {
      mass.weights = run[mass_].F32();
      std::fill_n(mass.weights, position + count, 0.0F);
    }
    ops.AttendPages(q.Rows(first, count), view, shape, out.Rows(first, count), Precision::kFast, mass);
    if (Observes(options_)) tokens.Observe({mass.weights, static_cast<size_t>(position + count)}, count);
    std::span<float> weights;
    if (Slack(options_.widths) > 0) weights = {run[weights_].F32(), static_cast<size_t>(s.capacity)};
    for (int64_t i = 0; i < count; ++i) tokens.Append(staged, i, weights);
  }

  PackedKvOptions options_;
  int64_t sequences_;
  std::vector<Layer> layers_;
  std::vector<State> state_;
  Table staged_;
  uint64_t staged_bytes_ = 0;
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
    const auto caches = static_cast<int64_t>(layers.size()) * sequences;
    for (const KvShape& l : layers) {
      if (l.window > 0)
        return Usage(
            fmt::format("--kv {}: a layer of this model sees {} positions only, and its cache is a ring of so many; "
                        "choose fp16, or a --context of at most {}",
                        name, l.window, l.window));
      if (!KvPageShape{static_cast<int>(l.heads), static_cast<int>(l.head_dim)}.ok() ||
          (l.v_dim != 0 && l.v_dim != l.head_dim))
        return Usage(fmt::format(
            "--kv {}: heads of {} and {} numbers have no pages, which take multiples of 8 up to {}; choose fp16", name,
            l.head_dim, l.v_dim, kMaxKvHeadDim));
    }
    if (options_.uniform() || Total(layers, caches) <= Budget(layers, sequences)) return {};
    // The longest context, by bisection.
    int64_t fits = 0, most = layers[0].capacity;
    while (most - fits > 1) {
      const int64_t middle = fits + (most - fits) / 2;
      std::vector<KvShape> shorter(layers.begin(), layers.end());
      for (KvShape& l : shorter) l.capacity = middle;
      (Total(shorter, caches) <= Budget(shorter, sequences) ? fits : most) = middle;
    }
    Error e = Usage(fmt::format(
        "--kv {}: {} positions take at least {} bytes, and the cache's budget is {}; pass a budget of at least "
        "that, a share of {:.3f}{}",
        name, layers[0].capacity, Total(layers, caches), Budget(layers, sequences), ShareThatFits(layers, sequences),
        fits > 0 ? fmt::format(", or a --context of at most {}", fits) : ""));
    e.code = Code::kOverBudget;
    return e;
  }

  double BytesPerElement(const KvShape& shape) const override {
    const double elements =
        2.0 * static_cast<double>(shape.heads * shape.head_dim) * static_cast<double>(shape.capacity);
    return elements == 0 ? 0 : static_cast<double>(SizePackedKv(shape, options_, 1).Bytes(options_)) / elements;
  }

  double Noise() const override {
    if (options_.uniform() || options_.budget_bytes > 0) return KvNoise(options_.widths.least());
    // At the average width: 6 dB a bit, 19.4 at 4.
    const double bits = std::clamp(16 * options_.budget_share, 2.0, 8.0);
    return std::pow(10.0, -(19.4 + 6.02 * (bits - 4)) / 10);
  }

  int64_t PageTokens(int64_t context) const override { return context + kPieceRows; }

 private:
  uint64_t Total(std::span<const KvShape> layers, int64_t caches) const {
    uint64_t bytes = 0;
    for (const KvShape& l : layers) bytes += SizePackedKv(l, options_, caches).Bytes(options_);
    return bytes * static_cast<uint64_t>(caches) / layers.size();
  }
  static double Dense(std::span<const KvShape> layers, int64_t sequences) {
    double bytes = 0;
    for (const KvShape& l : layers)
      bytes += 4.0 * static_cast<double>(l.heads * l.head_dim) * static_cast<double>(l.capacity);
    return bytes * static_cast<double>(sequences);
  }
  uint64_t Budget(std::span<const KvShape> layers, int64_t sequences) const {
    return options_.budget_bytes > 0 ? options_.budget_bytes
                                     : static_cast<uint64_t>(options_.budget_share * Dense(layers, sequences));
  }
  double ShareThatFits(std::span<const KvShape> layers, int64_t sequences) const {
    const double least = static_cast<double>(Total(layers, static_cast<int64_t>(layers.size()) * sequences));
    return std::ceil(1000 * least / Dense(layers, sequences)) / 1000;
  }

  PackedKvOptions options_;
};

}  // namespace

std::unique_ptr<KvPolicy> MakePackedKv(std::string name, const PackedKvOptions& options) {
  return std::make_unique<PackedPolicy>(std::move(name), options);
}

}  // namespace sotto
