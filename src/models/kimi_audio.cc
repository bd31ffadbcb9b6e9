// Kimi-Audio (https://arxiv.org/abs/2504.18425; moonshotai/Kimi-Audio-7B-Instruct): Whisper large-v3's encoder (from a subfolder), four positions
// side by side through two matrices, Qwen2; from one of its layers a second stack with a head of its own speaks. The vectors
// are added to discrete audio tokens, one position for each. Tokenizer and vocoder are models of their own and not counted.
#include "models/audio_llm.h"

namespace sotto {
namespace {

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  constexpr int64_t kSamplesPerToken = 1280;  // 12.5 Hz
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  TextConfig text = TRY(ReadCommonText(j));
  text.qkv_bias = true;
  const AudioEncoderConfig tower = TRY(ReadWhisperTower(TRY(j.Part("whisper_config", "whisper"))));
  const int64_t in = TRY(j.Int("kimia_adaptor_input_dim", 1, kMaxWidth));
  TextConfig mimo = text;
  mimo.layers = TRY(j.Int("kimia_mimo_layers", 0, kMaxLayers));

  anatomy.Elsewhere(Component::kEncoder);  // in the folder whisper-large-v3
  Hearing hearing = DeclareWhisperTower(tower, anatomy);
  const Scope projector = Scope{&anatomy, "vq_adaptor."}.As(Component::kProjector);
  DeclareLinear(projector, "layers.0", text.d_model, in);
  DeclareLinear(projector, "layers.3", text.d_model, text.d_model);
  DeclareNorm(projector, "layers.4", text.d_model);
  if (mimo.layers > 0) {
    const Scope speaking = Scope{&anatomy, "mimo."}.As(Component::kMimo);
    for (int i = 0; i < mimo.layers; ++i)
      (void)TextLayer((speaking / "layers" / std::to_string(i)).Layer(i), mimo, false);
    DeclareRmsNorm(speaking, "norm", text.d_model);
    DeclareLinear(speaking, "output", text.vocab_size, text.d_model, false, ByOut());
    // Its cache is as long as the decoder's.
    const int64_t context = n.context == 0 ? std::min(text.max_context, kDefaultContext) : n.context;
    (void)n.kv->Declare((speaking / "kv").During(kGenerate),
                        std::vector<KvShape>(static_cast<size_t>(mimo.layers), {text.kv_heads, text.head_dim, context}),
                        n.sequences * n.beams);
  }
  hearing.window_tokens = CeilDiv(480'000, kSamplesPerToken);
  hearing.tokens = OverWindows(Samples(n.audio_seconds), [](int64_t s) { return (s - 1) / kSamplesPerToken + 1; });
  return FinishAudioLlm(hearing, text, n, anatomy);
}

Architecture g_kimi{"kimi_audio", Build};
const bool kRegistered = (RegisterArchitecture(&g_kimi), true);

}  // namespace
}  // namespace sotto
