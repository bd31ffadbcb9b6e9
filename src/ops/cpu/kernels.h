// The kernels of one instruction set, as one table of functions. They work on one tile or row, know no threads and no
// views; linear.cc, attend.cc and cache_attend.cc cut operations into such pieces. Internal to ops/cpu.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "codec/isa.h"
#include "codec/planes.h"
#include "ops/backend.h"

namespace sotto::cpu {

inline constexpr int kMaxTileRows = 12;
inline constexpr int kMaxGroup = 8;  // query heads that a kernel of attention takes at once

// Panels side by side, each `stride` elements after the one before.
template <class T>
struct Strip {
  const T* data;
  int64_t panels, stride;
};
template <class T>
Strip<T> OnePanel(const T* data) {
  return {data, 1, 0};
}

// 32 activations of a row for weights in blocks: code * scale each, codes as Linear's for kI8 (ops/backend.h).
struct BlockInputs {
  int8_t codes[32];
  float scale, sum;  // sum: of the 32 codes, times scale
  int16_t sums[2];   // of codes 0 … 15 and 16 … 31
};
// acc[m][16] = products of m rows and one panel of blocks; x[k / 32][m].
using BlockProduct = void (*)(const std::byte* panel, int64_t k, const BlockInputs* x, int m, float* acc);

// The parts of attention in 16-bit fixed point, for Precision::kFast (attend.cc says what the codes mean).
struct Attend16 {
  // Codes x * (limit / absmax of x), rounded to nearest; zeros up to `padded`. Returns absmax / limit.
  float (*quantize)(const float* x, int64_t n, int64_t padded, float limit, int16_t* out);
  // Keys [n, dim] to panels [ceil(n/16)][dim'/2][16][2], dim' = dim rounded up to 16, by one scale for all, which is
  // returned.
  float (*pack_keys)(const float* keys, int64_t stride, int64_t n, int dim, float limit, int16_t* out);
  // Values [n, dim] to panels [dim'/16][n'/2][16][2], n' = n rounded up to 16, by one scale a column, in scales[dim'].
  void (*pack_values)(const float* values, int64_t stride, int64_t n, int dim, float limit, int16_t* out,
                      float* scales);
  // p = 2^(factor * (s - max s)) * 2^13 of n scores, rounded; zeros up to a multiple of 16 (s is written there too).
  // Returns the sum of p; *peak = factor * max s.
  int32_t (*soften)(int32_t* s, int64_t n, float factor, float* peak, int16_t* p);
  // out = out * shrink + acc * scales * factor, n a multiple of 16.
  void (*mix)(const int32_t* acc, int64_t n, const float* scales, float factor, float shrink, float* out);
};

// Attention on packed pages (page_attend.cc): tiles of up to kPageTile tokens of one group and head.
inline constexpr int64_t kPageTile = 64;

// The parts that run in fixed point, for Precision::kFast. A product is of `count` rows x and `panels` panels `stride`
// bytes apart, each [quads][8 columns][4] codes:
//   sum = (sum over 4 * quads codes of x * code - minus[row]) * times[row]
//   out[row][column] = sum * columns[column], or += sum where `columns` is null
struct PageProducts {
  using Product = void (*)(const std::byte* tile, int64_t stride, int64_t panels, int64_t quads, const std::byte* x,
                           int64_t ldx, int count, const float* minus, const float* times, const float* columns,
                           float* out, int64_t ldo);
  Product keys;    // codes 0 … 15, x int8; 4 * quads * 15 * 127 fits int32 (all products are exact)
  Product values;  // codes -8 … 7, x uint8
  Product wide;    // codes and x signed: int8, int16
  // Codes x * (127 / absmax of x), rounded to nearest. Returns absmax / 127; *sum: of the codes.
  float (*quantize)(const float* x, int64_t n, int8_t* out, float* sum);
  float (*wide_quantize)(const float* x, int64_t n, int16_t* out);  // the same with 32,767
  // w = e * scales * (limit / their largest) of n tokens, rounded; zeros up to a multiple of 8. Returns largest /
  // limit. Limits are 255 (*sum: of the codes) and 32,767.
  float (*weights)(const float* e, const float* scales, int64_t n, uint8_t* out, float* sum);
  float (*wide_weights)(const float* e, const float* scales, int64_t n, int16_t* out);
};

struct Kernels {
  int tile_rows;         // rows of x that a tile kernel takes at most
  int activation_bytes;  // of one quantized activation

