#include "engine/pack/sources.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/try_for.h"
#include "codec/ggml_blocks.h"
#include "codec/half.h"

namespace sotto {
namespace {

// Reads rows as the file has them.
void ReadRows(const PackedMatrix& m, int64_t first, int64_t count, std::vector<std::byte>* bytes, SourceState* state) {
  const uint64_t row = GgmlBytes(*m.origin.type, 1, static_cast<uint64_t>(m.cols));
  bytes->resize(row * static_cast<uint64_t>(count));
  if (m.memory != nullptr) {
    std::memcpy(bytes->data(), m.memory + static_cast<uint64_t>(first) * row, bytes->size());
    return;
  }
  Status read = m.origin.file->ReadAt(m.origin.offset + static_cast<uint64_t>(first) * row, *bytes);
  if (read.ok()) return;
  std::fill(bytes->begin(), bytes->end(), std::byte{0});
  state->Fail(std::move(read));
}

// [in][taps] of each row to [taps][in], as slots keep them.
template <class T>
void Turn(const PackedMatrix& m, int64_t count, std::vector<T>* rows) {
  if (m.taps == 1) return;
  const int64_t in = m.cols / m.taps;
  std::vector<T> turned(static_cast<size_t>(m.cols));
  for (int64_t r = 0; r < count; ++r) {
    T* row = rows->data() + r * m.cols;
    for (int64_t i = 0; i < m.cols; ++i) turned[static_cast<size_t>(i % m.taps * in + i / m.taps)] = row[i];
    std::copy(turned.begin(), turned.end(), row);
  }
}

struct Buffers {
  std::vector<std::byte> bytes;
  std::vector<float> wide, errors;
  std::vector<uint16_t> halves;
};
Buffers& ThreadBuffers() {
  thread_local Buffers buffers;
  return buffers;
}

// PassRows of a matrix in memory.
Status PassMemory(const PackedMatrix& m, Threads& threads, TakeRows take) {
  return TryFor(threads, m.rows, kPlaneChannels, [&](int64_t begin, int64_t end, int thread) -> Status {
    for (int64_t r = begin; r < end; r += kPlaneChannels) {
      const int64_t count = std::min<int64_t>(kPlaneChannels, end - r);
      const std::span<const float> rows(WideRows(m, r, count, nullptr), static_cast<size_t>(count * m.cols));
      if (std::any_of(rows.begin(), rows.end(), [](float x) { return !std::isfinite(x); }))
        return Usage("the matrix holds a number that is not finite, which packing has no code for; remove it first");
      TRY(take(r, rows, thread));
    }
    return {};
  });
}

// In an order of its own, the same on every machine, that lets compilers add several at once.
double SumOfSquares(std::span<const float> values) {
  constexpr size_t kLanes = 8;
  double sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes)
    for (size_t j = 0; j < kLanes; ++j) sums[j] += double{values[i + j]} * values[i + j];
  for (; i < values.size(); ++i) sums[0] += double{values[i]} * values[i];
  return std::accumulate(std::begin(sums), std::end(sums), 0.0);
}

// Fewer than one weight in a hundred of a Gaussian is a literal.
int RawBits(const PackedMatrix& m, float step) {
  const double reach = 3 * std::sqrt(m.power) / static_cast<double>(step);
  int bits = 0;
  while (bits < 8 && (reach > (128 << bits) || static_cast<double>(m.largest / step) > (kMostSteps << bits))) ++bits;
  return bits;
}

}  // namespace

const float* WideRows(const PackedMatrix& m, int64_t first, int64_t count, SourceState* state) {
  Buffers& b = ThreadBuffers();
  ReadRows(m, first, count, &b.bytes, state);
  b.wide.resize(static_cast<size_t>(count * m.cols));
  DequantizerOf(*m.origin.type).value()(b.bytes.data(), count * m.cols, b.wide.data());
  Turn(m, count, &b.wide);
  return b.wide.data();
}

void SourceState::Fail(Status why) {
  const std::lock_guard lock(mutex_);
  if (failed_.ok()) failed_ = std::move(why);
}
void SourceState::AddError(double squares) {
  const std::lock_guard lock(mutex_);
  squares_ += squares;
}

Status Survey(PackedMatrix* m, bool halves, Threads& threads, Meter& meter) {
  std::mutex mutex;
  const bool bf16 = m->origin.type->name == "BF16";
  m->row_largest.assign(static_cast<size_t>(m->rows), 0);
  // Sums by row, added in their order: the same on every machine.
  std::vector<double> squares(static_cast<size_t>(m->rows));
  const auto cols = static_cast<size_t>(m->cols);
  const auto take = [&](int64_t first, std::span<const float> all, int) -> Status {
    std::array<uint64_t, 256> tops{};
    std::span<const float> rows = all;
    for (auto row = static_cast<size_t>(first); !rows.empty(); ++row, rows = rows.subspan(cols)) {
      squares[row] = SumOfSquares(rows.first(cols));
      float largest = 0;
      for (const float w : rows.first(cols)) largest = std::max(largest, std::fabs(w));
      m->row_largest[row] = largest;
    }
    if (!halves) return {};
    for (const float w : all) {
      uint16_t bits;
      bf16 ? FloatToBf16(&w, 1, &bits) : FloatToHalf(&w, 1, &bits);
      ++tops[bits >> 7 & 255];
    }
    const std::lock_guard lock(mutex);
    for (size_t i = 0; i < tops.size(); ++i) m->tops[i] += tops[i];
    return {};
  };
  if (m->memory != nullptr) {
    TRY(PassMemory(*m, threads, take));
  } else {
    TRY(PassRows({m->origin, m->rows, m->cols, 0, m->slot->name}, kPlaneChannels, threads, meter, take));
  }
  m->power = std::accumulate(squares.begin(), squares.end(), 0.0) / static_cast<double>(m->elements());
  m->largest = *std::max_element(m->row_largest.begin(), m->row_largest.end());
  return {};
}

