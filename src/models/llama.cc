// Llama 2 and 3 (https://arxiv.org/abs/2307.09288, https://arxiv.org/abs/2407.21783), TinyLlama, and Mistral
// (https://arxiv.org/abs/2310.06825), which adds a sliding window. transformers' LlamaConfig and MistralConfig.
#include "models/text.h"

namespace sotto {
namespace {

Result<TextConfig> ReadLlama(const ClassConfig& j) {
  TextConfig c = TRY(ReadCommonText(j));
  c.qkv_bias = c.o_bias = TRY(j.Bool("attention_bias"));
  c.mlp_bias = TRY(j.Bool("mlp_bias"));
  TRY(ReadForward(j, &c));
  return c;
}

Result<TextConfig> ReadMistral(const ClassConfig& j) {
  TextConfig c = TRY(ReadCommonText(j));
  TRY(ReadForward(j, &c));
  if (j.json().contains("sliding_window") && !j.Has("sliding_window")) return c;  // null: none; absent: the class's
  c.window = TRY(j.Int("sliding_window", 1, kMaxContext));
  c.sliding.assign(static_cast<size_t>(c.layers), true);
  return c;
}

TextFamily g_llama{"llama", ReadLlama}, g_mistral{"mistral", ReadMistral};
const bool kRegistered = (RegisterTextFamily(&g_llama), RegisterTextFamily(&g_mistral), true);

}  // namespace
}  // namespace sotto
