#include "engine/fit/quality.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>

#include "base/try_for.h"
#include "codec/ggml_blocks.h"
#include "codec/half.h"
#include "codec/panel.h"

namespace sotto {
namespace {

constexpr int64_t kSample = 32768, kLeastRows = 16;  // weights of a matrix, rows
// Steps in log2 of the root mean square: from 9 bits a weight down to 2.
constexpr double kFirst = -7.5, kSpacing = 0.75;
constexpr int kMultiples = 13;
// What a matrix may take beyond its share of a rate.
constexpr double kRoom = 1.02;
// Noise of activations in int8 relative to their power, (largest / 127)^2 / 12 with the expected largest of so many Gaussian numbers in
// standard deviations: 2.1 of 32, 4 of a row.
constexpr double kBlockInputs = 2.1 * 2.1 / 127 / 127 / 12, kRowInputs = 4.0 * 4.0 / 127 / 127 / 12;

// Rows of a matrix, evenly spread.
struct Sample {
  std::vector<float> rows;
  int64_t count = 0, cols = 0;
  double power = 0;  // sum of squares
  int64_t size() const { return count * cols; }
};

Result<Sample> ReadSample(const Slot& slot, const WeightOrigin& origin) {
  Sample s;
  s.cols = slot.shape[1] * slot.shape[2];
  const int64_t all = slot.shape[0], panels = std::max<int64_t>(1, all / kLeastRows);
  const int64_t wanted = std::clamp<int64_t>(kSample / s.cols / kLeastRows, 1, panels);
  s.count = std::min(all, wanted * kLeastRows);
  const GgmlDequantize widen = TRY(DequantizerOf(*origin.type));
  const uint64_t row = GgmlBytes(*origin.type, 1, static_cast<uint64_t>(s.cols));
  std::vector<std::byte> raw(row);
  s.rows.resize(static_cast<size_t>(s.size()));
  for (int64_t i = 0; i < s.count; ++i) {
    TRY(origin.file->ReadAt(origin.offset + static_cast<uint64_t>(i * all / s.count) * row, raw));
    widen(raw.data(), s.cols, s.rows.data() + i * s.cols);
  }
  for (const float w : s.rows) {
    if (!std::isfinite(w))
      return BadModel(fmt::format("{}: '{}' holds a number that is not finite; the model is damaged, fetch it again",
                                  origin.file->path(), slot.name));
    s.power += double{w} * w;
  }
  return s;
}

double Squares(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum;
}

// The sample as a type of GGUF files has it.
Result<double> BlockNoise(const Sample& s, const GgmlType& type) {
  const GgmlQuantize narrow = TRY(QuantizerOf(type));
  const GgmlDequantize widen = TRY(DequantizerOf(type));
  std::vector<std::byte> blocks(GgmlBytes(type, 1, static_cast<uint64_t>(s.size())));
  std::vector<float> back(s.rows.size());
  narrow(s.rows.data(), s.size(), blocks.data());
  widen(blocks.data(), s.size(), back.data());
  return Squares(s.rows, back);
}

// Scales of rows, as codec/panel.h has them.
double Int8Noise(const Sample& s) {
  double sum = 0;
  for (int64_t r = 0; r < s.count; ++r) {
    const float* row = s.rows.data() + r * s.cols;
    float most = 0;
    for (int64_t i = 0; i < s.cols; ++i) most = std::max(most, std::fabs(row[i]));
    const float scale = most / 127;
    for (int64_t i = 0; i < s.cols && most > 0; ++i) {
      const double error = double{row[i]} - double{std::nearbyint(row[i] / scale)} * scale;
      sum += error * error;
    }
  }
  return sum;
}

// Of a matrix in a form, relative to its power; activations included.
Result<double> NoiseOf(const Sample& s, const Slot& slot, const WeightKind& kind, const MixModel& mix,
                       std::map<std::string_view, double>* known) {
  if (s.power == 0) return 0.0;
  if (kind == WeightKind{DType::kI8}) return Int8Noise(s) / s.power + kRowInputs;
  const GgmlType& type = GgufTypeOf(slot, kind, mix);
  const auto [it, fresh] = known->try_emplace(type.name, 0);
  if (fresh) it->second = TRY(BlockNoise(s, type)) / s.power + (HasIntegerKernels(type) ? kBlockInputs : 0);
  return it->second;
}

// Bits a weight and relative noise of a uniform quantizer whose step is a multiple of the root mean square, in a code with one plane.
std::pair<double, double> StepOf(const Sample& s, double multiple) {
  const double rms = std::sqrt(s.power / static_cast<double>(s.size()));
  const double step = rms > 0 ? multiple * rms : 1;
  int raw_bits = 0;
  while (raw_bits < 8 && 3 / multiple > 128 << raw_bits) ++raw_bits;
  Magnitudes histogram{};
  double squares = 0;
  for (const float w : s.rows) {
    const double v = std::floor(double{w} / step), error = double{w} - (v + 0.5) * step;
    squares += error * error;
    const double coded = std::clamp(std::floor(v / (1 << raw_bits)), -128.0, 127.0);
    ++histogram[static_cast<size_t>(MagnitudeOf(static_cast<int>(coded)))];
  }
  const double bits = CodeBits(ChooseCode(histogram, 1), histogram) / static_cast<double>(s.size());
  return {bits + raw_bits, s.power > 0 ? squares / s.power : 0};
}

double Between(const std::vector<double>& values, double at) {
  const double place = std::clamp((at - kFirst) / kSpacing, 0.0, kMultiples - 1.0);
  const auto i = std::min(static_cast<size_t>(place), values.size() - 2);
  const double part = place - static_cast<double>(i);
  return values[i] * (1 - part) + values[i + 1] * part;
}

}  // namespace

Status Quality::MeasureMatrix(const Original& original, std::span<const WeightKind> kinds, const MixModel& mix,
                              Matrix* m) {
  const Slot& slot = original.anatomy->at(m->id);
  const Sample s = TRY(ReadSample(slot, original.origins[m->id]));
  std::map<std::string_view, double> known;
  for (const WeightKind& kind : kinds) m->noise.push_back(TRY(NoiseOf(s, slot, kind, mix, &known)));
  for (int i = 0; i < kMultiples; ++i) {
    const auto [bits, noise] = StepOf(s, std::exp2(kFirst + kSpacing * i));
    m->curve.bits.push_back(bits);
    m->curve.noise.push_back(std::log2(noise + 1e-12));
  }
  return {};
}

Status Quality::SetHarm(const Sensitivities* sensitivities) {
  double weights = 0, harm = 0;
  for (const Matrix& m : matrices_) weights += m.weights;
  for (Matrix& m : matrices_) {
    m.harm = sensitivities != nullptr ? TRY(sensitivities->ValueOf(m.name)) : kDefaultHarm * m.weights / weights;
    harm += m.harm;
  }
  for (Matrix& m : matrices_) {
    const double share = m.weights / weights;
    m.spacing = SpreadOf(share, harm > 0 ? m.harm / harm : share);
  }
  return {};
}

Result<Quality> Quality::Measure(const Original& original, std::vector<WeightKind> kinds,
                                 const Sensitivities* sensitivities, Threads& threads,
                                 const std::function<bool(size_t, size_t)>& progress) {
  Quality q;
  q.slots_ = original.anatomy->slots().size();
  for (uint32_t id = 0; id < original.origins.size(); ++id) {
    const Slot& slot = original.anatomy->at(id);
    if (slot.form != Form::kMatrix || original.origins[id].file == nullptr) continue;
    q.matrices_.push_back({id, slot.name, static_cast<double>(slot.Elements())});
  }
  if (q.matrices_.empty()) return BadModel(original.dir.name + " has no matrices; `sotto plan` answers for it");
  const MixModel mix = MixModelOf(*original.anatomy);
  std::mutex mutex;
  size_t done = 0;
  TRY(TryFor(threads, static_cast<int64_t>(q.matrices_.size()), 1, [&](int64_t begin, int64_t end, int) -> Status {
    for (int64_t i = begin; i < end; ++i) {
      TRY(MeasureMatrix(original, kinds, mix, &q.matrices_[static_cast<size_t>(i)]));
      const std::lock_guard lock(mutex);
      if (!progress(++done, q.matrices_.size())) return Error{Code::kInterrupted, "interrupted; nothing was chosen"};
    }
    return {};
  }));
  TRY(q.SetHarm(sensitivities));
  return q;
}

double Quality::Of(size_t kind) const {
  double kl = 0;
  for (const Matrix& m : matrices_) kl += m.harm * m.noise[kind];
  return kl;
}

double Quality::Of(const Packed& packed) const {
  std::map<std::string_view, const PackedTensor*> by_name;
  for (const PackedTensor& t : packed.tensors) by_name[t.name] = &t;
  double kl = 0;
  for (const Matrix& m : matrices_) {
    const auto it = by_name.find(m.name);
    if (it == by_name.end() || it->second->scheme == "fp16" || it->second->scheme == "bf16") continue;
    const double error = it->second->error_db > 0 ? std::pow(10, -it->second->error_db / 10) : 0;
    kl += m.harm * (error + kRowInputs);
  }
  return kl;
}

double Quality::OfCache(const KvPolicy& kv) const {
  double harm = 0;
  for (const Matrix& m : matrices_) harm += m.harm;
  return harm * kv.Noise();
}

Quality::Rate Quality::AtBits(double bits) const {
  double weights = 0;
  for (const Matrix& m : matrices_) weights += m.weights;
  const auto step = [](const Matrix& m, double at) {
    return std::min(at + std::log2(m.spacing), std::log2(kMostStep));
  };
  const auto bits_at = [&](double at) {
    double sum = 0;
    for (const Matrix& m : matrices_) sum += m.weights * Between(m.curve.bits, step(m, at));
    return sum / weights;
  };
  double fine = kFirst - 4, coarse = 5;
  for (int turn = 0; turn < 40; ++turn) {
    const double middle = (fine + coarse) / 2;
    (bits_at(middle) > bits ? fine : coarse) = middle;
  }
  Rate rate{bits, 0, std::vector<uint64_t>(slots_)};
  const double scale = bits / bits_at(coarse) * kRoom / 8;
  for (const Matrix& m : matrices_) {
    rate.kl += m.harm * (std::exp2(Between(m.curve.noise, step(m, coarse))) + kRowInputs);
    rate.bytes[m.id] = static_cast<uint64_t>(m.weights * Between(m.curve.bits, step(m, coarse)) * scale) + kSlotAlign;
  }
  return rate;
}

}  // namespace sotto
