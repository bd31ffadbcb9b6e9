// `sotto_bench_packed speed`. All kinds of weights pass by in turns, each behind a plain read of memory: bandwidth changes by the minute, so
// ratios are taken inside a round, and their median counts.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>

#include "codec/panel.h"
#include "engine/pack/matrix.h"
#include "ops/backend.h"
#include "packed_bench.h"
#include "timing.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sotto {
namespace {

constexpr double kBits = 4.5, kEntropy = 4.25;  // of packed weights that stream; of those that are decoded in the cache
constexpr int kTurns = 64;                      // decodings of a panel between two looks at the clock
constexpr int64_t kCacheRows = kPlaneChannels, kCacheInputs = 2048;

double Median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// Plain nibbles, the bound of what 4 bits a weight can do: groups of 4 inputs of 16 channels in 32 bytes as in base fields of
// codec/planes.h, no scales, no table; x: int8 activations. out[16] are sums of (nibble * activation).
#if defined(__x86_64__)
constexpr int kAhead = 3072;  // bytes, as the decoder of the plane code asks for them
__attribute__((target("avx2"))) void NibblePanel(const std::byte* panel, const int8_t* x, int64_t groups,
                                                 int32_t* out) {
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int64_t g = 0; g < groups; g += 8) {  // 16 products of 15 * 127 fit 16 bits
    __m256i part[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int64_t i = g; i < g + 8; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(panel + 32 * i + kAhead), _MM_HINT_T0);
      int32_t four;
      std::memcpy(&four, x + 4 * i, sizeof four);
      const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel + 32 * i)),
                    by = _mm256_set1_epi32(four);
      part[0] = _mm256_add_epi16(part[0], _mm256_maddubs_epi16(_mm256_and_si256(both, low), by));
      part[1] = _mm256_add_epi16(part[1], _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(both, 4), low), by));
    }
    for (int h = 0; h < 2; ++h) sums[h] = _mm256_add_epi32(sums[h], _mm256_madd_epi16(part[h], ones));
  }
  for (int h = 0; h < 2; ++h) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * h), sums[h]);
}
#else
void NibblePanel(const std::byte* panel, const int8_t* x, int64_t groups, int32_t* out) {
  std::fill_n(out, kPlaneChannels, 0);
  for (int64_t i = 0; i < groups * 32; ++i)
    for (int h = 0; h < 2; ++h)
      out[8 * h + i % 32 / 4] += (static_cast<int>(panel[i]) >> 4 * h & 15) * x[i / 32 * 4 + i % 4];
}
#endif

// One row times weights that no cache holds: copies of a matrix, one behind the other.
class Stream {
 public:
  Stream(const PackedBench& o, int threads, Isa isa)
      : threads_(threads),
        isa_(isa),
        bytes_(static_cast<uint64_t>(o.stream_mib) << 20),
        scratch_(CpuScratchBytes({threads, o.sizes[0], 64}).n),
        ops_(MakeCpuBackend(isa, &threads_, {threads, o.sizes[0], 64}, {scratch_.data.get(), scratch_.n})),
        source_(bytes_),
        x_(static_cast<uint64_t>(o.sizes[0]) * 4),
        out_(static_cast<uint64_t>(o.sizes[0]) * 4) {}

  void Add(const std::string& name, PanelFormat f, const Tensor& t) {
    const uint64_t stride = PanelStride(f, t.cols);
    std::vector<std::byte> panels(PanelBytes(f, t.rows, t.cols).n);
    for (int64_t r = 0; r < t.rows; r += kPanel) {
      std::vector<const std::byte*> rows;
      for (int64_t i = r; i < std::min(t.rows, r + kPanel); ++i)
        rows.push_back(reinterpret_cast<const std::byte*>(t.values.data() + i * t.cols));
      PackPanel(isa_, f, DType::kF32, rows, t.cols, panels.data() + static_cast<uint64_t>(r / kPanel) * stride);
    }
    Add(name, panels, {nullptr, f.dtype, f.group, t.rows, t.cols, f.blocks});
  }

  void Add(const std::string& name, const std::vector<std::byte>& one, WeightView w) {
    Case& c = Copies(name, one, w.out * w.in);
    c.run = [this, w](const std::byte* data) {
      WeightView here = w;
      here.data = data;
      ops_->Linear(x_.view(1, w.in), here, {}, out_.view(1, w.out));
    };
  }

