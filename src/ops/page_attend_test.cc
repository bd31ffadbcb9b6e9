#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

#include "ops/testing.h"

namespace sotto {
namespace {

using testing::Cpu;
using testing::Isas;
using testing::KernelsOf;
using testing::Matrix;
using testing::Rng;

struct Tokens {
  int bits;
  int64_t count;
};

// A packed cache of random tokens at random positions; pages begin as random bytes.
struct Packed {
  Packed(Rng& rng, KvPageShape shape, const std::vector<Tokens>& groups, const std::vector<Tokens>& recent,
         float size = 1)
      : shape(shape) {
    for (const auto* list : {&groups, &recent})
      for (const Tokens& t : *list) tokens += t.count;
    capacity = tokens + 5;
    scales.assign(static_cast<size_t>(capacity * shape.kv_heads * 2), 0x7E00);  // NaNs where no token is
    std::vector<int32_t> order(static_cast<size_t>(capacity));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), rng);
    auto next = order.begin();
    for (const auto* list : {&groups, &recent})
      for (const Tokens& t : *list) {
        positions.emplace_back(next, next + t.count);
        next += t.count;
        pages.push_back(Pages(rng, t.bits == 3 ? 2 : t.bits, t.count));
        planes.push_back(t.bits == 3 ? Pages(rng, 1, t.count) : std::vector<std::byte*>());
        const KvGroup g{t.bits, pages.back().data(), planes.back().data(), t.count, positions.back().data()};
        const Matrix k(rng, t.count, shape.kv_heads * shape.head_dim, size), v(rng, t.count, k.cols);
        for (int64_t i = 0; i < t.count; ++i)
          PutToken(shape, k.view().F32(i), v.view().F32(i), g, i,
                   scales.data() + int64_t{2} * shape.kv_heads * positions.back()[static_cast<size_t>(i)]);
        (list == &groups ? old : young).push_back(g);
      }
  }
  std::vector<std::byte*> Pages(Rng& rng, int width, int64_t count) {
    std::vector<std::byte*> list;
    for (int64_t t = 0; t < count; t += KvPageTokens(width)) {
      bytes.emplace_back(static_cast<size_t>(shape.page_bytes()));
      for (std::byte& b : bytes.back()) b = static_cast<std::byte>(rng());
      list.push_back(bytes.back().data());
    }
    return list;
  }
  PagesView view(std::span<const int32_t> seen) const { return {shape, old, young, seen, scales.data()}; }

  KvPageShape shape;
  int64_t tokens = 0, capacity = 0;
  std::vector<uint16_t> scales;
  std::vector<std::vector<std::byte>> bytes;
  std::vector<std::vector<std::byte*>> pages, planes;
  std::vector<std::vector<int32_t>> positions;
  std::vector<KvGroup> old, young;
};

struct PageCpu : Cpu {
  PageCpu(Isa isa, int count, const HeadShape& s, int64_t tokens)
      : Cpu(isa, {.threads = count,
                  .head_dim = s.head_dim,
                  .page_tokens = tokens,
                  .heads = s.heads,
                  .kv_heads = s.kv_heads}) {}
};

struct Outcome {
  Matrix out;
  std::vector<float> mass, squares;
  friend bool operator==(const Outcome& a, const Outcome& b) {
    return a.out.values == b.out.values && a.mass == b.mass && a.squares == b.squares;
  }
};

Outcome Attended(Backend& ops, const Packed& p, const HeadShape& s, const Matrix& q, std::span<const int32_t> seen,
                 Precision precision, bool with_mass = true) {
  Rng rng(9);
  Outcome o{Matrix(rng, q.rows, q.cols), std::vector<float>(static_cast<size_t>(p.capacity)),
            std::vector<float>(static_cast<size_t>(p.capacity))};
  ops.AttendPages(q.view(), p.view(seen), s, o.out.view(), precision,
                  with_mass ? PagesMass{o.mass.data(), o.squares.data()} : PagesMass{});
  return o;
}

HeadShape Heads(int heads, int kv_heads, int dim) {
  return {heads, kv_heads, dim, 1.0f / std::sqrt(static_cast<float>(dim))};
}

struct Case {
  int heads, kv_heads, dim;
  std::vector<Tokens> groups, recent;
  std::vector<int32_t> seen;
};

