// The oracle of every backend: what the operations mean, as plain loops over doubles. Nothing here is fast.
#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <vector>

#include "codec/half.h"
#include "codec/panel.h"
#include "codec/planes.h"
#include "ops/backend.h"

namespace sotto {
namespace {

double Read(DType type, const std::byte* data, int64_t i) {
  if (type == DType::kF16) return HalfToFloat(reinterpret_cast<const uint16_t*>(data)[i]);
  if (type == DType::kBF16) return Bf16ToFloat(reinterpret_cast<const uint16_t*>(data)[i]);
  CHECK(type == DType::kF32);
  return reinterpret_cast<const float*>(data)[i];
}

// x as int8 codes times its scale. The codes come from fp32 arithmetic: they are part of what Linear means for kI8.
void QuantizeRow(const float* x, int64_t n, double* out) {
  float absmax = 0;
  for (int64_t i = 0; i < n; ++i) absmax = std::fabs(x[i]) > absmax ? std::fabs(x[i]) : absmax;
  absmax = std::min(absmax, FLT_MAX);
  const bool zero = absmax < 1e-30f;
  const float inverse = zero ? 0 : 127 / absmax;
  for (int64_t i = 0; i < n; ++i) {
    const float v = x[i] * inverse;
    const float code = std::isnan(v) ? 127 : std::clamp(std::nearbyint(v), -127.0f, 127.0f);
    out[i] = zero ? 0 : static_cast<double>(code) * (absmax / 127);
  }
}

class RefBackend final : public Backend {
 public:
  void LayerNorm(View x, View gain, View bias, float eps, View out) override {
    CHECK(x.rows == out.rows && x.cols == out.cols && gain.cols == x.cols && bias.cols == x.cols);
    for (int64_t r = 0; r < x.rows; ++r) {
      double mean = 0, variance = 0;
      for (int64_t c = 0; c < x.cols; ++c) mean += x.F32(r)[c];
      mean /= static_cast<double>(x.cols);
      for (int64_t c = 0; c < x.cols; ++c) variance += (x.F32(r)[c] - mean) * (x.F32(r)[c] - mean);
      variance /= static_cast<double>(x.cols);
      for (int64_t c = 0; c < x.cols; ++c)
        out.F32(r)[c] =
            static_cast<float>((x.F32(r)[c] - mean) / std::sqrt(variance + eps) * gain.F32()[c] + bias.F32()[c]);
    }
  }

  void RmsNorm(View x, View gain, float eps, View out) override {
    CHECK(x.rows == out.rows && x.cols == out.cols && gain.cols == x.cols);
    for (int64_t r = 0; r < x.rows; ++r) {
      double squares = 0;
      for (int64_t c = 0; c < x.cols; ++c) squares += double{x.F32(r)[c]} * x.F32(r)[c];
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(x.cols) + eps);
      for (int64_t c = 0; c < x.cols; ++c) out.F32(r)[c] = static_cast<float>(x.F32(r)[c] * inverse * gain.F32()[c]);
    }
  }

  void Rotate(View x, View angles, int heads, int head_dim) override {
    const int64_t half = angles.cols / 2;
    for (int64_t r = 0; r < x.rows; ++r)
      for (int h = 0; h < heads; ++h)
        for (int64_t i = 0; i < half; ++i) {
          float &a = x.F32(r)[h * head_dim + i], &b = x.F32(r)[h * head_dim + i + half];
          const double cosine = angles.F32(r)[i], sine = angles.F32(r)[i + half], left = a, right = b;
          a = static_cast<float>(left * cosine - right * sine);
          b = static_cast<float>(right * cosine + left * sine);
        }
  }

  void SiluMul(View gate, View up, View out) override {
    for (int64_t r = 0; r < out.rows; ++r)
      for (int64_t c = 0; c < out.cols; ++c) {
        const double g = gate.F32(r)[c];
        out.F32(r)[c] = static_cast<float>(g / (1 + std::exp(-g)) * up.F32(r)[c]);
      }
  }

