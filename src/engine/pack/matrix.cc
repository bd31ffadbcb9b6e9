#include "engine/pack/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "codec/ggml_blocks.h"
#include "engine/pack/sources.h"

namespace sotto {
namespace {

struct Level {
  std::string_view name;
  PlanesLevel planes;
};
constexpr Level kLevels[] = {{"fast", {1, 4}}, {"mid", {4, 4}}, {"archive", {kMostPlanes, 8}}};

constexpr double kLeastBits = 2, kMostBits = 12;
constexpr double kTolerance = 0.001;  // of the size
// Of matrices of fewer weights, what stands before the panels is no part of a rate: the header, a code, a scale and the zeros at the
// end; a panel's entry in the index.
constexpr uint64_t kSmall = uint64_t{1} << 16;
constexpr double kHeadBytes = 92, kPanelBytes = 8;

using Block = std::vector<std::byte>;

Result<Block> Encode(const PlanesSource& source, const PlanesLevel& level, Threads& threads) {
  return EncodePlanes(source, PlanPlanes(source, level, threads), threads);
}

// Bytes that a block may take. Small ones: with the zeros that fill up groups and panels as weights.
double Goal(const PackedMatrix& m, double bits) {
  if (m.elements() >= kSmall) return bits / 8 * static_cast<double>(m.elements());
  const auto panels = static_cast<double>(PlanePanels(m.rows));
  const auto weights = panels * static_cast<double>(PlaneGroups(m.cols)) * kPlaneGroup;
  return kHeadBytes + panels * kPanelBytes + bits / 8 * weights;
}

// The largest block of at most `bits` a weight. Halving the step adds a bit to every weight, nearly: a secant in log2(step)
// first, then halves of what is left, because sizes move in jumps where codes change.
Result<Block> AtRate(const PackedMatrix& m, double bits, const PlanesLevel& level, Threads& threads) {
  const double weights = static_cast<double>(m.elements()), rms = std::sqrt(m.power), goal = Goal(m, bits);
  double low = -14, high = 4;                 // log2 of steps in rms: of blocks that are too large, and that are not
  double at = 2.3 - bits, surplus = 0, size;  // surplus: of the last block over its plan
  SourceState state;
  Block best;
  const auto encode = [&](const PlanesSource& source, const PlanesPlan& plan) -> Status {
    Block block = TRY(EncodePlanes(source, plan, threads));
    size = static_cast<double>(block.size());
    surplus = size - static_cast<double>(plan.bytes);
    if (size <= goal && block.size() > best.size()) best = std::move(block);
    return {};
  };
  for (int turn = 0; turn < 20 && high - low > 1e-4; ++turn) {
    const PlanesSource source = StepSource(m, static_cast<float>(std::exp2(at) * rms), &state);
    const PlanesPlan plan = PlanPlanes(source, level, threads);
    size = static_cast<double>(plan.bytes) + surplus;
    if (size <= goal && size >= goal * (1 - kTolerance)) {
      TRY(encode(source, plan));
      if (size <= goal && size >= goal * (1 - 2 * kTolerance)) break;
    }
    (size > goal ? low : high) = at;
    const double secant = at + 8 * (size - goal * (1 - kTolerance / 2)) / weights;
    at = turn < 6 && secant > low && secant < high ? secant : (low + high) / 2;
  }
  size = goal;
  for (double back = 0; best.empty() && high + back < 8; back = back * 2 + 0.005) {
    const PlanesSource source = StepSource(m, static_cast<float>(std::exp2(high + back) * rms), &state);
    TRY(encode(source, PlanPlanes(source, level, threads)));
  }
  if (best.empty())
    return Usage(fmt::format("a matrix of {} x {} takes at least {:.2f} bits a weight, and {:.2f} are asked for",
                             m.rows, m.cols, 8 * size / weights, bits));
  return best;
}

PlanesSource PlainSource(const MatrixInMemory& w) {
  const auto* codes = reinterpret_cast<const int8_t*>(w.data);
  return {PlaneScheme::kInt8,
          0,
          w.rows,
          w.cols,
          {1},
          [codes, cols = w.cols](int64_t first, int64_t count, int32_t* values) {
            std::copy_n(codes + first * cols, count * cols, values);
          },
          {}};
}

// What the block says against what it was made of.
void MeasureErrors(const MatrixInMemory& w, double power, Threads& threads, PackedBlock* block) {
  struct Error {
    double squares = 0, most = 0;
  };
  const GgmlDequantize widen = DequantizerOf(*w.type).value();
  const auto row_bytes = static_cast<int64_t>(GgmlBytes(*w.type, 1, static_cast<uint64_t>(w.cols)));
  std::vector<Error> errors(static_cast<size_t>(PlanePanels(w.rows)));  // added in their order
  threads.For(w.rows, kPlaneChannels, [&](int64_t begin, int64_t end, int) {
    std::vector<float> want(static_cast<size_t>(kPlaneChannels * w.cols)), got(want.size());
    for (int64_t r = begin; r < end; r += kPlaneChannels) {
      const int64_t n = std::min<int64_t>(kPlaneChannels, end - r) * w.cols;
      widen(w.data + r * row_bytes, n, want.data());
      UnpackPlaneRows(block->bytes.data(), r, n / w.cols, got.data());
      Error& e = errors[static_cast<size_t>(r / kPlaneChannels)];
      for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
        const double difference = std::fabs(double{want[i]} - double{got[i]});
        e.squares += difference * difference;
        e.most = std::max(e.most, difference);
      }
    }
  });
  double squares = 0;
  for (const Error& e : errors) {
    squares += e.squares;
    block->max_error = std::max(block->max_error, e.most);
  }
  const double total = power * static_cast<double>(w.rows) * static_cast<double>(w.cols);
  block->error_db = squares > 0 ? 10 * std::log10(total / squares) : std::numeric_limits<double>::infinity();
}

}  // namespace

