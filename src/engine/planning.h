// From a model and a budget to a plan: the ladder of weight precisions, cache precisions and batch sizes is tried from the best
// down, and the first that fits is taken. No weight is read here.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "audio/log_mel.h"
#include "codec/isa.h"
#include "models/model.h"
#include "plan/memory_plan.h"
#include "plan/residency.h"
#include "text/token_tables.h"
#include "weights/gguf_config.h"
#include "weights/loader.h"
#include "weights/model_dir.h"
#include "weights/recipe.h"

namespace sotto {

inline constexpr int64_t kMostSequences = 64, kMostAudioSeconds = 10'000'000;

// What a person may fix; everything else is chosen.
struct PlanRequest {
  std::optional<Bytes> budget;  // nothing: what is free now, or none
  bool unbounded = false;  // without a budget the first choice is laid out, and it is only said whether it fits now
  std::string weights = "auto";  // fp32, fp16, bf16, int8, a GGUF type, auto
  std::string kv = "auto";       // fp32, fp16, bf16, auto
  std::string resident = "all";  // layers that stay in memory: all, auto (as many as fit), or how many
  bool direct = false;           // the others are read past the page cache
  bool mapped = false;           // packed matrices are not read, but used where they lie in the file
  int64_t batch = 0;             // 0: as many as are useful and fit
  int64_t useful_batch = 1;      // how many sequences there is work for
  int64_t beam = 1;
  int64_t tp = 1;                 // tensor-parallel ranks; the plan is that of one
  int64_t context = 0;            // 0: the model's maximum, or kDefaultContext if that is less
  double audio_seconds = 0;       // of a sequence; 0: one window
  int64_t encoder_positions = 0;  // that an encoder-decoder's cross-attention reads; 0: the published window
  int threads = 0;                // 0: all CPUs of this process
  bool tokenizer = true;          // whether text is wanted (logits and stages work without)
  int64_t kept_logits = 0;        // rows of them that somebody keeps, beside one matrix (harness/sensitivity.h)
};

// The engine's own slots, in the same anatomy as the model's.
struct EngineSlots {
  Table mapped;                  // pages of the model's file; the first slot of all, so that it begins a page
  Table staging;                 // loading
  Table stream_staging, bounce;  // of layers that are not resident
  Table scratch;                 // kernels
  Table tokenizer;
  Table sampler;  // models that generate text
  Table mel_tables, mel_scratch;
  std::vector<Table> stream, window;  // by sequence
  Table kept_logits, kept_matrix;     // PlanRequest::kept_logits rows of fp32 and one more; any matrix as fp32
};

struct Choice {
  WeightKind weights;
  const KvPolicy* kv = nullptr;
  int64_t batch = 1;
  int streamed = 0;  // layers that are read for every pass (plan/residency.h)
};

// One candidate, laid out. The model refers to the anatomy.
struct Layout {
  Choice choice;
  std::unique_ptr<Anatomy> anatomy;
  std::unique_ptr<Model> model;
  EngineSlots slots;
  MemoryPlan plan;
  FilePages mapped;  // what of the model's file is slots.mapped; of no bytes: nothing
  std::vector<StackLayer> streamed;
  int stack_layers = 0;                       // that could be
  uint64_t StreamedBytes(Stack stack) const;  // read for one pass
};

struct Planned {
  ModelDir dir;
  Json config;
  StoredWeights stored;                   // the files' own precision; config's word for it when there are no files
  std::shared_ptr<const GgufModel> gguf;  // the file's header, when the model is one
  std::optional<ModelFiles> files;        // opened and checked, when there are weights
  std::vector<NamedPart> parts;           // of other models that the config names
  uint64_t tokenizer_bytes = 0;
  std::optional<TokenizerSize> tokenizer;  // when the directory or the file has one
  std::string no_tokenizer;                // why not
  MelParams mel;                           // without meaning for a model that does not hear
  PlanRequest request;
  Isa isa = Isa::kPortable;
  int threads = 1;
  Layout layout;  // the best that fits; the smallest when nothing does
  Bytes budget;
  Bytes smallest;           // the least budget that works for this request
  Bytes smallest_streamed;  // the same with --resident auto, when nothing fits; 0: unknown
  bool fits = false;
  std::vector<Choice> rejected;    // better ones that did not fit
  std::vector<std::string> notes;  // sentences about what the plan takes for granted
};

// How the weights of a plan are named: "fp16", "q4_k", or the files' own form ("gguf", "gptq 4-bit").
std::string WeightsName(const Planned& planned, const Choice& choice);

// kBadModel, kUsage; not fitting is not an error here (Planned::fits), see Refusal().
Result<Planned> PlanModel(const ModelDir& dir, const PlanRequest& request);

// What may be chosen for a request, from the most precise down. Nothing above what is stored: it would take memory and add
// nothing. kUsage.
Result<std::vector<Choice>> Ladder(const PlanRequest& request, const StoredWeights& stored);

// Lays one choice out for `request`, on the model and the machine of `planned`, whose files are not read again.
Result<Layout> LayOut(const Planned& planned, const PlanRequest& request, const Choice& choice);

// The longest text of a prompt for a context: eight bytes a position, at least 64 KiB. Text, messages, a template's values, a word
// that is the whole text (Tokenizer::Encode) and ids take at most kPromptHeap times that of the process's heap, which is planned.
uint64_t MaxPromptBytes(int64_t context);
inline constexpr uint64_t kPromptHeap = 40;

// Samples on either side of a window that its log-mel sees: where windows are parts of one spectrogram.
int64_t WindowContext(const ModelInfo& info, const MelParams& mel);

// What the kernels must be given for this model.
ScratchNeed ScratchOf(const Anatomy& anatomy, const Model& model, const KvPolicy& kv, int threads);

// The sentence and the numbers of a refusal. REQUIRES: !planned.fits.
Error Refusal(const Planned& planned);

}  // namespace sotto
