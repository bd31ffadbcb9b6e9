// What a unit of noise in each matrix does to a model: KL divergence of the next token, against the model as it is, mean over the
// positions of a calibration text or audio. Noise is uniform and white, as that of a quantizer with one step, and as strong as the 3.5
// bits a weight that it stands for make it: 20 dB below the matrix. There KL is thousands of times what rounding in fp32 does, and
// still grows in proportion to the noise's power, since one matrix alone has it.
//
//   Planned planned = TRY(PlanSensitivity(dir, request, calibration));
//   auto engine = TRY(Engine::Open(std::move(planned), …));
//   const Sensitivities s = TRY(MeasureSensitivity(*engine, calibration, StopFlag(), progress));
//
// Logits of the clean model and a copy of the matrix that is disturbed are slots of the plan.
#pragma once
#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/pack/sensitivity.h"

namespace sotto {

inline constexpr int64_t kMostCalibrationTokens = 8192;

struct Calibration {
  std::string text;                 // a file; for models that read
  std::vector<std::string> audios;  // files; for models that hear. What the model itself says of them is the text
  std::string question = "What is said?";  // that an audio-language model is asked
  int64_t tokens = 512;                    // positions that count, at most kMostCalibrationTokens
  double noise = 0.01;                     // its power relative to the matrix's
};

// A plan with weights in fp32, else in the halves that the files hold; `request.weights` may say which (fp32, fp16, bf16). kUsage:
// others; a calibration that the model can't read or hear. Not fitting is no error, as in PlanModel.
Result<Planned> PlanSensitivity(const ModelDir& dir, PlanRequest request, const Calibration& calibration);

// REQUIRES: the engine's plan is PlanSensitivity's for this calibration. One pass over the calibration for each matrix.
Result<Sensitivities> MeasureSensitivity(Engine& engine, const Calibration& calibration, const std::atomic<bool>& stop,
                                         const std::function<void(double done, double all)>& progress);

}  // namespace sotto
