#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "plan/arena.h"
#include "plan/machine.h"

namespace sotto {
namespace {

Recipe AsDeclared(const Anatomy& a) {
  Recipe r;
  for (const Slot& s : a.slots()) r.push_back({Bytes{s.Elements()} * SizeOf(s.dtype), s.dtype, 1});
  return r;
}

TEST(Plan, SlotsThatNeverLiveTogetherShareAddresses) {
  Anatomy a;
  const Scope all{&a};
  const Vector w(all, "w", 1000);
  const Buffer load(all.During(kLoad), "load", 10, 100), encode(all.During(kEncode), "encode", 20, 100),
      both(all.During(kRunning), "both", 5, 100), generate(all.During(kGenerate), "generate", 1, 100);
  const MemoryPlan p = Plan(a, AsDeclared(a), Bytes{kMiB});
  EXPECT_TRUE(p.exact);
  EXPECT_EQ(p.peak_phase, 1);
  EXPECT_EQ(p.arena.n, RoundUp(4000, 64) + RoundUp(8000, 64) + RoundUp(2000, 64));
  EXPECT_EQ(p.total.n, p.arena.n + kMiB);
  EXPECT_EQ(p.at[load.id].offset, p.at[both.id].offset);
  EXPECT_EQ(p.Of(a, Role::kWeight).n, RoundUp(4000, 64));
  EXPECT_EQ(p.Of(a, Role::kActivation).n + p.Of(a, Role::kWeight).n, p.arena.n);
}

TEST(Plan, RandomAnatomiesNeverOverlapAndCoverTheirPeak) {
  std::mt19937 rng(7);
  for (int round = 0; round < 200; ++round) {
    Anatomy a;
    for (int i = 0, n = 1 + static_cast<int>(rng() % 40); i < n; ++i)
      Buffer(Scope{&a}.During(static_cast<Phases>(1 + rng() % 7)), "b", 1 + rng() % 50, rng() % 100);
    const MemoryPlan p = Plan(a, AsDeclared(a), Bytes{0});  // Plan() itself CHECKs that nothing overlaps
    for (int ph = 0; ph < kPhaseCount; ++ph) EXPECT_LE(p.live[ph], p.arena);
  }
}

TEST(Plan, HostileShapesSaturate) {
  Anatomy a;
  Buffer(Scope{&a}, "b", INT64_MAX, INT64_MAX);
  Buffer(Scope{&a}.During(kLoad), "c", INT64_MAX, 8);
  const MemoryPlan p = Plan(a, AsDeclared(a), Bytes{0});
  EXPECT_GT(p.total.n, uint64_t{1} << 62);
}

TEST(Arena, IsExactlyThePlanAndIsTakenAtOnce) {
  if (std::getenv("SOTTO_EMULATED"))
    GTEST_SKIP() << "qemu-user answers MADV_POPULATE_WRITE with success and touches nothing";
  const Bytes before = Resident();
  const Bytes wanted{37 * kMiB + 4096};
  const Arena arena = Arena::Map(wanted).value();
  ASSERT_TRUE(arena.Take(0, 16 * kMiB).ok());
  ASSERT_TRUE(arena.Take(16 * kMiB, uint64_t{1} << 50).ok());
  ASSERT_TRUE(arena.Take(uint64_t{1} << 40, 1).ok());
  EXPECT_EQ(arena.size(), wanted);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(arena.base()) % (2 << 20), 0U);
  EXPECT_GE(Resident().n + 512 * kKiB, before.n + wanted.n);
  EXPECT_FALSE(Arena::Map(Bytes{uint64_t{1} << 50}).ok());
}

TEST(Run, RefusesAMemberOutsideItsPhase) {
  Anatomy a;
  const Buffer b(Scope{&a}.During(kEncode), "b", 2, 3);
  const MemoryPlan p = Plan(a, AsDeclared(a), Bytes{0});
  const Arena arena = Arena::Map(p.arena).value();
  EXPECT_EQ((sotto::Run(a, p, arena, kEncode)[b].cols), 3);
  EXPECT_DEATH((void)(sotto::Run(a, p, arena, kGenerate)[b]), "internal error");
}

struct FakeRoot {
  std::filesystem::path dir = std::filesystem::temp_directory_path() / ("sotto_root_" + std::to_string(::getpid()));
  ~FakeRoot() { std::filesystem::remove_all(dir); }
  void Write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((dir / path).parent_path());
    std::ofstream(dir / path) << text;
  }
};