// Tokens 0, 1, 2 … of the recent ones, up to all of them: a prompt's own rows.
std::vector<int32_t> Causal(int rows, int32_t last) {
  std::vector<int32_t> seen;
  for (int r = 0; r < rows; ++r) seen.push_back(last - rows + 1 + r);
  return seen;
}

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {1, 1, 64, {{4, 1}}, {}, {0}},
      {2, 2, 8, {{2, 7}}, {}, {0}},
      {2, 1, 64, {}, {{8, 9}}, {1}},
      {4, 1, 80, {{3, 65}}, {{8, 3}}, {3}},
      {8, 1, 128, {{4, 700}, {2, 300}}, {{8, 64}}, {64}},
      {14, 2, 64, {{8, 5}, {4, 100}, {3, 333}, {2, 1000}}, {{8, 40}, {8, 30}}, {70}},
      {6, 2, 96, {{3, 257}, {2, 0}, {8, 1}}, {{8, 40}}, Causal(40, 40)},
      {5, 5, 40, {{2, 129}}, {{8, 16}, {8, 15}}, Causal(13, 31)},
      {12, 1, 72, {{4, 40}, {3, 40}}, {{8, 10}}, Causal(3, 10)},
      {4, 4, 256, {{8, 70}, {4, 33}}, {{4, 20}}, Causal(9, 20)},
      {2, 1, 64, {{4, 64}}, {{8, 600}}, {0, 600, 3, 299}},
      {3, 3, 24, {{3, 4000}}, {{8, 1}}, {1, 0}},
  };
  return cases;
}

double Largest(const std::vector<float>& v) {
  double best = 0;
  for (float x : v) best = std::max(best, std::fabs(double{x}));
  return best;
}

TEST(AttendPages, AgreesWithTheOracleInAllWidthsAndMixes) {
  Rng rng(1);
  for (const Case& c : Cases())
    for (float size : {1.0f, 4.0f}) {
      const Packed p(rng, {c.kv_heads, c.dim}, c.groups, c.recent, size);
      const HeadShape s = Heads(c.heads, c.kv_heads, c.dim);
      const Matrix q(rng, static_cast<int64_t>(c.seen.size()), c.heads * c.dim);
      const Outcome want = Attended(*MakeRefBackend(), p, s, q, c.seen, Precision::kExact);
      for (Isa isa : Isas()) {
        const Outcome got = Attended(*PageCpu(isa, 2, s, p.tokens).ops, p, s, q, c.seen, Precision::kExact);
        for (size_t i = 0; i < got.out.values.size(); ++i)
          ASSERT_NEAR(got.out.values[i], want.out.values[i], 1e-5 * Largest(want.out.values))
              << NameOf(isa) << " " << c.heads << "/" << c.kv_heads << " x " << c.dim << ", " << p.tokens << " tokens";
        for (size_t i = 0; i < got.mass.size(); ++i) {
          ASSERT_NEAR(got.mass[i], want.mass[i], 2e-5 * want.mass[i] + 1e-9) << NameOf(isa) << " " << i;
          ASSERT_NEAR(got.squares[i], want.squares[i], 4e-5 * want.squares[i] + 1e-9) << NameOf(isa) << " " << i;
        }
      }
    }
}

TEST(AttendPages, MassSumsToRowsTimesHeadsAndIsAdded) {
  Rng rng(2);
  for (const Case& c : Cases()) {
    const Packed p(rng, {c.kv_heads, c.dim}, c.groups, c.recent);
    const HeadShape s = Heads(c.heads, c.kv_heads, c.dim);
    const Matrix q(rng, static_cast<int64_t>(c.seen.size()), c.heads * c.dim);
    for (Isa isa : Isas())
      for (Precision precision : {Precision::kExact, Precision::kFast}) {
        PageCpu cpu(isa, 2, s, p.tokens);
        Outcome o = Attended(*cpu.ops, p, s, q, c.seen, precision);
        const double queries = static_cast<double>(q.rows) * c.heads;
        EXPECT_NEAR(std::accumulate(o.mass.begin(), o.mass.end(), 0.0), queries, 1e-5 * queries) << NameOf(isa);
        const Outcome once = o;
        cpu->AttendPages(q.view(), p.view(c.seen), s, o.out.view(), precision, {o.mass.data(), nullptr});
        for (size_t i = 0; i < o.mass.size(); ++i) EXPECT_FLOAT_EQ(o.mass[i], 2 * once.mass[i]);
        EXPECT_EQ(o.squares, once.squares);
      }
  }
}

