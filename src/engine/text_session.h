// One sequence of a language model: the positions that it has read, and the logits of what comes next. Nothing is allocated after
// construction.
//
//   TextSession session(engine);
//   TRY(session.Read(ids, stop));                 // a prompt, in pieces of the model's rows
//   int32_t id = Sample(session.logits(), …);
//   TRY(session.Read({&id, 1}, stop));            // a step
#pragma once
#include <atomic>
#include <vector>

#include "base/function_ref.h"
#include "engine/engine.h"

namespace sotto {

class TextSession {
 public:
  explicit TextSession(Engine& engine, int32_t sequence = 0);

  int64_t length() const { return length_; }  // positions read
  int64_t room() const { return context_ - length_; }

  // Reads tokens behind what was read. kUsage when they are more than room(), kInterrupted when `stop` is set between pieces;
  // what was read before stays. `each` sees every token's logits, `vocab_size` of them, in order.
  Status Read(std::span<const int32_t> ids, const std::atomic<bool>& stop);
  using EachRow = FunctionRef<void(std::span<const float>)>;
  Status Read(std::span<const int32_t> ids, const std::atomic<bool>& stop, EachRow each);

  // Of the last token read; the caller may change them. REQUIRES: length() > 0.
  std::span<float> logits() const { return logits_; }

  // Forgets all positions from `length` on, if the caches still hold what is before them: a sliding window's ring may have been
  // written over. Returns the positions that are left: `length`, or 0.
  int64_t Rewind(int64_t length);

 private:
  Status ReadAll(std::span<const int32_t> ids, const std::atomic<bool>& stop, const EachRow* each);
  Status Step(std::span<const int32_t> ids);
  std::span<float> LogitsOf(int64_t row);

  const Engine& engine_;
  Model& model_;
  Backend& ops_;
  Run run_;
  int32_t sequence_;
  int64_t context_, length_ = 0, longest_ = 0;  // longest_: positions ever written
  std::vector<int32_t> seq_, pos_;
  std::span<float> logits_;
};

}  // namespace sotto