  void AddNibbles(const Tensor& t) {
    const int64_t groups = RoundUp(static_cast<uint64_t>(PlaneGroups(t.cols)), 8);
    std::vector<std::byte> one(static_cast<size_t>(PlanePanels(t.rows) * groups * 32), std::byte{kNibbles});
    codes_.assign(static_cast<size_t>(groups * kPlaneInputs), kActivation);
    sums_.resize(static_cast<size_t>(PlanePanels(t.rows) * kPlaneChannels));
    Case& c = Copies("plain nibbles", one, t.size());
    c.run = [this, groups, panels = PlanePanels(t.rows)](const std::byte* data) {
      threads_.For(panels, 1, [&](int64_t begin, int64_t end, int) {
        int32_t sums[kPlaneChannels];
        for (int64_t p = begin; p < end; ++p) {
          NibblePanel(data + p * groups * 32, codes_.data(), groups, sums);
          std::copy_n(sums, kPlaneChannels, sums_.data() + p * kPlaneChannels);
        }
      });
    };
  }

  Json Run(double seconds) {
    const auto clock = ClockFor(threads_);
    const auto time = [&](const auto& what) {
      const double before = clock();
      what();
      return clock() - before;
    };
    std::vector<double> reads;
    for (const double end = Now() + seconds; Now() < end || reads.empty();)
      for (Case& c : cases_) {
        const double read = time([&] { ReadAll(source_, &threads_); });
        reads.push_back(read);
        c.reads.push_back(read);
        c.seconds.push_back(time([&] {
          for (uint64_t at = 0; at < c.data.n; at += c.stride) c.run(c.data.data.get() + at);
        }));
      }
    const auto inputs = static_cast<int32_t>(codes_.size());
    CHECK(sums_.front() == 0xA * kActivation * inputs && sums_.back() == 0x5 * kActivation * inputs);
    Json rows = Json::array();
    const auto figures = [&](const std::string& name, double weights, double bytes, const std::vector<double>& s) {
      const double median = Median(s);
      return Json{{"threads", threads_.count()},
                  {"weights", name},
                  {"bits", weights > 0 ? Json(8 * bytes / weights) : Json()},
                  {"Gweights/s", weights > 0 ? Json(weights / median / 1e9) : Json()},
                  {"best", weights > 0 ? Json(weights / *std::min_element(s.begin(), s.end()) / 1e9) : Json()},
                  {"GB/s", bytes / median / 1e9}};
    };
    for (const Case& c : cases_) {
      Json row = figures(c.name, c.weights, static_cast<double>(c.data.n), c.seconds);
      row["GB/s of reads before"] = static_cast<double>(source_.n) / Median(c.reads) / 1e9;
      row["over INT8"] = Ratio(c, cases_[0]);
      row["over nibbles"] = Ratio(c, cases_[1]);
      rows.push_back(std::move(row));
    }
    return rows;
  }

 private:
  struct Case {
    std::string name;
    Block data;
    uint64_t stride;  // of a copy
    double weights;   // of all
    std::function<void(const std::byte*)> run;
    std::vector<double> seconds, reads;  // by round
  };

  Case& Copies(const std::string& name, const std::vector<std::byte>& one, int64_t weights) {
    const uint64_t stride = RoundUp(one.size(), 64), copies = std::max<uint64_t>(1, bytes_ / stride);
    Case& c = cases_.emplace_back(
        Case{name, Block(copies * stride), stride, static_cast<double>(copies) * static_cast<double>(weights)});
    for (uint64_t i = 0; i < copies; ++i) std::memcpy(c.data.data.get() + i * stride, one.data(), one.size());
    return c;
  }

  // How many times the weights a second of another, the median over rounds.
  static double Ratio(const Case& c, const Case& other) {
    std::vector<double> ratios;
    for (size_t i = 0; i < c.seconds.size(); ++i)
      ratios.push_back(c.weights / c.seconds[i] * other.seconds[i] / other.weights);
    return Median(ratios);
  }

  Threads threads_;
  Isa isa_;
  uint64_t bytes_;
  Block scratch_;
  std::unique_ptr<Backend> ops_;
  Block source_, x_, out_;
  static constexpr uint8_t kNibbles = 0x5A;
  static constexpr int8_t kActivation = 3;
  std::vector<int8_t> codes_;  // of AddNibbles
  std::vector<int32_t> sums_;
  std::deque<Case> cases_;
};

