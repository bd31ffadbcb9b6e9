// How much harm noise in each matrix does, as `sotto eval sensitivity` measures it (harness/sensitivity.h) and packing spends bits by:
//
//   KL of the model's next token = sum over matrices of sensitivity * (power of the noise / power of the matrix)
//
// in nats a position, for noise that is small. Not here: how it is measured.
#pragma once
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace sotto {

struct Sensitivity {
  std::string name;  // of the matrix
  double value = 0;  // nats for noise as strong as the matrix
  double kl = 0;     // nats that the noise of the measurement did
};

struct Sensitivities {
  std::string model;
  int64_t tokens = 0;  // positions that were measured
  double noise = 0;    // power relative to each matrix's
  std::vector<Sensitivity> tensors;
  const Sensitivity* Find(const std::string& name) const;
  Result<double> ValueOf(const std::string& name) const;  // kBadInput: they are of another model
};

// No step is larger than this multiple of a matrix's root mean square: there a weight is little but its sign (a Gaussian's mean magnitude is
// 0.8), and larger steps add noise and save nothing.
inline constexpr double kMostStep = 1.6;
// Noise in proportion to n / s: how many times larger the steps of a matrix are that has these shares of all weights and of all harm. What a
// calibration doesn't touch isn't useless: a weight's harm counts as no less than 1/256 of the mean one, which is four bits fewer.
double SpreadOf(double share_of_weights, double share_of_harm);

Json SensitivitiesJson(const Sensitivities& s);  // "sotto.sensitivity/1"
// kBadInput for a file that isn't one, or holds what is no finite number of at least 0.
Result<Sensitivities> ReadSensitivities(const std::string& path);

}  // namespace sotto