  void Linear(View x, const WeightView& w, View bias, View out, Into into) override {
    CHECK(x.cols == w.in && out.cols == w.out && x.rows == out.rows && (bias.data == nullptr || bias.cols == w.out));
    std::vector<float> row(static_cast<size_t>(w.in));
    std::vector<double> inputs(static_cast<size_t>(x.rows * w.in));
    for (int64_t r = 0; r < x.rows; ++r) {
      double* to = inputs.data() + r * w.in;
      std::copy(x.F32(r), x.F32(r) + w.in, to);
      if (w.dtype == DType::kI8) QuantizeRow(x.F32(r), w.in, to);
      if (w.blocks != nullptr && HasIntegerKernels(*w.blocks))
        for (int64_t k = 0; k < w.in; k += 32) QuantizeRow(x.F32(r) + k, 32, to + k);
      if (!w.planes || w.exact) continue;
      const PlanesHeader& h = Planes(w.data).header();
      if (h.scheme == PlaneScheme::kInt8) QuantizeRow(x.F32(r), w.in, to);
      for (int64_t k = 0; k < w.in && h.scheme == PlaneScheme::kStep && h.raw_bits == 0; k += 32)
        QuantizeRow(x.F32(r) + k, std::min<int64_t>(32, w.in - k), to + k);
    }
    for (int64_t n = 0; n < w.out; ++n) {
      UnpackRow(w, n, row.data());
      for (int64_t r = 0; r < x.rows; ++r) {
        double y = bias.data != nullptr ? bias.F32()[n] : 0;
        for (int64_t k = 0; k < w.in; ++k) y += inputs[static_cast<size_t>(r * w.in + k)] * row[static_cast<size_t>(k)];
        float& to = out.F32(r)[n];
        if (into == Into::kGelu) y = y / 2 * std::erfc(-y / std::sqrt(2.0));
        to = static_cast<float>(into == Into::kAdd ? to + y : y);
      }
    }
  }

  void Attend(View q, View k, View v, int heads, int head_dim, float scale, View out, Precision) override {
    std::vector<float> result(static_cast<size_t>(q.cols));  // `out` may be q
    for (int64_t r = 0; r < q.rows; ++r) {
      for (int h = 0; h < heads; ++h) {
        const int64_t c = int64_t{h} * head_dim;
        const auto row = [c](View of) {
          return [of, c](int64_t j) { return of.Cols(c, of.cols - c).Rows(j, 1).data; };
        };
        One(q.F32(r) + c, k.rows, head_dim, k.dtype, row(k), row(v), scale, result.data() + c, nullptr);
      }
      std::copy(result.begin(), result.end(), out.F32(r));
    }
  }

  void AttendCache(View q, std::span<const CacheView> cache, const HeadShape& s, View out,
                   const View* weights) override {
    for (int64_t r = 0; r < q.rows; ++r)
      for (int h = 0; h < s.heads; ++h) {
        const CacheView& c = cache[static_cast<size_t>(r)];
        const int64_t head = h / (s.heads / s.kv_heads);
        const auto row = [&c, &s, head](const std::byte* of) {
          return [of, &c, &s, head](int64_t j) {
            const int64_t slot = (c.first + j) % c.capacity;
            return of + static_cast<uint64_t>(head * c.head_stride + slot * s.head_dim) * SizeOf(c.dtype);
          };
        };
        One(q.F32(r) + h * s.head_dim, c.length, s.head_dim, c.dtype, row(c.keys), row(c.values), s.scale,
            out.F32(r) + h * s.head_dim, weights != nullptr ? weights->F32(r * s.heads + h) : nullptr);
      }
  }

  void AttendChunk(View q, const CacheView& cache, const HeadShape& s, View out) override {
    for (int64_t r = 0; r < q.rows; ++r) {
      CacheView seen = cache;
      seen.length -= q.rows - 1 - r;
      AttendCache(q.Rows(r, 1), {&seen, 1}, s, out.Rows(r, 1), nullptr);
    }
  }

  void Hadamard(View x, int head_dim) override {
    const int block = head_dim & -head_dim;
    std::vector<double> turned(static_cast<size_t>(block));
    for (int64_t r = 0; r < x.rows; ++r)
      for (int64_t at = 0; at < x.cols; at += block) {
        for (unsigned i = 0; i < turned.size(); ++i) {
          turned[i] = 0;
          for (unsigned j = 0; j < turned.size(); ++j)
            turned[i] += (std::popcount(i & j) % 2 == 0 ? 1 : -1) * double{x.F32(r)[at + j]};
        }
        for (unsigned i = 0; i < turned.size(); ++i)
          x.F32(r)[at + i] = static_cast<float>(turned[i] / std::sqrt(double{1} * block));
      }
  }

