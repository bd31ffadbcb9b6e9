#include "engine/solve.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "plan/machine.h"

namespace sotto {
namespace {

constexpr std::string_view kNames[] = {"context", "audio", "batch", "beam"};
constexpr std::string_view kUnits[] = {"positions", "seconds", "sequences", "beams"};

// GGUF types that people quantize weights to, from the most precise down, below fp32, 16 bits and int8.
constexpr const char* kBlockTypes[] = {"q8_0",   "q6_k", "q5_k",    "q5_0", "q4_k",    "iq4_nl", "q4_0",
                                       "iq4_xs", "q3_k", "iq3_xxs", "q2_k", "iq2_xxs", "iq1_s"};

// The layout with the variable at `value`.
Result<Layout> At(const Planned& p, Variable variable, int64_t value, Choice choice) {
  PlanRequest request = p.request;
  switch (variable) {
    case Variable::kContext: request.context = value; break;
    case Variable::kAudio: request.audio_seconds = static_cast<double>(value); break;
    case Variable::kBatch: choice.batch = value; break;
    case Variable::kBeam: request.beam = value; break;
  }
  return LayOut(p, request, choice);
}

// The largest value from `least` to `most` that holds. REQUIRES: `least` does, and none above one that does not.
template <class Holds>
Result<int64_t> Largest(int64_t least, int64_t most, Holds holds) {
  int64_t low = least, high = most + 1;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (TRY(holds(middle)) ? low : high) = middle;
  }
  return low;
}

// Audio ends where its positions fill the context, or where the model stops listening.
Result<Range> AudioRange(const Planned& p) {
  const Choice& choice = p.layout.choice;
  if (p.layout.model->info().type == "decoder")
    return Usage(fmt::format("{} hears nothing, so --solve audio asks for nothing; solve context instead", p.dir.name));
  const auto positions = [&](int64_t seconds) -> Result<int64_t> {  // -1: the context does not hold them
    const Result<Layout> l = At(p, Variable::kAudio, seconds, choice);
    if (!l.ok() && l.error().code == Code::kUsage) return -1;
    if (!l.ok()) return l.error();
    return l->model->info().audio_tokens;
  };
  Range range;
  const Layout least = TRY(At(p, Variable::kAudio, 1, choice));  // its error is the person's answer
  range.most = TRY(Largest(1, kMostAudioSeconds, [&](int64_t s) -> Result<bool> { return TRY(positions(s)) >= 0; }));
  const int64_t all = TRY(positions(range.most));
  if (range.most < kMostAudioSeconds) {
    const int64_t context = p.request.context > 0 ? p.request.context : p.layout.model->info().max_context;
    range.why = fmt::format("more audio does not go into a context of {} positions", context);
  } else if (all == least.model->info().audio_tokens) {
    range.endless = true;
    range.why = "memory does not grow with the length of the audio";
  } else {
    range.most =
        1 + TRY(Largest(1, kMostAudioSeconds, [&](int64_t s) -> Result<bool> { return TRY(positions(s)) < all; }));
    range.why = fmt::format("the model hears at most {} s", range.most);
  }
  return range;
}

// All precisions that a model may be kept in, for the cache that was asked for.
Result<std::vector<Choice>> EveryPrecision(PlanRequest request, const StoredWeights& stored) {
  std::vector<std::string> names = {"fp32", stored.dtype == DType::kBF16 ? "bf16" : "fp16", "int8"};
  if (!stored.kept.empty()) names.emplace_back("auto");  // as the files hold them
  names.insert(names.end(), std::begin(kBlockTypes), std::end(kBlockTypes));
  std::vector<Choice> all;
  for (std::string& name : names) {
    request.weights = std::move(name);
    for (const Choice& c : TRY(Ladder(request, stored))) all.push_back(c);
  }
  return all;
}

bool AboveStored(const Choice& c, const StoredWeights& stored) {
  return c.weights == WeightKind{DType::kF32} && (stored.dtype != DType::kF32 || !stored.kept.empty());
}

}  // namespace

Result<Variable> ParseVariable(const std::string& name) {
  for (size_t i = 0; i < std::size(kNames); ++i)
    if (name == kNames[i]) return static_cast<Variable>(i);
  return Usage(
      fmt::format("--solve {} is nothing to solve for; choose context, audio, batch or beam", name.substr(0, 40)));
}
std::string_view NameOf(Variable variable) { return kNames[static_cast<size_t>(variable)]; }
std::string_view UnitOf(Variable variable) { return kUnits[static_cast<size_t>(variable)]; }

Result<Range> RangeOf(const Planned& p, Variable variable) {
  const ModelInfo& info = p.layout.model->info();
  if (variable == Variable::kAudio) return AudioRange(p);
  if (variable == Variable::kContext)
    return Range{info.audio_tokens + 1, info.max_context, false,
                 fmt::format("the model was published for {} positions", info.max_context)};
  return Range{1, kMostSequences, false, fmt::format("sotto plans at most {}", kMostSequences)};
}

