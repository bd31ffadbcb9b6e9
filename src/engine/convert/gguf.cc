#include "engine/convert/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "codec/ggml_blocks.h"
#include "weights/gguf_names.h"

namespace sotto {
namespace {

struct Target {
  std::string name;
  const GgmlType* type = nullptr;
  std::vector<int64_t> shape;
  Passage passage;
};

// Half a head's rows, where the family keeps them in pairs.
int64_t HalfHead(const GgufFamily& family, const TextConfig& c, std::string_view slot) {
  const bool paired = slot.find(".q_proj.") != slot.npos || slot.find(".k_proj.") != slot.npos;
  return family.paired_heads && paired ? c.head_dim / 2 : 0;
}

std::vector<Target> Targets(const Original& original, const TextConfig& c, const GgufFamily& family,
                            const WeightKind& weights) {
  const MixModel mix = MixModelOf(*original.anatomy);
  std::vector<Target> targets;
  for (uint32_t id = 0; id < original.origins.size(); ++id) {
    const Slot& slot = original.anatomy->at(id);
    if (slot.role != Role::kWeight) continue;
    const int64_t half = HalfHead(family, c, slot.name);
    const bool matrix = slot.form == Form::kMatrix;
    // The rows of a vector that is put in another order are its elements.
    const int64_t rows = matrix || half > 0 ? slot.shape[0] : 1, cols = matrix ? slot.shape[1] : slot.shape[0] / rows;
    targets.push_back({TensorOf(family, PlainName(slot.name)),
                       matrix ? &GgufTypeOf(slot, weights, mix) : FindGgmlType("F32"),
                       matrix ? std::vector{rows, cols} : std::vector{rows * cols},
                       {original.origins[id], rows, cols, half, slot.name}});
    CHECK(!targets.back().name.empty());
  }
  return targets;
}

// The largest of a row that its type holds.
Status CheckRange(const Target& t, std::span<const float> rows) {
  if (t.type->name != "F16" || std::none_of(rows.begin(), rows.end(), [](float x) { return std::abs(x) >= 65520; }))
    return {};
  return BadModel(
      fmt::format("'{}' holds numbers above 65504, which fp16 cannot; use --weights bf16 or fp32", t.passage.name));
}

Status WriteTensor(const GgufWriter& file, size_t number, const Target& t, Threads& threads, Meter& meter) {
  const GgmlQuantize quantize = TRY(QuantizerOf(*t.type));
  const Passage& p = t.passage;
  std::vector<std::vector<std::byte>> blocks(static_cast<size_t>(threads.count()));
  return PassRows(p, 1, threads, meter, [&](int64_t first, std::span<const float> rows, int thread) -> Status {
    TRY(CheckRange(t, rows));
    const auto cols = static_cast<uint64_t>(p.cols);
    const uint64_t row_bytes = GgmlBytes(*t.type, 1, cols);
    std::vector<std::byte>& out = blocks[static_cast<size_t>(thread)];
    out.resize(rows.size() / cols * row_bytes);
    quantize(rows.data(), static_cast<int64_t>(rows.size()), out.data());
    return file.Write(number, static_cast<uint64_t>(first) * row_bytes, out);
  });
}

}  // namespace

Result<Converted> WriteGguf(const Original& original, const WeightKind& weights, const ConvertRequest& request,
                            ConvertProgress progress) {
  const ClassConfig config = TRY(ClassConfig::Of(original.config, "config.json"));
  if (ArchitectureOf(config.type()).empty())
    return BadModel(fmt::format(
        "{} is a model of type '{}', which sotto does not write as GGUF; it writes llama, mistral, qwen2 and "
        "qwen3 (and every model that runs as int8: -o DIRECTORY --weights int8)",
        original.dir.name, config.type().substr(0, 60)));
  const TextConfig text = TRY(ReadText(config));
  if (!text.not_run.empty())
    return BadModel(fmt::format("{} cannot be written as GGUF: {}", original.dir.name, text.not_run));
  const GgufFamily& family = *FindGgufFamily(ArchitectureOf(text.type), false);
  Converted done;
  GgufHeader header;
  std::vector<float> divisors;
  TRY(WriteSettings(original, text, weights, &header, &divisors, &done.notes));
  TRY(WriteVocabulary(original, text.vocab_size, &header, &done.notes));

  const std::vector<Target> targets = Targets(original, text, family, weights);
  uint64_t total = 0;
  const auto add = [&](const std::string& name, const GgmlType& type, const std::vector<int64_t>& shape) {
    const uint64_t before = header.tensor_bytes();
    header.Tensor(name, type, shape);
    done.by_type[LowerName(type)] += header.tensor_bytes() - before;
    ++done.tensors;
  };
  for (const Target& t : targets) {
    total += t.passage.from.bytes;
    add(t.name, *t.type, t.shape);
  }
  if (!divisors.empty()) add("rope_freqs.weight", *FindGgmlType("F32"), {static_cast<int64_t>(divisors.size())});

  GgufWriter file = TRY(GgufWriter::Create(request.out, header));
  Threads threads(request.threads);
  Meter meter(total, progress);
  for (size_t i = 0; i < targets.size(); ++i) TRY(WriteTensor(file, i, targets[i], threads, meter));
  if (!divisors.empty()) TRY(file.Write(targets.size(), 0, std::as_bytes(std::span(divisors))));
  TRY(file.Commit());
  done.tensor_bytes = header.tensor_bytes();
  done.file_bytes = file.size();
  return done;
}

}  // namespace sotto
