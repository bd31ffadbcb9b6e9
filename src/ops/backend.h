// Backend: the operations that models are written in, on views. Coarse calls, outputs last, nothing is allocated inside
// one. Views are fp32 unless an operation says otherwise; extents are CHECKed. A backend is used by one thread at a
// time (it spreads work over its own threads). Results do not depend on the number of threads, and a row's result not
// on the rows beside it.
//
//   Threads threads(2);
//   std::unique_ptr<Backend> ops = MakeCpuBackend(TRY(DetectIsa()), &threads, scratch);   // scratch: ScratchBytes() in
//   the arena ops->LayerNorm(x, gain, bias, 1e-5f, h); ops->Linear(h, w.fc1, b.fc1, mid, Into::kGelu); ops->Linear(mid,
//   w.fc2, b.fc2, x, Into::kAdd);
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.h"
#include "base/threads.h"
#include "codec/isa.h"
#include "codec/kv_page.h"
#include "plan/view.h"

namespace sotto {

enum class Into {
  kStore,  // out = y
  kAdd,    // out += y, a residual connection
  kGelu,   // out = y / 2 * (1 + erf(y / sqrt(2))), absolute error at most 1e-6
};

enum class Precision {
  kExact,  // fp32 arithmetic
  kFast,   // where an instruction set gains by it, fixed-point products; used when the weights are int8
};

// The keys and values of one sequence in one layer: head h's j-th visible key starts at element h * head_stride + ((first + j)
// modulo capacity) * head_dim.
struct CacheView {
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  DType dtype = DType::kF32;  // kF32, kF16 or kBF16
  int64_t head_stride = 0;    // elements
  int64_t length = 0;         // keys that the row sees, at least 1 and at most capacity
  int64_t capacity = 0;
  int64_t first = 0;  // below capacity: a sliding window's cache is a ring

  // How many of the keys from the j-th on lie one behind the other.
  int64_t Run(int64_t j) const { return capacity - (first + j) % capacity; }
};

// Query head h reads the keys and values of head h / (heads / kv_heads).
struct HeadShape {
  int heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 1;
};

// The packed keys and values of one sequence in one layer. All rows see all tokens of `groups`; of `recent` row r sees
// the first seen[r], in the order in which they stand there (a prompt's own rows are causal). Each row sees at least
// one token.
struct PagesView {
  static constexpr size_t kMaxGroups = 8;  // of both together
  KvPageShape shape;
  std::span<const KvGroup> groups, recent;
  std::span<const int32_t> seen;     // [rows]
  const uint16_t* scales = nullptr;  // [positions][kv_heads][2]: codec/kv_page.h
};

// What attention found important, for each position: the sums over rows and heads of the softmax weights, and of their
// squares. Either may be null.
struct PagesMass {
  float *weights = nullptr, *squares = nullptr;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // out[r] = (x[r] - mean) / sqrt(variance + eps) * gain + bias. gain, bias: [1, cols]. `out` may be x.
  virtual void LayerNorm(View x, View gain, View bias, float eps, View out) = 0;

  // out[r] = x[r] / sqrt(mean of squares + eps) * gain. gain: [1, cols]. `out` may be x.
  virtual void RmsNorm(View x, View gain, float eps, View out) = 0;

  // Rotary positions, in place: of each head the first n = angles.cols elements are turned in pairs (i, i + n / 2); row r's
  // angles are given as n / 2 cosines and n / 2 sines. x: [rows, heads * head_dim].
  virtual void Rotate(View x, View angles, int heads, int head_dim) = 0;

  // out = gate / (1 + exp(-gate)) * up; `out` may be either. Relative error of the first factor at most 1e-6.
  virtual void SiluMul(View gate, View up, View out) = 0;

  // The rows of a prompt: all of one sequence, one behind the other. The last row sees all cache.length keys, each one before it
  // one key less. q, out: [rows, heads * head_dim], rows <= cache.length.
  virtual void AttendChunk(View q, const CacheView& cache, const HeadShape& shape, View out) = 0;

