// From a model's files into its planned slots: matched by name at planning time, filled in one pass at loading time. A tensor
// is read, converted and packed panel by panel through a small planned staging area: there are never two copies of a model.
#pragma once
#include "base/threads.h"
#include "plan/arena.h"
#include "weights/safetensors.h"
#include "weights/stored.h"

namespace sotto {

// Every weight slot has a tensor of its shape and a type that sotto reads (F32, F16, BF16), and no tensor is left over: else
// kBadModel naming the tensor, both shapes, or both counts.
Result<StoredWeights> CheckHeaders(const ModelFiles& files, const Anatomy& anatomy);

// Bytes of staging that LoadWeights needs for this anatomy; it depends on the largest row only.
uint64_t StagingBytes(const Anatomy& anatomy, int threads);

// REQUIRES: CheckHeaders succeeded; `run` is in kLoad; staging.size() >= StagingBytes(). `progress(done, total)` in bytes, called
// from one thread at a time. Stops with kInterrupted when progress returns false.
Status LoadWeights(const ModelFiles& files, const Anatomy& anatomy, const Run& run, std::span<std::byte> staging,
                   Threads& threads, FunctionRef<bool(uint64_t, uint64_t)> progress);

}  // namespace sotto