  // acc[m][16] = (add ? acc : 0) + a b, with a: [m, k], row stride lda; b: k inputs of one panel; acc row stride ld.
  // Each output is one chain of additions in the order of k, whatever m is and wherever k is cut, so rows do not depend
  // on m.
  void (*f32_tile)(const float* a, int64_t lda, int m, Strip<float> b, int64_t k, float* acc, int64_t ld, bool add);
  void (*f16_tile)(const float* a, int64_t lda, int m, Strip<uint16_t> b, int64_t k, float* acc, int64_t ld, bool add);
  void (*bf16_tile)(const float* a, int64_t lda, int m, Strip<uint16_t> b, int64_t k, float* acc, int64_t ld, bool add);
  // The same for one row and `panels` panels that lie `stride` bytes apart: acc[panel][16].
  void (*f32_row)(const float* a, const std::byte* b, uint64_t stride, int panels, int64_t k, float* acc);
  void (*f16_row)(const float* a, const std::byte* b, uint64_t stride, int panels, int64_t k, float* acc);
  void (*bf16_row)(const float* a, const std::byte* b, uint64_t stride, int panels, int64_t k, float* acc);
  // k inputs of a panel (an even number of them, or the panel's last) as an fp32 tile [k][16].
  void (*widen_f16)(const uint16_t* b, int64_t k, float* tile);
  void (*widen_bf16)(const uint16_t* b, int64_t k, float* tile);

  // Quantizes a row to `padded` activations (a multiple of the panel's group; what lies behind k adds nothing to a
  // product). Returns its scale.
  float (*quantize)(const float* x, int64_t k, int64_t padded, std::byte* out);
  // acc[m][16] = exact integer products of m quantized rows, lda bytes apart, and one panel.
  void (*i8_tile)(const std::byte* a, int64_t lda, int m, const std::byte* panel, int group, int64_t k, int32_t* acc);
  // For instruction sets that multiply int16 (else null): an int8 panel of group 2, or k inputs of it, as int16 in the
  // same order, and products with it; acc[m][16] = (add ? acc : 0) + …, acc row stride ld, a row stride lda elements.
  void (*widen_i8)(const std::byte* b, int64_t k, int16_t* tile);
  void (*i16_tile)(const int16_t* a, int64_t lda, int m, Strip<int16_t> b, int64_t k, int32_t* acc, int64_t ld,
                   bool add);
  // Weights in blocks: the product for a type (null: Linear dequantizes), and a row's activations, block b at out[b * stride].
  BlockProduct (*block_product)(std::string_view type);
  void (*quantize_blocks)(const float* x, int64_t k, BlockInputs* out, int64_t stride);
  // Weights in the plane code (planes_inl.h): acc[m][16], int32 for int8 weights, else twice the product in steps; literals[m][16]: scratch.
  // Int8 weights take a row's activations by one scale, which quantize_whole returns.
  void (*plane_product)(const PlanePanel& panel, bool int8, Isa isa, const BlockInputs* x, int m, float* acc,
                        float* literals);
  float (*quantize_whole)(const float* x, int64_t k, BlockInputs* out, int64_t stride);
  const Attend16* attend16;  // or null
  // out[r][n] = acc[r][n] * (row_scale[r] * scale[n]), 16 columns; `out` may be acc.
  void (*dequantize)(const int32_t* acc, int m, const float* row_scale, const float* scale, float* out);

  // Adds bias (16 floats or null), then stores, adds or applies GELU to n <= 16 columns of m rows.
  void (*finish)(const float* acc, int m, int n, const float* bias, Into into, float* out, int64_t ldo);

