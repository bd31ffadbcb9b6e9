#include "engine/calibrate.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "base/file.h"
#include "codec/half.h"
#include "codec/panel.h"
#include "codec/planes.h"
#include "ops/backend.h"
#include "plan/arena.h"

namespace sotto {
namespace {

constexpr int64_t kSize = 2048, kFew = 512, kSmall = 256;  // rows of a matrix, of what caches hold, of a small matrix
constexpr int64_t kRows = 128;                             // of a prompt
constexpr int64_t kKvHeads = 8, kHeadDim = 64, kGrouped = 8, kChunkKeys = 1024;
constexpr double kSeconds = 0.1;  // a figure
constexpr uint64_t kBounce = 4 * kMiB;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The least seconds that `body` took, once warm.
double Best(FunctionRef<void()> body) {
  body();
  double best = INFINITY;
  const double begin = Now();
  for (int turn = 0; turn < 3 || Now() - begin < kSeconds; ++turn) {
    const double start = Now();
    body();
    best = std::min(best, Now() - start);
  }
  return best;
}

class Calibration {
 public:
  Calibration(Isa isa, int threads, Arena memory, Arena room)
      : isa_(isa), threads_(threads), memory_(std::move(memory)), room_(std::move(room)) {
    const ScratchNeed need = Need(threads);
    const uint64_t scratch = CpuScratchBytes(need).n;
    ops_ = MakeCpuBackend(isa, &threads_, need, {room_.base(), scratch});
    auto* numbers = reinterpret_cast<float*>(room_.base() + RoundUp(scratch, kSlotAlign));
    const auto rows = [&](int64_t count) {
      const View v{reinterpret_cast<std::byte*>(numbers), DType::kF32, count, kSize, kSize};
      numbers += count * kSize;
      return v;
    };
    x_ = rows(kRows);
    out_ = rows(kRows);
    more_ = rows(kRows);
    std::normal_distribution<float> normal;
    std::mt19937 rng(1);
    for (const View& v : {x_, more_})
      for (float* p = v.F32(); p != v.F32() + kRows * kSize; ++p) *p = normal(rng);
  }

  static ScratchNeed Need(int threads) { return {threads, kSize, static_cast<int>(kHeadDim)}; }
  static Bytes Room(int threads) {
    return {RoundUp(CpuScratchBytes(Need(threads)).n, kSlotAlign) + 3 * kRows * kSize * sizeof(float)};
  }

  double MemoryBandwidth() {
    const auto* words = reinterpret_cast<const uint64_t*>(memory_.base());
    std::atomic<uint64_t> all{0};
    const double s = Best([&] {
      threads_.For(kCalibrationBytes / 8, 1 << 16, [&](int64_t begin, int64_t end, int) {
        uint64_t sum[8] = {};
        for (int64_t i = begin; i < end; i += 8)
          for (int64_t j = 0; j < 8; ++j) sum[j] += words[i + j];
        all += std::accumulate(sum, sum + 8, uint64_t{0});
      });
    });
    return static_cast<double>(kCalibrationBytes) / s;
  }

  FormSpeed OfPanels(PanelFormat format, std::string name) {
    const uint64_t stride = PanelStride(format, kSize);
    std::vector<const std::byte*> rows;
    for (int64_t r = 0; r < kPanel; ++r) rows.push_back(reinterpret_cast<const std::byte*>(more_.F32(r)));
    PackPanel(isa_, format, DType::kF32, rows, kSize, memory_.base());
    return OfMatrices({memory_.base(), format.dtype, format.group, kSize, kSize, format.blocks}, stride,
                      kSize / kPanel * stride, std::move(name));
  }

  // Four and a half bits a weight: where packing is used most.
  Result<FormSpeed> OfPlanes(int planes) {
    constexpr double kSigma = 4.5;
    const PlanesSource source{PlaneScheme::kStep,
                              0,
                              kSize,
                              kSize,
                              {0.01F},
                              [&](int64_t first, int64_t count, int32_t* v) {
                                for (int64_t r = first; r < first + count; ++r)
                                  for (int64_t k = 0; k < kSize; ++k)
                                    *v++ = static_cast<int32_t>(std::floor(kSigma * more_.F32(r % kRows)[k]));
                              },
                              {}};
    const PlanesPlan plan = PlanPlanes(source, {planes, 4}, threads_);
    const std::vector<std::byte> block = TRY(EncodePlanes(source, plan, threads_));
    std::memcpy(memory_.base(), block.data(), block.size());
    const WeightView w{memory_.base(), DType::kU8, 0, kSize, kSize, nullptr, true};
    return OfMatrices(w, 0, RoundUp(block.size(), kSlotAlign), fmt::format("planes{}", planes));
  }

