// Arena: one block of exactly plan.arena bytes (rounded up to a page), mapped and taken before anything is read, so that what was
// planned is taken, and memory that the system promised but cannot give is found out here and not at token 100.
#pragma once
#include <cstddef>
#include <span>

#include "base/file.h"
#include "plan/memory_plan.h"
#include "plan/view.h"

namespace sotto {

class Arena {
 public:
  Arena() = default;
  Arena(Arena&& other) noexcept { *this = std::move(other); }
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  // kOverBudget when the system does not give the memory (RLIMIT_DATA, a full machine).
  static Result<Arena> Map(Bytes bytes);
  // Makes the pages of [offset, offset + n) resident and zero; n is cut to the arena's end. Threads may share the work by
  // parts. kOverBudget as Map.
  Status Take(uint64_t offset, uint64_t n) const;
  // Puts pages of a file, to be read only, in the place of those at `offset`, which must not be taken then. They count as this process's
  // memory like all others, but are those of the page cache, which other processes share. kBadModel when the file has become
  // shorter; later that is SIGBUS. REQUIRES: `offset`, `from` and `bytes` are whole pages.
  Status MapFile(uint64_t offset, const File& file, uint64_t from, uint64_t bytes) const;

  std::byte* base() const { return base_; }
  Bytes size() const { return size_; }

 private:
  std::byte* base_ = nullptr;
  Bytes size_;
};

// Who brings layers that are not resident (weights/stream.h).
class LayerGate {
 public:
  virtual ~LayerGate() = default;
  // Waits until the layer's weights are there. False when they can't be had: the pass ends, and the engine knows why.
  virtual bool Enter(Stack stack, int layer) = 0;
  virtual void Leave(Stack stack, int layer) = 0;
};

// A model's members as memory, in one phase: a member that is not live in it is a bug and a failed CHECK.
class Run {
 public:
  Run(const Anatomy& anatomy, const MemoryPlan& plan, const Arena& arena, Phases phase, LayerGate* gate = nullptr)
      : anatomy_(&anatomy), plan_(&plan), base_(arena.base()), phase_(phase), gate_(gate) {}

  WeightView operator[](const Matrix& m) const;
  WeightView operator[](const ConvMatrix& m) const;
  View operator[](const Vector& m) const;    // [1, n]
  View operator[](const RowTable& m) const;  // [rows, cols], fp32 or fp16
  View operator[](const Buffer& m) const;    // [rows, cols]
  View operator[](const Cache& m) const;     // [planes * rows, cols]
  std::span<std::byte> operator[](const Table& m) const;
  Run In(Phases phase) const;

  const Slot& slot(const Member& m) const { return anatomy_->at(m.id); }
  const Stored& stored(const Member& m) const { return plan_->recipe[m.id]; }
  std::byte* At(uint32_t id) const;  // CHECKs the phase
  LayerGate* gate() const { return gate_; }

 private:
  const Anatomy* anatomy_;
  const MemoryPlan* plan_;
  std::byte* base_;
  Phases phase_;
  LayerGate* gate_;
};

// One layer's turn in a pass; false when its weights can't be had.
//
//   const LayerTurn turn(run, Stack::kDecoder, i);
//   if (!turn) return;
class LayerTurn {
 public:
  LayerTurn(const Run& run, Stack stack, int layer)
      : gate_(run.gate()), stack_(stack), layer_(layer), here_(gate_ == nullptr || gate_->Enter(stack, layer)) {}
  LayerTurn(const LayerTurn&) = delete;
  LayerTurn& operator=(const LayerTurn&) = delete;
  ~LayerTurn() {
    if (gate_ != nullptr && here_) gate_->Leave(stack_, layer_);
  }
  explicit operator bool() const { return here_; }

 private:
  LayerGate* gate_;
  Stack stack_;
  int layer_;
  bool here_;
};

}  // namespace sotto