Result<Answer> Reach(const Planned& p, Variable variable, const Range& range, const Choice& choice) {
  Answer a{choice};
  a.total = TRY(At(p, variable, range.least, choice)).plan.total;
  if (a.total > p.budget) return a;
  if (range.endless) {
    a.limit = Limit::kNothing;
    return a;
  }
  const auto fits = [&](int64_t value) -> Result<bool> {
    const Bytes total = TRY(At(p, variable, value, choice)).plan.total;
    const bool holds = total <= p.budget;
    (holds ? a.total : a.next.emplace()) = total;  // the last of each are those of the answer and of one more
    return holds;
  };
  a.value = TRY(Largest(range.least, range.most, fits));
  if (!a.next) a.limit = Limit::kModel;
  return a;
}

Result<Solution> Solve(const ModelDir& dir, PlanRequest request, Variable variable, bool every) {
  if (!request.budget) request.budget = AvailableMemory();
  if (variable == Variable::kAudio) request.audio_seconds = 1;
  Solution s{variable, {}, 1, {}, 0, TRY(PlanModel(dir, request))};
  const Planned& p = s.planned;
  s.range = TRY(RangeOf(p, variable));
  std::vector<Choice> choices = TRY(every ? EveryPrecision(request, p.stored) : Ladder(request, p.stored));
  if (every) std::erase_if(choices, [&](const Choice& c) { return AboveStored(c, p.stored); });

  if (variable == Variable::kContext) s.usual = p.layout.model->info().context;
  if (variable == Variable::kAudio) s.usual = std::min<int64_t>(s.range.most, std::llround(Workload{}.audio_seconds));
  const auto reached = [](const Answer& a) { return a.limit == Limit::kNothing ? INT64_MAX : a.value.value_or(-1); };
  for (Choice& choice : choices) {
    choice.batch = p.layout.choice.batch;
    s.answers.push_back(TRY(Reach(p, variable, s.range, choice)));
    const Answer &a = s.answers.back(), &best = s.answers[s.best];
    const bool better = reached(best) < s.usual && reached(a) > reached(best);
    if (better || (reached(a) < 0 && reached(best) < 0 && a.total < best.total)) s.best = s.answers.size() - 1;
  }

  const Answer& best = s.answers[s.best];
  const int64_t value = best.value.value_or(s.range.endless ? 0 : s.range.least);
  request.weights = best.choice.weights.as_stored ? "auto" : NameOf(best.choice.weights);
  request.kv = best.choice.kv->name;
  switch (variable) {
    case Variable::kContext: request.context = value; break;
    case Variable::kAudio: request.audio_seconds = static_cast<double>(value); break;
    case Variable::kBatch: request.batch = value; break;
    case Variable::kBeam: request.beam = value; break;
  }
  s.planned = TRY(PlanModel(dir, request));
  return s;
}

Result<Precisions> ComparePrecisions(const Planned& p) {
  Precisions all;
  for (Choice& choice : TRY(EveryPrecision(p.request, p.stored))) {
    choice.batch = p.layout.choice.batch;
    const Sums sums = PeakSums(TRY(LayOut(p, p.request, choice)));
    all.rows.push_back({choice, sums, sums.total <= p.budget.n, AboveStored(choice, p.stored)});
    if (sums.total < all.rows[all.smallest].sums.total) all.smallest = all.rows.size() - 1;
    if (!all.best && all.rows.back().fits && !all.rows.back().above_stored) all.best = all.rows.size() - 1;
  }
  return all;
}

Result<Grid> MakeGrid(const Planned& p, int64_t most, int steps, std::vector<int64_t> batches) {
  constexpr int64_t kLeast = 16, kDoublings = 11;  // below a 2048th of the maximum a person sees nothing change
  const ModelInfo& info = p.layout.model->info();
  if (most == 0) most = info.max_context;
  Grid grid;
  grid.batches = std::move(batches);
  const int64_t least = std::min(most, std::max({info.audio_tokens + 1, kLeast, most >> kDoublings}));
  for (auto power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(least))); power < most; power *= 2)
    for (int i = 0; i < steps; ++i)
      if (const int64_t context = power + power * i / steps; context < most) grid.contexts.push_back(context);
  grid.contexts.push_back(most);
  const auto among = [](std::vector<int64_t>* all, int64_t own) {
    const auto at = std::lower_bound(all->begin(), all->end(), own);
    const auto index = static_cast<size_t>(at - all->begin());
    if (at == all->end() || *at != own) all->insert(at, own);
    return index;
  };
  grid.own_context = among(&grid.contexts, info.context);
  grid.own_batch = among(&grid.batches, p.layout.choice.batch);
  for (const int64_t batch : grid.batches)
    for (const int64_t context : grid.contexts) {
      Choice choice = p.layout.choice;
      choice.batch = batch;
      grid.points.push_back(PeakSums(TRY(At(p, Variable::kContext, context, choice))));
    }
  return grid;
}

}  // namespace sotto
