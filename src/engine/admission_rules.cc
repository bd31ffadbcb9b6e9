#include "engine/admission_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace sotto {
namespace {

constexpr Bytes kAny{UINT64_MAX};
constexpr Bytes kUsualBuffer{512 * kMiB};
constexpr const char* kPublishedUsual = "Q4_K_M";

// Published sizes are tenths of a GiB, compared as fractions: the next whole byte is the first that suffices.
struct PublishedRung {
  const char* name;
  uint64_t tenths;
  Bytes buffer;
  const char* type;
};
constexpr PublishedRung kLegacyRungs[] = {{"Q5_K_M", 48, {768 * kMiB}, "quality_optimized"},
                                          {"Q4_K_M", 42, {512 * kMiB}, "edge_optimized"},
                                          {"Q4_0", 38, {512 * kMiB}, "edge_optimized"}};

constexpr PublishedChoice kLegacyChoices[] = {{{32 * kGiB}, kAny, {8 * kGiB}, kAny, "Q5_K_M"},
                                              {{0}, {8 * kGiB}, {0}, kAny, "Q4_0"},
                                              {{0}, kAny, {0}, {5 * kGiB}, "Q4_0"},
                                              {{0}, kAny, {0}, kAny, "Q4_K_M"}};

std::string Upper(std::string_view text) {
  std::string upper(text);
  for (char& c : upper)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return upper;
}

Bytes BufferOf(const std::string& name) {
  for (const PublishedRung& r : kLegacyRungs)
    if (name == r.name) return r.buffer;
  return kUsualBuffer;
}

std::string Sized(Bytes b) { return fmt::format("{} bytes ({})", b.n, Human(b)); }

std::string Names(const AdmissionRules& rules) {
  std::string names;
  for (const Rung& r : rules.rungs) names += (names.empty() ? "" : ", ") + r.name;
  return names;
}

// Rounded up: a share is kept to the byte.
Bytes ShareOf(Bytes total, double share) {
  const long double bytes = std::ceil(static_cast<long double>(share) * static_cast<long double>(total.n));
  return bytes >= 0x1p64L ? kAny : Bytes{static_cast<uint64_t>(bytes)};
}

// What stays free beside a load, tested after it.
Bytes LeftFree(const AdmissionRules& rules, const Rung& rung, Bytes total) {
  const Bytes share = ShareOf(total, rules.keep_free);
  switch (rules.when) {
    case ShareTest::kBefore: return rung.buffer;
    case ShareTest::kAfter: return std::max(rung.buffer, share);
    case ShareTest::kAuto: return std::max(rung.buffer, std::min(share, rung.buffer * 2));
  }
  return rung.buffer;
}

}  // namespace

AdmissionRules LegacyRules() {
  AdmissionRules rules;
  rules.profile = "legacy";
  rules.model = kPublishedModel;
  for (const PublishedRung& r : kLegacyRungs)
    rules.rungs.push_back({r.name, Bytes{(r.tenths * kGiB + 9) / 10}, r.buffer, r.type});
  rules.usual = kPublishedUsual;
  rules.published = kLegacyChoices;
  rules.reserves = false;
  rules.when = ShareTest::kBefore;
  return rules;
}

Result<AdmissionRules> PlannedRules(const ModelDir& dir, const PlanRequest& request, std::vector<std::string> names,
                                    bool ladder) {
  CHECK(ladder || !names.empty());
  PlanRequest asked = request;
  asked.budget.reset();
  asked.unbounded = true;
  asked.weights = "auto";
  const Planned planned = TRY(PlanModel(dir, asked));
  AdmissionRules rules;
  rules.profile = "default";
  rules.model = planned.dir.name;
  const auto known = [&](const std::string& name) {
    return std::any_of(rules.rungs.begin(), rules.rungs.end(),
                       [&](const Rung& r) { return Upper(r.name) == Upper(name); });
  };
  const auto add = [&](Choice choice, const std::string& name) -> Status {
    choice.batch = std::max<int64_t>(request.batch, 1);
    rules.rungs.push_back({name, TRY(LayOut(planned, asked, choice)).plan.total, BufferOf(Upper(name)), ""});
    return {};
  };
  if (ladder) {
    const std::vector<Choice> choices = TRY(Ladder(asked, planned.stored));
    for (const Choice& choice : choices)  // one with a smaller cache is not a rung of its own
      if (const std::string name = WeightsName(planned, choice); !known(name)) TRY(add(choice, name));
    if (planned.stored.kept.empty() && planned.layout.model->info().type != "encoder-decoder")
      names.insert(names.end(), std::begin(kPublishedRungs), std::end(kPublishedRungs));
  }
  for (const std::string& name : names) {
    if (known(name)) continue;
    asked.weights = name;
    TRY(add(TRY(Ladder(asked, planned.stored)).front(), name));
  }
  rules.usual = rules.rungs.front().name;
  std::stable_sort(rules.rungs.begin(), rules.rungs.end(),
                   [](const Rung& a, const Rung& b) { return a.need > b.need; });
  return rules;
}

Result<AdmissionRules> MakeRules(const std::string& profile, const std::string& model, const PlanRequest& request,
                                 const std::vector<std::string>& also) {
  if (profile == "legacy") {
    if (!model.empty() && model != kPublishedModel)
      return Usage(fmt::format("--profile legacy knows {} alone; leave --model out, or the profile", kPublishedModel));
    return LegacyRules();
  }
  if (profile != "default")
    return Usage(
        fmt::format("--profile {} is not one that sotto has; choose default or legacy", profile.substr(0, 40)));
  std::vector<std::string> names;
  if (model.empty()) names.assign(std::begin(kPublishedRungs), std::end(kPublishedRungs));
  for (const std::string& name : also)
    if (!name.empty()) names.push_back(name);
  const ModelDir dir = TRY(FindModel(model.empty() ? kPublishedModel : model, ModelUse::kPlan));
  AdmissionRules rules = TRY(PlannedRules(dir, request, names, !model.empty()));
  if (model.empty()) rules.usual = kPublishedUsual;
  return rules;
}

