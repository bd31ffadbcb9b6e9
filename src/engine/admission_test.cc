// The memory manager on made-up machines: what it holds, what it gives back, what it tells and what it does.
#include "engine/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <memory>
#include <thread>

namespace sotto {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kBuffer = 10;

// A load of `bytes` leaves ten bytes free; no share is kept.
AdmissionRules Rules() {
  AdmissionRules rules;
  rules.profile = "default";
  rules.model = "model";
  rules.rungs = {{"x", {40}, {kBuffer}, ""}};
  rules.usual = "x";
  rules.keep_free = 0;
  return rules;
}

Rung Of(uint64_t bytes) { return {"x", {bytes}, {kBuffer}, ""}; }

// What a host loads is taken from it.
struct Machine {
  std::atomic<uint64_t> available;
  explicit Machine(uint64_t n) : available(n) {}
  MemoryManager::Reader reader() {
    return [this] { return SystemMemory{{1000}, {available.load()}, std::nullopt}; };
  }
};

// A host's model: taken from the machine when it is loaded, given back when it is dropped.
struct Host {
  Machine& machine;
  MemoryManager& manager;
  std::vector<std::string>& log;
  std::string name;
  uint64_t bytes;
  bool willing = true;
  int batch = 2;
  Reservation room;

  bool Load() {
    Result<Reservation> held =
        manager.Reserve(name, Of(bytes), {[this] { return Drop(); }, [this] { return Shrink(); }});
    if (!held.ok()) return false;
    room = std::move(held).value();
    machine.available -= bytes;
    room.Loaded();
    return true;
  }
  bool Drop() {
    log.push_back("drop " + name);
    if (!willing) return false;
    machine.available += bytes;
    room.Release();
    return true;
  }
  bool Shrink() {
    log.push_back("shrink " + name);
    if (batch == 1) return false;
    --batch;
    machine.available += 1;
    return true;
  }
};

TEST(MemoryManager, HoldsWhatIsNotResidentYet) {
  Machine machine(100);
  MemoryManager manager(Rules(), machine.reader());
  Reservation a = manager.Reserve("a", Of(40)).value();
  EXPECT_EQ(manager.Free().available.n, 60u);
  machine.available -= 30;
  a.Resident({30});
  EXPECT_EQ(manager.Free().available.n, 60u);
  a.Resident({20});  // never less again
  EXPECT_EQ(manager.Stats().now.reserved.n, 10u);
  machine.available -= 10;
  a.Loaded();
  EXPECT_EQ(manager.Free().available.n, 60u);
  EXPECT_TRUE(manager.CanLoad(Of(50)).ok());
  const Result<Reservation> b = manager.Reserve("b", Of(51));
  ASSERT_FALSE(b.ok());
  EXPECT_EQ(b.error().code, Code::kOverBudget);
  EXPECT_EQ(b.error().required_bytes, 61u);
  EXPECT_EQ(b.error().budget_bytes, 60u);
}

TEST(MemoryManager, ARefusalSaysWhatOtherLoadsHold) {
  Machine machine(100);
  MemoryManager manager(Rules(), machine.reader());
  const Reservation a = manager.Reserve("a", Of(70)).value();
  EXPECT_THAT(manager.CanLoad(Of(30)).error().message, HasSubstr("beside the 70 that other loads hold: 10 bytes"));
}

TEST(MemoryManager, OfTwoLoadsAtOnceOneHasTheLastRoom) {
  constexpr int kRounds = 100;
  for (const int threads : {2, 5}) {
    Machine machine(100);
    MemoryManager manager(Rules(), machine.reader());
    std::vector<Reservation> rooms(static_cast<size_t>(threads));
    std::atomic<int> won{0};
    std::vector<int> winners;
    std::barrier together(threads, [&]() noexcept {
      winners.push_back(won.exchange(0));
      for (Reservation& r : rooms) r.Release();
    });
    std::vector<std::thread> pool;
    for (Reservation& room : rooms)
      pool.emplace_back([&] {
        for (int i = 0; i < kRounds; ++i) {
          Result<Reservation> r = manager.Reserve("m", Of(60));
          if (r.ok()) {
            ++won;
            room = std::move(r).value();
          }
          together.arrive_and_wait();
        }
      });
    for (std::thread& t : pool) t.join();
    EXPECT_EQ(winners, std::vector<int>(kRounds, 1));
  }
}

TEST(MemoryManager, AFailedLoadGivesItsRoomBack) {
  Machine machine(100);
  MemoryManager manager(Rules(), machine.reader());
  const auto load = [&]() -> Status {
    Reservation room = TRY(manager.Reserve("a", Of(80)));
    room.Resident({30});
    return BadModel("the file ends here");
  };
  for (int i = 0; i < 3; ++i) EXPECT_EQ(load().error().code, Code::kBadModel);
  EXPECT_EQ(manager.Free().available.n, 100u);
  EXPECT_TRUE(manager.Stats().models.empty());
}

TEST(MemoryManager, AReservationThatIsReplacedGivesItsRoomBack) {
  Machine machine(100);
  MemoryManager manager(Rules(), machine.reader());
  Reservation room = manager.Reserve("a", Of(40)).value();
  room = manager.Reserve("b", Of(50)).value();
  EXPECT_EQ(manager.Stats().models.size(), 1u);
  Reservation moved = std::move(room);
  room.Release();  // holds nothing
  EXPECT_EQ(manager.Stats().models.size(), 1u);
  moved.Release();
  EXPECT_EQ(manager.Free().available.n, 100u);
}

TEST(MemoryManager, LegacyHoldsNothing) {
  MemoryManager manager(LegacyRules(), [] { return SystemMemory{{16 * kGiB}, {5 * kGiB}, std::nullopt}; });
  const Rung rung = FindRung(manager.rules(), "Q4_K_M").value();
  const Reservation a = manager.Reserve("a", rung).value();
  EXPECT_TRUE(manager.Reserve("b", rung).ok());  // they race
}

TEST(MemoryManager, TellsChangesOfStateWhileSomethingIsLoaded) {
  Machine machine(100);
  std::vector<std::pair<MemoryState, MemoryState>> told;
  MemoryManager* self = nullptr;
  MemoryManager manager(Rules(), machine.reader(), [&](MemoryState from, MemoryState to) {
    told.emplace_back(from, to);
    self->Check();  // allowed
  });
  self = &manager;
  constexpr auto kOk = MemoryState::kOk, kWarning = MemoryState::kWarning, kCritical = MemoryState::kCritical;
  machine.available = 0;
  EXPECT_EQ(manager.Check(), kOk);  // nothing is loaded
  Reservation room = manager.Adopt("a", Of(40));
  EXPECT_EQ(manager.Stats().now.state, kCritical);
  for (const auto& [available, state] : {std::pair(kBuffer - 1, kCritical),
                                         {kBuffer, kWarning},
                                         {2 * kBuffer - 1, kWarning},
                                         {2 * kBuffer, kOk},
                                         {kBuffer, kWarning}}) {
    machine.available = available;
    EXPECT_EQ(manager.Check(), state) << available;
  }
  room.Release();
  EXPECT_EQ(manager.Check(), kOk);
  using Change = std::pair<MemoryState, MemoryState>;
  EXPECT_THAT(told, ElementsAre(Change(kOk, kCritical), Change(kCritical, kWarning), Change(kWarning, kOk),
                                Change(kOk, kWarning), Change(kWarning, kOk)));
}

TEST(MemoryManager, ThresholdsCanBeSet) {
  Machine machine(50);
  AdmissionRules rules = Rules();
  rules.critical_below = Bytes{30};
  rules.warning_below = Bytes{51};
  MemoryManager manager(rules, machine.reader());
  const Reservation room = manager.Adopt("a", Of(40));
  EXPECT_EQ(manager.Check(), MemoryState::kWarning);
  machine.available = 30;
  EXPECT_EQ(manager.Check(), MemoryState::kWarning);
  machine.available = 29;
  EXPECT_EQ(manager.Check(), MemoryState::kCritical);
  machine.available = 51;
  EXPECT_EQ(manager.Check(), MemoryState::kOk);
}

TEST(MemoryManager, DropsIdleModelsForALoadTheLeastRecentlyUsedFirst) {
  Machine machine(100);
  std::vector<std::string> log;
  MemoryManager manager(Rules(), machine.reader());
  Host a{machine, manager, log, "a", 20}, b{machine, manager, log, "b", 20}, c{machine, manager, log, "c", 20},
      d{machine, manager, log, "d", 50}, e{machine, manager, log, "e", 20}, f{machine, manager, log, "f", 71};
  ASSERT_TRUE(a.Load() && b.Load() && c.Load());
  { const Ticket used = a.room.Admit().value(); }  // a is the most recently used
  Ticket busy = b.room.Admit().value();
  EXPECT_FALSE(f.Load());           // b is in use, and without it 81 are not to be had
  EXPECT_THAT(log, ElementsAre());  // so nothing is dropped in vain
  EXPECT_TRUE(d.Load());            // 40 are free, 60 are needed
  EXPECT_THAT(log, ElementsAre("drop c"));
  EXPECT_FALSE(c.room.Admit().ok());
  busy = Ticket();
  a.willing = false;
  EXPECT_TRUE(e.Load());  // a, the longest unused, will not; d was loaded before b was left
  EXPECT_THAT(log, ElementsAre("drop c", "drop a", "drop d"));
  EXPECT_EQ(machine.available.load(), 40u);
}

TEST(MemoryManager, ActsWhenMemoryIsCritical) {
  Machine machine(100);
  std::vector<std::string> log;
  MemoryManager manager(Rules(), machine.reader());
  Host a{machine, manager, log, "a", 20}, b{machine, manager, log, "b", 20}, c{machine, manager, log, "c", 20};
  ASSERT_TRUE(a.Load() && b.Load() && c.Load());
  const Ticket one = b.room.Admit().value(), two = a.room.Admit().value();  // b is the least recently used of both
  machine.available = kBuffer;
  EXPECT_EQ(manager.Check(), MemoryState::kWarning);
  EXPECT_THAT(log, ElementsAre());
  machine.available = kBuffer - 1;
  EXPECT_EQ(manager.Check(), MemoryState::kOk);  // c gave 20
  EXPECT_THAT(log, ElementsAre("drop c"));
  EXPECT_TRUE(a.room.Admit().ok());
  machine.available = kBuffer - 2;
  EXPECT_EQ(manager.Check(), MemoryState::kWarning);  // both shrank by one
  EXPECT_THAT(log, ElementsAre("drop c", "shrink b", "shrink a"));
  machine.available = 0;
  EXPECT_EQ(manager.Check(), MemoryState::kCritical);  // as small as they get
  EXPECT_TRUE(manager.Stats().refuses_sessions);
  const Result<Ticket> refused = a.room.Admit();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kOverBudget);
  EXPECT_EQ(refused.error().required_bytes, kBuffer);
  machine.available = kBuffer;
  EXPECT_EQ(manager.Check(), MemoryState::kWarning);
  EXPECT_TRUE(a.room.Admit().ok());
}