Result<PlanesLevel> LevelOf(const std::string& name) {
  for (const Level& l : kLevels)
    if (l.name == name) return l.planes;
  return Usage(fmt::format("--level {} is none of fast, mid and archive", name.substr(0, 40)));
}

Result<PackedBlock> PackMatrix(const MatrixInMemory& w, const PackRequest& request, Threads& threads) {
  if (w.rows < 1 || w.cols < 1 || w.rows > kMostPlaneSide || w.cols > kMostPlaneSide)
    return Usage(
        fmt::format("a matrix of {} x {} cannot be packed: sides go from 1 to {}", w.rows, w.cols, kMostPlaneSide));
  const bool lossless = request.mode == PackMode::kHalves;
  const PlanesLevel level = TRY(LevelOf(!request.level.empty() ? request.level : lossless ? "archive" : "fast"));
  PackedBlock block;
  if (w.type->name == "I8") {
    block.bytes = TRY(Encode(PlainSource(w), level, threads));
    block.error_db = std::numeric_limits<double>::infinity();
    return block;
  }
  if (lossless && w.type->name == "F32")
    return Usage("fp32 weights have no lossless code; make them fp16 or bf16 first, or ask for bits");
  if (request.mode == PackMode::kRate && !(request.bits >= kLeastBits && request.bits <= kMostBits))
    return Usage(fmt::format("{:.2f} bits a weight are asked for, and packing goes from {} to {} bits", request.bits,
                             kLeastBits, kMostBits));
  PackedMatrix m;
  m.memory = w.data;
  m.origin.type = w.type;
  m.rows = w.rows, m.cols = w.cols;
  const auto go_on = [](uint64_t, uint64_t) { return true; };
  Meter meter(0, go_on);
  TRY(Survey(&m, lossless, threads, meter));
  SourceState state;
  if (lossless)
    block.bytes = TRY(Encode(HalvesSource(m, &state), level, threads));
  else if (request.mode == PackMode::kInt8 || m.power == 0)  // no step makes zeros of zeros
    block.bytes = TRY(Encode(Int8Source(m, request.scale_of_tensor, &state), level, threads));
  else
    block.bytes = TRY(AtRate(m, request.bits, level, threads));
  MeasureErrors(w, m.power, threads, &block);
  return block;
}

}  // namespace sotto
