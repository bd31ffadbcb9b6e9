// Linear with weights in blocks of GGUF types. The integer kernels' results are the same bits on every instruction set; what
// they mean is the oracle's plain loops.
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

std::vector<const GgmlType*> Types(bool integer) {
  std::vector<const GgmlType*> types;
  for (const GgmlType& t : kGgmlTypes)
    if (t.block > 1 && DequantizerOf(t).ok() && HasIntegerKernels(t) == integer) types.push_back(&t);
  return types;
}

// Where the fp16 numbers of a block stand.
std::vector<uint32_t> HalvesOf(const GgmlType& type) {
  if (type.name == "Q6_K") return {208};
  return type.name == "Q4_K" || type.name == "Q5_K" || type.name.ends_with("_1") ? std::vector<uint32_t>{0, 2}
                                                                                 : std::vector<uint32_t>{0};
}

// Weights of random bits: all codes, all scales. `fill` >= 0: every byte but those of the fp16 numbers.
struct RandomBlocks {
  RandomBlocks(Rng& rng, const GgmlType& type, int64_t n, int64_t k, int fill, bool strange) {
    std::vector<std::byte> file(GgmlBytes(type, static_cast<uint64_t>(n), static_cast<uint64_t>(k)));
    for (std::byte& b : file) b = static_cast<std::byte>(fill >= 0 ? static_cast<uint32_t>(fill) : rng());
    std::normal_distribution<float> normal(0, 0.01F);
    const float odd[] = {0.0F, -0.0F, NAN, INFINITY, 6e-8F, 65504.0F};
    for (size_t at = 0; at < file.size(); at += type.bytes)
      for (const uint32_t half : HalvesOf(type)) {
        const uint16_t bits = FloatToHalf(strange && rng() % 4 == 0 ? odd[rng() % 6] : normal(rng));
        std::memcpy(file.data() + at + half, &bits, 2);
      }
    const PanelFormat f = FormatFor(type, Isa::kPortable);
    bytes.resize(PanelBytes(f, n, k).n + 64);
    std::byte* to = bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
    view = {to, DType::kU8, 1, n, k, &type};
    for (int64_t row = 0; row < n; row += kPanel, to += PanelStride(f, k)) {
      std::vector<const std::byte*> rows;
      for (int64_t r = row; r < std::min<int64_t>(n, row + kPanel); ++r)
        rows.push_back(file.data() + static_cast<uint64_t>(r) * GgmlBytes(type, 1, static_cast<uint64_t>(k)));
      PackBlocks(f, rows, k, to);
    }
  }
  std::vector<std::byte> bytes;
  WeightView view;
};

bool SameBits(const Matrix& a, const Matrix& b) {
  for (size_t i = 0; i < a.values.size(); ++i)
    if (std::memcmp(&a.values[i], &b.values[i], 4) != 0 && !(std::isnan(a.values[i]) && std::isnan(b.values[i])))
      return false;
  return true;
}

// A block of 32 takes at most five roundings, each of at most its sum of magnitudes; the chain, one a block.
void ExpectNear(const Matrix& x, const WeightView& w, const Matrix& got, const Matrix& want, const std::string& what) {
  std::vector<float> row(static_cast<size_t>(w.in));
  for (int64_t n = 0; n < w.out; ++n) {
    UnpackRow(w, n, row.data());
    // Codes and mins cancel in a weight but not on the way: what an error is relative to is 64 times its scale at most.
    float largest = 0;
    for (const float v : row) largest = std::max(largest, std::fabs(v));
    for (int64_t r = 0; r < x.rows; ++r) {
      double sum = 0;
      for (int64_t k = 0; k < w.in; ++k) sum += std::fabs(double{x.at(r, k)});
      const double bound = (static_cast<double>(w.in) / 32 + 5) * kUnit * 4 * largest * sum + 1e-12;
      ASSERT_NEAR(got.at(r, n), want.at(r, n), bound) << what << " at " << r << ", " << n;
    }
  }
}

TEST(BlockLinear, AgreesWithTheOracle) {
  Rng rng(1);
  for (const GgmlType* type : Types(true))
    for (int i = 0; i < 30; ++i) {
      const int64_t k = type->block * (1 + static_cast<int64_t>(rng() % 4)), n = 1 + static_cast<int64_t>(rng() % 50),
                    m = 1 + static_cast<int64_t>(rng() % (i % 2 == 0 ? 6 : 40));
      const int fills[] = {-1, 0, 0x80, 0xFF, 0x7F};
      const RandomBlocks w(rng, *type, n, k, i % 3 == 0 ? fills[rng() % 5] : -1, false);
      Matrix x(rng, m, k, 1, 3);
      if (i % 4 == 0)  // the largest products: every code is 127 or -127
        for (float& v : x.values) v = v < 0 ? -1.0F : 1.0F;
      if (i % 5 == 0) std::fill(x.values.begin(), x.values.begin() + k, 0.0F);
      Matrix want(rng, m, n), got = want;
      MakeRefBackend()->Linear(x.view(), w.view, View{}, want.view());
      Cpu(Isa::kPortable, 1, k)->Linear(x.view(), w.view, View{}, got.view());
      ExpectNear(x, w.view, got, want, std::string(type->name));
      if (HasFatalFailure()) return;
    }
}

