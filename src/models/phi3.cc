// Phi-3, Phi-3.5, Phi-4 and Phi-4-mini (https://arxiv.org/abs/2404.14219): one tensor for q, k and v, one for gate and up.
// transformers' Phi3Config.
#include "models/text.h"

namespace sotto {
namespace {

Result<TextConfig> ReadPhi3(const ClassConfig& j) {
  TextConfig c = TRY(ReadCommonText(j));
  c.fused = true;
  if (j.Has("sliding_window")) {
    c.window = TRY(j.Int("sliding_window", 1, kMaxContext));
    c.sliding.assign(static_cast<size_t>(c.layers), true);
  }
  return c;
}

TextFamily g_phi3{"phi3", ReadPhi3};
const bool kRegistered = (RegisterTextFamily(&g_phi3), true);

}  // namespace
}  // namespace sotto
