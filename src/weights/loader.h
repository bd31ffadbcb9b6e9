// From a model's files into its planned slots: matched by name at planning time, filled in one pass at loading time. A tensor
// is read, converted and packed panel by panel through a small planned staging area: there are never two copies of a model.
#pragma once
#include "base/threads.h"
#include "weights/fill.h"
#include "weights/gguf_config.h"
#include "weights/safetensors.h"
#include "weights/stored.h"

namespace sotto {

// Files of another model that this one's config names (Ultravox: text_model_id): their tensors `from…` are slots `to…`, the others
// are not this model's.
struct NamedPart {
  std::string key, id;  // of the config: "text_model_id", what it says
  std::string from, to;
  std::optional<ModelFiles> files;  // when it is on this machine
};

// Those that a config names; those of them that are on this machine are opened.
Result<std::vector<NamedPart>> OpenParts(const Json& config);

// What the tensors of a model's own files and of its parts are: visit(slot, files, tensor, piece) for each that has a slot. A part
// fills what is missing. kBadModel for tensors that are there twice, that the config does not describe, or that are nowhere.
using VisitTensor = FunctionRef<Status(uint32_t, const ModelFiles&, const TensorHeader&, Piece)>;
Status ForEachWeight(const ModelFiles& files, std::span<const NamedPart> parts, const Anatomy& anatomy,
                     VisitTensor visit);

// Every weight slot has a tensor of its shape and a type that sotto reads (F32, F16, BF16), and no tensor is left over: else
// kBadModel naming the tensor, both shapes, or both counts. What the model's own files lack stands in the parts.
Result<StoredWeights> CheckHeaders(const ModelFiles& files, std::span<const NamedPart> parts, const Anatomy& anatomy);

// REQUIRES: CheckHeaders succeeded; `run` is in kLoad; staging.size() >= StagingBytes(). `progress(done, total)` in bytes, called
// from one thread at a time. Stops with kInterrupted when progress returns false. Slots in a ring are not filled: their tensors are
// listed in `streamed`.
Status LoadWeights(const ModelFiles& files, std::span<const NamedPart> parts, const Anatomy& anatomy, const Run& run,
                   std::span<std::byte> staging, Threads& threads, std::vector<SlotTensor>* streamed,
                   FunctionRef<bool(uint64_t, uint64_t)> progress);

// The same for a GGUF model. REQUIRES: CheckLoadable succeeded for this anatomy.
Status LoadWeights(const GgufModel& gguf, const Anatomy& anatomy, const Run& run, std::span<std::byte> staging,
                   Threads& threads, std::vector<SlotTensor>* streamed, FunctionRef<bool(uint64_t, uint64_t)> progress);

// Every tensor has as many elements as its slot and a type that codec/ggml_blocks.h reads: else kBadModel naming both.
Status CheckLoadable(const GgufModel& gguf, const Anatomy& anatomy);

}  // namespace sotto