PlanesSource StepSource(const PackedMatrix& m, float step, SourceState* state) {
  const int raw_bits = RawBits(m, step);
  const int most = (kMostSteps << raw_bits) - 1;
  return {PlaneScheme::kStep,
          raw_bits,
          m.rows,
          m.cols,
          {step},
          [&m, step, most, state](int64_t first, int64_t count, int32_t* values) {
            const float* w = WideRows(m, first, count, state);
            const float inverse = 1 / step, bound = static_cast<float>(most);
            std::vector<float>& errors = ThreadBuffers().errors;
            errors.resize(static_cast<size_t>(m.cols));
            double squares = 0;
            for (int64_t r = 0; r < count; ++r, w += m.cols, values += m.cols) {
              for (int64_t i = 0; i < m.cols; ++i) {
                const float v = std::min(std::max(w[i] * inverse, -bound), bound);
                values[i] = static_cast<int32_t>(v) - (static_cast<float>(static_cast<int32_t>(v)) > v ? 1 : 0);
                errors[static_cast<size_t>(i)] = w[i] - (static_cast<float>(values[i]) + 0.5F) * step;
              }
              squares += SumOfSquares(errors);
            }
            state->AddError(squares);
          },
          {}};
}

PlanesSource Int8Source(const PackedMatrix& m, bool one_scale, SourceState* state) {
  std::vector<float> scales(one_scale ? 1 : static_cast<size_t>(m.rows));
  const auto largest = [&m, one_scale](int64_t row) {
    return one_scale ? m.largest : m.row_largest[static_cast<size_t>(row)];
  };
  constexpr float kLeast = 1e-30F;  // codec/pack.h
  for (size_t i = 0; i < scales.size(); ++i) {
    const float most = largest(static_cast<int64_t>(i));
    scales[i] = most < kLeast ? 0 : most / 127;
  }
  return {PlaneScheme::kInt8,
          0,
          m.rows,
          m.cols,
          std::move(scales),
          [&m, largest, state](int64_t first, int64_t count, int32_t* values) {
            const float* w = WideRows(m, first, count, state);
            double squares = 0;
            for (int64_t r = 0; r < count; ++r) {
              const float most = largest(first + r), inverse = most < kLeast ? 0 : 127 / most;
              for (int64_t i = r * m.cols; i < (r + 1) * m.cols; ++i) {
                values[i] = static_cast<int32_t>(std::nearbyint(w[i] * inverse));
                const float error = w[i] - static_cast<float>(values[i]) * (most / 127);
                squares += static_cast<double>(error * error);
              }
            }
            state->AddError(squares);
          },
          {}};
}

PlanesSource HalvesSource(const PackedMatrix& m, SourceState* state) {
  const bool bf16 = m.origin.type->name == "BF16";
  constexpr size_t kRanks = 128;  // magnitudes that the code has
  const auto used = static_cast<size_t>(std::count_if(m.tops.begin(), m.tops.end(), [](uint64_t n) { return n > 0; }));
  const int raw_bits = bf16 && used <= kRanks ? 7 : 8;
  std::vector<uint64_t> counts(m.tops.begin(), m.tops.end());
  if (raw_bits == 8) {
    for (size_t i = 0; i < kRanks; ++i) counts[i] = m.tops[2 * i] + m.tops[2 * i + 1];
    counts.resize(kRanks);
  }
  std::vector<uint8_t> values(counts.size());  // by frequency
  std::iota(values.begin(), values.end(), uint8_t{0});
  std::stable_sort(values.begin(), values.end(), [&](uint8_t a, uint8_t b) { return counts[a] > counts[b]; });
  values.resize(kRanks);
  std::array<uint8_t, 256> ranks{};
  for (size_t i = 0; i < values.size(); ++i) ranks[values[i]] = static_cast<uint8_t>(i);
  return {bf16 ? PlaneScheme::kBF16 : PlaneScheme::kF16,
          raw_bits,
          m.rows,
          m.cols,
          {},
          [&m, ranks, raw_bits, state](int64_t first, int64_t count, int32_t* to) {
            Buffers& b = ThreadBuffers();
            ReadRows(m, first, count, &b.bytes, state);
            b.halves.resize(static_cast<size_t>(count * m.cols));
            std::memcpy(b.halves.data(), b.bytes.data(), b.bytes.size());
            Turn(m, count, &b.halves);
            for (size_t i = 0; i < b.halves.size(); ++i) {
              const uint16_t bits = b.halves[i];
              const int rank = ranks[(bits & 0x7FFF) >> raw_bits], one = 1 << raw_bits;
              to[i] = ((bits & 0x8000) != 0 ? -1 - rank : rank) * one + (bits & (one - 1));
            }
          },
          std::move(values)};
}

}  // namespace sotto
