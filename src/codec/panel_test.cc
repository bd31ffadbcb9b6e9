#include "codec/panel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "codec/half.h"

namespace sotto {
namespace {

constexpr DType kSources[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr PanelFormat kFormats[] = {
    {DType::kF32, 1}, {DType::kF16, 1}, {DType::kBF16, 2}, {DType::kI8, 2}, {DType::kI8, 4}};

void Append(DType type, float v, std::vector<std::byte>* out) {
  std::byte bytes[4];
  const uint16_t h = type == DType::kF16 ? FloatToHalf(v) : FloatToBf16(v);
  std::memcpy(bytes, type == DType::kF32 ? static_cast<const void*>(&v) : &h, SizeOf(type));
  out->insert(out->end(), bytes, bytes + SizeOf(type));
}

float At(DType type, const std::byte* row, int64_t k) {
  uint16_t h;
  float f;
  std::memcpy(&f, row + k * (type == DType::kF32 ? 4 : 2), type == DType::kF32 ? 4 : 2);
  std::memcpy(&h, &f, 2);
  return type == DType::kF32 ? f : type == DType::kF16 ? HalfToFloat(h) : Bf16ToFloat(h);
}

// n rows of k values, at an odd address as in a file.
struct Rows {
  Rows(DType type, int n, int64_t k, uint32_t seed, bool strange = false) : bytes(1) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal(0, 0.05f);
    const float odd[] = {NAN, INFINITY, -INFINITY, 1e-40f, 3e38f, -0.0f};
    for (int64_t i = 0; i < n * k; ++i) Append(type, strange && rng() % 16 == 0 ? odd[rng() % 6] : normal(rng), &bytes);
    for (int i = 0; i < n; ++i) rows.push_back(bytes.data() + 1 + static_cast<uint64_t>(i * k) * SizeOf(type));
  }
  std::vector<std::byte> bytes;
  std::vector<const std::byte*> rows;
};

std::vector<std::byte> Pack(Isa isa, PanelFormat f, DType source, const Rows& r, int64_t k) {
  const uint64_t stride = PanelStride(f, k);
  std::vector<std::byte> out(stride + 64, std::byte{0xAB});
  PackPanel(isa, f, source, r.rows, k, out.data());
  for (uint64_t i = stride; i < out.size(); ++i) EXPECT_EQ(out[i], std::byte{0xAB}) << "wrote past the panel";
  out.resize(stride);
  return out;
}

TEST(Panel, EveryInstructionSetPacksTheSameBytes) {
  if (!Supports(Isa::kAvx2)) std::printf("only the portable packing runs: this CPU has no AVX2\n");
  for (PanelFormat f : kFormats)
    for (DType source : kSources)
      for (int64_t k : {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 80, 100, 129, 240, 1000})
        for (int n : {1, 5, 8, 9, 15, 16})
          for (bool strange : {false, true}) {
            const Rows rows(source, n, k, static_cast<uint32_t>(k * 31 + n), strange);
            const auto portable = Pack(Isa::kPortable, f, source, rows, k);
            const Isa best = Supports(Isa::kAvx2) ? Isa::kAvx2 : Isa::kPortable;
            ASSERT_EQ(portable, Pack(best, f, source, rows, k))
                << NameOf(f.dtype) << "/" << f.group << " from " << NameOf(source) << " " << n << " x " << k << strange;
          }
}

TEST(Panel, RowsComeBackExactlyOrWithinHalfAStep) {
  for (PanelFormat f : kFormats)
    for (DType source : kSources)
      for (int64_t k : {1, 5, 16, 80, 131}) {
        const int n = 13;
        const Rows rows(source, n, k, 7);
        const auto packed = Pack(Isa::kPortable, f, source, rows, k);
        const WeightView w{packed.data(), f.dtype, f.group, n, k};
        std::vector<float> out(static_cast<size_t>(k));
        for (int r = 0; r < n; ++r) {
          UnpackRow(w, r, out.data());
          float absmax = 0;
          for (int64_t i = 0; i < k; ++i) absmax = std::max(absmax, std::fabs(At(source, rows.rows[r], i)));
          for (int64_t i = 0; i < k; ++i) {
            const float v = At(source, rows.rows[r], i), got = out[static_cast<size_t>(i)];
            if (f.dtype == DType::kI8)
              EXPECT_LE(std::fabs(v - got), absmax / 127 * 0.50001f);
            else
              EXPECT_EQ(got, f.dtype == DType::kF32   ? v
                             : f.dtype == DType::kF16 ? HalfToFloat(FloatToHalf(v))
                                                      : Bf16ToFloat(FloatToBf16(v)));
          }
        }
      }
}

TEST(Panel, SumsAndScalesStandBehindTheCodes) {
  for (PanelFormat f : {PanelFormat{DType::kI8, 2}, PanelFormat{DType::kI8, 4}}) {
    const int64_t k = 37;
    const Rows rows(DType::kF32, 11, k, 3);
    const auto packed = Pack(Isa::kPortable, f, DType::kF32, rows, k);
    const uint64_t at = ScalesOffset(f, k);
    EXPECT_EQ(at % 64, 0u);
    EXPECT_EQ(packed.size(), at + 128);
    for (int c = 0; c < kPanel; ++c) {
      int32_t sum, expected = 0;
      float scale;
      std::memcpy(&scale, packed.data() + at + 4 * c, 4);
      std::memcpy(&sum, packed.data() + at + 64 + 4 * c, 4);
      for (int64_t i = 0; i < k; ++i)
        expected +=
            static_cast<int8_t>(packed[static_cast<size_t>((i / f.group * kPanel + c) * f.group + i % f.group)]);
      EXPECT_EQ(sum, expected);
      EXPECT_EQ(scale > 0, c < 11);
    }
  }
}

TEST(Panel, AnAllZeroChannelHasScaleZero) {
  const std::vector<float> zeros(40, 0.0f), tiny(40, 1e-38f);
  const std::byte* rows[] = {reinterpret_cast<const std::byte*>(zeros.data()),
                             reinterpret_cast<const std::byte*>(tiny.data())};
  const PanelFormat f{DType::kI8, 2};
  std::vector<std::byte> out(PanelStride(f, 40));
  PackPanel(f, DType::kF32, rows, 40, out.data());
  for (std::byte b : out) EXPECT_EQ(b, std::byte{0});
}

TEST(Panel, SizesSaturate) {
  const int64_t huge = std::numeric_limits<int64_t>::max();
  for (PanelFormat f : kFormats) {
    EXPECT_EQ(PanelBytes(f, huge, huge).n, ~0ULL);
    EXPECT_EQ(PanelBytes(f, 0, huge).n, 0u);
    EXPECT_EQ(PanelBytes(f, 17, 100).n, 2 * PanelStride(f, 100));
    EXPECT_EQ(PanelStride(f, 100) % 64, 0u);
  }
  EXPECT_EQ(PanelBytes({DType::kF16, 1}, 51865, 512).n, 3242u * 16 * 512 * 2);
  EXPECT_EQ(PanelBytes({DType::kI8, 2}, 512, 512).n, 32u * (16 * 512 + 128));
}

TEST(Isa, APinnedNameIsTakenOrRefused) {
  const char* before = std::getenv("SOTTO_ISA");
  const std::string keep = before != nullptr ? before : "";
  setenv("SOTTO_ISA", "portable", 1);
  EXPECT_EQ(DetectIsa().value(), Isa::kPortable);
  setenv("SOTTO_ISA", "mmx", 1);
  EXPECT_FALSE(DetectIsa().ok());
  EXPECT_EQ(DetectIsa().error().code, Code::kUsage);
  unsetenv("SOTTO_ISA");
  EXPECT_TRUE(Supports(DetectIsa().value()));
  if (before != nullptr) setenv("SOTTO_ISA", keep.c_str(), 1);
}

}  // namespace
}  // namespace sotto
