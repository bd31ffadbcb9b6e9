// LoRA adapters (https://arxiv.org/abs/2106.09685) that stay apart from their matrices: [r, in] and [out, r] for each.
#pragma once
#include <fmt/format.h>

#include "models/blocks/plain.h"
#include "models/blocks/text_decoder.h"
#include "models/class_config.h"

namespace sotto {

inline void DeclareLora(const Scope& at, const std::string& name, int64_t rank, int64_t out, int64_t in) {
  DeclareLinear(at / name, "lora_A", rank, in, false);
  DeclareLinear(at / name, "lora_B", out, rank, false);
}

// On attention matrices of every layer, as PEFT's adapter_config says: r and target_modules.
inline Status DeclareLora(const ClassConfig& adapter, const TextConfig& text, Anatomy& anatomy) {
  const int64_t rank = TRY(adapter.Int("r", 1, kMaxWidth));
  if (!adapter.Has("target_modules") || !adapter.json()["target_modules"].is_array() ||
      adapter.json()["target_modules"].size() > 16)
    return adapter.Bad("target_modules", "must list the matrices that LoRA changes");
  anatomy.Elsewhere(Component::kAdapters);  // in adapter_model.safetensors
  const Scope at = Scope{&anatomy, "lora."}.As(Component::kAdapters);
  const int64_t q = text.heads * text.head_dim, kv = text.kv_heads * text.head_dim;
  for (const Json& module : adapter.json()["target_modules"]) {
    if (!module.is_string()) return adapter.Bad("target_modules", "must list names");
    const std::string name = module;
    int64_t out = 0, in = text.d_model;
    if (name == "q_proj") out = q;
    if (name == "k_proj" || name == "v_proj") out = kv;
    if (name == "o_proj") out = text.d_model, in = q;
    if (out == 0)
      return adapter.Bad("target_modules", fmt::format("names '{}', which is no attention matrix", name.substr(0, 40)));
    for (int i = 0; i < text.layers; ++i) DeclareLora((at / std::to_string(i)).Layer(i), name, rank, out, in);
  }
  return {};
}

}  // namespace sotto
