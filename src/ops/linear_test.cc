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
using testing::Packed;
using testing::Rng;

constexpr DType kWeights[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8};

struct Case {
  int64_t m, n, k;
  int64_t x_stride;  // may be less than k
  bool bias;
  Into into;
};

// sum_k |x| |w|, what an error of a sum is relative to.
Matrix Magnitudes(const Matrix& x, const WeightView& w, const Matrix& bias) {
  Rng unused;
  Matrix out(unused, x.rows, w.out);
  std::vector<float> row(static_cast<size_t>(w.in));
  for (int64_t n = 0; n < w.out; ++n) {
    UnpackRow(w, n, row.data());
    for (int64_t r = 0; r < x.rows; ++r) {
      double sum = bias.cols > 0 ? std::fabs(bias.values[static_cast<size_t>(n)]) : 0;
      for (int64_t k = 0; k < w.in; ++k) sum += std::fabs(double{x.view().F32(r)[k]} * row[static_cast<size_t>(k)]);
      out.at(r, n) = static_cast<float>(sum);
    }
  }
  return out;
}

void Check(const Case& c, DType dtype, Isa isa, int threads, Rng& rng, float size = 1) {
  const Matrix x(rng, c.m, c.k, c.x_stride, size, 0), w(rng, c.n, c.k, 0.1f);
  const Matrix bias = c.bias ? Matrix(rng, 1, c.n) : Matrix();
  const View no_bias;
  const Packed packed(w, dtype, isa);
  Matrix before(rng, c.m, c.n, 1, 3), got = before, want = before;
  const Cpu cpu(isa, threads, c.k);
  cpu->Linear(x.view(), packed.view, c.bias ? bias.view() : no_bias, got.view(), c.into);
  MakeRefBackend()->Linear(x.view(), packed.view, c.bias ? bias.view() : no_bias, want.view(), c.into);
  const Matrix magnitude = Magnitudes(x, packed.view, bias);
  for (int64_t r = 0; r < c.m; ++r)
    for (int64_t n = 0; n < c.n + (r + 1 < c.m ? 3 : 0); ++n) {
      const float g = got.at(r, n), e = want.at(r, n);
      if (n >= c.n) {
        ASSERT_EQ(g, before.at(r, n)) << "wrote between two rows";
        continue;
      }
      // A chain of k additions is off by at most k units of the sum of magnitudes; the sum of codes is exact, and then
      // come a conversion, two products, bias and residual.
      const double steps = dtype == DType::kI8 ? 4.0 : static_cast<double>(c.k);
      double bound = (steps + 3) * kUnit * (double{magnitude.at(r, n)} * 1.01 + std::fabs(before.at(r, n)));
      if (c.into == Into::kGelu) bound = 1.13 * bound + 1e-6;  // GELU's slope is at most 1.13
      ASSERT_NEAR(g, e, bound) << NameOf(isa) << " " << NameOf(dtype) << " m " << c.m << " n " << c.n << " k " << c.k
                               << " at " << r << ", " << n << " into " << static_cast<int>(c.into) << " stride "
                               << c.x_stride;
    }
}

TEST(Linear, AgreesWithTheOracleOnRandomShapes) {
  Rng rng(1);
  for (Isa isa : Isas())
    for (DType dtype : kWeights)
      for (int i = 0; i < 100; ++i) {
        Case c{1 + static_cast<int64_t>(rng() % (i % 2 == 0 ? 8 : 40)),
               1 + static_cast<int64_t>(rng() % 50),
               1 + static_cast<int64_t>(rng() % 300),
               0,
               rng() % 2 == 0,
               static_cast<Into>(rng() % 3)};
        const int64_t strides[] = {c.k, c.k + 5, std::max<int64_t>(1, c.k / 3), 1};
        c.x_stride = strides[rng() % 4];
        Check(c, dtype, isa, 1 + static_cast<int>(rng() % 3), rng);
        if (HasFatalFailure()) return;
      }
}

TEST(Linear, AgreesWithTheOracleOnLongInputs) {
  Rng rng(2);
  const Case cases[] = {{1500, 17, 80, 80, true, Into::kGelu},     {211, 70, 512, 512, true, Into::kAdd},
                        {197, 65, 600, 200, true, Into::kGelu},    {40, 20, 5120, 5120, false, Into::kStore},
                        {193, 17, 1025, 1025, true, Into::kStore}, {1, 4000, 64, 64, false, Into::kStore},
                        {5, 1500, 70, 70, true, Into::kAdd}};
  for (Isa isa : Isas())
    for (DType dtype : kWeights)
      for (const Case& c : cases) {
        Check(c, dtype, isa, 2, rng);
        if (HasFatalFailure()) return;
      }
}

TEST(Linear, StandsHugeAndSmallMagnitudes) {
  Rng rng(3);
  for (Isa isa : Isas())
    for (DType dtype : kWeights)
      for (float size : {1e-20f, 1e-6f, 1e15f, 1e30f}) {
        Check({7, 20, 65, 65, false, Into::kStore}, dtype, isa, 1, rng, size);
        if (HasFatalFailure()) return;
      }
}

