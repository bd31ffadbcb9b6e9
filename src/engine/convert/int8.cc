#include "engine/convert/int8.h"

#include <fmt/format.h>

#include <cstring>

#include "codec/panel.h"
#include "engine/convert/directory.h"

namespace sotto {
namespace {

constexpr PanelFormat kCodes{DType::kI8, 4};

// Codes and scales of whole panels, made by the same code that makes them when a model is loaded.
Status WriteMatrix(const AtomicFile& file, uint64_t codes_at, uint64_t scales_at, const Passage& p, Threads& threads,
                   Meter& meter) {
  struct Buffers {
    std::vector<std::byte> panel, codes;
    std::vector<float> scales;
  };
  std::vector<Buffers> buffers(static_cast<size_t>(threads.count()));
  const auto cols = static_cast<size_t>(p.cols);
  return PassRows(p, kPanel, threads, meter, [&](int64_t first, std::span<const float> rows, int thread) -> Status {
    Buffers& b = buffers[static_cast<size_t>(thread)];
    const size_t count = rows.size() / cols;
    b.panel.resize(PanelStride(kCodes, p.cols));
    b.codes.resize(rows.size());
    b.scales.resize(count);
    for (size_t row = 0; row < count; row += kPanel) {
      const std::byte* pointers[kPanel];
      const size_t lanes = std::min<size_t>(kPanel, count - row);
      for (size_t i = 0; i < lanes; ++i) pointers[i] = std::as_bytes(rows.subspan((row + i) * cols)).data();
      PackPanel(kCodes, DType::kF32, {pointers, lanes}, p.cols, b.panel.data());
      std::memcpy(&b.scales[row], b.panel.data() + ScalesOffset(kCodes, p.cols), lanes * sizeof(float));
      constexpr size_t kGroup = 4;
      for (size_t i = 0; i < lanes; ++i)
        for (size_t k = 0; k < cols; k += kGroup)
          std::memcpy(&b.codes[(row + i) * cols + k], &b.panel[(k / kGroup * kPanel + i) * kGroup],
                      std::min(kGroup, cols - k));
    }
    TRY(file.WriteAt(codes_at + static_cast<uint64_t>(first) * cols, b.codes));
    return file.WriteAt(scales_at + static_cast<uint64_t>(first) * 4, std::as_bytes(std::span(b.scales)));
  });
}

}  // namespace

Result<Converted> WriteInt8(const Original& original, const ConvertRequest& request, ConvertProgress progress) {
  Listing plan;
  Converted done;
  uint64_t total = 0;
  std::vector<std::pair<uint32_t, size_t>> slots;  // and their first target
  for (uint32_t id = 0; id < original.origins.size(); ++id) {
    const Slot& slot = original.anatomy->at(id);
    const WeightOrigin& origin = original.origins[id];
    if (slot.role != Role::kWeight || origin.file == nullptr) continue;
    slots.emplace_back(id, plan.entries.size());
    total += origin.bytes;
    const bool matrix = slot.form == Form::kMatrix;
    std::string type(origin.type->name);
    plan.Add(slot.name, matrix ? "I8" : type, ShapeOf(slot), matrix ? slot.Elements() : origin.bytes);
    done.by_type[matrix ? "int8" : LowerName(*origin.type)] += plan.entries.back().bytes;
    if (!matrix) continue;
    plan.Add(slot.name + ".scale", "F32", fmt::format("[{}]", slot.shape[0]), static_cast<uint64_t>(slot.shape[0]) * 4);
    done.by_type["f32"] += plan.entries.back().bytes;
  }

  const PartialDirectory out(request.out);
  TRY(out.Create());
  TRY(WriteCompanions(original, out.partial()));
  AtomicFile file = TRY(AtomicFile::Create(out.partial() + "/model.safetensors"));
  const std::string header = plan.Header(R"({"format":"pt","sotto.weights":"int8","sotto.scales":"row"})");
  TRY(file.Reserve(header.size() + plan.bytes));
  TRY(file.Write(header));
  Threads threads(request.threads);
  Meter meter(total, progress);
  for (const auto& [id, first] : slots) {
    const Slot& slot = original.anatomy->at(id);
    const uint64_t at = header.size() + plan.entries[first].offset;
    const Passage passage{original.origins[id], slot.shape[0], slot.shape[1] * slot.shape[2], 0, slot.name};
    if (slot.form == Form::kMatrix)
      TRY(WriteMatrix(file, at, header.size() + plan.entries[first + 1].offset, passage, threads, meter));
    else
      TRY(CopyBytes(*passage.from.file, passage.from.offset, passage.from.bytes, file, at, &meter));
  }
  TRY(file.Commit());
  TRY(out.Commit());
  done.tensors = plan.entries.size();
  done.tensor_bytes = plan.bytes;
  done.file_bytes = header.size() + plan.bytes;
  return done;
}

}  // namespace sotto
