// sotto_bench_kv: fused attention of a decoding step over dense and packed caches, in ns for each token and head of the
// cache. All kinds pass by in turns, each over several layers that no cache holds together; ratios are taken inside a
// round, and their median counts.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <deque>
#include <functional>
#include <numeric>
#include <random>

#include "codec/half.h"
#include "ops/backend.h"
#include "timing.h"

namespace sotto {
namespace {

struct Options {
  int64_t tokens = 8192;
  int layers = 8, kv_heads = 4;
  std::vector<int> dims, groups, threads;
  double seconds = 10;
};

struct Share {
  int bits;
  double tokens;  // as a share of all
};
// The widths of a cache of 3.0 bits on average: sinks and recent tokens at 8, the rest by what it is worth.
const std::vector<Share> kMixed = {{8, 0.02}, {4, 0.33}, {3, 0.20}, {2, 0.45}};

// The packed caches of all layers: pages in random order, positions spread over the groups at random.
class PackedCaches {
 public:
  PackedCaches(const Options& o, const HeadShape& s, const std::vector<Share>& shares, std::mt19937& rng)
      : shape_{s.kv_heads, s.head_dim}, layers_(static_cast<size_t>(o.layers)) {
    std::vector<int> width_of(static_cast<size_t>(o.tokens), shares.back().bits);
    size_t at = 0;
    for (const Share& share : shares)
      for (auto n = static_cast<int64_t>(share.tokens * static_cast<double>(o.tokens)); n > 0 && at < width_of.size();
           --n)
        width_of[at++] = share.bits;
    std::shuffle(width_of.begin(), width_of.end(), rng);
    int64_t pages = 0;
    for (const Share& share : shares) {
      std::vector<int32_t>& positions = positions_.emplace_back();
      for (size_t t = 0; t < width_of.size(); ++t)
        if (width_of[t] == share.bits) positions.push_back(static_cast<int32_t>(t));
      pages += KvGroupPages(share.bits, static_cast<int64_t>(positions.size()));
    }
    bytes_ = pages * shape_.page_bytes() + o.tokens * 4 * shape_.kv_heads;
    std::normal_distribution<float> normal;
    std::vector<float> k(static_cast<size_t>(shape_.kv_heads * shape_.head_dim)), v = k;
    for (Layer& l : layers_) {
      l.pool = std::make_unique<Block>(static_cast<uint64_t>(pages * shape_.page_bytes()));
      l.scales.resize(static_cast<size_t>(o.tokens * 2 * shape_.kv_heads));
      for (int64_t p = 0; p < pages; ++p) l.pages.push_back(l.pool->data.get() + p * shape_.page_bytes());
      std::shuffle(l.pages.begin(), l.pages.end(), rng);
      std::byte* const* next = l.pages.data();
      for (size_t g = 0; g < shares.size(); ++g) {
        const int bits = shares[g].bits;
        const auto count = static_cast<int64_t>(positions_[g].size());
        const KvGroup group{bits, next, next + KvGroupPages(2, count), count, positions_[g].data()};
        next += KvGroupPages(bits, count);
        l.groups.push_back(group);
        for (int64_t t = 0; t < count; ++t) {
          if (t % 64 == 0)  // new random rows now and then: what they are costs no time
            for (auto* row : {&k, &v})
              for (float& x : *row) x = normal(rng);
          PutToken(shape_, k.data(), v.data(), group, t,
                   l.scales.data() + positions_[g][static_cast<size_t>(t)] * int64_t{2} * shape_.kv_heads);
        }
      }
    }
  }
  PagesView Of(int i, const int32_t* none) const {
    const auto& l = layers_[static_cast<size_t>(i)];
    return {shape_, l.groups, {}, {none, 1}, l.scales.data()};
  }
  int64_t bytes() const { return bytes_; }  // of a layer