TEST(Machine, TheTightestLimitOfAnyAncestorCounts) {
  const FakeRoot r;
  r.Write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n");
  r.Write("proc/self/status", "VmRSS: 0 kB\n");
  EXPECT_EQ(AvailableMemory(r.dir).n, 8000 * 1024U);
  r.Write("proc/self/cgroup", "0::/job/step\n");
  r.Write("sys/fs/cgroup/job/memory.max", "5000000\n");
  r.Write("sys/fs/cgroup/job/memory.current", "3000000\n");
  r.Write("sys/fs/cgroup/job/memory.stat", "anon 100\ninactive_file 1000000\nslab_reclaimable 500000\n");
  r.Write("sys/fs/cgroup/job/step/memory.max", "max\n");
  r.Write("sys/fs/cgroup/job/step/memory.current", "10\n");
  EXPECT_EQ(AvailableMemory(r.dir).n, 5000000U - (3000000U - 1500000U));  // page cache is not "used"
  r.Write("proc/self/cgroup", "4:memory,cpu:/a\n");
  r.Write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2000000\n");
  r.Write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1500000\n");
  r.Write("sys/fs/cgroup/memory/a/memory.stat", "total_inactive_file 500000\n");
  EXPECT_EQ(AvailableMemory(r.dir).n, 1000000U);
}

TEST(Machine, TheTotalIsThatOfTheTightestLimitAndWhatThisProcessHoldsIsNotAvailableToAnother) {
  const FakeRoot r;
  r.Write("proc/meminfo", "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable: 8000 kB\n");
  r.Write("proc/self/status", "VmRSS: 700 kB\n");
  EXPECT_EQ(ReadSystemMemory(r.dir).total.n, 9000 * 1024U);
  EXPECT_EQ(ReadSystemMemory(r.dir).available.n, 8000 * 1024U);
  EXPECT_EQ(AvailableMemory(r.dir).n, 8700 * 1024U);
  EXPECT_FALSE(ReadSystemMemory(r.dir).limit);
  r.Write("proc/self/cgroup", "0::/job/step\n");
  r.Write("sys/fs/cgroup/job/memory.max", "5000000\n");
  r.Write("sys/fs/cgroup/job/memory.current", "1000000\n");
  r.Write("sys/fs/cgroup/job/step/memory.max", "6000000\n");
  r.Write("sys/fs/cgroup/job/step/memory.current", "10\n");
  EXPECT_EQ(ReadSystemMemory(r.dir).total.n, 5000000U);
  EXPECT_EQ(ReadSystemMemory(r.dir).limit.value().n, 5000000U);
  EXPECT_EQ(ReadSystemMemory(r.dir).available.n, 4000000U);
  r.Write("sys/fs/cgroup/job/memory.max", "9223372036854771712\n");  // how v1 says that there is none
  r.Write("sys/fs/cgroup/job/step/memory.max", "max\n");
  EXPECT_EQ(ReadSystemMemory(r.dir).total.n, 9000 * 1024U);
  EXPECT_FALSE(ReadSystemMemory(r.dir).limit);
}

TEST(Machine, ProcessesAreFoundByNameTheLargestFirst) {
  const FakeRoot r;
  const auto process = [&](const std::string& id, const char* name, const char* status, const std::string& cmdline) {
    r.Write("proc/" + id + "/comm", std::string(name) + "\n");
    r.Write("proc/" + id + "/status", status);
    r.Write("proc/" + id + "/cmdline", cmdline);
  };
  const auto words = [](const char* text) {
    std::string line = text;
    std::replace(line.begin(), line.end(), '|', '\0');
    return line;
  };
  process("12", "sotto", "VmRSS: 100 kB\n", words("/usr/bin/sotto|plan|x\033[2J|"));
  process("7", "sotto", "VmRSS: 300 kB\n", words("sotto|chat|") + std::string(5000, 'x'));
  process("13", "sotto", "State: Z\n", "");  // a zombie holds nothing
  process("14", "sottovoce", "VmRSS: 100 kB\n", "");
  process("self", "sotto", "VmRSS: 100 kB\n", "");
  const std::vector<ProcessMemory> found = ProcessesNamed("sotto", r.dir);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].id, 7);
  EXPECT_EQ(found[0].resident.n, 300 * 1024U);
  EXPECT_EQ(found[0].arguments.size(), 200u);
  EXPECT_EQ(found[1].arguments, "plan x [2J");
  EXPECT_TRUE(ProcessesNamed("sotto", (r.dir / "none").string()).empty());
}

}  // namespace
}  // namespace sotto
