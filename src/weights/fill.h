// A slot's bytes, from its tensor in a file: read, converted and packed panel by panel through a small planned staging area. What the
// loader does once for every slot, and a stream (weights/stream.h) again and again for the slots of its layers.
//
//   SlotFiller filler(anatomy, run, staging, threads);
//   TRY(filler.Fill({id, Piece::kWhole, origin}));
#pragma once
#include "base/threads.h"
#include "plan/arena.h"
#include "weights/stored.h"

namespace sotto {

// What a tensor is of its slot: all of it, the scales of int8 codes, or a block of codec/planes.h.
enum class Piece : uint8_t { kWhole, kScale, kPlanes };

struct SlotTensor {
  uint32_t id = 0;
  Piece piece = Piece::kWhole;
  WeightOrigin origin;
};

// Bytes of staging that a filler needs for this anatomy; it depends on the largest row only. Rows that are `widened` (of a GGUF
// file, of int8 codes) become fp32 on their way.
uint64_t StagingBytes(const Anatomy& anatomy, int threads, bool widened);

class SlotFiller {
 public:
  // REQUIRES: staging.size() >= StagingBytes(); all outlive the filler.
  SlotFiller(const Anatomy& anatomy, const Run& run, std::span<std::byte> staging, Threads& threads);

  // kBadModel when the file is not what its header said. REQUIRES: the scales of codes come behind the codes.
  Status Fill(const SlotTensor& tensor);
  // The bytes of Piece::kPlanes alone: nothing is checked but their number.
  Status ReadPlanes(uint32_t id, const WeightOrigin& origin);

 private:
  std::byte* Rows(int thread) const { return staging_ + share_ * static_cast<size_t>(thread); }
  std::byte* Turned(int thread) const { return Rows(thread) + share_ / 2 / 64 * 64; }
  Status FillPlanes(uint32_t id, const WeightOrigin& origin);
  Status FillScales(uint32_t id, const WeightOrigin& origin);
  Status FillMatrix(uint32_t id, const Slot& slot, const WeightOrigin& origin);
  Status FillPlain(uint32_t id, const Slot& slot, const WeightOrigin& origin);

  const Anatomy& anatomy_;
  Run run_;
  Threads& threads_;
  std::byte* staging_;
  size_t share_;  // of a thread
};

}  // namespace sotto
