#include "engine/foreign/foreign.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/foreign/rules.h"

namespace sotto {
namespace {

using foreign::Case;

Case CaseOf(const Planned& p, const ForeignRequest& request) {
  const ModelInfo& info = p.layout.model->info();
  Case c{p, info};
  if (const auto type = p.config.find("model_type"); type != p.config.end() && type->is_string()) c.model_type = *type;
  // Not what sotto chose for its own budget: what was asked for, or what the files hold.
  c.weights = p.request.weights == "auto" ? WeightKind{p.stored.dtype} : p.layout.choice.weights;
  c.size = c.weights.blocks != nullptr || c.weights.dtype == DType::kI8 ? 0 : SizeOf(c.weights.dtype);
  c.positions = info.context;
  c.batch = p.layout.choice.batch;
  c.beams = p.request.beam;
  c.rows = c.batch * c.beams;
  for (const KvLayer& l : info.kv_layers) {
    if (l.heads == 0) continue;
    (l.window == 0 ? c.full : c.sliding) += 1;
    if (l.window != 0) c.window = l.window;
    CHECK(c.layer.heads == 0 || c.layer.Elements() == l.Elements());
    c.layer = l;
  }
  CHECK(c.full + c.sliding > 0);
  c.memory = request.memory;
  return c;
}

// What surely lies in `place` at the worst moment.
uint64_t Known(const std::vector<ForeignTerm>& terms, Place place) {
  constexpr size_t kMoments = 4;
  uint64_t resident[kMoments] = {}, transient[kMoments] = {}, worst = 0;
  for (const ForeignTerm& t : terms) {
    if (!t.bytes || t.inside || t.place != place) continue;
    const auto m = static_cast<size_t>(t.moment);
    if (t.transient)
      transient[m] = std::max(transient[m], *t.bytes);
    else
      resident[m] = SatAdd(resident[m], *t.bytes);
  }
  for (size_t m = 1; m < kMoments; ++m) worst = std::max(worst, SatAdd(resident[m], transient[m]));
  return SatAdd(resident[0], worst);
}

std::string WorkloadLine(const Case& c) {
  std::string line = fmt::format("weights {}, batch {}", NameOf(c.weights), c.batch);
  if (c.beams > 1) line += fmt::format(", {} beams", c.beams);
  line += fmt::format(", context {}", c.positions);
  if (c.info.type == "audio-llm") line += fmt::format(", audio of {} tokens", c.info.audio_tokens);
  if (c.planned.request.tp > 1) line += fmt::format(", one of {} ranks", c.planned.request.tp);
  return line;
}

}  // namespace

std::string_view NameOf(Place place) { return place == Place::kDevice ? "device" : "host"; }

std::string_view NameOf(Moment moment) {
  switch (moment) {
    case Moment::kAlways: return "always";
    case Moment::kEncode: return "encode";
    case Moment::kPrefill: return "prefill";
    case Moment::kStep: return "step";
  }
  return "?";
}

Result<ForeignPlan> PlanForeign(const Planned& planned, const ForeignRequest& request) {
  if (!planned.stored.kept.empty() && planned.request.weights == "auto")
    return Usage(
        fmt::format("{} holds {} weights, for which other engines' rules are not known; name the type with --weights",
                    planned.dir.name, planned.stored.format));
  const Case c = CaseOf(planned, request);
  ForeignPlan plan;
  if (request.engine == "transformers") {
    plan = TRY(foreign::PlanTransformers(c, request.settings));
  } else if (request.engine == "vllm") {
    plan = TRY(foreign::PlanVllm(c, request.settings));
  } else if (request.engine == "llama.cpp") {
    plan = c.info.cross_layers > 0 ? TRY(foreign::PlanWhisperCpp(c, request.settings))
                                   : TRY(foreign::PlanLlamaCpp(c, request.settings));
  } else {
    return Usage(fmt::format("--engine {} is not an engine whose rules are known; choose sotto, {}",
                             request.engine.substr(0, 40), fmt::join(kForeignEngines, ", ")));
  }
  for (const Slot& s : planned.layout.anatomy->slots())
    if (s.role == Role::kKv && s.component != Component::kDecoder && s.component != Component::kCrossAttention) {
      plan.terms.push_back({.name = "other caches",
                            .rule = fmt::format("the model has caches beside its decoder's ({})", NameOf(s.component)),
                            .source = "no engine's rule for them was read"});
      break;
    }
  plan.workload = WorkloadLine(c);
  plan.known_on_device = Known(plan.terms, Place::kDevice);
  plan.known_bytes = SatAdd(plan.known_on_device, Known(plan.terms, Place::kHost));
  if (!plan.budget_bytes && request.memory) plan.budget_bytes = request.memory->n;
  if (plan.Refused())
    plan.total_bytes.reset();  // it would not start
  else if (std::all_of(plan.terms.begin(), plan.terms.end(), [](const auto& t) { return t.bytes.has_value(); }))
    plan.total_bytes = plan.known_bytes;
  return plan;
}

namespace foreign {

Result<Settings> Settings::Of(std::string_view engine, std::span<const Setting> known,
                              const std::vector<std::string>& given) {
  Settings settings;
  for (const std::string& pair : given) {
    const size_t equals = pair.find('=');
    const std::string key = pair.substr(0, equals), value = equals == pair.npos ? "" : pair.substr(equals + 1);
    const auto setting = std::find_if(known.begin(), known.end(), [&](const Setting& s) { return s.key == key; });
    if (setting == known.end() || equals == pair.npos) {
      std::vector<std::string_view> keys;
      for (const Setting& s : known) keys.push_back(s.key);
      return Usage(fmt::format("--engine-option {} is not KEY=VALUE with a key that the rules of {} use; those are {}",
                               pair.substr(0, 60), engine, fmt::join(keys, ", ")));
    }
    if (!setting->words.empty()) {
      const std::string list = fmt::format("|{}|", setting->words);
      if (value.empty() || value.find('|') != value.npos || list.find(fmt::format("|{}|", value)) == list.npos)
        return Usage(fmt::format("--engine-option {}={}: choose one of {}", key, value.substr(0, 40), setting->words));
    } else {
      double number = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      if (error != std::errc{} || end != value.data() + value.size() || !(number >= setting->least) ||
          !(number <= setting->most) || (setting->whole && number != std::floor(number)))
        return Usage(fmt::format("--engine-option {}={} is not a {}number from {} to {:.15g}", key, value.substr(0, 40),
                                 setting->whole ? "whole " : "", setting->least, setting->most));
    }
    settings.given_[key] = value;
  }
  return settings;
}

std::string Settings::Word(std::string_view key, std::string_view otherwise) const {
  const auto it = given_.find(key);
  return it == given_.end() ? std::string(otherwise) : it->second;
}

double Settings::Share(std::string_view key, double otherwise) const {
  const auto it = given_.find(key);
  if (it == given_.end()) return otherwise;
  std::from_chars(it->second.data(), it->second.data() + it->second.size(), otherwise);
  return otherwise;
}

int64_t Settings::Int(std::string_view key, int64_t otherwise) const {
  return Has(key) ? static_cast<int64_t>(Share(key, 0)) : otherwise;  // bounds stay below 2^53: exact
}

uint64_t Times(std::initializer_list<int64_t> factors) {
  uint64_t product = 1;
  for (const int64_t f : factors) product = SatMul(product, static_cast<uint64_t>(f));
  return product;
}

Status OnlyFloats(const Case& c, std::string_view engine) {
  if (c.size > 0) return {};
  return Usage(
      fmt::format("--weights {}: {} has it by a quantization package only, whose rules have no source here; choose "
                  "fp32, fp16 or bf16",
                  NameOf(c.weights), engine));
}

Error NoRule(std::string_view engine, std::string_view what) {
  return Usage(fmt::format("{}: docs/engines_sources.md has no rule of {} for it; leave it out", what, engine));
}

}  // namespace foreign
}  // namespace sotto
