// whisper.cpp 1.9.3: what `--engine llama.cpp` means for Whisper's own models.
#include <algorithm>

#include "engine/foreign/ggml.h"

namespace sotto::foreign {
namespace {

constexpr Setting kSettings[] = {{"n_decoders", "", 1, 8}};
// Those that its quantize program writes.
constexpr std::string_view kTypes[] = {"F32",  "F16",  "Q4_0", "Q4_1", "Q5_0", "Q5_1",
                                       "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"};

}  // namespace

Result<ForeignPlan> PlanWhisperCpp(const Case& c, const std::vector<std::string>& given) {
  const Settings settings = TRY(Settings::Of("whisper.cpp", kSettings, given));
  if (c.planned.request.tp > 1) return NoRule("whisper.cpp", "--tp");
  if (c.batch > 1) return NoRule("whisper.cpp", "--batch");
  if (c.beams > 8) return Usage(fmt::format("--beam {}: whisper.cpp decodes at most 8 side by side", c.beams));
  if (const std::string& kv = c.planned.request.kv; kv != "auto" && kv != "fp16")
    return Usage(fmt::format("--kv {}: whisper.cpp's caches are fp16, which is no option of it", kv));
  // bf16 as stored becomes F16; a bf16 that was asked for is refused below.
  WeightKind weights = c.weights;
  if (c.planned.request.weights == "auto" && weights.dtype == DType::kBF16) weights.dtype = DType::kF16;
  const GgmlType* type = TRY(GgmlOf(weights, "whisper.cpp"));
  if (std::find(std::begin(kTypes), std::end(kTypes), type->name) == std::end(kTypes))
    return Usage(fmt::format("--weights {}: whisper.cpp has {}", NameOf(weights), fmt::join(kTypes, ", ")));

  const GgmlType& conv = type->name == "F32" ? *type : *FindGgmlType("F16");
  uint64_t bytes = 0;
  for (const Slot& s : c.planned.layout.anatomy->slots()) {
    if (s.role != Role::kWeight) continue;
    const bool matrix = s.form == Form::kMatrix;
    bytes = SatAdd(bytes, matrix ? MatrixBytes(s.source == Source::kConv ? conv : *type, s) : SatMul(s.Elements(), 4));
  }
  const ModelInfo& info = c.info;
  const int64_t layers = info.cross_layers, d = info.d_model, text = Pad256(info.max_context),
                audio = Pad256(info.audio_positions);
  const int64_t decoders = settings.Int("n_decoders", c.beams), copies = decoders > 1 ? decoders + 2 : 1;
  ForeignPlan plan;
  plan.engine = "whisper.cpp";
  plan.version = "1.9.3";
  plan.terms = {
      {.name = "weights",
       .bytes = bytes,
       .rule = fmt::format("matrices {}, convolutions {}, all else F32", type->name, conv.name),
       .source = "whisper_model_load"},
      {.name = "KV cache, self",
       .bytes = Times({layers, text, 2, d, 2, copies}),
       .rule = fmt::format("{} layers x {} positions (whatever --context says) x 2 x {} x 2 bytes x {}", layers, text,
                           d, copies == 1 ? "1 (whisper-cli: --beam 5)" : fmt::format("({} decoders + 2)", decoders)),
       .source = "text layers x pad256(n_text_ctx) x 2 x n_state x 2"},
      {.name = "KV cache, cross",
       .bytes = Times({layers, audio, 2, d, 2}),
       .rule = fmt::format("{} layers x {} positions x 2 x {} x 2 bytes", layers, audio, d),
       .source = "text layers x pad256(n_audio_ctx) x 2 x n_state x 2"},
      {.name = "KV cache, pad",
       .bytes = Times({audio, 2, d, 2}),
       .rule = fmt::format("{} positions x 2 x {} x 2 bytes", audio, d),
       .source = "whisper_init_state, kv_pad"},
      {.name = "compute buffers",
       .rule = "conv, encode, cross, decode: no published formula; whisper.cpp prints them at start",
       .source = "conv, encode, cross, decode"},
      {.name = "logits",
       .rule =
           fmt::format("{} x {} x 4 bytes are reserved; pages count when touched", info.vocab_size, info.max_context),
       .source = "V x n_text_ctx x 4",
       .at_most = Times({info.vocab_size, info.max_context, 4}),
       .place = Place::kHost},
      {.name = "samples and mel",
       .rule = "all of an audio at once; no rule was read",
       .source = "samples and mel",
       .place = Place::kHost}};
  return plan;
}

}  // namespace sotto::foreign
