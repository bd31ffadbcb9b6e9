// sotto_ops_bench [threads] [filter]: how fast the operations are, beside what the machine can do. Prints GFLOP/s and %
// of the peak of a loop of multiply-adds in registers, GB/s and % of a plain read. Each figure is the best of short
// runs taken in turns (all cases of a round, then the next round), so that what else runs on the machine disturbs all
// of them alike.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "codec/panel.h"
#include "ops/backend.h"
#include "timing.h"

namespace sotto {
namespace {

struct Case {
  std::string name;
  double flops, bytes;  // of one call; 0: not of interest
  std::function<void()> run;
  double best = 1e30;
};

// Peak: 10 independent chains of multiply-adds of 8 floats, in every thread.
#if defined(__x86_64__)
#define SOTTO_FMA(r) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #r "\n"
__attribute__((target("avx2,fma"), noinline)) double PeakLoop(int64_t n) {
  asm volatile("vzeroall\n" ::: "memory");
  for (int64_t i = 0; i < n; ++i)
    asm volatile(SOTTO_FMA(0) SOTTO_FMA(1) SOTTO_FMA(2) SOTTO_FMA(3) SOTTO_FMA(4) SOTTO_FMA(5) SOTTO_FMA(6) SOTTO_FMA(7)
                     SOTTO_FMA(8) SOTTO_FMA(9)::
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm14",
                           "xmm15");
  return 0;
}
constexpr double kPeakFlops = 10 * 16;
#else
double PeakLoop(int64_t n) {
  double x = 0;
  for (int64_t i = 0; i < n; ++i) x += 1;
  return x;
}
constexpr double kPeakFlops = 1;
#endif

class Bench {
 public:
  Bench(int threads, Isa isa, std::string filter)
      : filter_(std::move(filter)),
        threads_(threads),
        need_{threads, 8192, 128},
        isa_(isa),
        scratch_(CpuScratchBytes(need_).n),
        ops_(MakeCpuBackend(isa, &threads_, need_, {scratch_.data.get(), scratch_.n})) {}

  bool Wanted(const std::string& name) const { return name.find(filter_) != std::string::npos; }
  WeightView Weights(PanelFormat f, int64_t n, int64_t k, int64_t copies = 1) {
    const uint64_t stride = PanelStride(f, k);
    Block source(static_cast<uint64_t>(kPanel * k) * 4);
    auto& out = buffers_.emplace_back(PanelBytes(f, n, k).n * static_cast<uint64_t>(copies));
    std::vector<const std::byte*> rows;
    for (int64_t i = 0; i < kPanel; ++i) rows.push_back(source.data.get() + i * k * 4);
    PackPanel(isa_, f, DType::kF32, rows, k, out.data.get());
    for (uint64_t at = stride; at < out.n; at += stride) std::memcpy(out.data.get() + at, out.data.get(), stride);
    return {out.data.get(), f.dtype, f.group, n, k, f.blocks};
  }
  View Floats(int64_t rows, int64_t cols) {
    return buffers_.emplace_back(static_cast<uint64_t>(rows * cols) * 4).view(rows, cols);
  }

