#include "engine/pack/reconstruction.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "weights/stored.h"

namespace sotto {

void Deviation::Add(float want, float got) {
  const double difference = std::fabs(double{want} - double{got});
  squares += difference * difference;
  power += double{want} * double{want};
  most = std::max(most, difference);
  largest = std::max(largest, std::fabs(double{want}));
}

void Deviation::Add(const Deviation& other) {
  squares += other.squares;
  power += other.power;
  most = std::max(most, other.most);
  largest = std::max(largest, other.largest);
}

double Deviation::db() const {
  return squares > 0 ? 10 * std::log10(power / squares) : std::numeric_limits<double>::infinity();
}

Result<Deviation> Compare(const PackedMatrix& m, const std::byte* block, Threads& threads) {
  std::vector<Deviation> panels(static_cast<size_t>(PlanePanels(m.rows)));  // added in their order
  SourceState state;
  threads.For(m.rows, kPlaneChannels, [&](int64_t begin, int64_t end, int) {
    std::vector<float> got(static_cast<size_t>(kPlaneChannels * m.cols));
    for (int64_t r = begin; r < end; r += kPlaneChannels) {
      const int64_t count = std::min<int64_t>(kPlaneChannels, end - r);
      const float* const want = WideRows(m, r, count, &state);
      UnpackPlaneRows(block, r, count, got.data());
      Deviation& panel = panels[static_cast<size_t>(r / kPlaneChannels)];
      for (int64_t i = 0; i < count * m.cols; ++i) panel.Add(want[i], got[static_cast<size_t>(i)]);
    }
  });
  TRY(state.status());
  Deviation all;
  for (const Deviation& panel : panels) all.Add(panel);
  return all;
}

Result<Reconstruction> CompareWithOriginal(const ModelDir& model, const ModelDir& packed, Threads& threads,
                                           ConvertProgress progress) {
  const Original original = TRY(OpenOriginal(model));
  const WeightNames names(*original.anatomy);
  const ModelFiles files = TRY(ModelFiles::Open(packed.path));
  Reconstruction r;
  std::vector<std::byte> block;
  uint64_t done = 0;
  TRY(files.ForEachTensor([&](const TensorHeader& t) -> Status {
    done += t.bytes;
    if (!t.name.ends_with(kPlanesSuffix)) return {};
    const std::string name(t.name.substr(0, t.name.size() - kPlanesSuffix.size()));
    const auto weight = names.Find(PlainName(name));
    if (!weight || original.origins[names.id(*weight)].file == nullptr)
      return Usage(fmt::format("{} was not packed from {}, which has no '{}'", packed.path, model.name, name));
    const Slot& slot = names.slot(*weight);
    PackedMatrix m{.id = names.id(*weight), .slot = &slot, .origin = original.origins[names.id(*weight)]};
    m.rows = slot.shape[0], m.cols = slot.shape[1] * slot.shape[2], m.taps = slot.shape[2];
    block.resize(t.bytes);
    TRY(files.file(t.file).ReadAt(t.offset, block));
    TRY(CheckPlanes(block, m.rows, m.cols, name, PlaneIsa(), &threads));
    const Deviation d = TRY(Compare(m, block.data(), threads));
    r.all.Add(d);
    if (r.worst_name.empty() || d.relative() > r.worst.relative()) r.worst = d, r.worst_name = name;
    if (!progress(done, files.total_bytes())) return Error{Code::kInterrupted, "interrupted"};
    return {};
  }));
  return r;
}

}  // namespace sotto
