#include "codec/block_panel.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "codec/half.h"

namespace sotto {
namespace {

std::vector<const GgmlType*> ReadableTypes() {
  std::vector<const GgmlType*> types;
  for (const GgmlType& t : kGgmlTypes)
    if (t.block > 1 && DequantizerOf(t).ok()) types.push_back(&t);
  return types;
}

// n rows of random bytes at an odd address, as a file has them.
struct FileRows {
  FileRows(const GgmlType& type, int n, int64_t k, uint32_t seed) : bytes(1 + n * GgmlBytes(type, 1, k)) {
    std::mt19937 rng(seed);
    for (std::byte& b : bytes) b = static_cast<std::byte>(rng());
    for (int i = 0; i < n; ++i) rows.push_back(bytes.data() + 1 + i * GgmlBytes(type, 1, k));
  }
  std::vector<std::byte> bytes;
  std::vector<const std::byte*> rows;
};

TEST(BlockPanel, EveryRowComesBackAsTheFileHasIt) {
  ASSERT_GE(ReadableTypes().size(), 16U);
  for (const GgmlType* type : ReadableTypes())
    for (int n : {1, 7, 16})
      for (int64_t k : {256, 768}) {
        const FileRows file(*type, n, k, type->id + n);
        const PanelFormat f = FormatFor(*type, Isa::kPortable);
        const uint64_t stride = PanelStride(f, k);
        ASSERT_GE(stride, 16 * GgmlBytes(*type, 1, k));
        ASSERT_LT(stride, 16 * GgmlBytes(*type, 1, k) + 64);
        std::vector<std::byte> panel(stride + 64, std::byte{0xAB});
        PackBlocks(f, file.rows, k, panel.data());
        for (uint64_t i = stride; i < panel.size(); ++i) ASSERT_EQ(panel[i], std::byte{0xAB}) << "wrote past the panel";
        const GgmlDequantize decode = DequantizerOf(*type).value();
        std::vector<float> want(k), got(k), all(kPanel * k), part(kPanel * 256);
        UnpackBlocks(*type, decode, panel.data(), 0, k, all.data());
        UnpackBlocks(*type, decode, panel.data(), k - 256, 256, part.data());
        for (int r = 0; r < n; ++r) {
          decode(file.rows[r], k, want.data());
          UnpackRow({panel.data(), DType::kU8, 1, n, k, type}, r, got.data());
          ASSERT_EQ(std::memcmp(want.data(), got.data(), k * 4), 0) << type->name << " row " << r;
          ASSERT_EQ(std::memcmp(want.data(), all.data() + r * k, k * 4), 0) << type->name << " row " << r;
          ASSERT_EQ(std::memcmp(want.data() + k - 256, part.data() + r * 256, 1024), 0) << type->name;
        }
        for (int r = n; r < kPanel; ++r)
          for (int64_t i = 0; i < k; ++i) ASSERT_EQ(all[r * k + i], 0) << type->name << ": a missing channel";
      }
}

TEST(BlockPanel, PlainRowsAreQuantizedAsForAFile) {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal(0, 0.05F);
  for (const GgmlType* type : ReadableTypes()) {
    const Result<GgmlQuantize> quantize = QuantizerOf(*type);
    if (!quantize.ok()) continue;
    for (const DType source : {DType::kF32, DType::kF16, DType::kBF16}) {
      const int64_t k = 512;
      const int n = 5;
      std::vector<std::byte> plain(1 + n * k * SizeOf(source)), blocks(n * GgmlBytes(*type, 1, k));
      std::vector<const std::byte*> rows, made;
      std::vector<float> wide(k);
      for (int r = 0; r < n; ++r) {
        std::byte* row = plain.data() + 1 + r * k * SizeOf(source);
        for (int64_t i = 0; i < k; ++i) {
          wide[i] = normal(rng);
          const uint16_t half = source == DType::kF16 ? FloatToHalf(wide[i]) : FloatToBf16(wide[i]);
          if (source == DType::kF32)
            std::memcpy(row + 4 * i, &wide[i], 4);
          else
            std::memcpy(row + 2 * i, &half, 2), wide[i] = source == DType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
        }
        rows.push_back(row);
        made.push_back(blocks.data() + r * GgmlBytes(*type, 1, k));
        quantize.value()(wide.data(), k, blocks.data() + r * GgmlBytes(*type, 1, k));
      }
      const PanelFormat f = FormatFor(*type, Isa::kPortable);
      std::vector<std::byte> want(PanelStride(f, k)), got(want.size(), std::byte{1});
      PackBlocks(f, made, k, want.data());
      PackPanel(f, source, rows, k, got.data());
      ASSERT_EQ(want, got) << type->name << " from " << NameOf(source);
    }
  }
}

TEST(BlockPanel, SizesAreTheFilesAndSaturate) {
  const PanelFormat q4 = FormatFor(*FindGgmlType("Q4_K"), Isa::kAvx2);
  EXPECT_EQ(PanelBytes(q4, 2048, 5632).n, 2048U * 5632 / 256 * 144);
  EXPECT_EQ(PanelBytes(q4, 1, 256).n, 16U * 144);
  EXPECT_EQ(PanelBytes(q4, INT64_MAX, INT64_MAX).n, UINT64_MAX);
}

}  // namespace
}  // namespace sotto
