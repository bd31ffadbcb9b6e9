// Mixes across folders: published files' sizes from configs of the catalogue.
#include <gtest/gtest.h>

#include "base/json.h"
#include "engine/planning.h"
#include "engine/report.h"

namespace sotto {
namespace {

Json PlanOf(const std::string& model, const std::string& weights) {
  PlanRequest request;
  request.unbounded = true;
  request.weights = weights;
  return PlanJson(PlanModel(FindModel(model, ModelUse::kPlan).value(), request).value());
}

double WeightMib(const std::string& model, const std::string& weights) {
  return PlanOf(model, weights)["memory"]["weights_bytes"].get<double>() / static_cast<double>(kMiB);
}

// What llama.cpp's loader logs for published files ("file size", all tensors).
TEST(Mixes, WeightsTakeWhatPublishedFilesTake) {
  EXPECT_NEAR(WeightMib("meta-llama/Llama-3.2-1B", "Q4_K_M"), 762.81, 0.01);
  EXPECT_NEAR(WeightMib("Qwen/Qwen2.5-7B-Instruct", "q4_k_m"), 4.36 * 1024, 0.005 * 1024);
  EXPECT_NEAR(WeightMib("Qwen/Qwen2.5-3B", "q4_k_m"), 1.79 * 1024, 0.005 * 1024);
}

TEST(Mixes, LieBetweenTheirTypes) {
  for (const char* model : {"meta-llama/Llama-3.1-8B", "openai/whisper-small", "Qwen/Qwen3-30B-A3B"}) {
    double last = 0;
    for (const char* weights : {"q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "fp16"}) {
      const double mib = WeightMib(model, weights);
      EXPECT_GT(mib, last) << model << " " << weights;
      last = mib;
    }
  }
}

TEST(Mixes, LeaveAudioEncodersAtEightBits) {
  const Json mixed = PlanOf("Qwen/Qwen2-Audio-7B", "q4_k_m"), eight = PlanOf("Qwen/Qwen2-Audio-7B", "q8_0");
  for (const char* part : {"encoder_weight_bytes", "projector_weight_bytes"})
    EXPECT_EQ(mixed["breakdown"][part], eight["breakdown"][part]) << part;
  EXPECT_LT(mixed["breakdown"]["decoder_weight_bytes"].get<double>(),
            0.6 * eight["breakdown"]["decoder_weight_bytes"].get<double>());
  EXPECT_EQ(mixed["workload"]["weights"], "q4_k_m");
}

TEST(Mixes, ANameThatIsNoneIsRefusedWithThoseThatAre) {
  PlanRequest request;
  request.weights = "q4_k_xl";
  const auto planned = PlanModel(FindModel("openai/whisper-small", ModelUse::kPlan).value(), request);
  ASSERT_FALSE(planned.ok());
  EXPECT_EQ(planned.error().code, Code::kUsage);
  EXPECT_NE(planned.error().message.find("q4_k_m"), std::string::npos) << planned.error().message;
}

}  // namespace
}  // namespace sotto
