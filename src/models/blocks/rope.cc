#include "models/blocks/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sotto {
namespace {

constexpr double kTheta = 10000;  // default_theta of transformers' configs
constexpr double kTurn = 2 * std::numbers::pi;

// Below low_freq_factor turns in the original context a frequency is divided by factor, above high_freq_factor it is kept,
// between them it is mixed.
Status ScaleLlama3(const ClassConfig& p, int64_t max_context, Rope* rope) {
  const double factor = TRY(p.Number("factor")), low = TRY(p.Number("low_freq_factor")),
               high = TRY(p.Number("high_freq_factor"));
  const double original = TRY(p.Number("original_max_position_embeddings", static_cast<double>(max_context)));
  if (!(factor > 0 && high > low && original > 0)) return p.Bad("factor", "and its like are not a llama3 scaling");
  for (float& f : rope->inv_freq) {
    const double wavelength = kTurn / f;
    if (wavelength > original / low) {
      f = static_cast<float>(f / factor);
    } else if (!(wavelength < original / high)) {
      const double smooth = (original / wavelength - low) / (high - low);
      f = static_cast<float>((1 - smooth) * f / factor + smooth * f);
    }
  }
  return {};
}

// YaRN (https://arxiv.org/abs/2309.00071): frequencies that turn often in the original context are kept, slow ones divided.
Status ScaleYarn(const ClassConfig& p, double theta, int64_t max_context, Rope* rope) {
  const double original = TRY(p.Number("original_max_position_embeddings", static_cast<double>(max_context)));
  const double factor = TRY(p.Number("factor", static_cast<double>(max_context) / original));
  const double fast = TRY(p.Number("beta_fast", 32)), slow = TRY(p.Number("beta_slow", 1));
  const double mscale = TRY(p.Number("mscale", 0)), mscale_all = TRY(p.Number("mscale_all_dim", 0));
  if (!(original > 0 && factor > 0 && fast > 0 && slow > 0))
    return p.Bad("factor", "and its like are not a yarn scaling");
  const auto magnitude = [factor](double scale) { return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1; };
  const double derived = mscale != 0 && mscale_all != 0 ? magnitude(mscale) / magnitude(mscale_all) : magnitude(1);
  rope->attention_scale = static_cast<float>(TRY(p.Number("attention_factor", derived)));
  const auto dim = static_cast<double>(rope->dim());
  const auto turning = [&](double turns) {  // the element that turns so often
    return dim * std::log(original / (turns * kTurn)) / (2 * std::log(theta));
  };
  double low = turning(fast), high = turning(slow);
  if (TRY(p.BoolOr("truncate", true))) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < rope->inv_freq.size(); ++i) {
    float& f = rope->inv_freq[i];
    const double divided = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    f = static_cast<float>(f / factor * divided + f * (1 - divided));
  }
  return {};
}

// "divided": by one number each, as GGUF files hold llama3's scaling (rope_freqs.weight).
void Divide(const Json& divisors, Rope* rope) {
  rope->unsupported = fmt::format("its rotary positions are not scaled by {} numbers above 0", rope->inv_freq.size());
  if (!divisors.is_array() || divisors.size() != rope->inv_freq.size()) return;
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double by = divisors[i].is_number() ? divisors[i].get<double>() : 0;
    if (!(by > 0)) return;
    rope->inv_freq[i] /= static_cast<float>(by);
  }
  rope->unsupported.clear();
}

}  // namespace

Result<Rope> ReadRope(const ClassConfig& j, int64_t head_dim, int64_t max_context) {
  const char* where = j.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const ClassConfig p = TRY(j.Part(where, ""));
  const double theta = TRY(p.Number("rope_theta", TRY(j.Number("rope_theta", kTheta))));
  const double share = TRY(p.Number("partial_rotary_factor", TRY(j.Number("partial_rotary_factor", 1))));
  if (!(theta > 1)) return j.Bad("rope_theta", "is not above 1");
  if (!(share > 0 && share <= 1)) return j.Bad("partial_rotary_factor", "is not above 0 and at most 1");
  const auto dim = static_cast<int64_t>(static_cast<double>(head_dim) * share) / 2 * 2;
  Rope rope;
  for (int64_t i = 0; i < dim; i += 2)
    rope.inv_freq.push_back(1.0F /
                            static_cast<float>(std::pow(theta, static_cast<float>(i) / static_cast<float>(dim))));
  const char* key = p.Has("rope_type") ? "rope_type" : "type";
  const std::string type = p.Has(key) ? TRY(p.String(key)) : "default";
  if (type == "linear") {
    const auto factor = static_cast<float>(TRY(p.Number("factor")));
    if (!(factor > 0)) return p.Bad("factor", "is not above 0");
    for (float& f : rope.inv_freq) f /= factor;
  } else if (type == "llama3") {
    TRY(ScaleLlama3(p, max_context, &rope));
  } else if (type == "yarn") {
    TRY(ScaleYarn(p, theta, max_context, &rope));
  } else if (type == "divided") {
    Divide(p.json().value("divisors", Json()), &rope);
  } else if (type != "default" && type != "dynamic") {  // dynamic: as default up to the published maximum
    rope.unsupported = "its rotary positions are scaled by '" + type.substr(0, 40) + "'";
  }
  return rope;
}

void FillAngles(const Rope& rope, std::span<const int32_t> positions, View angles) {
  const auto half = static_cast<int64_t>(rope.inv_freq.size());
  CHECK(angles.cols == 2 * half && angles.rows == static_cast<int64_t>(positions.size()));
  for (int64_t r = 0; r < angles.rows; ++r) {
    float* cosines = angles.F32(r);
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(positions[static_cast<size_t>(r)]) * rope.inv_freq[static_cast<size_t>(i)];
      cosines[i] = std::cos(angle) * rope.attention_scale;
      cosines[i + half] = std::sin(angle) * rope.attention_scale;
    }
  }
}

}  // namespace sotto