  // Keys and values of one row: one query head a key head, then several.
  void Attention(MachineSpeed* m) {
    auto* halves = reinterpret_cast<uint16_t*>(memory_.base());
    for (uint64_t i = 0; i < kCalibrationBytes / 2; ++i)
      halves[i] = static_cast<uint16_t>(0x2C00 + i * 7919 % 0x800);  // 1/16 … 1/4
    const int64_t capacity = kCalibrationBytes / 2 / 2 / kKvHeads / kHeadDim;
    CacheView cache{memory_.base(),
                    memory_.base() + kCalibrationBytes / 2,
                    DType::kF16,
                    capacity * kHeadDim,
                    capacity,
                    capacity,
                    0};
    const auto shape = [](int64_t group) {
      return HeadShape{static_cast<int>(group * kKvHeads), static_cast<int>(kKvHeads), static_cast<int>(kHeadDim),
                       0.125F};
    };
    const auto of_heads = [](const View& v, int64_t heads) {
      return View{v.data, v.dtype, v.rows * v.cols / (heads * kHeadDim), heads * kHeadDim, heads * kHeadDim};
    };
    const auto row = [&](int64_t group) {
      const View q = of_heads(x_, group * kKvHeads).Rows(0, 1), out = of_heads(out_, group * kKvHeads).Rows(0, 1);
      return Best([&] { ops_->AttendCache(q, {&cache, 1}, shape(group), out); });
    };
    m->attention = static_cast<double>(kCalibrationBytes) / row(1);
    m->attention_row = 2.0 * static_cast<double>(kGrouped * kKvHeads * kHeadDim * capacity) / row(kGrouped);
    CacheView few = cache;
    few.length = kChunkKeys;
    constexpr int64_t kHeads = kSize / kHeadDim;
    const double chunk = Best([&] { ops_->AttendChunk(x_, few, shape(kHeads / kKvHeads), out_); });
    m->attention_rows = 2.0 * static_cast<double>(kRows * kSize * (kChunkKeys - kRows / 2)) / chunk;
  }

  // What a small product takes beside its arithmetic: threads that meet.
  double Call(double weights_per_second) {
    const PanelFormat format = FormatFor(DType::kF32, isa_);
    std::memset(memory_.base(), 0, PanelBytes(format, kSmall, kSmall).n);
    const WeightView w{memory_.base(), format.dtype, format.group, kSmall, kSmall, nullptr};
    constexpr int kCalls = 100;
    const double all = Best([&] {
      for (int i = 0; i < kCalls; ++i)
        ops_->Linear(x_.Rows(0, 1).Cols(0, kSmall), w, {}, out_.Rows(0, 1).Cols(0, kSmall));
    });
    constexpr double kLeast = 1e-7;
    return std::max(kLeast, all / kCalls - static_cast<double>(kSmall * kSmall) / weights_per_second);
  }

 private:
  // The matrix at the beginning of the memory, whose panels are alike when `stride` is not 0: copied to fill it.
  FormSpeed OfMatrices(WeightView w, uint64_t stride, uint64_t bytes, std::string name) {
    const uint64_t piece = stride == 0 ? bytes : stride;
    const auto copies = static_cast<int64_t>(kCalibrationBytes / bytes);
    for (uint64_t at = piece; at + piece <= bytes * static_cast<uint64_t>(copies); at += piece)
      std::memcpy(memory_.base() + at, memory_.base(), piece);
    const auto multiply = [&](const WeightView& m, int64_t rows) {
      ops_->Linear(x_.Rows(0, rows), m, {}, out_.Rows(0, rows).Cols(0, m.out));
    };
    FormSpeed f{std::move(name)};
    constexpr double kWeights = static_cast<double>(kSize * kSize);
    f.decode = kWeights * static_cast<double>(copies) / Best([&] {
                 for (int64_t i = 0; i < copies; ++i) {
                   WeightView m = w;
                   m.data += static_cast<uint64_t>(i) * bytes;
                   multiply(m, 1);
                 }
               });
    f.prefill = kWeights * kRows / Best([&] { multiply(w, kRows); });
    if (!w.planes) w.out = kFew;  // a block has its own extents
    f.cached = static_cast<double>(w.out * kSize) / Best([&] { multiply(w, 1); });
    f.cached = std::max(f.cached, f.decode);
    return f;
  }