TEST(BlockLinear, GivesTheSameBitsOnEveryInstructionSet) {
  Rng rng(2);
  if (Isas().size() == 1) std::printf("nothing to compare: this CPU has only the portable kernels\n");
  for (const GgmlType* type : Types(true))
    for (int i = 0; i < 40; ++i) {
      const int64_t k = type->block * (1 + static_cast<int64_t>(rng() % 5)), n = 1 + static_cast<int64_t>(rng() % 50),
                    m = 1 + static_cast<int64_t>(rng() % 40);
      const int fills[] = {-1, 0, 0x80, 0xFF, 0x7F};
      const RandomBlocks w(rng, *type, n, k, fills[i % 5], i % 2 == 1);
      Matrix x(rng, m, k);
      if (i % 3 == 0)
        for (float& v : x.values) v = i % 2 == 0 || v < 0 ? -1.0F : 1.0F;
      if (i % 7 == 0) x.values[rng() % x.values.size()] = INFINITY;
      if (i % 11 == 0) x.values[rng() % x.values.size()] = NAN;
      const Matrix bias(rng, 1, n), before(rng, m, n);
      for (Into into : {Into::kStore, Into::kAdd}) {
        Matrix want = before;
        Cpu(Isa::kPortable, 1, k)->Linear(x.view(), w.view, bias.view(), want.view(), into);
        for (Isa isa : Isas()) {
          Matrix got = before;
          Cpu(isa, 2, k)->Linear(x.view(), w.view, bias.view(), got.view(), into);
          ASSERT_TRUE(SameBits(want, got)) << NameOf(isa) << " " << type->name << " " << i;
        }
      }
    }
}

TEST(BlockLinear, ResultsDependNeitherOnThreadsNorOnTheRowsBeside) {
  Rng rng(3);
  for (Isa isa : Isas())
    for (const bool integer : {true, false})
      for (const GgmlType* type : Types(integer)) {
        if (!QuantizerOf(*type).ok()) continue;
        const Matrix x(rng, 150, 512), w(rng, 90, 512, 0.1F), bias(rng, 1, 90);
        const Packed packed(w, *type, isa);
        Matrix want(rng, 150, 90);
        Cpu(isa, 1, 512)->Linear(x.view(), packed.view, bias.view(), want.view());
        for (int threads : {2, 5}) {
          Matrix got(rng, 150, 90);
          Cpu(isa, threads, 512)->Linear(x.view(), packed.view, bias.view(), got.view());
          EXPECT_EQ(want.values, got.values) << NameOf(isa) << " " << type->name << " " << threads << " threads";
        }
        for (int64_t rows : {1, 2, 7, 13, 100}) {
          Matrix got(rng, rows, 90);
          Cpu(isa, 2, 512)->Linear(x.view().Rows(11, rows), packed.view, bias.view(), got.view());
          EXPECT_EQ(std::memcmp(got.values.data(), want.view().F32(11), got.values.size() * 4), 0)
              << NameOf(isa) << " " << type->name << " " << rows << " rows";
        }
      }
}

// What a weight in blocks does without integer kernels is what its dequantized numbers do, bit for bit.
TEST(BlockLinear, DequantizesBlocksThatHaveNoIntegerKernels) {
  Rng rng(4);
  for (Isa isa : Isas())
    for (const GgmlType* type : Types(false)) {
      if (!QuantizerOf(*type).ok()) continue;
      const int64_t k = 512;
      for (const int64_t rows : {1, 3, 40}) {
        const Matrix x(rng, rows, k), w(rng, 37, k, 0.1F), bias(rng, 1, 37);
        const Packed packed(w, *type, isa);
        Matrix plain(rng, 37, k), want(rng, rows, 37), got(rng, rows, 37);
        for (int64_t n = 0; n < 37; ++n) UnpackRow(packed.view, n, plain.view().F32(n));
        const Packed floats(plain, DType::kF32, isa);
        const Cpu cpu(isa, 2, k);
        cpu->Linear(x.view(), floats.view, bias.view(), want.view());
        cpu->Linear(x.view(), packed.view, bias.view(), got.view());
        ASSERT_EQ(std::memcmp(want.values.data(), got.values.data(), want.values.size() * 4), 0)
            << NameOf(isa) << " " << type->name << " " << rows << " rows";
      }
    }
}

// What int8 activations cost: each output is off by at most half a step of each block's activations times its weights, and all
// together, for normal activations, by 0.6 % of the result's norm. (8 bits for 32 numbers whose largest is about 2.1 sigma: a step
// of 2.1 / 127, an error of that over the square root of 12, 0.5 %.)
TEST(BlockLinear, QuantizedActivationsAreWithinTheStatedError) {
  Rng rng(5);
  const int64_t m = 16, n = 64, k = 2048;
  for (const GgmlType* type : Types(true)) {
    const Matrix x(rng, m, k), w(rng, n, k, 0.1F);
    const Packed packed(w, *type, Isa::kPortable);
    Matrix got(rng, m, n);
    Cpu(Isas().back(), 1, k)->Linear(x.view(), packed.view, View{}, got.view());
    double off = 0, norm = 0;
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t c = 0; c < n; ++c) {
      UnpackRow(packed.view, c, row.data());
      for (int64_t r = 0; r < m; ++r) {
        double exact = 0, bound = 0;
        for (int64_t b = 0; b < k; b += 32) {
          double largest = 0, weights = 0;
          for (int64_t i = b; i < b + 32; ++i) {
            exact += double{x.at(r, i)} * row[static_cast<size_t>(i)];
            largest = std::max(largest, std::fabs(double{x.at(r, i)}));
            weights += std::fabs(double{row[static_cast<size_t>(i)]});
          }
          bound += largest / 254 * weights;
        }
        ASSERT_LE(std::fabs(got.at(r, c) - exact), bound * 1.001 + 1e-5) << type->name;
        off += (got.at(r, c) - exact) * (got.at(r, c) - exact), norm += exact * exact;
      }
    }
    std::printf("%s: %.2f %% of the norm\n", std::string(type->name).c_str(), 100 * std::sqrt(off / norm));
    EXPECT_LT(std::sqrt(off / norm), 0.006) << type->name;
  }
}

}  // namespace
}  // namespace sotto