  // out[r, n] = sum_k x[r, k] w[n, k] + bias[n]. x: [rows, w.in], rows may overlap (stride < cols: a convolution);
  // bias: [1, w.out] or empty; out: [rows, w.out], not overlapping x. kI8 weights: each row of x is quantized to int8
  // with scale absmax / 127 and the products are summed exactly; w.in <= 131,072. Weights in blocks of a GGUF type: where
  // HasIntegerKernels (Q8_0, Q4_0 to Q5_1, Q4_K to Q6_K) each 32 elements of x are quantized so, and products are summed exactly
  // within 32; other types that DequantizerOf knows are dequantized, fp32 arithmetic.
  virtual void Linear(View x, const WeightView& w, View bias, View out, Into into = Into::kStore) = 0;

  // Every query attends to every key: out[:, head] = softmax(scale q k^T) v. q, out: [queries, heads * head_dim], k, v:
  // [keys, …]; views of columns are fine, `out` may be q. At least 1 key.
  virtual void Attend(View q, View k, View v, int heads, int head_dim, float scale, View out,
                      Precision precision = Precision::kExact) = 0;

  // Row r of q attends to cache[r]: out[r]. q, out: [rows, heads * head_dim]. weights, if given: [rows * heads, >=
  // longest] gets the softmax weights of row r, head h in row r * heads + h; columns from the row's length on are left
  // alone.
  virtual void AttendCache(View q, std::span<const CacheView> cache, const HeadShape& shape, View out,
                           const View* weights = nullptr) = 0;

  // Each head of each row by the orthonormal Hadamard matrix over head_dim, in blocks of the largest power of two that
  // divides it; it is its own inverse. Dot products stay what they were when both sides are turned. x: [rows, heads *
  // head_dim], in place.
  virtual void Hadamard(View x, int head_dim) = 0;

  // As AttendCache and AttendChunk, on packed pages; q and out are turned (Hadamard), as what the pages hold. Adds to
  // `mass`. With kFast, where an instruction set has kernels for it, queries are int8 and weights 8 bits for groups of
  // 2 to 4 bits, both 16 bits for groups of 8; page_attend.cc states the error.
  virtual void AttendPages(View q, const PagesView& cache, const HeadShape& shape, View out,
                           Precision precision = Precision::kExact, const PagesMass& mass = {}) = 0;

  // out[i] = table row ids[i], plus positions row pos[i]. `positions` may be empty, then so is `pos`.
  virtual void Embed(std::span<const int32_t> ids, std::span<const int32_t> pos, const WeightView& table,
                     View positions, View out) = 0;

  // out = a + b, all of the same extents; `out` may be a or b.
  virtual void Add(View a, View b, View out) = 0;

  // out = x in the type of out: kF32, kF16 or kBF16 each (round to nearest even). Not overlapping.
  virtual void Convert(View x, View out) = 0;
};

// The oracle: plain loops, sums in double. Ignores Precision; does quantize activations for kI8 weights and blocks, as
// Linear says.
std::unique_ptr<Backend> MakeRefBackend();

// The largest extents that a CPU backend will meet; they size its scratch.
struct ScratchNeed {
  int threads = 1;
  int64_t in = 0;               // widest w.in of a Linear with kI8 weights or blocks
  int head_dim = 64;            // largest of Attend and AttendCache
  int64_t page_tokens = 0;      // of AttendPages: most tokens of a call,
  int heads = 0, kv_heads = 0;  // and most heads
};
Bytes CpuScratchBytes(const ScratchNeed& need);

// `threads` and `scratch` (CpuScratchBytes(need), 64-byte aligned) outlive the backend. REQUIRES: Supports(isa),
// need.threads == threads->count(). Weights must be packed in FormatFor(dtype, isa); kPortable reads every format.
std::unique_ptr<Backend> MakeCpuBackend(Isa isa, Threads* threads, const ScratchNeed& need,
                                        std::span<std::byte> scratch);

}  // namespace sotto
