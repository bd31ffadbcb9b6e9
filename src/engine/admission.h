// MemoryManager: who may take memory in a process that lives long and holds several models. It knows what the system
// has, holds what was promised to loads that are still going on, keeps count of what is loaded and used, and when
// memory is short it acts. It takes no memory itself and loads nothing: its host does (Engine::Open), and says so.
//
//   MemoryManager memory(rules);
//   Reservation room = TRY(memory.Reserve(name, rung, {.drop = [&] { return Unload(name); }}));  // checked and held in one step
//   auto engine = TRY(Engine::Open(planned, progress));   // a failure gives the room back with `room`
//   room.Loaded();
//   Ticket ticket = TRY(room.Admit());                    // a session: the model is in use while it lives
//
// Thread-safe. Callbacks run without a lock, in the thread whose call caused them.
#pragma once
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "engine/admission_rules.h"

namespace sotto {

class MemoryManager;

// What a host can do to a loaded model. Either may be left out.
struct ModelActions {
  std::function<bool()> drop;    // unloads it; called when it is idle. false: not now
  std::function<bool()> shrink;  // makes its batch smaller, for sessions that run. false: it is as small as it gets
};

// A session of a loaded model: while it lives the model is not idle. Lives no longer than its manager.
class Ticket {
 public:
  Ticket() = default;
  Ticket(Ticket&& other) noexcept;
  Ticket& operator=(Ticket&& other) noexcept;
  ~Ticket();

 private:
  friend class Reservation;
  Ticket(MemoryManager* manager, uint64_t id) : manager_(manager), id_(id) {}
  void Leave();
  MemoryManager* manager_ = nullptr;
  uint64_t id_ = 0;
};

// Room that is held for a model, given back when it goes. Lives no longer than its manager.
class Reservation {
 public:
  Reservation() = default;  // of nothing
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation();

  // So many bytes are resident by now: the system's own figure shows them, so they are held no longer.
  void Resident(Bytes so_far);
  void Loaded();  // all of it
  void Release();
  // kOverBudget while memory is short; kFailed when the model was dropped.
  Result<Ticket> Admit();

 private:
  friend class MemoryManager;
  Reservation(MemoryManager* manager, uint64_t id) : manager_(manager), id_(id) {}
  MemoryManager* manager_ = nullptr;
  uint64_t id_ = 0;
};

struct MemorySample {
  double seconds = 0;  // since the manager was made
  SystemMemory memory;
  Bytes reserved;  // by loads in progress
  MemoryState state = MemoryState::kOk;
};
double PercentUsed(const SystemMemory& memory);

struct ModelMemory {
  std::string name;
  Rung rung;
  Bytes taken, resident;
  int64_t sessions = 0;
};

struct MemoryStats {
  MemorySample now;
  Thresholds thresholds;  // of what is loaded; 0 when nothing is
  bool refuses_sessions = false;
  std::vector<ModelMemory> models;  // by age, the newest last
  std::deque<MemorySample> history;
};

// What must be available to load the newest model again, by absolute size alone. kUsage when nothing is loaded.
Result<Bytes> LoadThreshold(const MemoryStats& stats);

class MemoryManager {
 public:
  using Reader = std::function<SystemMemory()>;
  using OnState = std::function<void(MemoryState from, MemoryState to)>;
  static constexpr size_t kMostSamples = 600;

  // `read` gives what the system has (tests: a made-up machine); `on_state` is told of changes, one at a time and in
  // their order. It may call the manager.
  explicit MemoryManager(
      AdmissionRules rules, Reader read = [] { return ReadSystemMemory(); }, OnState on_state = {});
  ~MemoryManager();  // REQUIRES: no reservation lives
  MemoryManager(const MemoryManager&) = delete;
  MemoryManager& operator=(const MemoryManager&) = delete;

  const AdmissionRules& rules() const { return rules_; }

  // What a load may count on: `available` is less by what is held for loads in progress.
  SystemMemory Free() const;
  // kOverBudget. Says nothing of the next moment: Reserve does.
  Status CanLoad(const Rung& rung) const;

  // Checks and holds in one step: two loads at once can't both have the last room. Where room is missing and dropping
  // idle models would give it, they are dropped, the least recently used first; else none is. kOverBudget.
  Result<Reservation> Reserve(std::string name, const Rung& rung, ModelActions actions = {});

  // What is loaded already, and was before anybody asked: nothing is checked.
  Reservation Adopt(std::string name, const Rung& rung, ModelActions actions = {});

  // Reads the system, takes a sample, tells of a change. In the state kCritical it acts, until that is over: drops idle
  // models, the least recently used first; refuses new sessions until the state changes; asks each model once for a
  // smaller batch, in the same order. A host calls it at intervals.
  MemoryState Check();

  MemoryStats Stats() const;

 private:
  friend class Reservation;
  friend class Ticket;

  struct Entry {
    ModelMemory model;
    ModelActions actions;
    uint64_t last_used = 0;
    bool dropping = false;
    bool idle() const { return model.sessions == 0 && model.resident == model.taken && !dropping; }
  };

  // With mutex_ held.
  Bytes Held() const;
  SystemMemory FreeNow(const SystemMemory& memory) const;
  Thresholds ThresholdsNow() const;
  MemorySample Sample() const;
  std::vector<uint64_t> ByUse() const;                            // the least recently used first
  uint64_t IdleModel(const std::set<uint64_t>& unwilling) const;  // 0: none
  Bytes Droppable(const std::set<uint64_t>& unwilling) const;
  uint64_t Add(std::string name, const Rung& rung, ModelActions actions);

  // Without.
  MemoryState Observe();
  void Tell();
  bool Drop(uint64_t id);
  void Resident(uint64_t id, Bytes so_far);
  void Release(uint64_t id);
  Status Admit(uint64_t id);
  void Leave(uint64_t id);

  const AdmissionRules rules_;
  const Reader read_;
  const OnState on_state_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();

  mutable std::mutex mutex_;
  std::map<uint64_t, Entry> models_;
  uint64_t next_id_ = 1, clock_ = 0;
  MemoryState state_ = MemoryState::kOk;
  bool refuses_sessions_ = false, telling_ = false;
  std::deque<std::pair<MemoryState, MemoryState>> untold_;
  std::deque<MemorySample> history_;
};

}  // namespace sotto
