#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "ops/testing.h"

namespace sotto {
namespace {

using testing::Cpu;
using testing::Isas;
using testing::kUnit;
using testing::Matrix;
using testing::Rng;

// A score is off by dim units of |q||k| scale, which changes each weight by that factor; exp, sum and mixing add a few
// units and one a key.
double Bound(const Matrix& q, const Matrix& k, const Matrix& v, int dim, float scale) {
  const auto largest = [](const Matrix& m) {
    double best = 0;
    for (float x : m.values) best = std::max(best, std::fabs(double{x}));
    return best;
  };
  const double score = largest(q) * largest(k) * dim * std::fabs(scale);
  return largest(v) * kUnit * (2 * (dim + 4) * score + 3 * static_cast<double>(k.rows) + 20);
}

struct Shape {
  int64_t queries, keys;
  int heads, dim;
};

TEST(Attend, AgreesWithTheOracle) {
  Rng rng(1);
  const Shape shapes[] = {{1, 1, 1, 64},     {5, 1, 2, 64},  {7, 3, 1, 8},    {40, 50, 3, 64},  {193, 257, 2, 64},
                          {100, 300, 2, 32}, {13, 20, 2, 1}, {20, 33, 1, 17}, {50, 520, 1, 80}, {30, 100, 2, 128}};
  for (Isa isa : Isas())
    for (const Shape& s : shapes)
      for (float scale : {1.0f / std::sqrt(static_cast<float>(s.dim)), 1.0f}) {
        const int64_t width = s.heads * s.dim;
        // Columns of one wider matrix, as of a fused projection.
        const Matrix qm(rng, s.queries, width, 1, 9), km(rng, s.keys, width, 1, 4), vm(rng, s.keys, width, 1, 1);
        Matrix got(rng, s.queries, width, 1, 2), want = got;
        const Matrix before = got;
        Cpu(isa, 2, 0, s.dim)->Attend(qm.view(), km.view(), vm.view(), s.heads, s.dim, scale, got.view());
        MakeRefBackend()->Attend(qm.view(), km.view(), vm.view(), s.heads, s.dim, scale, want.view());
        const double bound = Bound(qm, km, vm, s.dim, scale);
        for (int64_t r = 0; r < s.queries; ++r)
          for (int64_t c = 0; c < width; ++c)
            ASSERT_NEAR(got.at(r, c), want.at(r, c), bound)
                << NameOf(isa) << " " << s.queries << "x" << s.keys << " dim " << s.dim;
        for (int64_t r = 0; r + 1 < s.queries; ++r) ASSERT_EQ(got.at(r, width), before.at(r, width));
      }
}

TEST(Attend, IsTheSameForAllThreadCountsAndMayOverwriteItsQueries) {
  Rng rng(2);
  const Matrix q(rng, 400, 128), k(rng, 300, 128), v(rng, 300, 128);
  for (Isa isa : Isas()) {
    Matrix want(rng, 400, 128);
    Cpu(isa, 1)->Attend(q.view(), k.view(), v.view(), 2, 64, 0.125f, want.view());
    for (int threads : {2, 3}) {
      Matrix got = q;
      Cpu(isa, threads)->Attend(got.view(), k.view(), v.view(), 2, 64, 0.125f, got.view());
      EXPECT_EQ(got.values, want.values) << NameOf(isa) << " " << threads;
      Matrix fast(rng, 400, 128), again = fast;
      Cpu(isa, 1)->Attend(q.view(), k.view(), v.view(), 2, 64, 0.125f, fast.view(), Precision::kFast);
      Cpu(isa, threads)->Attend(q.view(), k.view(), v.view(), 2, 64, 0.125f, again.view(), Precision::kFast);
      EXPECT_EQ(fast.values, again.values) << NameOf(isa) << " " << threads;
    }
  }
}

TEST(Attend, SharpSoftmaxPicksOneKeyAndHugeScoresDoNotOverflow) {
  Rng rng(3);
  for (Isa isa : Isas()) {
    Matrix q(rng, 3, 16, 0), k(rng, 600, 16, 0), v(rng, 600, 16), out(rng, 3, 16);
    const int64_t chosen[3] = {0, 400, 599};
    for (int64_t i = 0; i < 3; ++i) {
      q.at(i, i) = 1000;
      k.at(chosen[i], i) = 1000;
    }
    Cpu(isa, 1, 0, 16)->Attend(q.view(), k.view(), v.view(), 1, 16, 1, out.view());
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t c = 0; c < 16; ++c) EXPECT_EQ(out.at(i, c), v.at(chosen[i], c)) << NameOf(isa);
  }
}

// Precision::kFast, by the bounds that attend.cc states: scores off by delta change a weight by a factor of exp(2
// delta) at most, each weight is rounded to a multiple of 2^-13 of the largest, and values are off by 1/2046 of their
// column's largest.
TEST(Attend, FastStaysInsideItsErrorBound) {
  Rng rng(7);
  const Shape shapes[] = {{1, 1, 1, 64},  {7, 3, 1, 8},    {40, 50, 3, 64},  {193, 257, 2, 64}, {100, 300, 2, 32},
                          {13, 20, 2, 1}, {20, 33, 1, 17}, {50, 520, 1, 80}, {30, 100, 2, 128}, {16, 1000, 1, 25}};
  for (Isa isa : Isas())
    for (const Shape& s : shapes)
      for (float size : {0.0f, 1e-3f, 1.0f, 3.0f}) {
        const int64_t width = s.heads * s.dim;
        const Matrix q(rng, s.queries, width, size, 9), k(rng, s.keys, width, size, 4), v(rng, s.keys, width, size, 1);
        Matrix got(rng, s.queries, width), want = got;
        const float scale = 1.0f / std::sqrt(static_cast<float>(s.dim));
        Cpu(isa, 2, 0, s.dim)
            ->Attend(q.view(), k.view(), v.view(), s.heads, s.dim, scale, got.view(), Precision::kFast);
        MakeRefBackend()->Attend(q.view(), k.view(), v.view(), s.heads, s.dim, scale, want.view());
        double worst = 0;
        for (int64_t r = 0; r < s.queries; ++r)
          for (int h = 0; h < s.heads; ++h) {
            double q1 = 0, qmax = 0, k1 = 0, kmax = 0, vmax = 0, peak = -INFINITY, sum = 0;
            std::vector<double> scores;
            for (int64_t d = 0; d < s.dim; ++d) {
              q1 += std::fabs(double{q.at(r, h * s.dim + d)});
              qmax = std::max(qmax, std::fabs(double{q.at(r, h * s.dim + d)}));
            }
            for (int64_t j = 0; j < s.keys; ++j) {
              double dot = 0, one = 0;
              for (int64_t d = 0; d < s.dim; ++d) {
                const double x = k.at(j, h * s.dim + d);
                dot += q.at(r, h * s.dim + d) * x;
                one += std::fabs(x);
                kmax = std::max(kmax, std::fabs(x));
                vmax = std::max(vmax, std::fabs(double{v.at(j, h * s.dim + d)}));
              }
              k1 = std::max(k1, one);
              scores.push_back(dot * scale);
              peak = std::max(peak, dot * scale);
            }
            for (double x : scores) sum += std::exp(x - peak);
            const double limit = std::floor(std::min(std::sqrt(2147483647.0 / s.dim) - 2, 32766.0));
            const double delta = scale * (qmax / (2 * limit) * k1 + kmax / (2 * limit) * q1) * 1.001 + 1e-5;
            const double bound = vmax * (2 * (std::exp(2 * delta) - 1) + static_cast<double>(s.keys) * 0x1p-13 / sum +
                                         1.0 / 2046 + 1e-5);
            for (int64_t d = 0; d < s.dim; ++d) {
              const double error = std::fabs(double{got.at(r, h * s.dim + d)} - want.at(r, h * s.dim + d));
              ASSERT_LE(error, bound) << NameOf(isa) << " " << s.queries << "x" << s.keys << " dim " << s.dim
                                      << " size " << size;
              if (vmax > 0) worst = std::max(worst, error / vmax);
            }
          }
        if (s.keys == 257 || s.keys == 1000)
          std::printf("%s: %d keys of size %g: largest error %.1e of the largest value\n",
                      std::string(NameOf(isa)).c_str(), static_cast<int>(s.keys), size, worst);
      }
}

struct Cache {
  Cache(Rng& rng, DType dtype, int heads, int64_t capacity, int dim)
      : keys(Fill(rng, dtype, heads * capacity * dim)),
        values(Fill(rng, dtype, heads * capacity * dim)),
        dtype(dtype),
        stride(capacity * dim),
        capacity(capacity) {}
  static std::vector<std::byte> Fill(Rng& rng, DType dtype, int64_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> floats(static_cast<size_t>(n));
    for (float& f : floats) f = normal(rng);
    std::vector<std::byte> out(static_cast<size_t>(n) * SizeOf(dtype));
    if (dtype == DType::kF32) std::memcpy(out.data(), floats.data(), out.size());
    if (dtype == DType::kF16) FloatToHalf(floats.data(), n, reinterpret_cast<uint16_t*>(out.data()));
    if (dtype == DType::kBF16) FloatToBf16(floats.data(), n, reinterpret_cast<uint16_t*>(out.data()));
    return out;
  }
  CacheView view(int64_t length) const { return {keys.data(), values.data(), dtype, stride, length, capacity}; }
  std::vector<std::byte> keys, values;
  DType dtype;
  int64_t stride, capacity;
};

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

TEST(AttendCache, AgreesWithTheOracleAndGivesTheWeights) {
  Rng rng(4);
  for (Isa isa : Isas())
    for (DType dtype : kTypes)
      for (const auto& [rows, heads, dim] :
           {std::tuple{1, 1, 64}, {1, 6, 64}, {5, 7, 64}, {16, 2, 17}, {2, 3, 128}, {3, 1, 4}}) {
        const int64_t lengths[] = {1, 3, 4, 255, 256, 257, 700, 1500};
        std::vector<Cache> caches;
        std::vector<CacheView> views;
        for (int r = 0; r < rows; ++r) caches.emplace_back(rng, dtype, heads, 1501, dim);
        for (int r = 0; r < rows; ++r) views.push_back(caches[static_cast<size_t>(r)].view(lengths[rng() % 8]));
        const Matrix q(rng, rows, heads * dim);
        Matrix got(rng, rows, heads * dim), want = got, got_weights(rng, rows * heads, 1500, 1, 3),
                                            want_weights = got_weights;
        const View gw = got_weights.view(), ww = want_weights.view();
        const HeadShape shape{heads, heads, dim, 1.0f / std::sqrt(static_cast<float>(dim))};
        Cpu(isa, 2, 0, dim)->AttendCache(q.view(), views, shape, got.view(), &gw);
        MakeRefBackend()->AttendCache(q.view(), views, shape, want.view(), &ww);
        // |q . k| scale stays below 40 for normal values; weights are at most 1, values below 6
        const double relative = kUnit * (2 * (dim + 4) * 40.0 + 1500 + 40);
        for (size_t i = 0; i < got.values.size(); ++i)
          ASSERT_NEAR(got.values[i], want.values[i], 6 * relative) << NameOf(isa);
        for (size_t i = 0; i < got_weights.values.size(); ++i)
          ASSERT_NEAR(got_weights.values[i], want_weights.values[i], relative) << NameOf(isa) << " " << i;
        Matrix plain(rng, rows, heads * dim);
        Cpu(isa, 1, 0, dim)->AttendCache(q.view(), views, shape, plain.view());
        EXPECT_EQ(plain.values, got.values);
      }
}

TEST(AttendCache, SharesHeadsAndGoesRoundARing) {
  Rng rng(6);
  for (Isa isa : Isas())
    for (const auto& [heads, kv_heads, dim, capacity] :
         {std::tuple{8, 2, 64, 100}, {6, 1, 16, 700}, {40, 8, 32, 513}}) {
      const Cache cache(rng, DType::kF16, kv_heads, capacity, dim);
      std::vector<CacheView> views;
      for (const auto& [first, length] :
           {std::pair{0, capacity}, {capacity - 1, capacity}, {7, 90}, {capacity / 2, 99}}) {
        views.push_back(cache.view(length));
        views.back().first = first;
      }
      const Matrix q(rng, 4, heads * dim);
      Matrix got(rng, 4, heads * dim), want = got;
      const HeadShape shape{heads, kv_heads, dim, 1.0f / std::sqrt(static_cast<float>(dim))};
      Cpu(isa, 2, 0, dim)->AttendCache(q.view(), views, shape, got.view());
      MakeRefBackend()->AttendCache(q.view(), views, shape, want.view());
      for (size_t i = 0; i < got.values.size(); ++i) ASSERT_NEAR(got.values[i], want.values[i], 1e-3) << NameOf(isa);
    }
}

TEST(AttendChunk, AgreesWithTheOracleWhateverStandsBeside) {
  Rng rng(8);
  for (Isa isa : Isas())
    for (DType dtype : kTypes)
      for (const auto& [rows, heads, kv_heads, dim, length] : {std::tuple{2, 4, 2, 64, 2},
                                                               {7, 6, 6, 17, 300},
                                                               {64, 8, 1, 32, 64},
                                                               {50, 12, 4, 64, 900},
                                                               {130, 2, 1, 128, 257}}) {
        const Cache cache(rng, dtype, kv_heads, 1000, dim);
        const Matrix q(rng, rows, heads * dim);
        Matrix got(rng, rows, heads * dim), want = got, part(rng, 2, heads * dim);
        const HeadShape shape{heads, kv_heads, dim, 1.0f / std::sqrt(static_cast<float>(dim))};
        CacheView view = cache.view(length);
        view.first = rows % 2 == 0 ? 0 : 950;  // and round the end of a ring
        Cpu(isa, 2, 0, dim)->AttendChunk(q.view(), view, shape, got.view());
        MakeRefBackend()->AttendChunk(q.view(), view, shape, want.view());
        for (size_t i = 0; i < got.values.size(); ++i)
          ASSERT_NEAR(got.values[i], want.values[i], 1e-4) << NameOf(isa) << " " << rows << " " << length << " " << i;
        if (rows == 2) continue;
        view.length -= rows - 4;  // rows 2 and 3 alone
        Cpu(isa, 1, 0, dim)->AttendChunk(q.view().Rows(2, 2), view, shape, part.view());
        EXPECT_EQ(std::memcmp(part.values.data(), got.view().F32(2), static_cast<size_t>(2 * heads * dim) * 4), 0);
      }
}

TEST(AttendCache, ARowDoesNotDependOnTheBatchOrOnTheThreads) {
  Rng rng(5);
  for (Isa isa : Isas()) {
    const Cache cache(rng, DType::kF16, 8, 5000, 64);
    const Matrix q(rng, 9, 512);
    const std::vector<CacheView> views(9, cache.view(1777));
    Matrix all(rng, 9, 512), one(rng, 1, 512);
    Cpu(isa, 1)->AttendCache(q.view(), views, {8, 8, 64, 0.125f}, all.view());
    for (int threads : {1, 2, 3})
      for (int64_t r = 0; r < 9; ++r) {
        Cpu(isa, threads)->AttendCache(q.view().Rows(r, 1), {views.data(), 1}, {8, 8, 64, 0.125f}, one.view());
        EXPECT_EQ(std::memcmp(one.values.data(), all.view().F32(r), 512 * 4), 0) << NameOf(isa) << " " << threads;
      }
  }
}

}  // namespace
}  // namespace sotto