TEST(Linear, ResultsDependNeitherOnThreadsNorOnTheRowsBeside) {
  Rng rng(4);
  for (Isa isa : Isas())
    for (DType dtype : kWeights) {
      const Matrix x(rng, 250, 300), w(rng, 170, 300, 0.1f), bias(rng, 1, 170);
      const Packed packed(w, dtype, isa);
      Matrix want(rng, 250, 170);
      Cpu(isa, 1, 300)->Linear(x.view(), packed.view, bias.view(), want.view());
      for (int threads : {2, 3, 5}) {
        Matrix got(rng, 250, 170);
        Cpu(isa, threads, 300)->Linear(x.view(), packed.view, bias.view(), got.view());
        EXPECT_EQ(want.values, got.values) << NameOf(isa) << " " << NameOf(dtype) << " " << threads << " threads";
      }
      for (int64_t rows : {1, 2, 5, 6, 7, 13, 100}) {
        Matrix got(rng, rows, 170);
        Cpu(isa, 2, 300)->Linear(x.view().Rows(11, rows), packed.view, bias.view(), got.view());
        EXPECT_EQ(std::memcmp(got.values.data(), want.view().F32(11), got.values.size() * 4), 0)
            << NameOf(isa) << " " << NameOf(dtype) << " " << rows << " rows";
      }
    }
}

TEST(Linear, Int8GivesTheSameBitsOnEveryInstructionSet) {
  Rng rng(5);
  if (Isas().size() == 1) std::printf("nothing to compare: this CPU has only the portable kernels\n");
  for (int i = 0; i < 60; ++i) {
    const int64_t m = 1 + static_cast<int64_t>(rng() % 40), n = 1 + static_cast<int64_t>(rng() % 50),
                  k = 1 + static_cast<int64_t>(rng() % 700);
    Matrix x(rng, m, k), w(rng, n, k);
    if (i % 3 == 0)  // the largest products: every code is 127 or -127
      for (Matrix* a : {&x, &w})
        for (float& v : a->values) v = v < 0 ? -1.0f : 1.0f;
    if (i % 5 == 0) std::fill(x.values.begin(), x.values.begin() + k, 0.0f);
    if (i % 7 == 0) x.values[rng() % x.values.size()] = INFINITY;
    if (i % 11 == 0) x.values[rng() % x.values.size()] = NAN;
    const Matrix bias(rng, 1, n), before(rng, m, n);
    for (Into into : {Into::kStore, Into::kAdd}) {
      Matrix want = before;
      const Packed reference(w, DType::kI8, Isa::kPortable);
      Cpu(Isa::kPortable, 1, k)->Linear(x.view(), reference.view, bias.view(), want.view(), into);
      for (Isa isa : Isas()) {
        const Packed packed(w, DType::kI8, isa);
        Matrix got = before, portable = before;
        Cpu(isa, 2, k)->Linear(x.view(), packed.view, bias.view(), got.view(), into);
        EXPECT_EQ(std::memcmp(got.values.data(), want.values.data(), want.values.size() * 4), 0)
            << NameOf(isa) << " " << i;
        Cpu(Isa::kPortable, 1, k)->Linear(x.view(), packed.view, bias.view(), portable.view(), into);
        EXPECT_EQ(std::memcmp(got.values.data(), portable.values.data(), want.values.size() * 4), 0)
            << NameOf(isa) << " " << i;
      }
    }
  }
}

TEST(Linear, Int8SumsTheLongestRowExactly) {
  Rng rng(6);
  const int64_t k = 131072;
  Matrix x(rng, 1, k), w(rng, 2, k);
  std::fill(x.values.begin(), x.values.end(), 1.0f);
  std::fill(w.values.begin(), w.values.begin() + k, -1.0f);
  std::fill(w.values.begin() + k, w.values.end(), 1.0f);
  for (Isa isa : Isas()) {
    const Packed packed(w, DType::kI8, isa);
    Matrix out(rng, 1, 2);
    Cpu(isa, 1, k)->Linear(x.view(), packed.view, View{}, out.view());
    EXPECT_NEAR(out.values[0], -131072.0f, 131072 * 3 * kUnit);
    EXPECT_NEAR(out.values[1], 131072.0f, 131072 * 3 * kUnit);
  }
}

TEST(Linear, NoRowsAndNoScratchOfAnIdleThreadAreFine) {
  Rng rng(7);
  const Matrix w(rng, 5, 8);
  for (Isa isa : Isas())
    for (DType dtype : kWeights) {
      const Packed packed(w, dtype, isa);
      Cpu(isa, 2, 8)->Linear(View{nullptr, DType::kF32, 0, 8, 8}, packed.view, View{},
                             View{nullptr, DType::kF32, 0, 5, 5});
    }
}

TEST(LinearDeathTest, WrongExtentsAreBugs) {
  Rng rng(8);
  const Matrix x(rng, 2, 9), w(rng, 5, 8), out(rng, 2, 5);
  const Packed packed(w, DType::kF32, Isa::kPortable);
  const Cpu cpu(Isa::kPortable, 1, 8);
  EXPECT_DEATH(cpu->Linear(x.view(), packed.view, View{}, out.view()), "x.cols == w.in");
}

}  // namespace
}  // namespace sotto