  void Linear(const char* what, DType dtype, int64_t m, int64_t n, int64_t k, Into into = Into::kStore) {
    Linear(what, FormatFor(dtype, isa_), m, n, k, into);
  }
  void Linear(const char* what, PanelFormat f, int64_t m, int64_t n, int64_t k, Into into = Into::kStore) {
    const std::string name = std::string("linear ") + what + " " +
                             std::string(f.blocks != nullptr ? f.blocks->name : NameOf(f.dtype)) + " " +
                             std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
    if (!Wanted(name)) return;
    // For few rows, enough copies of the weights that no cache holds them.
    const double bytes = static_cast<double>(PanelBytes(f, n, k).n);
    const int64_t copies = m > 16 ? 1 : std::max<int64_t>(1, static_cast<int64_t>(2.5e8 / bytes));
    const WeightView w = Weights(f, n, k, copies);
    const View x = Floats(m, k), out = Floats(m, n), bias = Floats(1, n);
    const uint64_t one = PanelBytes(FormatOf(w), n, k).n;
    cases_.push_back(
        {name, 2.0 * static_cast<double>(m * n * k), m > 16 ? 0 : bytes, [=, this, turn = int64_t{0}]() mutable {
           WeightView here = w;
           here.data += static_cast<uint64_t>(turn++ % copies) * one;
           ops_->Linear(x, here, bias, out, into);
         }});
  }
  void Attend(int64_t t, int heads, Precision precision) {
    const std::string name = std::string("attend ") + (precision == Precision::kFast ? "fast " : "fp32 ") +
                             std::to_string(t) + " heads " + std::to_string(heads);
    if (!Wanted(name)) return;
    const View q = Floats(t, heads * 64), k = Floats(t, heads * 64), v = Floats(t, heads * 64),
               out = Floats(t, heads * 64);
    cases_.push_back({name, 4.0 * static_cast<double>(t * t * heads * 64), 0,
                      [=, this] { ops_->Attend(q, k, v, heads, 64, 0.125f, out, precision); }});
  }
  static std::string CacheName(const char* what, DType dtype, int64_t rows, int64_t n, int heads, int kv_heads) {
    return std::string(what) + " " + std::string(NameOf(dtype)) + " rows " + std::to_string(rows) + " keys " +
           std::to_string(n) + " heads " + std::to_string(heads) + "/" + std::to_string(kv_heads);
  }
  // Halves near 1: a cache of floats read as halves would have infinities.
  const std::byte* Cache(DType dtype, uint64_t size) {
    auto& buffer = buffers_.emplace_back(size);
    if (dtype != DType::kF32)
      for (uint64_t i = 0; i < size; i += 2) buffer.data.get()[i + 1] = std::byte{0x3A};
    return buffer.data.get();
  }
  void AttendCache(DType dtype, int64_t rows, int64_t n, int heads, int kv_heads) {
    const std::string name = CacheName("attend cache", dtype, rows, n, heads, kv_heads);
    if (!Wanted(name)) return;
    const auto size = static_cast<uint64_t>(n * kv_heads * 64) * SizeOf(dtype);
    const int64_t copies = std::max<int64_t>(1, static_cast<int64_t>(200'000'000 / (2 * size)));
    const std::byte* cache = Cache(dtype, 2 * size * static_cast<uint64_t>(copies));  // keys and values
    const View q = Floats(rows, heads * 64), out = Floats(rows, heads * 64);
    cases_.push_back(
        {name, 0, 2.0 * static_cast<double>(size), [=, this, turn = int64_t{0}]() mutable {
           const std::byte* at = cache + static_cast<uint64_t>(turn++ % copies) * 2 * size;
           const std::vector<CacheView> views(static_cast<size_t>(rows), {at, at + size, dtype, n * 64, n, n});
           ops_->AttendCache(q, views, {heads, kv_heads, 64, 0.125f}, out);
         }});
  }
  // A piece of a prompt: the last rows of n.
  void AttendChunk(DType dtype, int64_t rows, int64_t n, int heads, int kv_heads) {
    const std::string name = CacheName("attend chunk", dtype, rows, n, heads, kv_heads);
    if (!Wanted(name)) return;
    const auto size = static_cast<uint64_t>(n * kv_heads * 64) * SizeOf(dtype);
    const std::byte* cache = Cache(dtype, 2 * size);
    const View q = Floats(rows, heads * 64), out = Floats(rows, heads * 64);
    const CacheView view{cache, cache + size, dtype, n * 64, n, n};
    cases_.push_back({name, 4.0 * static_cast<double>(rows * (n - rows / 2) * heads * 64), 0, [=, this] {
                        ops_->AttendChunk(q, view, {heads, kv_heads, 64, 0.125f}, out);
                      }});
  }
  void LayerNorm(int64_t rows, int64_t cols) {
    if (!Wanted("layer norm")) return;
    const View x = Floats(rows, cols), gain = Floats(1, cols), bias = Floats(1, cols), out = Floats(rows, cols);
    cases_.push_back({"layer norm " + std::to_string(rows) + "x" + std::to_string(cols), 0,
                      static_cast<double>(rows * cols) * 8, [=, this] { ops_->LayerNorm(x, gain, bias, 1e-5f, out); }});
  }
  void Pack(DType source, DType target, int64_t k) {
    if (!Wanted("pack")) return;
    const PanelFormat f = FormatFor(target, isa_);
    auto& from = buffers_.emplace_back(static_cast<uint64_t>(kPanel * k) * SizeOf(source));
    std::memset(from.data.get(), 0x2A, from.n);  // a finite value in every type
    auto& to = buffers_.emplace_back(PanelStride(f, k));
    std::vector<const std::byte*> rows;
    for (int64_t i = 0; i < kPanel; ++i)
      rows.push_back(from.data.get() + static_cast<uint64_t>(i * k) * SizeOf(source));
    cases_.push_back({"pack " + std::string(NameOf(source)) + " to " + std::string(NameOf(target)) + " (1 thread)", 0,
                      static_cast<double>(from.n) * 100, [=, this, out = to.data.get()] {
                        for (int i = 0; i < 100; ++i) PackPanel(isa_, f, source, rows, k, out);
                      }});
  }
  void Machine() {
    cases_.push_back({"peak", kPeakFlops * 200'000 * threads_.count(), 0, [this] {
                        threads_.Run([](int) {
                          volatile double sink = PeakLoop(200'000);
                          (void)sink;
                        });
                      }});
    for (const bool huge : {true, false}) {
      const uint64_t size = 256 << 20;
      auto& block = buffers_.emplace_back(size, huge);
      cases_.push_back({huge ? "read" : "read, pages of 4 KiB", 0, static_cast<double>(size),
                        [this, &block] { ReadAll(block, &threads_); }});
    }
  }