TEST(AttendPages, IsTheSameForAllThreadCountsAndForARowAlone) {
  Rng rng(3);
  for (const Case& c : Cases()) {
    const Packed p(rng, {c.kv_heads, c.dim}, c.groups, c.recent);
    const HeadShape s = Heads(c.heads, c.kv_heads, c.dim);
    const Matrix q(rng, static_cast<int64_t>(c.seen.size()), c.heads * c.dim);
    for (Isa isa : Isas())
      for (Precision precision : {Precision::kExact, Precision::kFast}) {
        const Outcome want = Attended(*PageCpu(isa, 1, s, p.tokens).ops, p, s, q, c.seen, precision);
        for (int threads : {2, 3, 7})
          EXPECT_EQ(Attended(*PageCpu(isa, threads, s, p.tokens).ops, p, s, q, c.seen, precision), want) << NameOf(isa);
        Matrix one(rng, 1, q.cols);
        for (int64_t r = 0; r < q.rows; ++r) {
          PageCpu(isa, 1, s, p.tokens)
              ->AttendPages(q.view().Rows(r, 1), p.view({&c.seen[static_cast<size_t>(r)], 1}), s, one.view(),
                            precision);
          EXPECT_EQ(std::memcmp(one.values.data(), want.out.view().F32(r), static_cast<size_t>(q.cols) * 4), 0)
              << NameOf(isa) << " row " << r;
        }
      }
  }
}

TEST(AttendPages, ASharpSoftmaxPicksOneTokenOfAnyGroup) {
  Rng rng(4);
  const HeadShape s{2, 1, 64, 1};
  const Packed p(rng, {1, 64}, {{8, 80}, {4, 300}, {3, 90}, {2, 64}}, {{8, 20}});
  for (size_t g = 0; g < 5; ++g) {
    const KvGroup& group = g < 4 ? p.old[g] : p.young[0];
    const int64_t slot = group.count - 1;
    std::vector<float> key(64), value(64);
    ReadToken(p.shape, group, slot, 0, p.scales.data() + 2 * group.positions[slot], key.data(), value.data());
    Matrix q(rng, 1, 128);
    for (int i = 0; i < 128; ++i) q.at(0, i) = 1e4f * key[static_cast<size_t>(i % 64)];  // scores of up to 10^6
    const int32_t seen = 20;
    for (Isa isa : Isas())
      for (Precision precision : {Precision::kExact, Precision::kFast}) {
        const Outcome o = Attended(*PageCpu(isa, 2, s, p.tokens).ops, p, s, q, {&seen, 1}, precision);
        for (size_t i = 0; i < 128; ++i)
          EXPECT_NEAR(o.out.values[i], value[i % 64], 1e-5 * Largest(value)) << NameOf(isa) << " group " << g;
        EXPECT_NEAR(o.mass[static_cast<size_t>(group.positions[slot])], 2, 1e-5);
      }
  }
}

