#include "models/blocks/audio_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/blocks/rows.h"

namespace sotto {
namespace {

constexpr float kEpsilon = 1e-5F;  // torch.nn.LayerNorm's default, as published
constexpr int64_t kTargetBlock =
    384;  // rows: large enough for the matrix product, small enough to stay out of the plan's way

int64_t BlockOf(int64_t positions) {
  const int64_t blocks = (positions + kTargetBlock - 1) / kTargetBlock;
  return (positions + blocks - 1) / blocks;
}

// The first rows * cols elements of a buffer, seen with other extents.
View Reshape(View whole, int64_t rows, int64_t cols) {
  CHECK(rows * cols <= whole.rows * whole.cols && whole.stride == whole.cols);
  return {whole.data, whole.dtype, rows, cols, cols};
}

// Windows of three frames: row t reads rows [t * step, t * step + 3) of x as one row of 3 * cols.
View Windows(View x, int64_t rows, int64_t step) {
  CHECK(x.stride == x.cols && (rows - 1) * step + 3 <= x.rows);
  return {x.data, x.dtype, rows, 3 * x.cols, step * x.cols};
}

void Zero(View row) { std::memset(row.data, 0, static_cast<size_t>(row.cols) * sizeof(float)); }

}  // namespace

AudioEncoder::AudioEncoder(const Scope& at, const AudioEncoderConfig& config)
    : c_(config),
      block_(BlockOf(config.heard())),
      conv1_(c_.convolutions ? ConvMatrix(at, "conv1.weight", c_.d_model, c_.n_mels, 3) : ConvMatrix()),
      conv2_(c_.convolutions ? ConvMatrix(at, "conv2.weight", c_.d_model, c_.d_model, 3) : ConvMatrix()),
      conv1_bias_(c_.convolutions ? Vector(at, "conv1.bias", c_.d_model) : Vector()),
      conv2_bias_(c_.convolutions ? Vector(at, "conv2.bias", c_.d_model) : Vector()),
      positions_(c_.stored_positions ? RowTable(at, "embed_positions.weight", c_.positions, c_.d_model) : RowTable()),
      layers_([&] {
        std::vector<AudioEncoderLayer> layers;
        layers.reserve(static_cast<size_t>(c_.layers));
        for (int i = 0; i < c_.layers; ++i)
          layers.push_back({(at / "layers" / std::to_string(i)).Layer(i, Stack::kEncoder), c_});
        return layers;
      }()),
      norm_(at, "layer_norm.weight", c_.d_model),
      norm_bias_(at, "layer_norm.bias", c_.d_model),
      mel_(at.During(kEncode), "mel", 2 * c_.heard() + 2, c_.n_mels, DType::kF32, Role::kAudio),
      x_(at.During(kEncode), "x", c_.heard(), c_.d_model),
      k_(at.During(kEncode), "k", c_.heard(), c_.d_model),
      v_(at.During(kEncode), "v", c_.heard(), c_.d_model),
      h_(at.During(kEncode), "h", block_, c_.d_model),
      q_(at.During(kEncode), "q", block_, c_.d_model),
      attended_(at.During(kEncode), "attended", block_, c_.d_model),
      // The first convolution's block has two rows a position and one more on either side.
      wide_(at.During(kEncode), "wide", block_,
            std::max(c_.ffn, 2 * c_.d_model + (2 * c_.d_model + block_ - 1) / block_)) {}

View AudioEncoder::Mel(const Run& run) const { return run[mel_].Rows(1, 2 * c_.heard()); }

void AudioEncoder::Convolve(Backend& ops, const Run& run, int64_t frames, View x) const {
  const View mel = run[mel_];
  Zero(mel.Rows(0, 1));  // both convolutions pad with one zero frame on either side
  Zero(mel.Rows(frames + 1, 1));
  for (int64_t first = 0; first < x.rows; first += block_) {
    const int64_t rows = std::min(block_, x.rows - first);
    // Output t of conv2 reads outputs 2t - 1, 2t and 2t + 1 of conv1; row 0 of `middle` is output 2 * first - 1.
    const View middle = Reshape(run[wide_], 2 * rows + 1, c_.d_model);
    const int64_t skip = first == 0 ? 1 : 0;  // output -1 is padding
    if (skip != 0) Zero(middle.Rows(0, 1));
    const int64_t start = 2 * first - 1 + skip, count = std::min(2 * rows + 1 - skip, frames - start);
    ops.Linear(Windows(mel.Rows(start, count + 2), count, 1), run[conv1_], run[conv1_bias_], middle.Rows(skip, count),
               Into::kGelu);
    for (int64_t r = skip + count; r < middle.rows; ++r) Zero(middle.Rows(r, 1));  // so is what lies behind the frames
    ops.Linear(Windows(middle, rows, 2), run[conv2_], run[conv2_bias_], x.Rows(first, rows), Into::kGelu);
  }
  const View positions = run[positions_];
  for (int64_t t = 0; t < x.rows; ++t) AddRow(positions.Rows(t, 1), x.F32(t));
}

// The averages of rows 2t and 2t + 1, in place.
View AudioEncoder::Pool(View x) const {
  for (int64_t t = 0; t < x.rows / 2; ++t)
    for (int64_t i = 0; i < x.cols; ++i) x.F32(t)[i] = (x.F32(2 * t)[i] + x.F32(2 * t + 1)[i]) / 2;
  return x.Rows(0, x.rows / 2);
}

View AudioEncoder::Forward(Backend& ops, const Run& run, int64_t frames, int64_t positions) const {
  CHECK(frames >= 1 && frames <= 2 * c_.heard() && positions >= 1 && positions <= (frames + 1) / 2);
  View x = run[x_].Rows(0, positions);
  const View k = run[k_].Rows(0, positions), v = run[v_].Rows(0, positions);
  const int heads = static_cast<int>(c_.heads), head_dim = static_cast<int>(c_.d_model / c_.heads);
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  const Precision precision = run[conv1_].dtype == DType::kI8 ? Precision::kFast : Precision::kExact;
  Convolve(ops, run, frames, x);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerTurn turn(run, Stack::kEncoder, static_cast<int>(i));
    if (!turn) return x;
    const AudioEncoderLayer& w = layers_[i];
    for (int64_t first = 0; first < positions; first += block_) {
      const int64_t rows = std::min(block_, positions - first);
      const View h = run[h_].Rows(0, rows);
      ops.LayerNorm(x.Rows(first, rows), run[w.norm1], run[w.norm1_bias], kEpsilon, h);
      ops.Linear(h, run[w.wk], {}, k.Rows(first, rows), Into::kStore);
      ops.Linear(h, run[w.wv], run[w.bv], v.Rows(first, rows), Into::kStore);
    }
    for (int64_t first = 0; first < positions; first += block_) {
      const int64_t rows = std::min(block_, positions - first);
      const View h = run[h_].Rows(0, rows), q = run[q_].Rows(0, rows), attended = run[attended_].Rows(0, rows);
      const View hidden = Reshape(run[wide_], rows, c_.ffn), part = x.Rows(first, rows);
      ops.LayerNorm(part, run[w.norm1], run[w.norm1_bias], kEpsilon, h);
      ops.Linear(h, run[w.wq], run[w.bq], q, Into::kStore);
      ops.Attend(q, k, v, heads, head_dim, scale, attended, precision);
      ops.Linear(attended, run[w.wo], run[w.bo], part, Into::kAdd);
      ops.LayerNorm(part, run[w.norm2], run[w.norm2_bias], kEpsilon, h);
      ops.Linear(h, run[w.fc1], run[w.fc1_bias], hidden, Into::kGelu);
      ops.Linear(hidden, run[w.fc2], run[w.fc2_bias], part, Into::kAdd);
    }
  }
  if (c_.pooled) x = Pool(x);
  ops.LayerNorm(x, run[norm_], run[norm_bias_], kEpsilon, x);
  return x;
}

}  // namespace sotto