  void (*layer_norm)(const float* x, const float* gain, const float* bias, int64_t n, float eps, float* out);
  void (*rms_norm)(const float* x, const float* gain, int64_t n, float eps, float* out);
  // Turns the pairs (x[i], x[i + half]) by angles of which `angles` holds half cosines, then half sines.
  void (*rotate)(float* x, const float* angles, int64_t half);
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  void (*add)(const float* a, const float* b, int64_t n, float* out);

  // keys [n, dim] to panels [ceil(n/16)][dim][16], zeros behind n; values [n, dim] to [ceil(dim/16)][n][16], zeros
  // behind dim.
  void (*pack_keys)(const float* keys, int64_t stride, int64_t n, int dim, float* out);
  void (*pack_values)(const float* values, int64_t stride, int64_t n, int dim, float* out);
  // One step of an online softmax over n scores: *peak becomes the maximum so far, s = exp(s - *peak), *sum = the sum
  // so far relative to *peak. Returns what earlier partial results must be multiplied with. *peak starts at -inf, *sum
  // at 0.
  float (*soften)(float* s, int64_t n, float* peak, float* sum);
  void (*scale)(const float* x, int64_t n, float factor, float* out);

  // scores[j] = scale * dot(q, keys[j]); out += sum_j p[j] values[j]; keys, values: [n, dim] of `dtype`.
  void (*dots)(const float* q, const std::byte* keys, DType dtype, int64_t n, int dim, float scale, float* scores);
  void (*mix)(const float* p, const std::byte* values, DType dtype, int64_t n, int dim, float* out);
  // The same for the first `heads` <= kMaxGroup heads that share keys and values. q: [heads, dim]; scores, p: rows `ld` apart, out:
  // `ldo` apart.
  void (*group_dots)(const float* q, int heads, const std::byte* keys, DType dtype, int64_t n, int dim, float scale,
                     float* scores, int64_t ld);
  void (*group_mix)(const float* p, int64_t ld, int heads, const std::byte* values, DType dtype, int64_t n, int dim,
                    float* out, int64_t ldo);

  // In place, n = a power of two (Backend::Hadamard).
  void (*hadamard)(float* x, int64_t n);
  // Codes of n <= kPageTile tokens of a group from `first`, a multiple of kPageTile, on: those of keys as [8][dim /
  // 4][8][4] (tokens by eights, dims by fours), of values as [dim / 8][16][8][4]. A code is a byte: q of
  // codec/kv_page.h when `centred`, else q + 2^(bits-1). What lies behind the n-th is some code or other.
  void (*unpack_pages)(const KvPageShape& shape, const KvGroup& group, int head, bool values, int64_t first, int64_t n,
                       bool centred, std::byte* out);
  // The same codes, centred, as floats (code + offset) * scales[token]: keys [ceil(n/16)][dim][16], values
  // [ceil(dim/16)][n][16].
  void (*widen_keys)(const std::byte* codes, int64_t n, int dim, float offset, const float* scales, float* out);
  void (*widen_values)(const std::byte* codes, int64_t n, int dim, float offset, const float* scales, float* out);
  // sum += factor * x, squares += (factor * x)^2; `squares` may be null.
  void (*add_scaled)(const float* x, int64_t n, float factor, float* sum, float* squares);
  const PageProducts* pages;  // or null

  int64_t (*arg_max)(const float* x, int64_t n);
  float (*max)(const float* x, int64_t n);
  double (*sum_exp)(const float* x, int64_t n, float shift);                // sum(exp(x - shift))
  void (*exp_shifted)(const float* x, int64_t n, float shift, float* out);  // exp(x - shift)
};

extern const Attend16 kAttend16Avx2;   // x86-64 builds
extern const PageProducts kPagesAvx2;  // x86-64 builds
extern const Kernels kPortable;
extern const Kernels kAvx2;    // x86-64 builds
extern const Kernels kAvx512;  // x86-64 builds
extern const Kernels kNeon;    // aarch64 builds

const Kernels& KernelsFor(Isa isa);  // REQUIRES: Supports(isa)

}  // namespace sotto::cpu
