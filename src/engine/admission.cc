#include "engine/admission.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace sotto {
namespace {
Error NotLoaded() { return Failed("the model is not loaded: it was dropped when memory was short; load it again"); }
}  // namespace

double PercentUsed(const SystemMemory& m) {
  if (m.total.n == 0 || m.available > m.total) return 0;
  return 100.0 * static_cast<double>(m.total.n - m.available.n) / static_cast<double>(m.total.n);
}

Result<Bytes> LoadThreshold(const MemoryStats& stats) {
  if (stats.models.empty()) return Usage("No model quantization selected: nothing is loaded; register a load first");
  return stats.models.back().taken + stats.models.back().rung.buffer;
}

Ticket::Ticket(Ticket&& other) noexcept : manager_(std::exchange(other.manager_, nullptr)), id_(other.id_) {}

Ticket& Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  Leave();
  manager_ = std::exchange(other.manager_, nullptr);
  id_ = other.id_;
  return *this;
}

Ticket::~Ticket() { Leave(); }

void Ticket::Leave() {
  if (MemoryManager* const manager = std::exchange(manager_, nullptr); manager != nullptr) manager->Leave(id_);
}

Reservation::Reservation(Reservation&& other) noexcept
    : manager_(std::exchange(other.manager_, nullptr)), id_(other.id_) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  Release();
  manager_ = std::exchange(other.manager_, nullptr);
  id_ = other.id_;
  return *this;
}

Reservation::~Reservation() { Release(); }

void Reservation::Resident(Bytes so_far) {
  if (manager_ != nullptr) manager_->Resident(id_, so_far);
}

void Reservation::Loaded() { Resident({UINT64_MAX}); }

void Reservation::Release() {
  if (MemoryManager* const manager = std::exchange(manager_, nullptr); manager != nullptr) manager->Release(id_);
}

Result<Ticket> Reservation::Admit() {
  if (manager_ == nullptr) return NotLoaded();
  TRY(manager_->Admit(id_));
  return Ticket(manager_, id_);
}

MemoryManager::MemoryManager(AdmissionRules rules, Reader read, OnState on_state)
    : rules_(std::move(rules)), read_(std::move(read)), on_state_(std::move(on_state)) {}

MemoryManager::~MemoryManager() { CHECK(models_.empty()); }

Bytes MemoryManager::Held() const {
  Bytes held;
  if (!rules_.reserves) return held;
  for (const auto& [id, e] : models_) held += Bytes{e.model.taken.n - e.model.resident.n};
  return held;
}

SystemMemory MemoryManager::FreeNow(const SystemMemory& memory) const {
  SystemMemory free = memory;
  const Bytes held = Held();
  free.available.n -= std::min(free.available.n, held.n);
  return free;
}

Thresholds MemoryManager::ThresholdsNow() const {
  if (models_.empty()) return {};
  Bytes buffer;
  for (const auto& [id, e] : models_) buffer = std::max(buffer, e.model.rung.buffer);
  return ThresholdsOf(rules_, buffer);
}

// The state is of what the system shows: a load in progress is there in part, and nobody knows how much of what is held
// is both.
MemorySample MemoryManager::Sample() const {
  MemorySample s;
  s.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  s.memory = read_();
  s.reserved = Held();
  s.state = StateOf(ThresholdsNow(), s.memory.available);
  return s;
}

std::vector<uint64_t> MemoryManager::ByUse() const {
  std::vector<uint64_t> ids;
  for (const auto& [id, e] : models_) ids.push_back(id);
  std::sort(ids.begin(), ids.end(),
            [&](uint64_t a, uint64_t b) { return models_.at(a).last_used < models_.at(b).last_used; });
  return ids;
}

uint64_t MemoryManager::IdleModel(const std::set<uint64_t>& unwilling) const {
  for (const uint64_t id : ByUse())
    if (const Entry& e = models_.at(id); e.idle() && e.actions.drop && !unwilling.contains(id)) return id;
  return 0;
}

Bytes MemoryManager::Droppable(const std::set<uint64_t>& unwilling) const {
  Bytes sum;
  for (const auto& [id, e] : models_)
    if (e.idle() && e.actions.drop && !unwilling.contains(id)) sum += e.model.taken;
  return sum;
}

SystemMemory MemoryManager::Free() const {
  const std::lock_guard lock(mutex_);
  return FreeNow(read_());
}

Status MemoryManager::CanLoad(const Rung& rung) const {
  const std::lock_guard lock(mutex_);
  const SystemMemory free = FreeNow(read_());
  if (!MayLoad(rules_, rung, free)) return LoadRefusal(rules_, rung, free, Held());
  return {};
}

uint64_t MemoryManager::Add(std::string name, const Rung& rung, ModelActions actions) {
  models_[next_id_] = {{std::move(name), rung, rung.need + rules_.audio_overhead, {}, 0}, std::move(actions), ++clock_};
  return next_id_++;
}

Reservation MemoryManager::Adopt(std::string name, const Rung& rung, ModelActions actions) {
  std::unique_lock lock(mutex_);
  Reservation room(this, Add(std::move(name), rung, std::move(actions)));
  lock.unlock();
  room.Loaded();
  return room;
}