// The bound that page_attend.cc states, for one query: a weight is off by a factor of exp(2 * the largest error of a
// score), then by half a step of its tile, whose weights (each times its value's scale) are rounded to 1/limit of their
// largest.
TEST(AttendPages, FastStaysInsideItsErrorBound) {
  Rng rng(5);
  for (Isa isa : Isas()) {
    if (KernelsOf(isa).pages == nullptr) continue;
    for (int bits : {2, 3, 4, 8})
      for (float size : {0.0f, 0.3f, 1.0f, 4.0f})
        for (int dim : {64, 80, 128}) {
          const Packed p(rng, {2, dim}, {{bits, 1000}}, {}, size);
          const HeadShape s = Heads(8, 2, dim);
          const Matrix q(rng, 1, 8 * dim);
          const int32_t seen = 0;
          const Outcome want = Attended(*MakeRefBackend(), p, s, q, {&seen, 1}, Precision::kExact);
          const Outcome got = Attended(*PageCpu(isa, 2, s, p.tokens).ops, p, s, q, {&seen, 1}, Precision::kFast);
          const double l = bits == 8 ? 32767 : 127, limit = bits == 8 ? 32767 : 255;
          double error = 0, power = 0;
          for (int h = 0; h < 8; ++h) {
            double qmax = 0, k1 = 0, vmax = 0, sum = 0, peak = -INFINITY, vs = 0;
            for (int d = 0; d < dim; ++d) qmax = std::max(qmax, std::fabs(double{q.at(0, h * dim + d)}));
            std::vector<float> k(static_cast<size_t>(dim)), v = k;
            std::vector<double> scores;
            for (int64_t t = 0; t < p.tokens; ++t) {
              const uint16_t* scales = p.scales.data() + 4 * p.old[0].positions[t];
              ReadToken(p.shape, p.old[0], t, h / 4, scales, k.data(), v.data());
              double one = 0, dot = 0;
              for (size_t d = 0; d < k.size(); ++d) {
                one += std::fabs(k[d]);
                dot += k[d] * q.at(0, h * dim + static_cast<int>(d));
                vmax = std::max(vmax, std::fabs(double{v[d]}));
              }
              k1 = std::max(k1, one);
              vs = std::max(vs, double{HalfToFloat(scales[2 * (h / 4) + 1])});
              scores.push_back(dot * s.scale);
              peak = std::max(peak, scores.back());
            }
            for (double x : scores) sum += std::exp(x - peak);
            const double delta = s.scale * qmax / (2 * l) * k1 * 1.001 + 1e-4;
            const double codes = bits == 8 ? 127 : (1 << (bits - 1)) - 0.5;
            // sum of e is at least `sum` relative to the peak; a part's own peak only makes steps finer
            const double bound = vmax * (std::exp(2 * delta) - 1) +
                                 static_cast<double>(p.tokens) * vs * codes * std::exp(2 * delta) / (2 * limit) / sum +
                                 1e-6;
            for (int d = 0; d < dim; ++d) {
              const double off = std::fabs(double{got.out.at(0, h * dim + d)} - want.out.at(0, h * dim + d));
              ASSERT_LE(off, bound) << NameOf(isa) << " " << bits << " bits, dim " << dim << ", size " << size;
              error += off * off;
              power += std::pow(want.out.at(0, h * dim + d), 2);
            }
          }
          const double relative = std::sqrt(error / power);
          EXPECT_LT(relative, bits == 8 ? 3e-4 : 0.025) << bits << " bits, dim " << dim << ", size " << size;
          if (dim == 128)
            std::printf("%s: %d bits, keys of size %g: relative error %.2e\n", std::string(NameOf(isa)).c_str(), bits,
                        size, relative);
        }
  }
}

TEST(AttendPages, ScratchIsLinearInTheTokensAndNothingWhereNoPagesAre) {
  const ScratchNeed none{2, 64, 128}, some{2, 64, 128, 1000, 32, 4}, more{2, 64, 128, 101000, 32, 4};
  EXPECT_LE(CpuScratchBytes(none).n, CpuScratchBytes(some).n);
  const double slope = static_cast<double>(CpuScratchBytes(more).n - CpuScratchBytes(some).n) / 100000;
  EXPECT_LE(slope, 4 * 32);  // as PageSharedBytes says
  EXPECT_GT(slope, 4 * 31);
}

TEST(Hadamard, IsTheOraclesAndItsOwnInverseAndKeepsProducts) {
  Rng rng(6);
  for (Isa isa : Isas())
    for (int dim : {1, 2, 4, 8, 24, 64, 80, 96, 128, 256}) {
      const Matrix x(rng, 3, 5 * dim, 1, 3);
      Matrix got = x, want = x;
      Cpu cpu(isa, 2);
      cpu->Hadamard(got.view(), dim);
      MakeRefBackend()->Hadamard(want.view(), dim);
      for (size_t i = 0; i < got.values.size(); ++i) ASSERT_NEAR(got.values[i], want.values[i], 4e-6) << dim;
      double before = 0, after = 0;
      for (int64_t r = 0; r < 3; ++r)
        for (int64_t c = 0; c < x.cols; ++c) {
          before += std::pow(x.at(r, c), 2);
          after += std::pow(got.at(r, c), 2);
        }
      EXPECT_NEAR(before, after, 1e-5 * before);
      cpu->Hadamard(got.view(), dim);
      for (size_t i = 0; i < got.values.size(); ++i) ASSERT_NEAR(got.values[i], x.values[i], 4e-6) << dim;
    }
}

}  // namespace
}  // namespace sotto
