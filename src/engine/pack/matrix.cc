#include "engine/pack/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/pack/reconstruction.h"

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
    const bool near = size >= goal * (1 - kTolerance), late = turn >= 6 && size > static_cast<double>(best.size());
    if (size <= goal && (near || late)) {
      const double before = surplus;
      TRY(encode(source, plan));
      if (surplus < before) low = -14;  // what was too large with the last surplus need not be
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
  const Deviation errors = TRY(Compare(m, block.bytes.data(), threads));
  block.error_db = errors.db();
  block.max_error = errors.most;
  return block;
}

}  // namespace sotto