Result<Reservation> MemoryManager::Reserve(std::string name, const Rung& rung, ModelActions actions) {
  std::set<uint64_t> unwilling;
  for (;;) {
    uint64_t victim = 0;
    {
      const std::lock_guard lock(mutex_);
      const SystemMemory free = FreeNow(read_());
      if (MayLoad(rules_, rung, free)) return Reservation(this, Add(std::move(name), rung, std::move(actions)));
      if (free.available + Droppable(unwilling) >= RoomFor(rules_, rung, free.total)) victim = IdleModel(unwilling);
      if (victim == 0) return LoadRefusal(rules_, rung, free, Held());
      models_.at(victim).dropping = true;
    }
    if (!Drop(victim)) unwilling.insert(victim);
  }
}

// REQUIRES: the entry was marked as dropping by this thread, so nobody else starts to use it or drops it.
bool MemoryManager::Drop(uint64_t id) {
  std::function<bool()> drop;
  {
    const std::lock_guard lock(mutex_);
    const auto it = models_.find(id);
    if (it == models_.end()) return true;  // its host was faster
    drop = it->second.actions.drop;
  }
  const bool dropped = drop();
  const std::lock_guard lock(mutex_);
  const auto it = models_.find(id);
  if (it == models_.end()) return true;
  if (dropped)
    models_.erase(it);
  else
    it->second.dropping = false;
  return dropped;
}

MemoryState MemoryManager::Observe() {
  MemoryState state;
  {
    const std::lock_guard lock(mutex_);
    history_.push_back(Sample());
    if (history_.size() > kMostSamples) history_.pop_front();
    state = history_.back().state;
    if (state != state_) untold_.emplace_back(state_, state);
    state_ = state;
    if (state != MemoryState::kCritical) refuses_sessions_ = false;
  }
  Tell();
  return state;
}

// One thread tells at a time; what happens meanwhile waits for it.
void MemoryManager::Tell() {
  std::unique_lock lock(mutex_);
  if (telling_) return;
  telling_ = true;
  while (!untold_.empty()) {
    const auto [from, to] = untold_.front();
    untold_.pop_front();
    lock.unlock();
    if (on_state_) on_state_(from, to);
    lock.lock();
  }
  telling_ = false;
}

MemoryState MemoryManager::Check() {
  MemoryState state = Observe();
  std::set<uint64_t> unwilling;
  while (state == MemoryState::kCritical) {  // idle models first: nobody waits for them
    uint64_t id = 0;
    {
      const std::lock_guard lock(mutex_);
      id = IdleModel(unwilling);
      if (id != 0) models_.at(id).dropping = true;
    }
    if (id == 0) break;
    if (!Drop(id)) unwilling.insert(id);
    state = Observe();
  }
  if (state != MemoryState::kCritical) return state;
  std::vector<std::function<bool()>> shrinks;
  {
    const std::lock_guard lock(mutex_);
    refuses_sessions_ = true;
    for (const uint64_t id : ByUse())
      if (const Entry& e = models_.at(id); e.actions.shrink && !e.dropping) shrinks.push_back(e.actions.shrink);
  }
  for (const auto& shrink : shrinks)
    if (shrink() && (state = Observe()) != MemoryState::kCritical) break;
  return state;
}

MemoryStats MemoryManager::Stats() const {
  const std::lock_guard lock(mutex_);
  MemoryStats stats{Sample(), ThresholdsNow(), refuses_sessions_, {}, history_};
  for (const auto& [id, e] : models_) stats.models.push_back(e.model);
  return stats;
}

void MemoryManager::Resident(uint64_t id, Bytes so_far) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = models_.find(id);
    if (it == models_.end()) return;
    ModelMemory& m = it->second.model;
    m.resident = std::max(m.resident, std::min(so_far, m.taken));
    it->second.last_used = ++clock_;
    if (m.resident < m.taken) return;
  }
  Observe();
}

void MemoryManager::Release(uint64_t id) {
  {
    const std::lock_guard lock(mutex_);
    if (models_.erase(id) == 0) return;
  }
  Observe();
}

Status MemoryManager::Admit(uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto it = models_.find(id);
  if (it == models_.end() || it->second.dropping) return NotLoaded();
  if (refuses_sessions_) {
    const SystemMemory memory = read_();
    Error e{Code::kOverBudget, ""};
    e.required_bytes = e.smallest_budget_bytes = ThresholdsNow().critical_below.n;
    e.budget_bytes = memory.available.n;
    e.message = fmt::format(
        "{} takes no new session now: {} bytes ({}) are free, and {} bytes ({}) are to stay free; try again when "
        "others are over",
        it->second.model.name, memory.available.n, Human(memory.available), e.required_bytes,
        Human({e.required_bytes}));
    return e;
  }
  ++it->second.model.sessions;
  it->second.last_used = ++clock_;
  return {};
}

void MemoryManager::Leave(uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto it = models_.find(id);
  if (it == models_.end()) return;  // released while in use
  --it->second.model.sessions;
  it->second.last_used = ++clock_;
}

}  // namespace sotto