TEST(MemoryManager, DoesNotDropALoadInProgress) {
  Machine machine(100);
  std::vector<std::string> log;
  MemoryManager manager(Rules(), machine.reader());
  const Reservation a = manager.Reserve("a", Of(40), {[&] { return log.emplace_back("drop"), true; }, {}}).value();
  machine.available = 0;
  EXPECT_EQ(manager.Check(), MemoryState::kCritical);
  EXPECT_THAT(log, ElementsAre());
}

TEST(MemoryManager, KeepsStatisticsWithABoundedHistory) {
  Machine machine(100);
  AdmissionRules rules = Rules();
  rules.audio_overhead = {5};
  MemoryManager manager(rules, machine.reader());
  EXPECT_THAT(LoadThreshold(manager.Stats()).error().message, HasSubstr("No model quantization selected"));
  Reservation a = manager.Adopt("a", Of(30));
  Reservation b = manager.Reserve("b", Of(40)).value();
  const Ticket ticket = a.Admit().value();
  for (uint64_t i = 0; i < 2 * MemoryManager::kMostSamples; ++i) {
    machine.available = i % 100;
    manager.Check();
  }
  machine.available = 250;
  const MemoryStats s = manager.Stats();
  EXPECT_EQ(s.history.size(), MemoryManager::kMostSamples);
  EXPECT_EQ(s.history.back().memory.available.n, (2 * MemoryManager::kMostSamples - 1) % 100);
  EXPECT_LE(s.history.front().seconds, s.history.back().seconds);
  EXPECT_EQ(PercentUsed(s.now.memory), 75);
  ASSERT_EQ(s.models.size(), 2u);
  EXPECT_EQ(s.models[0].taken.n, 35u);
  EXPECT_EQ(s.models[0].resident.n, 35u);
  EXPECT_EQ(s.models[0].sessions, 1);
  EXPECT_EQ(s.models[1].resident.n, 0u);
  EXPECT_EQ(s.now.reserved.n, 45u);
  EXPECT_EQ(LoadThreshold(s).value().n, 55u);
}

