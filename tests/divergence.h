// What changed weights do to a model, as tests measure it.
#pragma once
#include <cmath>
#include <vector>

#include "ops/row.h"

namespace sotto {

// Mean KL of the second model's next token against the first's.
inline double Divergence(const std::vector<std::vector<float>>& clean, const std::vector<std::vector<float>>& other) {
  double sum = 0;
  for (size_t r = 0; r < clean.size(); ++r) {
    const auto n = static_cast<int64_t>(clean[r].size());
    const double a = LogSumExp(clean[r].data(), n), b = LogSumExp(other[r].data(), n);
    for (size_t i = 0; i < clean[r].size(); ++i)
      sum += std::exp(clean[r][i] - a) * ((clean[r][i] - a) - (other[r][i] - b));
  }
  return sum / static_cast<double>(clean.size());
}

}  // namespace sotto
