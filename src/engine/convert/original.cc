#include "engine/convert/original.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/try_for.h"
#include "codec/ggml_blocks.h"
#include "engine/convert/directory.h"
#include "models/audio_llm.h"
#include "models/model.h"

namespace sotto {
namespace {

constexpr uint64_t kPiece = 512 * kKiB;  // of fp32, a thread

const GgmlType* TypeOf(DType t) {
  return FindGgmlType(std::string_view(t == DType::kF32 ? "F32" : t == DType::kF16 ? "F16" : "BF16"));
}

// The row of the checkpoint that leaves as row `row`.
int64_t RowFrom(int64_t row, int64_t half) {
  if (half == 0) return row;
  const int64_t in_head = row % (2 * half);
  return row - in_head + in_head / 2 + in_head % 2 * half;
}

}  // namespace

std::string LowerName(const GgmlType& type) {
  std::string name(type.name);
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return name;
}

Result<Original> OpenOriginal(const ModelDir& dir) {
  Original o;
  o.dir = dir;
  if (!dir.gguf_path.empty()) o.gguf = TRY(GgufModel::Open(dir.gguf_path, ""));
  o.config = o.gguf ? o.gguf->config() : TRY(ReadConfig(dir));
  o.anatomy = std::make_unique<Anatomy>();
  const Workload usual{.kv = DenseKvPolicy(DType::kF16)};  // caches don't count; audio must go into the context
  (void)TRY(BuildModel(o.config, usual, *o.anatomy));
  o.origins.resize(o.anatomy->slots().size());
  if (o.gguf) {
    (void)TRY(o.gguf->Match(*o.anatomy));
    TRY(CheckLoadable(*o.gguf, *o.anatomy));
    TRY(o.gguf->ForEachWeight(*o.anatomy, [&](uint32_t id, const WeightOrigin& origin) -> Status {
      o.origins[id] = origin;
      return {};
    }));
    return o;
  }
  o.files = TRY(ModelFiles::Open(dir.path));
  o.parts = TRY(OpenParts(o.config));
  (void)TRY(CheckHeaders(*o.files, o.parts, *o.anatomy));
  const auto visit = [&](uint32_t id, const ModelFiles& from, const TensorHeader& t, Piece piece) -> Status {
    if (piece == Piece::kWhole) o.origins[id] = {&from.file(t.file), t.offset, t.bytes, TypeOf(TRY(from.TypeOf(t))), 0};
    return {};
  };
  TRY(ForEachWeight(*o.files, o.parts, *o.anatomy, visit));
  return o;
}

Status WriteCompanions(const Original& o, const std::string& to) {
  TRY(CopyCompanions(o.dir.path, to));
  if (o.parts.empty()) return {};
  Json config = TRY(ReadJson(o.dir.config_path, Code::kBadModel));
  for (const NamedPart& part : o.parts) {
    config[part.key.substr(0, part.key.find('_')) + "_config"] = TRY(NamedConfig(part.key, part.id));
    config.erase(part.key);
  }
  return WriteAtomically(to + "/config.json", config.dump(2) + "\n");
}

bool Meter::Pass(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  done_ += bytes;
  stopped_ = stopped_ || !progress_(done_, total_);
  return !stopped_;
}

Status PassRows(const Passage& p, int64_t grain, Threads& threads, Meter& meter, TakeRows take) {
  const GgmlDequantize dequantize = TRY(DequantizerOf(*p.from.type));
  const auto cols = static_cast<uint64_t>(p.cols);
  const int64_t half = p.from.paired == 0 ? p.half : 0;  // else they stand in pairs already
  const uint64_t row_bytes = GgmlBytes(*p.from.type, 1, cols), fitting = kPiece / 4 / std::max<uint64_t>(cols, 1);
  const int64_t at_once = std::max<int64_t>(1, static_cast<int64_t>(fitting) / grain) * grain;
  const auto pass = [&](int64_t first, int64_t count, std::vector<std::byte>& raw, std::vector<float>& wide,
                        int thread) -> Status {
    const auto bytes = static_cast<uint64_t>(count) * row_bytes;
    for (int64_t r = 0; r < count; r += half == 0 ? count : 1)
      TRY(p.from.file->ReadAt(
          p.from.offset + static_cast<uint64_t>(RowFrom(first + r, half)) * row_bytes,
          std::span(raw).subspan(static_cast<uint64_t>(r) * row_bytes, half == 0 ? bytes : row_bytes)));
    const int64_t n = count * p.cols;
    dequantize(raw.data(), n, wide.data());
    const auto end = wide.begin() + n;
    if (std::any_of(wide.begin(), end, [](float x) { return !std::isfinite(x); }))
      return BadModel(fmt::format("{}: '{}' holds a number that is not finite; the model is damaged, fetch it again",
                                  p.from.file->path(), p.name));
    TRY(take(first, {wide.data(), static_cast<size_t>(n)}, thread));
    if (!meter.Pass(bytes)) return Error{Code::kInterrupted, "interrupted; nothing was left behind"};
    return {};
  };
  return TryFor(threads, p.rows, grain, [&](int64_t begin, int64_t end, int thread) -> Status {
    const int64_t most = std::min(at_once, end - begin);
    std::vector<std::byte> raw(static_cast<uint64_t>(most) * row_bytes);
    std::vector<float> wide(static_cast<size_t>(most * p.cols));
    for (int64_t r = begin; r < end; r += at_once) TRY(pass(r, std::min(at_once, end - r), raw, wide, thread));
    return {};
  });
}

}  // namespace sotto