  void AttendPages(View q, const PagesView& cache, const HeadShape& s, View out, Precision,
                   const PagesMass& mass) override {
    const auto dim = static_cast<size_t>(s.head_dim);
    for (int64_t r = 0; r < q.rows; ++r)
      for (int h = 0; h < s.heads; ++h) {
        std::vector<float> keys, values;
        std::vector<int32_t> positions;
        const auto take = [&](const KvGroup& g, int64_t count) {
          for (int64_t t = 0; t < count; ++t) {
            positions.push_back(g.positions[t]);
            keys.resize(keys.size() + dim);
            values.resize(keys.size());
            ReadToken(cache.shape, g, t, h / (s.heads / s.kv_heads),
                      cache.scales + int64_t{2} * s.kv_heads * g.positions[t], keys.data() + keys.size() - dim,
                      values.data() + values.size() - dim);
          }
        };
        for (const KvGroup& g : cache.groups) take(g, g.count);
        int64_t left = cache.seen[static_cast<size_t>(r)];
        for (const KvGroup& g : cache.recent) {
          take(g, std::min(left, g.count));
          left -= std::min(left, g.count);
        }
        std::vector<float> weights(positions.size());
        const auto row = [dim](const std::vector<float>& of) {
          return [&of, dim](int64_t j) {
            return reinterpret_cast<const std::byte*>(of.data() + static_cast<size_t>(j) * dim);
          };
        };
        const int64_t at = int64_t{h} * s.head_dim;
        One(q.F32(r) + at, static_cast<int64_t>(positions.size()), s.head_dim, DType::kF32, row(keys), row(values),
            s.scale, out.F32(r) + at, weights.data());
        for (size_t j = 0; j < positions.size(); ++j) {
          if (mass.weights != nullptr) mass.weights[positions[j]] += weights[j];
          if (mass.squares != nullptr) mass.squares[positions[j]] += weights[j] * weights[j];
        }
      }
  }

  void Embed(std::span<const int32_t> ids, std::span<const int32_t> pos, const WeightView& table, View positions,
             View out) override {
    for (size_t i = 0; i < ids.size(); ++i) {
      float* to = out.F32(static_cast<int64_t>(i));
      UnpackRow(table, ids[i], to);
      for (int64_t c = 0; c < table.in && !pos.empty(); ++c) to[c] += positions.F32(pos[i])[c];
    }
  }

  void Add(View a, View b, View out) override {
    for (int64_t r = 0; r < out.rows; ++r)
      for (int64_t c = 0; c < out.cols; ++c) out.F32(r)[c] = a.F32(r)[c] + b.F32(r)[c];
  }

  void Convert(View x, View out) override {
    for (int64_t r = 0; r < x.rows; ++r)
      for (int64_t c = 0; c < x.cols; ++c) {
        const auto v = static_cast<float>(Read(x.dtype, x.Rows(r, 1).data, c));
        std::byte* to = out.Rows(r, 1).data;
        if (out.dtype == DType::kF32)
          reinterpret_cast<float*>(to)[c] = v;
        else
          reinterpret_cast<uint16_t*>(to)[c] = out.dtype == DType::kF16 ? FloatToHalf(v) : FloatToBf16(v);
      }
  }

 private:
  // One query, one head: n keys and values, `key(j)` and `value(j)` where each lies.
  template <class Row>
  static void One(const float* q, int64_t n, int64_t dim, DType dtype, const Row& key, const Row& value, float scale,
                  float* out, float* weights) {
    std::vector<double> p(static_cast<size_t>(n)), mixed(static_cast<size_t>(dim));
    double peak = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < dim; ++d) dot += q[d] * Read(dtype, key(j), d);
      p[static_cast<size_t>(j)] = dot * scale;
      peak = std::max(peak, dot * scale);
    }
    for (double& e : p) sum += e = std::exp(e - peak);
    for (int64_t j = 0; j < n; ++j) {
      const double weight = p[static_cast<size_t>(j)] / sum;
      if (weights != nullptr) weights[j] = static_cast<float>(weight);
      for (int64_t d = 0; d < dim; ++d) mixed[static_cast<size_t>(d)] += weight * Read(dtype, value(j), d);
    }
    std::copy(mixed.begin(), mixed.end(), out);
  }
};

}  // namespace

std::unique_ptr<Backend> MakeRefBackend() { return std::make_unique<RefBackend>(); }

}  // namespace sotto
