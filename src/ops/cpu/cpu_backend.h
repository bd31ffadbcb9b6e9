// CpuBackend: operations cut into tiles and spread over threads. One file an operation: linear.cc, attend.cc,
// cache_attend.cc and cpu_backend.cc for the small ones. Scratch is one slice a thread plus one that they share; what
// an operation leaves in a slice has no meaning for the next one.
#pragma once
#include "ops/backend.h"
#include "ops/cpu/kernels.h"

namespace sotto::cpu {

inline constexpr int kMaxCacheParts = 16;          // pieces that the keys of one row and head are cut into
inline constexpr int kSplitBelow = 32;             // with fewer rows * heads than this, pieces are separate tasks
inline constexpr int64_t kBlockBytes = 192 << 10;  // activations of one row block: half of a 512 KiB second-level cache
inline constexpr int64_t kMinBlockRows = 24, kMaxBlockRows = 192;
inline constexpr int64_t kSlice = 256;  // inputs of a widened or first-level-cache slice of a panel: 16 KiB in fp32

// The bytes of one thread's slice, and of the shared one.
uint64_t LaneBytes(const ScratchNeed& need);
uint64_t SharedBytes(const ScratchNeed& need);

class CpuBackend final : public Backend {
 public:
  // `kernels`: of `isa`, or something that stands in for them (tests).
  CpuBackend(Isa isa, const Kernels& kernels, Threads* threads, const ScratchNeed& need, std::span<std::byte> scratch);

  void LayerNorm(View x, View gain, View bias, float eps, View out) override;
  void RmsNorm(View x, View gain, float eps, View out) override;
  void Rotate(View x, View angles, int heads, int head_dim) override;
  void SiluMul(View gate, View up, View out) override;
  void Linear(View x, const WeightView& w, View bias, View out, Into into) override;
  void Attend(View q, View k, View v, int heads, int head_dim, float scale, View out, Precision precision) override;
  void AttendCache(View q, std::span<const CacheView> cache, const HeadShape& shape, View out,
                   const View* weights) override;
  void AttendChunk(View q, const CacheView& cache, const HeadShape& shape, View out) override;
  void Hadamard(View x, int head_dim) override;
  void AttendPages(View q, const PagesView& cache, const HeadShape& shape, View out, Precision precision,
                   const PagesMass& mass) override;
  void Embed(std::span<const int32_t> ids, std::span<const int32_t> pos, const WeightView& table, View positions,
             View out) override;
  void Add(View a, View b, View out) override;
  void Convert(View x, View out) override;

  static uint64_t AttendBytes(int head_dim);  // a thread's scratch

 private:
  struct LinearCall;
  struct AttendCall;
  struct Attend16Call;
  template <class Call>
  void AttendHeads(View q, View k, View v, int heads, int head_dim, float scale, View out);
  std::byte* Lane(int thread) const { return scratch_.data() + static_cast<uint64_t>(thread) * LaneBytes(need_); }
  std::byte* Shared() const { return Lane(need_.threads); }
  // Splits rows into at most a few pieces a thread, of at least `grain` rows.
  void ForRows(int64_t rows, int64_t cols, FunctionRef<void(int64_t row)> body);

  Isa isa_;
  const Kernels& kernels_;
  Threads* threads_;
  ScratchNeed need_;
  std::span<std::byte> scratch_;
};

}  // namespace sotto::cpu