  Isa isa_;
  Threads threads_;
  Arena memory_, room_;
  std::unique_ptr<Backend> ops_;
  View x_, out_, more_;
};

// Bytes a second of a file's beginning; 0 where it can't be read past the page cache.
Result<double> DiskBandwidth(const std::string& path, std::span<std::byte> memory) {
  const File file = TRY(File::Open(path, Code::kBadInput));
  const uint64_t bytes = std::min(file.size(), kDiskBytes) / kBounce * kBounce;
  if (bytes == 0) return BadInput(fmt::format("{} is shorter than {} bytes; give a larger file", path, kBounce));
  const Result<File> direct = file.Direct(memory.first(kBounce));
  if (!direct.ok()) return 0.0;
  const double start = Now();
  for (uint64_t at = 0; at < bytes; at += kBounce) TRY(direct->ReadAt(at, memory.subspan(kBounce, kBounce)));
  return static_cast<double>(bytes) / (Now() - start);
}

Result<double> DiskBandwidth(const CalibrateOptions& o, std::span<std::byte> memory) {
  if (!o.disk.empty()) return DiskBandwidth(o.disk, memory);
  const std::string path = o.temporary + ".disk";
  Status written = [&]() -> Status {
    AtomicFile file = TRY(AtomicFile::Create(path));
    for (uint64_t at = 0; at < kDiskBytes; at += kCalibrationBytes) TRY(file.WriteAt(at, memory));
    return file.Commit();
  }();
  Result<double> read = written.ok() ? DiskBandwidth(path, memory) : Result<double>(written.error());
  ::unlink(path.c_str());
  return read;
}

}  // namespace

Result<MachineSpeed> Calibrate(const CalibrateOptions& options, const std::function<bool(int, int)>& progress) {
  constexpr int kMostThreads = 256, kPlaneForms = 4;
  if (options.threads < 0 || options.threads > kMostThreads)
    return Usage(fmt::format("--threads {} is not from 1 to {}", options.threads, kMostThreads));
  const Isa isa = TRY(DetectIsa());
  MachineSpeed m{CpuName(), std::string(NameOf(isa)), fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr))),
                 options.threads > 0 ? options.threads : Threads::Available()};
  Arena memory = TRY(Arena::Map({kCalibrationBytes})), room = TRY(Arena::Map(Calibration::Room(m.threads)));
  TRY(memory.Take(0, kCalibrationBytes));
  const std::span<std::byte> bytes(memory.base(), kCalibrationBytes);
  constexpr DType kPlain[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8};
  constexpr const char* kBlocks[] = {"Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"};
  const int total = static_cast<int>(std::size(kPlain) + std::size(kBlocks)) + kPlaneForms + 2;
  int done = 0;
  const auto go_on = [&]() -> Status {
    if (!progress(done++, total)) return Error{Code::kInterrupted, "interrupted; nothing was measured"};
    return {};
  };
  Calibration c(isa, m.threads, std::move(memory), std::move(room));
  const long cache = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  m.cache = static_cast<double>(cache > 0 ? static_cast<uint64_t>(cache) : 4 * kMiB);
  TRY(go_on());
  m.memory = c.MemoryBandwidth();
  for (const DType t : kPlain) {
    TRY(go_on());
    m.forms.push_back(c.OfPanels(FormatFor(t, isa), std::string(NameOf(t))));
  }
  m.call = c.Call(m.forms.front().cached);
  for (const char* name : kBlocks) {
    TRY(go_on());
    const PanelFormat format = FormatFor(*FindGgmlType(std::string_view(name)), isa);
    m.forms.push_back(c.OfPanels(format, FormName({{}, DType::kU8, 1, format.blocks})));
  }
  for (int planes = 1; planes <= kPlaneForms; ++planes) {
    TRY(go_on());
    m.forms.push_back(TRY(c.OfPlanes(planes)));
  }
  TRY(go_on());
  c.Attention(&m);
  m.disk = TRY(DiskBandwidth(options, bytes));
  progress(total, total);
  return m;
}

}  // namespace sotto
