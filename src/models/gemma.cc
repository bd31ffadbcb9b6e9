// Gemma 2 (https://arxiv.org/abs/2408.00118) and the text side of Gemma 3 (https://arxiv.org/abs/2503.19786): norms before and
// behind each block, local layers between global ones, a tied head. transformers' Gemma2Config and Gemma3TextConfig.
#include "models/text.h"

namespace sotto {
namespace {

bool EveryOther(int64_t layer, int64_t) { return (layer + 1) % 2 != 0; }
bool AllButEveryNth(int64_t layer, int64_t n) { return (layer + 1) % n != 0; }

Result<TextConfig> ReadGemma2(const ClassConfig& j) {
  TextConfig c = TRY(ReadCommonText(j));
  c.qkv_bias = c.o_bias = TRY(j.Bool("attention_bias"));
  c.post_norms = true;
  c.window = TRY(j.Int("sliding_window", 1, kMaxContext));
  c.sliding = TRY(ReadSliding(j, c.layers, EveryOther, 2));
  return c;
}

Result<TextConfig> ReadGemma3(const ClassConfig& j) {
  TextConfig c = TRY(ReadGemma2(j));
  c.qk_norm = true;
  c.sliding = TRY(ReadSliding(j, c.layers, AllButEveryNth, TRY(j.IntOr("sliding_window_pattern", 1, kMaxLayers, 6))));
  return c;
}

TextFamily g_gemma2{"gemma2", ReadGemma2}, g_gemma3{"gemma3_text", ReadGemma3};
const bool kRegistered = (RegisterTextFamily(&g_gemma2), RegisterTextFamily(&g_gemma3), true);

}  // namespace
}  // namespace sotto
