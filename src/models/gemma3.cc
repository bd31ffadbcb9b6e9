// Gemma 3 with its vision tower (transformers' Gemma3ForConditionalGeneration): SigLIP, one matrix, the text model of gemma.cc.
// The outer tie_word_embeddings decides.
#include "models/blocks/vision.h"
#include "models/text.h"

namespace sotto {
namespace {

Result<std::unique_ptr<Model>> Build(const Json& json, const Workload& n, Anatomy& anatomy) {
  const ClassConfig j = TRY(ClassConfig::Of(json, "config.json"));
  TextConfig text = TRY(ReadText(TRY(j.Part("text_config", "gemma3_text"))));
  text.tied = TRY(j.Bool("tie_word_embeddings"));
  const ClassConfig v = TRY(j.Part("vision_config", "siglip_vision_model"));
  SiglipConfig c = TRY(ReadSiglip(v));
  c.head = !v.Has("vision_use_head") || TRY(v.Bool("vision_use_head"));
  DeclareSiglip(Scope{&anatomy, "model.vision_tower."}.As(Component::kVision), c);
  const Scope projector = Scope{&anatomy, "model.multi_modal_projector."}.As(Component::kProjector);
  (void)Matrix(projector, "mm_input_projection_weight", c.d, text.d_model);
  DeclareRmsNorm(projector, "mm_soft_emb_norm", c.d);
  return MakeText(Scope{&anatomy, "model.language_model."}, Scope{&anatomy, ""}, text, n);
}

Architecture g_gemma3{"gemma3", Build};
const bool kRegistered = (RegisterArchitecture(&g_gemma3), true);

}  // namespace
}  // namespace sotto
