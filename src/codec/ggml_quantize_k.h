// The K types' quantizers. Internal to codec/; ggml_quantize_k_portable.cc says how they choose.
#pragma once
#include "codec/ggml_layout.h"

namespace sotto::codec {

void Encode(const float* x, Q2K* b);  // x[256]
void Encode(const float* x, Q3K* b);
void Encode(const float* x, Q4K* b);
void Encode(const float* x, Q5K* b);
void Encode(const float* x, Q6K* b);

}  // namespace sotto::codec
