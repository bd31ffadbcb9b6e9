#include "engine/fit/fit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "engine/fit/record.h"
#include "engine/pack/inspect.h"
#include "engine/residence.h"

namespace sotto {
namespace {

// Below what files hold as plain numbers; each also as all matrices at once.
constexpr const char* kMadeAtLoad[] = {"fp16", "bf16", "int8", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0"};
constexpr int kHalvings = 3;  // of a context that nobody asked for

bool HoldsPlain(const StoredWeights& stored) { return stored.kept.empty() && stored.dtype != DType::kI8; }

// What a fitter may choose by itself: as stored, then ever smaller.
Result<std::vector<WeightKind>> KindsOf(const PlanRequest& request, const StoredWeights& stored) {
  if (request.weights != "auto") return std::vector{TRY(ParseWeightKind(request.weights))};
  if (!stored.kept.empty()) return std::vector{WeightKind{DType::kF32, nullptr, true}};
  std::vector<WeightKind> kinds = {{stored.dtype}};
  if (!HoldsPlain(stored)) return kinds;
  for (const char* name : kMadeAtLoad) {
    const WeightKind kind = TRY(ParseWeightKind(name));
    const bool half = kind.blocks == nullptr && kind.dtype != DType::kI8;
    if (!half || stored.dtype == DType::kF32) kinds.push_back(kind);
  }
  return kinds;
}

// The same or better in everything; less KL than that is none, as between caches.
bool Covers(const Candidate& a, const Candidate& b) {
  constexpr double kNoKl = 1e-4;
  return a.total <= b.total && a.kl <= b.kl + kNoKl && a.speed.tokens_per_second >= b.speed.tokens_per_second;
}

// REQUIRES: the best quality first, which stays of those that are the same.
void MarkPareto(std::vector<Candidate>* all) {
  for (auto c = all->begin(); c != all->end(); ++c) {
    c->pareto = true;
    for (auto other = all->begin(); other != all->end(); ++other)
      if (other != c && Covers(*other, *c) && (other < c || !Covers(*c, *other))) c->pareto = false;
  }
}

// The index of the choice among what fits; sets what Fitted says about it.
std::optional<size_t> Choose(double asked, Fitted* f) {
  const auto speed = [&](size_t i) { return f->fitting[i].speed.tokens_per_second; };
  double fastest = 0;
  for (size_t i = 0; i < f->fitting.size(); ++i) fastest = std::max(fastest, speed(i));
  f->least_speed = asked > 0 ? asked : fastest >= kReadingSpeed ? kReadingSpeed : fastest / 10;
  std::optional<double> best;  // KL
  for (size_t i = 0; i < f->fitting.size(); ++i)
    if (speed(i) >= f->least_speed) best = std::min(best.value_or(f->fitting[i].kl), f->fitting[i].kl);
  if (!best) return std::nullopt;
  const double same = *best + std::max(kSameKl, kSameShare * *best);
  std::optional<size_t> chosen;
  // Among equals what is there already comes before what must be packed first.
  const auto better = [&](size_t a, size_t b) {
    const Candidate &x = f->fitting[a], &y = f->fitting[b];
    if ((x.bits == 0) != (y.bits == 0)) return x.bits == 0;
    return speed(a) > speed(b);
  };
  for (size_t i = 0; i < f->fitting.size(); ++i) {
    if (speed(i) < f->least_speed || f->fitting[i].kl > same) continue;
    ++f->equals;
    if (!chosen || better(i, *chosen)) chosen = i;
  }
  return chosen;
}

}  // namespace

PlanRequest Fitter::RequestOf(int64_t context) const {
  PlanRequest r = request_.plan;
  r.context = context;
  r.batch = std::max<int64_t>(1, r.batch);
  return r;
}

Result<Fitter> Fitter::Open(const ModelDir& dir, const FitRequest& request,
                            const std::function<bool(size_t, size_t)>& progress) {
  Fitter f;
  f.dir_ = dir;
  f.request_ = request;
  f.request_.plan.budget = Bytes{UINT64_MAX};
  f.request_.plan.resident = "all";
  PlanRequest as_it_is = f.request_.plan;
  as_it_is.mapped = false;
  f.sources_.push_back({dir, std::make_unique<Planned>(TRY(PlanModel(dir, as_it_is)))});
  if (request.plan.mapped && (request.packed.empty() || !HoldsPlain(f.sources_[0].planned->stored)))
    *f.sources_[0].planned = TRY(PlanModel(dir, f.request_.plan));  // says what can't be mapped
  TRY(f.TakeFigures(&f.sources_[0]));
  const Planned& planned = *f.sources_[0].planned;
  if (const ModelInfo& info = planned.layout.model->info(); !planned.layout.model->runs())
    return BadModel(fmt::format("{} can be planned, not run: {}; `sotto plan` answers for it", dir.name, info.not_run));
  f.machine_ = FindMachineSpeed(planned.isa, planned.threads);
  if (!f.machine_ && request.least_speed > 0)
    return Usage("--min-speed needs to know this machine, which was never measured; run sotto calibrate first");
  const ModelInfo& info = planned.layout.model->info();
  for (int64_t context = info.context, i = 0; i <= (request.plan.context == 0 ? kHalvings : 0); ++i, context /= 2)
    if (i == 0 || context > 2 * info.audio_tokens) f.contexts_.push_back(context);

  const std::vector<WeightKind> kinds = TRY(KindsOf(request.plan, planned.stored));
  std::optional<Sensitivities> sensitivities;
  if (!request.sensitivities.empty()) sensitivities = TRY(ReadSensitivities(request.sensitivities));
  Threads threads(planned.threads);
  if (!HoldsPlain(planned.stored)) {  // nothing to quantize: as it is, whatever that means
    if (!request.packed.empty()) return Usage("--packed goes with the model that was packed; name that as MODEL");
    for (const WeightKind& kind : kinds)
      TRY(f.Add(0, kind.as_stored ? planned.stored.Name() : NameOf(kind), 0, kind, 0, Quality()));
    return f;
  }
  const Original original = TRY(OpenOriginal(dir));
  const Quality quality =
      TRY(Quality::Measure(original, kinds, sensitivities ? &*sensitivities : nullptr, threads, progress));
  const bool mapped = request.plan.mapped;
  if (!mapped) TRY(f.AddStored(quality, kinds));
  TRY(f.AddPacked(quality));
  if (request.rates && request.plan.weights == "auto" && !mapped) TRY(f.AddRates(original, quality));
  return f;
}

Status Fitter::AddStored(const Quality& quality, std::span<const WeightKind> kinds) {
  for (size_t i = 0; i < kinds.size(); ++i) {
    const bool stored = kinds[i] == WeightKind{sources_[0].planned->stored.dtype};
    TRY(Add(0, NameOf(kinds[i]), 0, kinds[i], stored ? 0 : quality.Of(i), quality));
  }
  return {};
}

Status Fitter::AddPacked(const Quality& quality) {
  PlanRequest request = RequestOf(contexts_.front());
  request.weights = "auto";
  for (const std::string& path : request_.packed) {
    const Packed packed = TRY(Inspect(path));
    if (packed.packed_elements == 0)
      return Usage(fmt::format("--packed {}: nothing in it is packed; name what sotto pack has made", path));
    const ModelDir dir = TRY(FindModel(path, ModelUse::kRun));
    sources_.push_back({dir, std::make_unique<Planned>(TRY(PlanModel(dir, request)))});
    if (sources_.back().planned->layout.anatomy->Parameters() != sources_[0].planned->layout.anatomy->Parameters())
      return Usage(fmt::format("--packed {} is not {} packed: it has other parameters", path, dir_.name));
    TRY(TakeFigures(&sources_.back()));
    TRY(Add(sources_.size() - 1, fmt::format("packed {:.2f} bits", packed.bits()), 0, {DType::kF32, nullptr, true},
            quality.Of(packed), quality));
  }
  return {};
}

Status Fitter::AddRates(const Original& original, const Quality& quality) {
  PlanRequest request = RequestOf(contexts_.front());
  for (double bits = kLeastRate; bits <= kMostRate; bits += kRateStep) {
    auto planned = std::make_unique<Planned>(TRY(PlanModel(dir_, request)));
    const Quality::Rate rate = quality.AtBits(bits);
    planned->stored.format = "packed";
    // A weight is its block, or what the files have it as; weights come in the same order in every anatomy.
    for (uint32_t id = 0; id < original.origins.size(); ++id) {
      const Slot& slot = original.anatomy->at(id);
      if (slot.role != Role::kWeight) continue;
      const WeightOrigin& origin = original.origins[id];
      const bool packed = rate.bytes[id] > 0;
      planned->stored.kept.push_back(
          {slot.Elements(), packed ? rate.bytes[id] : origin.bytes, packed ? nullptr : origin.type, packed});
    }
    sources_.push_back({dir_, std::move(planned)});
    TRY(Add(sources_.size() - 1, fmt::format("packed {:.2f} bits", bits), bits, {DType::kF32, nullptr, true}, rate.kl,
            quality));
  }
  return {};
}

Status Fitter::Add(size_t source, const std::string& weights, double bits, const WeightKind& kind, double kl,
                   const Quality& quality) {
  const Planned& planned = *sources_[source].planned;
  std::vector<std::string> caches = {request_.plan.kv};
  if (caches[0] == "auto") caches = {"fp16", "fp32", "bf16"};
  for (const std::string& cache : caches)
    for (const int64_t context : contexts_) {
      const KvPolicy* kv = TRY(ParseKvPolicy(cache));
      const PlanRequest request = RequestOf(context);
      Choice choice{kind, kv, request.batch};
      const Layout all = TRY(LayOut(planned, request, choice));
      const ByMeasure measured = bits > 0 ? ByMeasure() : Measured(sources_[source], choice);
      Entry e{{source, weights, bits, choice, context, all.stack_layers, all.plan.total,
               measured[kKl].value_or(kl) + quality.OfCache(*kv), measured, PredictSpeed(all, speed())},
              all.plan.total};
      choice.streamed = all.stack_layers;
      if (!request.mapped) e.least = std::min(e.least, TRY(LayOut(planned, request, choice)).plan.total);
      entries_.push_back(std::move(e));
    }
  return {};
}

// Keeps the figures of the source's files as they are now. What a KL is from must be the model that is fitted; where it is from another
// and no version of it, it says nothing here.
Status Fitter::TakeFigures(Source* source) {
  std::vector<Figure> all = TRY(ReadFigures(source->dir));
  if (all.empty()) return {};
  const std::string state = TRY(StateOfModel(source->dir)), original = TRY(StateOfModel(dir_));
  if (source == &sources_.front()) std::erase_if(all, [](const Figure& f) { return f.measure == kKl; });
  const auto other = [&](const Figure& f) { return f.state != state || (f.measure == kKl && f.against != original); };
  if (std::erase_if(all, other) > 0) stale_.push_back(FiguresPath(source->dir));
  source->figures = std::move(all);
  return {};
}

// The worst where several texts or lists were measured. A KL is between weights, both with one cache: it holds for every cache.
ByMeasure Fitter::Measured(const Source& source, const Choice& choice) const {
  ByMeasure found;
  const std::string weights = WeightsName(*source.planned, choice);
  for (const Figure& f : source.figures) {
    if (f.weights != weights || (f.measure != kKl && f.kv != choice.kv->name)) continue;
    std::optional<double>& value = found[f.measure];
    if (!value || Worse(f.measure, f.value, *value)) value = f.value;
  }
  return found;
}

bool Fitter::Unmeasured(const Candidate& c) const {
  for (const Measure m : {kPerplexity, kWer, kAccuracy})
    if (request_.floors[m] && !c.measured[m]) return true;
  return false;
}

bool Fitter::Meets(const Candidate& c) const {
  if (Unmeasured(c)) return false;
  for (size_t m = 0; m < kMeasures.size(); ++m)
    if (request_.floors[m] && Worse(m, m == kKl ? c.kl : *c.measured[m], *request_.floors[m])) return false;
  return true;
}

std::string Fitter::LackText(size_t count) const {
  std::string names, commands, text;
  for (const Measure m : {kPerplexity, kWer, kAccuracy}) {
    if (!request_.floors[m]) continue;
    names += fmt::format("{}{}", names.empty() ? "" : " or ", kMeasures[m].name);
    commands += fmt::format("{}`{}`", commands.empty() ? "" : " and ", kMeasures[m].command);
  }
  if (count > 0)
    text = fmt::format(
        "{} choice{} left out whose {} was never measured, which is what {} does (--weights and --kv say of which; a "
        "packed directory is a MODEL)",
        count, count == 1 ? " was" : "s were", names, commands);
  if (!stale_.empty())
    text += fmt::format("{}what was measured of files that have changed since does not count: {}",
                        text.empty() ? "" : "; ", fmt::join(stale_, ", "));
  return text;
}

Result<std::optional<Candidate>> Fitter::Within(const Entry& entry, Bytes budget) const {
  if (entry.least > budget) return std::optional<Candidate>();
  if (entry.all.total <= budget) return std::optional(entry.all);
  Candidate c = entry.all;
  const Layout l = TRY(LayOutToFit(*sources_[c.source].planned, RequestOf(c.context), c.choice, budget));
  if (l.plan.total > budget) return std::optional<Candidate>();
  c.choice = l.choice;
  c.total = l.plan.total;
  c.speed = PredictSpeed(l, speed());
  return std::optional(c);
}

Result<Fitted> Fitter::At(Bytes budget) const {
  for (const int64_t context : contexts_) {
    Fitted f;
    for (const Entry& e : entries_) {
      if (e.all.context != context) continue;
      if (!Meets(e.all)) {
        f.unmeasured += Unmeasured(e.all) && e.least <= budget;
        continue;
      }
      if (auto candidate = TRY(Within(e, budget))) f.fitting.push_back(std::move(*candidate));
    }
    std::stable_sort(f.fitting.begin(), f.fitting.end(),
                     [](const Candidate& a, const Candidate& b) { return a.kl < b.kl; });
    const std::optional<size_t> chosen = Choose(request_.least_speed, &f);
    if (!chosen) continue;
    f.chosen = *chosen;
    MarkPareto(&f.fitting);
    return f;
  }
  return Refusal(budget);
}

// What would have to be there: with layers from the disk where speed doesn't matter, without them where it does.
Error Fitter::Refusal(Bytes budget) const {
  const Entry* smallest = nullptr;
  const bool fast = request_.least_speed > 0;
  const auto needs = [&](const Entry& e) { return fast ? e.all.total : e.least; };
  std::string asked = FloorsText(request_.floors);
  if (fast) asked += fmt::format("{} {:g} tokens/s", asked.empty() ? " at" : " and", request_.least_speed);
  size_t unmeasured = 0;
  for (const Entry& e : entries_) {
    unmeasured += Unmeasured(e.all) && e.all.context == contexts_.back();
    if (!Meets(e.all)) continue;
    if (e.all.speed.tokens_per_second < request_.least_speed) continue;
    if (smallest == nullptr || needs(e) < needs(*smallest)) smallest = &e;
  }
  std::string lack = LackText(unmeasured);
  if (!lack.empty()) lack = "; " + lack;
  Error error{Code::kOverBudget, ""};
  error.budget_bytes = budget.n;
  if (smallest == nullptr) {
    error.message =
        fmt::format("{} does not run{} in any memory of this machine; ask for less{}", dir_.name, asked, lack);
    return error;
  }
  error.required_bytes = error.smallest_budget_bytes = needs(*smallest).n;
  error.message = fmt::format(
      "{} does not fit in {} bytes ({}){}: the smallest budget that does is {} bytes ({}), with {} weights, {} cache "
      "and a context of {}: pass --memory {}{}",
      dir_.name, budget.n, Human(budget), asked, needs(*smallest).n, Human(needs(*smallest)), smallest->all.weights,
      smallest->all.choice.kv->name, smallest->all.context, needs(*smallest).n, lack);
  return error;
}

Result<Planned> Fitter::Plan(const Candidate& c) const {
  CHECK(c.bits == 0);
  return Plan(c, "");
}

Result<Planned> Fitter::Plan(const Candidate& c, const std::string& packed) const {
  PlanRequest request = RequestOf(c.context);
  request.weights = c.choice.weights.as_stored ? "auto" : NameOf(c.choice.weights);
  request.kv = c.choice.kv->name;
  request.resident = c.choice.streamed > 0 ? std::to_string(c.layers - c.choice.streamed) : "all";
  request.budget = c.total;
  return PlanModel(packed.empty() ? sources_[c.source].dir : TRY(FindModel(packed, ModelUse::kRun)), request);
}

}  // namespace sotto