// The first panel to bytes, each weight with its literal, in pieces that stay in the first-level cache.
void DecodePanel(const Planes& planes, Isa isa) {
  constexpr int kGroups = 32;
  alignas(64) uint8_t decoded[kGroups * kPlaneGroup];
  PlaneReader reader(planes.Panel(0), isa);
  PlaneLiterals literals(reader.panel);
  for (int64_t g = 0; g < planes.groups(); g += kGroups) {
    reader.Next(static_cast<int>(std::min<int64_t>(kGroups, planes.groups() - g)), 0, decoded);
    literals.Before((g + kGroups) * kPlaneGroup, [&](int64_t place, int missing) {
      uint8_t& code = decoded[place % (kGroups * kPlaneGroup)];
      code = static_cast<uint8_t>(code + missing);
    });
    asm volatile("" ::"r"(decoded) : "memory");
  }
}

// A panel of 16 rows, again and again.
Result<Json> MeasureDecoding(double seconds) {
  const Isa isa = PlaneIsa();  // asked once: a virtual machine takes microseconds for it
  struct Case {
    std::string shape;
    std::vector<std::byte> block;
    PlaneCode code;
    int planes;
    double best = 1e30;
  };
  Threads one(1);
  std::vector<Case> cases;
  for (const Shape shape : kShapes) {
    const Tensor t = Draw(shape, kCacheRows, kCacheInputs, one);
    const PackedMatrix m = TRY(MatrixOf(t, t.values.data(), "F32", one));
    for (const PlaneCount& count : PlaneCounts()) {
      SourceState state;
      double step = std::sqrt(m.power) / 4;
      PlanesPlan plan;
      for (int turn = 0; turn < 4; ++turn) {
        plan = PlanPlanes(StepSource(m, static_cast<float>(step), &state), count.level, one);
        if (turn < 3) step *= std::exp2(plan.entropy - kEntropy);
      }
      std::vector<std::byte> block = TRY(EncodePlanes(StepSource(m, static_cast<float>(step), &state), plan, one));
      TRY(CheckPlanes(block, t.rows, t.cols, "the matrix"));
      const PlaneCode code = Planes(block.data()).codes().front();
      cases.push_back({NameOf(shape), std::move(block), code, count.level.planes});
    }
  }
  for (const double end = Now() + seconds; Now() < end;)
    for (Case& c : cases) {
      const double before = ProcessorTime();
      for (int turn = 0; turn < kTurns; ++turn) DecodePanel(Planes(c.block.data()), isa);
      c.best = std::min(c.best, (ProcessorTime() - before) / kTurns);
    }
  Json rows = Json::array();
  const double weights = kCacheRows * kCacheInputs;
  for (const Case& c : cases)
    rows.push_back(Json{{"weights", c.shape},
                        {"planes at most", c.planes},
                        {"planes", c.code.planes},
                        {"base bits", c.code.base_bits},
                        {"bits", 8 * static_cast<double>(c.block.size()) / weights},
                        {"Gweights/s", weights / c.best / 1e9}});
  return rows;
}

}  // namespace

Result<Json> MeasureSpeed(const PackedBench& o) {
  const Isa isa = TRY(DetectIsa());
  const int64_t k = o.sizes[0];
  Threads all(o.threads);
  const Tensor t = Draw(Shape::kGaussian, k, k, all);
  std::vector<std::pair<std::string, std::vector<std::byte>>> packed;
  for (const char* level : {"fast", "mid", "archive"}) {
    const MatrixInMemory w{reinterpret_cast<const std::byte*>(t.values.data()), FindGgmlType("F32"), k, k};
    packed.emplace_back(level, TRY(PackMatrix(w, {.bits = kBits, .level = level}, all)).bytes);
  }
  Json rows = Json::array();
  for (int threads = o.threads; threads > 0; threads = threads > 1 ? 1 : 0) {
    Stream s(o, threads, isa);
    s.Add("int8", FormatFor(DType::kI8, isa), t);
    s.AddNibbles(t);
    for (const char* type : {"Q4_0", "Q4_K"})
      if (k % FindGgmlType(type)->block == 0) s.Add(type, FormatFor(*FindGgmlType(type), isa), t);
    for (const auto& [level, block] : packed)
      s.Add("packed, " + level, block, {nullptr, DType::kU8, 0, k, k, nullptr, true});
    for (Json& row : s.Run(o.seconds)) rows.push_back(std::move(row));
  }
  return Json{
      {fmt::format("One row times {} x {} Gaussian weights that stream from memory ({})", k, k, NameOf(isa)),
       std::move(rows)},
      {fmt::format("Decoding in the cache, one core ({})", NameOf(PlaneIsa())), TRY(MeasureDecoding(o.seconds / 4))}};
}

}  // namespace sotto
