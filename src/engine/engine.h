// Engine: a plan, taken and filled. One arena, one model, its tokenizer and front end; what runs on it allocates nothing more.
#pragma once
#include <functional>
#include <memory>

#include "engine/planning.h"
#include "text/tokenizer.h"
#include "text/whisper_rules.h"

namespace sotto {

class LayerStream;

class Engine {
 public:
  ~Engine();
  // Maps the arena and fills it. kOverBudget when the plan does not fit (before anything is read) or the system does not give what
  // it promised; kBadModel for files. `progress(done, total)` bytes; false interrupts.
  static Result<std::unique_ptr<Engine>> Open(Planned planned, const std::function<bool(uint64_t, uint64_t)>& progress);

  const Planned& planned() const { return planned_; }
  const Layout& layout() const { return planned_.layout; }
  Model& model() { return *planned_.layout.model; }
  Backend& ops() { return *ops_; }
  Threads& threads() { return *threads_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const WhisperTokens& tokens() const { return tokens_; }
  LogMel& mel() { return *mel_; }
  const Arena& arena() const { return arena_; }
  Run run(Phases phase) const { return {*planned_.layout.anatomy, planned_.layout.plan, arena_, phase, gate_}; }
  // Whether all layers that passes needed so far could be read; a pass that lacked one has ended early and means nothing.
  Status passed() const;
  const LayerStream* stream() const { return stream_.get(); }

  // Log-mel of one window into the model's input, and the encoder over it: what Model::Encode gives.
  Result<View> Hear(const MelWindow& window, int32_t sequence);
  // `largest`, if given: log10 of the window's own largest mel power.
  View ComputeMel(const MelWindow& window, float* largest = nullptr);

 private:
  Engine();
  Status TakeMemory();
  Status ReadTokenizer();
  Status Fill(const std::function<bool(uint64_t, uint64_t)>& progress);

  Planned planned_;
  Arena arena_;
  std::unique_ptr<Threads> threads_;
  std::unique_ptr<Backend> ops_;
  std::optional<Tokenizer> tokenizer_;
  WhisperTokens tokens_;
  std::optional<LogMel> mel_;
  LayerGate* gate_ = nullptr;
  std::unique_ptr<LayerStream> stream_;  // its thread writes into the arena: gone first
};

// Planned against actual, measured in this process: one row a category, and the whole.
struct LedgerRow {
  std::string name;
  Bytes planned, actual;
};
struct Ledger {
  std::vector<LedgerRow> rows;
  Bytes planned, peak;  // of the process: the plan's total, VmHWM
  double error = 0;     // planned / peak - 1, signed
  KvUse cache;          // of a packed cache, now
};
Ledger MakeLedger(const Engine& engine);

}  // namespace sotto
