// The kernels in portable C++ (on x86-64 that is SSE2, on aarch64 NEON), and the definition of the integer ones.
#include "ops/cpu/blocks_inl.h"
#include "ops/cpu/group_inl.h"
#include "ops/cpu/pages_inl.h"
#include "ops/cpu/planes_inl.h"
#include "ops/cpu/row_inl.h"
#include "ops/cpu/tile_inl.h"

namespace sotto::cpu {
namespace {

template <int G>
void I8TileOf(const int8_t* a, int64_t lda, int m, const int8_t* b, int64_t k, int32_t* acc) {
  for (int r = 0; r < m; ++r, a += lda, acc += kPanel) {
    int32_t sum[kPanel] = {};
    const int8_t* w = b;
    for (int64_t i = 0; i < k; i += G)
      for (int c = 0; c < kPanel; ++c, w += G)
        for (int g = 0; g < G; ++g) sum[c] += int32_t{a[i + g]} * w[g];
    std::memcpy(acc, sum, sizeof sum);
  }
}

void I8Tile(const std::byte* a, int64_t lda, int m, const std::byte* panel, int group, int64_t k, int32_t* acc) {
  const auto* x = reinterpret_cast<const int8_t*>(a);
  const auto* w = reinterpret_cast<const int8_t*>(panel);
  group == 2 ? I8TileOf<2>(x, lda, m, w, k, acc) : I8TileOf<4>(x, lda, m, w, k, acc);
}

struct PlainDot {
  static constexpr bool kUnsigned = false;
  static I Add(I sum, I codes, int32_t four) {
    int8_t w[4 * kLanes], x[4];
    std::memcpy(w, &codes, sizeof w);
    std::memcpy(x, &four, sizeof x);
    int32_t out[kLanes];
    std::memcpy(out, &sum, sizeof out);
    for (int c = 0; c < kLanes; ++c)
      for (int i = 0; i < 4; ++i) out[c] += int32_t{w[4 * c + i]} * x[i];
    std::memcpy(&sum, out, sizeof out);
    return sum;
  }
};
template <class Kind>
using BlockSums = DotSums<Kind, PlainDot>;

constexpr auto kWidenI8 = nullptr;
constexpr auto kI16Tile = nullptr;
constexpr const Attend16* kAttend16 = nullptr;
constexpr const PageProducts* kPages = nullptr;

}  // namespace

#define SOTTO_QUANTIZE QuantizeTo<int8_t, 0>
#define SOTTO_ACTIVATION_BYTES 1
#define SOTTO_TABLE kPortable
#include "ops/cpu/table_inl.h"

}  // namespace sotto::cpu