Result<ShareTest> ParseShareTest(const std::string& text) {
  if (text == "before") return ShareTest::kBefore;
  if (text == "after") return ShareTest::kAfter;
  if (text == "auto") return ShareTest::kAuto;
  return Usage(fmt::format("--when {} is not a time at which the free share is tested; choose before, after or auto",
                           text.substr(0, 40)));
}

Result<double> ParseShare(const std::string& text) {
  double percent = 0;
  const char* const end = text.data() + text.size();
  const auto [at, errc] = std::from_chars(text.data(), end, percent, std::chars_format::fixed);
  const bool whole = errc == std::errc() && (at == end ? percent == 0 : at + 1 == end && *at == '%');
  if (!whole || !(percent >= 0 && percent <= 100))
    return Usage(
        fmt::format("--keep-free {} is not a share of the memory; write 25%, or 0 for none", text.substr(0, 40)));
  return percent / 100;
}

Result<Rung> FindRung(const AdmissionRules& rules, std::string_view name) {
  const std::string wanted = Upper(name.empty() ? rules.usual : name);
  for (const Rung& r : rules.rungs)
    if (Upper(r.name) == wanted) return r;
  return Usage(fmt::format("{} is not a quantization that profile {} has for {}; choose {}", name.substr(0, 40),
                           rules.profile, rules.model, Names(rules)));
}

Bytes RoomFor(const AdmissionRules& rules, const Rung& rung, Bytes total) {
  const Bytes room = rung.need + rules.audio_overhead + LeftFree(rules, rung, total);
  return rules.when == ShareTest::kBefore ? std::max(room, ShareOf(total, rules.keep_free)) : room;
}

const Rung* LargestThatFits(const AdmissionRules& rules, const SystemMemory& memory) {
  for (const Rung& r : rules.rungs)
    if (MayLoad(rules, r, memory)) return &r;
  return nullptr;
}

const Rung* Recommended(const AdmissionRules& rules, const SystemMemory& memory) {
  for (const PublishedChoice& c : rules.published)
    if (memory.total >= c.least_total && memory.total <= c.most_total && memory.available >= c.least_available &&
        memory.available <= c.most_available)
      for (const Rung& r : rules.rungs)
        if (r.name == c.rung) return &r;
  return rules.published.empty() ? LargestThatFits(rules, memory) : nullptr;
}

const Rung& Smallest(const AdmissionRules& rules, Bytes total) {
  const Rung* least = &rules.rungs.front();
  for (const Rung& r : rules.rungs)
    if (RoomFor(rules, r, total) <= RoomFor(rules, *least, total)) least = &r;
  return *least;
}

Error LoadRefusal(const AdmissionRules& rules, const Rung& rung, const SystemMemory& memory, Bytes reserved) {
  const Bytes room = RoomFor(rules, rung, memory.total), need = rung.need + rules.audio_overhead;
  CHECK(memory.available < room);
  Error e{Code::kOverBudget, ""};
  e.required_bytes = e.smallest_budget_bytes = room.n;
  e.budget_bytes = memory.available.n;
  std::string start = fmt::format("{} does not fit as {}", rules.model, rung.name);
  if (rules.profile == "legacy")
    start = fmt::format("Insufficient memory to load model with {} quantization", rung.name);
  std::string parts =
      fmt::format("{} that it takes and {} to stay free", need.n, room.n > need.n ? room.n - need.n : 0);
  if (rules.when == ShareTest::kBefore && ShareOf(memory.total, rules.keep_free) == room)
    parts = fmt::format("{:g} % of the {} in all must be free before it", rules.keep_free * 100, memory.total.n);
  std::string out =
      fmt::format("{}: it needs {} available ({}), and {} are", start, Sized(room), parts, Sized(memory.available));
  if (reserved.n > 0) out += fmt::format(" beside the {} that other loads hold", reserved.n);
  out += fmt::format(": {} are missing", Sized({room.n - memory.available.n}));
  const Rung* fits = LargestThatFits(rules, memory);
  const Rung& least = Smallest(rules, memory.total);
  if (fits != nullptr)
    out += fmt::format("; the largest that fits is {}", fits->name);
  else if (room > memory.total && least.name == rung.name)
    out += fmt::format("; this machine has {} in all: take a smaller model", memory.total.n);
  else if (least.name == rung.name)
    out += "; nothing smaller is known: free that much, or take a smaller model";
  else
    out += fmt::format("; the smallest, {}, does not fit either: it needs {}", least.name,
                       Sized(RoomFor(rules, least, memory.total)));
  e.message = std::move(out);
  return e;
}

const char* NameOf(MemoryState state) {
  switch (state) {
    case MemoryState::kOk: return "ok";
    case MemoryState::kWarning: return "warning";
    case MemoryState::kCritical: return "critical";
  }
  return "";
}

Thresholds ThresholdsOf(const AdmissionRules& rules, Bytes buffer) {
  const Bytes critical = rules.critical_below.value_or(buffer);
  return {critical, rules.warning_below.value_or(critical * 2)};
}

MemoryState StateOf(Thresholds t, Bytes available) {
  if (available < t.critical_below) return MemoryState::kCritical;
  return available < t.warning_below ? MemoryState::kWarning : MemoryState::kOk;
}

}  // namespace sotto