  void Run(double seconds) {
    for (double end = Now() + seconds; Now() < end;)
      for (Case& c : cases_) {
        const double start = Now();
        int runs = 0;
        do {
          const auto clock = ClockFor(threads_);
          const double before = clock();
          c.run();
          c.best = std::min(c.best, clock() - before);
        } while (++runs < 200 && Now() - start < 0.02);
      }
    const double peak = cases_[0].flops / cases_[0].best, read = cases_[1].bytes / cases_[1].best;
    std::printf("%d threads, %s\n", threads_.count(), std::string(NameOf(isa_)).c_str());
    for (const Case& c : cases_) {
      std::printf("%-52s %9.3f ms", c.name.c_str(), c.best * 1e3);
      if (c.flops > 0 && c.bytes == 0)
        std::printf(" %7.1f GFLOP/s %5.1f %% of peak", c.flops / c.best / 1e9, c.flops / c.best / peak * 100);
      if (c.bytes > 0)
        std::printf(" %7.1f GB/s    %5.1f %% of read", c.bytes / c.best / 1e9, c.bytes / c.best / read * 100);
      std::printf("\n");
    }
  }

 private:
  std::string filter_;
  Threads threads_;
  ScratchNeed need_;
  Isa isa_;
  Block scratch_;
  std::unique_ptr<Backend> ops_;
  std::deque<Block> buffers_;
  std::vector<Case> cases_;
};

int Main(int threads, const std::string& filter, double seconds) {
  const Result<Isa> isa = DetectIsa();
  if (!isa.ok()) return std::fprintf(stderr, "%s\n", isa.error().message.c_str()), 2;
  Bench b(threads, isa.value(), filter);
  b.Machine();
  for (DType t : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
    b.Linear("base", t, 1500, 512, 512);
    b.Linear("base fc1", t, 1500, 2048, 512, Into::kGelu);
    b.Linear("base fc2", t, 1500, 512, 2048, Into::kAdd);
    b.Linear("small", t, 1500, 768, 768);
    b.Linear("large fc2", t, 1500, 1280, 5120);
    b.Linear("step", t, 1, 512, 512);
    b.Linear("step fc1", t, 1, 2048, 512, Into::kGelu);
    b.Linear("logits", t, 1, 51865, 512);
    b.Linear("batch", t, 5, 2048, 512);
    b.Linear("batch", t, 16, 2048, 512);
  }
  for (const char* type :
       {"Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q5_0", "Q2_K"}) {  // TinyLlama-1.1B; Q2_K is dequantized
    const PanelFormat f = FormatFor(*FindGgmlType(type), isa.value());
    b.Linear("llm q", f, 1, 2048, 2048);
    b.Linear("llm up", f, 1, 5632, 2048);
    b.Linear("llm down", f, 1, 2048, 5632);
    b.Linear("llm batch", f, 4, 2048, 2048);
    b.Linear("llm prefill", f, 512, 2048, 2048);
    b.Linear("llm prefill down", f, 512, 2048, 5632);
  }
  b.Attend(1500, 8, Precision::kExact);
  b.Attend(1500, 8, Precision::kFast);
  for (DType t : {DType::kF32, DType::kF16}) {
    b.AttendCache(t, 1, 1500, 8, 8);
    b.AttendCache(t, 5, 100, 8, 8);
  }
  b.AttendCache(DType::kF16, 1, 8192, 32, 4);  // TinyLlama-1.1B
  b.AttendChunk(DType::kF16, 512, 512, 32, 4);
  b.AttendChunk(DType::kF16, 512, 8192, 32, 4);
  b.LayerNorm(1500, 512);
  for (DType s : {DType::kF32, DType::kF16, DType::kBF16})
    for (DType t : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) b.Pack(s, t, 512);
  b.Run(seconds);
  return 0;
}

}  // namespace
}  // namespace sotto

int main(int argc, char** argv) {
  return sotto::Main(argc > 1 ? std::atoi(argv[1]) : 2, argc > 2 ? argv[2] : "", argc > 3 ? std::atof(argv[3]) : 8);
}