TEST(MemoryManager, FromManyThreadsNothingIsPromisedTwice) {
  Machine machine(100);
  std::atomic<int> changes{0};
  MemoryManager manager(Rules(), machine.reader(), [&](MemoryState, MemoryState) { ++changes; });
  std::atomic<uint64_t> taken{0}, most{0};
  std::vector<std::thread> pool;
  for (int t = 0; t < 4; ++t)
    pool.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i) {
        const uint64_t bytes = 10 + static_cast<uint64_t>((i * 7 + t) % 40);
        Result<Reservation> room = manager.Reserve("m", Of(bytes));
        manager.Check();
        if (!room.ok()) continue;
        uint64_t now = taken += bytes, before = most.load();
        while (now > before && !most.compare_exchange_weak(before, now)) {}
        machine.available -= bytes;
        room->Loaded();
        { const Result<Ticket> ticket = room->Admit(); }
        taken -= bytes;
        machine.available += bytes;  // for a moment both free and the model's: promised to nobody too much
        room->Release();
      }
    });
  for (std::thread& t : pool) t.join();
  EXPECT_LE(most.load(), 100 - kBuffer);
  EXPECT_EQ(manager.Free().available.n, 100u);
  EXPECT_TRUE(manager.Stats().models.empty());
  EXPECT_EQ(manager.Check(), MemoryState::kOk);
}

}  // namespace
}  // namespace sotto