 private:
  struct Layer {
    std::unique_ptr<Block> pool;
    std::vector<std::byte*> pages;
    std::vector<uint16_t> scales;
    std::vector<KvGroup> groups;
  };
  KvPageShape shape_;
  int64_t bytes_ = 0;
  std::vector<std::vector<int32_t>> positions_;
  std::vector<Layer> layers_;
};

struct Case {
  std::string name;
  double bits;  // of an element
  std::function<void(int layer)> run;
  std::vector<double> seconds;
};

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

double Ratio(const Case& a, const Case& b) {
  std::vector<double> ratios;
  for (size_t i = 0; i < a.seconds.size(); ++i) ratios.push_back(a.seconds[i] / b.seconds[i]);
  return Median(ratios);
}

void Measure(const Options& o, int dim, int group, int threads_count, Isa isa) {
  const HeadShape shape{group * o.kv_heads, o.kv_heads, dim, 1 / std::sqrt(static_cast<float>(dim))};
  Threads threads(threads_count);
  const ScratchNeed need{threads_count, 0, dim, o.tokens, shape.heads, shape.kv_heads};
  const Block scratch(CpuScratchBytes(need).n);
  const auto ops = MakeCpuBackend(isa, &threads, need, {scratch.data.get(), scratch.n});
  const Block q(static_cast<uint64_t>(shape.heads * dim * 4)), out(q.n), mass(static_cast<uint64_t>(o.tokens * 4));
  const View qv = q.view(1, shape.heads * dim), ov = out.view(1, qv.cols);
  const double elements = 2.0 * o.kv_heads * static_cast<double>(o.tokens) * dim;
  std::mt19937 rng(1);

  std::deque<Block> dense;
  std::deque<PackedCaches> packed;
  std::vector<Case> cases;
  for (const auto& [name, dtype] : {std::pair{"fp16", DType::kF16}, {"bf16", DType::kBF16}, {"fp32", DType::kF32}}) {
    const auto n = static_cast<int64_t>(elements) * o.layers;
    const uint64_t layer = static_cast<uint64_t>(elements) * SizeOf(dtype);
    Block& block = dense.emplace_back(static_cast<uint64_t>(n) * SizeOf(dtype));
    auto* halves = reinterpret_cast<uint16_t*>(block.data.get());
    for (int64_t i = 0; i < n && dtype != DType::kF32; ++i) {
      const float x = static_cast<float>((i * 2654435761 >> 7) % 2001) / 1000 - 1;
      halves[i] = dtype == DType::kF16 ? FloatToHalf(x) : FloatToBf16(x);
    }
    cases.push_back({name, 8.0 * static_cast<double>(SizeOf(dtype)), [=, &o, &ops, data = block.data.get()](int i) {
                       const std::byte* keys = data + static_cast<uint64_t>(i) * layer;
                       const CacheView view{keys, keys + layer / 2, dtype, o.tokens * dim, o.tokens, o.tokens};
                       ops->AttendCache(qv, {&view, 1}, shape, ov);
                     }});
  }
  const int32_t none = 0;
  const auto add = [&](const std::string& name, const std::vector<Share>& shares, Precision precision, bool with_mass) {
    if (!with_mass) packed.emplace_back(o, shape, shares, rng);
    const PackedCaches& caches = packed.back();
    cases.push_back(
        {name, 8.0 * static_cast<double>(caches.bytes()) / elements, [=, &caches, &ops, &none, &mass](int i) {
           auto* sums = reinterpret_cast<float*>(mass.data.get());
           ops->AttendPages(qv, caches.Of(i, &none), shape, ov, precision,
                            with_mass ? PagesMass{sums, nullptr} : PagesMass{});
         }});
  };
  for (int bits : {8, 4, 3, 2}) add(fmt::format("{} bits", bits), {{bits, 1.0}}, Precision::kFast, false);
  add("mixed", kMixed, Precision::kFast, false);
  add("mixed, mass", kMixed, Precision::kFast, true);
  add("4 bits, exact", {{4, 1.0}}, Precision::kExact, false);

  const auto clock = ClockFor(threads);
  for (const double end = Now() + o.seconds; Now() < end || cases[0].seconds.size() < 3;)
    for (Case& c : cases) {
      const double before = clock();
      for (int i = 0; i < o.layers; ++i) c.run(i);
      c.seconds.push_back(clock() - before);
    }
  fmt::print("\n**head_dim {}, {} query heads a head of the cache, {} tokens, {} thread{} ({})**\n\n", dim, group,
             o.tokens, threads_count, threads_count > 1 ? "s" : "", NameOf(isa));
  fmt::print("| cache | bits | ns a token and head | best | GB/s | times fp16 | times bf16 | time over 4 bits |\n");
  fmt::print("|---|--:|--:|--:|--:|--:|--:|--:|\n");
  const Case& four = *std::find_if(cases.begin(), cases.end(), [](const Case& c) { return c.name == "4 bits"; });
  for (const Case& c : cases) {
    const double units = static_cast<double>(o.tokens) * o.kv_heads * o.layers, median = Median(c.seconds);
    fmt::print("| {} | {:.2f} | {:.1f} | {:.1f} | {:.1f} | {:.2f} | {:.2f} | {:.2f} |\n", c.name, c.bits,
               median / units * 1e9, *std::min_element(c.seconds.begin(), c.seconds.end()) / units * 1e9,
               c.bits / 8 * elements * o.layers / median / 1e9, Ratio(cases[0], c), Ratio(cases[1], c), Ratio(c, four));
  }
}

}  // namespace
}  // namespace sotto

int main(int argc, char** argv) {
  sotto::Options o;
  CLI::App app("Time of attention over dense and packed caches, in Markdown");
  app.add_option("--tokens", o.tokens)->check(CLI::Range(1, 1 << 20));
  app.add_option("--layers", o.layers, "whose caches pass by in turns")->check(CLI::Range(1, 64));
  app.add_option("--kv-heads", o.kv_heads)->check(CLI::Range(1, 64));
  app.add_option("--head-dim", o.dims)->check(CLI::Range(8, sotto::kMaxKvHeadDim));
  app.add_option("--group", o.groups, "query heads a head of the cache")->check(CLI::Range(1, 64));
  app.add_option("--threads", o.threads)->check(CLI::Range(1, 256));
  app.add_option("--seconds", o.seconds, "of rounds, for each table")->check(CLI::Range(0.0, 600.0));
  CLI11_PARSE(app, argc, argv);
  if (o.dims.empty()) o.dims = {64, 128};
  if (o.groups.empty()) o.groups = {8, 1};
  if (o.threads.empty()) o.threads = {1, 2};
  const auto isa = sotto::DetectIsa();
  if (!isa.ok()) {
    fmt::print(stderr, "{}\n", isa.error().message);
    return static_cast<int>(isa.error().code);
  }
  for (int dim : o.dims)
    for (int group : o.groups)
      for (int threads : o.threads) sotto::Measure(o, dim, group, threads, isa.value());
  return 0;
}
