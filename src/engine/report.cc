#include "engine/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace sotto {
namespace {

// Bytes of all slots that `match`, whatever phase they live in; of those in the file's pages their own.
template <class Match>
uint64_t BytesOf(const Planned& p, Match match) {
  const Layout& l = p.layout;
  uint64_t sum = 0;
  for (uint32_t id = 0; id < l.plan.at.size(); ++id)
    if (match(l.anatomy->at(id)))
      sum += IsMapped(*l.anatomy, l.plan.recipe[id]) ? l.plan.recipe[id].bytes.n : l.plan.at[id].bytes;
  return sum;
}

uint64_t WeightBytes(const Planned& p, Component c) {
  return BytesOf(p,
                 [c](const Slot& s) { return (s.role == Role::kWeight || s.role == Role::kRing) && s.component == c; });
}

uint64_t KvBytes(const Planned& p, bool cross) {
  return BytesOf(p, [cross](const Slot& s) {
    return s.role == Role::kKv && (s.component == Component::kCrossAttention) == cross;
  });
}

double Gb(uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

uint64_t EncoderKvFormula(const Planned& p) {
  return static_cast<uint64_t>(p.layout.model->info().encoder_kv_formula_elements) * SizeOf(p.layout.choice.kv->dtype) *
         static_cast<uint64_t>(p.layout.choice.batch);
}

double WindowSeconds(const Planned& p) { return static_cast<double>(p.mel.n_samples) / kSampleRate; }
// Positions of the sequence that audio takes: an audio-language model's; an encoder-decoder's states beside its sequence.
int64_t AudioTokens(const Planned& p) {
  const ModelInfo& info = p.layout.model->info();
  return info.type == "audio-llm" ? info.audio_tokens : info.audio_positions;
}
double BytesPerSecond(const Planned& p) {
  return static_cast<double>(p.layout.model->info().kv_bytes_per_token) * static_cast<double>(AudioTokens(p)) /
         AudioSeconds(p);
}

// "bf16", "gptq 4-bit"; of a GGUF file the bytes of each type.
Json StoredJson(const StoredWeights& stored) {
  if (stored.format != "gguf") return stored.Name();
  return stored.by_type;
}

Json PhasesJson(const Planned& p) {
  Json phases = Json::array();
  const Layout& l = p.layout;
  for (int phase = 0; phase < kPhaseCount; ++phase) {
    Json slots = Json::array();
    for (uint32_t id = 0; id < l.plan.at.size(); ++id) {
      const Slot& s = l.anatomy->at(id);
      if ((s.live & (1 << phase)) != 0 && l.plan.at[id].bytes != 0)
        slots.push_back({{"name", s.name}, {"bytes", l.plan.at[id].bytes}, {"role", NameOf(s.role)}});
    }
    phases.push_back(
        {{"name", PhaseName(phase)}, {"live_bytes", l.plan.live[static_cast<size_t>(phase)].n}, {"slots", slots}});
  }
  return phases;
}

}  // namespace

std::string Grouped(uint64_t n) {
  std::string out = std::to_string(n);
  for (auto i = static_cast<std::ptrdiff_t>(out.size()) - 3; i > 0; i -= 3) out.insert(static_cast<size_t>(i), 1, ',');
  return out;
}

Sums PeakSums(const Layout& l) {
  const MemoryPlan& plan = l.plan;
  const uint64_t gap =
      plan.arena.n - plan.live[static_cast<size_t>(plan.peak_phase)].n;  // addresses that nothing fills
  return {plan.Of(*l.anatomy, Role::kWeight).n + plan.Of(*l.anatomy, Role::kRing).n + l.mapped.bytes,
          plan.Of(*l.anatomy, Role::kKv).n,
          plan.Of(*l.anatomy, Role::kActivation).n + plan.Of(*l.anatomy, Role::kStaging).n + gap,
          plan.Of(*l.anatomy, Role::kAudio).n,
          plan.Of(*l.anatomy, Role::kTable).n,
          plan.runtime.n,
          plan.total.n};
}

double AudioSeconds(const Planned& p) {
  const ModelInfo& info = p.layout.model->info();
  if (info.type == "decoder") return 0;
  return info.type == "audio-llm" && p.request.audio_seconds > 0 ? p.request.audio_seconds : WindowSeconds(p);
}

Json PlanJson(const Planned& p) {
  const Layout& l = p.layout;
  const ModelInfo& info = l.model->info();
  const Sums sums = PeakSums(l);
  Json parameters = {{"total", l.anatomy->Parameters()}}, weights = Json::object();
  for (int i = 0; i < kComponents; ++i) {
    const auto c = static_cast<Component>(i);
    const uint64_t n = l.anatomy->Parameters(c);
    if (c == Component::kEngine || (n == 0 && c > Component::kLmHead))
      continue;  // rarer parts only where there are any
    parameters[std::string(NameOf(c))] = n;
    weights[std::string(NameOf(c)) + "_weight_bytes"] = WeightBytes(p, c);
  }
  const uint64_t encoder = WeightBytes(p, Component::kEncoder);
  uint64_t decoder = 0;  // everything that generates
  for (const Component c : {Component::kDecoder, Component::kCrossAttention, Component::kEmbedding, Component::kLmHead,
                            Component::kExperts, Component::kPerLayerEmbedding, Component::kMimo})
    decoder += WeightBytes(p, c);
  const uint64_t projector = WeightBytes(p, Component::kProjector);
  const uint64_t self_kv = KvBytes(p, false), cross_kv = KvBytes(p, true), formula = EncoderKvFormula(p);
  // In the report both caches stand whole, so activations are what they add to that: the sum is the total although the decoder's
  // cache may share addresses with the encoder's activations.
  const uint64_t others = sums.weights + self_kv + cross_kv + sums.audio + sums.tables + sums.runtime;
  const uint64_t added_activations = sums.total > others ? sums.total - others : 0;
  Json j = {{"schema", "sotto.plan/1"},
            {"model", p.dir.name},
            {"model_type", info.type},
            {"parameters", parameters},
            {"memory",
             {{"weights_bytes", sums.weights},
              {"kv_cache_bytes", sums.kv},
              {"activation_bytes", sums.activations},
              {"audio_bytes", sums.audio},
              {"table_bytes", sums.tables},
              {"runtime_bytes", sums.runtime},
              {"total_bytes", sums.total}}},
            {"weights", weights},
            {"breakdown",
             {{"encoder_weight_bytes", encoder},
              {"decoder_weight_bytes", decoder},
              {"projector_weight_bytes", projector},
              {"decoder_kv_cache_bytes", self_kv},
              {"cross_attention_kv_cache_bytes", cross_kv},
              {"encoder_kv_cache_bytes", 0},
              {"encoder_kv_formula_bytes", formula},
              {"kv_bytes_per_token", info.kv_bytes_per_token},
              {"kv_bytes_per_token_beyond_window", info.kv_bytes_per_token_beyond_window},
              {"cross_attention_weight_bytes", WeightBytes(p, Component::kCrossAttention)},
              {"embedding_weight_bytes", WeightBytes(p, Component::kEmbedding)},
              {"mapped_weight_bytes", l.mapped.bytes}}},
            {"audio",
             {{"seconds", AudioSeconds(p)},
              {"audio_tokens", AudioTokens(p)},
              {"bytes_per_second_of_audio", info.type == "audio-llm" ? BytesPerSecond(p) : 0.0}}},
            {"workload",
             {{"weights", WeightsName(p, l.choice)},
              {"weights_stored", StoredJson(p.stored)},
              {"kv", l.choice.kv->name},
              {"context", info.context},
              {"batch", l.choice.batch},
              {"stack_layers", l.stack_layers},
              {"streamed_layers", l.streamed.size()},
              {"streamed_bytes_per_token", l.StreamedBytes(Stack::kDecoder)},
              {"streamed_bytes_per_window", l.StreamedBytes(Stack::kEncoder)},
              {"beam", p.request.beam},
              {"audio_seconds", AudioSeconds(p)},
              {"tp", p.request.tp},
              {"device", "cpu"},
              {"threads", p.threads},
              {"isa", NameOf(p.isa)}}},
            {"report",
             {{"weight_memory_gb", Gb(sums.weights)},
              {"kv_cache_gb", Gb(self_kv + cross_kv)},
              {"activation_memory_gb", Gb(added_activations)},
              {"state_memory_gb", 0.0},
              {"image_memory_gb", 0.0},
              {"extra_work_gb", Gb(sums.tables + sums.runtime)},
              {"total_memory_gb", Gb(sums.total)},
              {"encoder_weight_memory_gb", Gb(encoder)},
              {"decoder_weight_memory_gb", Gb(decoder)},
              {"encoder_kv_cache_gb", 0.0},
              {"encoder_kv_formula_gb", Gb(formula)},
              {"decoder_kv_cache_gb", Gb(self_kv)},
              {"cross_attention_kv_cache_gb", Gb(cross_kv)},
              {"audio_memory_gb", Gb(sums.audio)},
              {"projector_memory_gb", Gb(projector)}}},
            {"budget", {{"bytes", p.budget.n}, {"fits", p.fits}, {"smallest_budget_bytes", p.smallest.n}}},
            {"fits", p.fits},
            {"phases", PhasesJson(p)},
            {"exact", l.plan.exact}};
  if (!p.fits && p.request.budget) j["error"] = ErrorJson(Refusal(p));
  if (!p.notes.empty()) j["notes"] = p.notes;
  return j;
}

Json ErrorJson(const Error& error) {
  Json e = {{"code", CodeName(error.code)}, {"message", error.message}};
  if (error.required_bytes != 0) {
    e["required_bytes"] = error.required_bytes;
    e["budget_bytes"] = error.budget_bytes;
    e["smallest_budget_bytes"] = error.smallest_budget_bytes;
  }
  return e;
}

std::vector<PlanRow> PlanRows(const Planned& p) {
  const Layout& l = p.layout;
  const ModelInfo& info = l.model->info();
  const Sums sums = PeakSums(l);
  const std::string_view phase = PhaseName(l.plan.peak_phase);
  std::vector<PlanRow> rows = {{"weights", sums.weights}};
  constexpr std::string_view kLabels[kComponents] = {
      "encoder",  "decoder",    "cross-attention",      "embedding",        "projector", "language head", "experts",
      "Q-Former", "aggregator", "per-layer embeddings", "speaking decoder", "vision",    "LoRA adapters", ""};
  for (int i = 0; i < kComponents; ++i) {
    const auto c = static_cast<Component>(i);
    const bool shared = c == Component::kEmbedding && l.anatomy->Parameters(Component::kLmHead) == 0;
    if (const uint64_t bytes = WeightBytes(p, c); c != Component::kEngine && bytes > 0)
      rows.push_back({fmt::format("  {}", shared ? "embedding and head" : kLabels[i]), bytes});
  }
  if (l.mapped.bytes > 0)
    rows.push_back({"  of these mapped", l.mapped.bytes, "the file's pages, shared with other processes"});
  rows.push_back({"KV cache", sums.kv});
  rows.push_back({"  self-attention", KvBytes(p, false),
                  sums.kv < KvBytes(p, false) + KvBytes(p, true) ? "shares addresses with the encoder's activations"
                  : info.type != "audio-llm"                     ? ""
                                             : fmt::format("{:.0f} bytes a second of audio", BytesPerSecond(p))});
  if (KvBytes(p, true) > 0) rows.push_back({"  cross-attention", KvBytes(p, true), "does not grow"});
  rows.push_back({"activations", sums.activations});
  if (info.type != "decoder") rows.push_back({"audio", sums.audio, "the same for any length"});
  rows.push_back({"tables", sums.tables, "tokenizer"});
  rows.push_back({"process", sums.runtime, "binary, libraries, stacks: measured bound"});
  rows.push_back({"total", sums.total, fmt::format("peak phase: {}", phase)});
  return rows;
}

std::string WorkloadText(const Planned& p) {
  const Layout& l = p.layout;
  const ModelInfo& info = l.model->info();
  const std::string weights = WeightsName(p, l.choice), stored = p.stored.Name();
  std::string out = fmt::format(
      "weights {}{}, cache {}, batch {}{}, context {}{}, {} threads, {}", weights,
      weights == stored ? " (as stored)" : fmt::format(" (stored as {})", stored), l.choice.kv->name, l.choice.batch,
      p.request.beam > 1 ? fmt::format(", {} beams", p.request.beam) : "", info.context,
      info.type == "decoder"     ? std::string()
      : info.type == "audio-llm" ? fmt::format(", {:g} s of audio ({} tokens)", AudioSeconds(p), AudioTokens(p))
                                 : fmt::format(", windows of {:g} s", WindowSeconds(p)),
      p.threads, NameOf(p.isa));
  if (!l.streamed.empty())
    out += fmt::format("\n{} of {} layers are read from the disk: {} bytes a decoder pass, {} a window of audio",
                       l.streamed.size(), l.stack_layers, l.StreamedBytes(Stack::kDecoder),
                       l.StreamedBytes(Stack::kEncoder));
  for (const auto& [type, bytes] : p.stored.by_type)
    if (!p.stored.format.empty()) out += fmt::format("\nin the files: {} bytes of {}", bytes, type);
  return out;
}

std::string PlanTable(const Planned& p) {
  const Layout& l = p.layout;
  std::string out =
      fmt::format("{}: {}, {} parameters{}{}\n{}\n\n", p.dir.name, l.model->info().type, l.anatomy->Parameters(),
                  p.request.tp > 1 ? fmt::format(" on each of {} ranks", p.request.tp) : "",
                  l.model->runs() && (p.stored.kept.empty() || p.gguf || p.stored.format == "packed")
                      ? ""
                      : "; planned, not run by this version",
                  WorkloadText(p));
  out += fmt::format("{:<28}{:>16}\n", "component", "bytes");
  for (const PlanRow& r : PlanRows(p))
    out +=
        fmt::format("{:<28}{:>16} {:>12}{}{}\n", r.name, r.bytes, Human({r.bytes}), r.note.empty() ? "" : "  ", r.note);
  out += fmt::format("\nphases: load {}, encode {}, generate {}\n", Human(l.plan.live[0]), Human(l.plan.live[1]),
                     Human(l.plan.live[2]));
  for (const std::string& note : p.notes) out += "note: " + note + "\n";
  if (!p.fits && p.request.unbounded && !p.request.budget)
    out +=
        fmt::format("more than the {} bytes ({}) that are free here now; smallest budget that works: {} bytes ({})\n",
                    p.budget.n, Human(p.budget), p.smallest.n, Human(p.smallest));
  if (p.fits)
    out += fmt::format("budget {} bytes ({}): fits, {} left; smallest budget that works: {} bytes ({})\n", p.budget.n,
                       Human(p.budget), Human({p.budget.n - l.plan.total.n}), p.smallest.n, Human(p.smallest));
  return out;
}

Comparison Compare(const std::vector<const Planned*>& plans) {
  Comparison c;
  for (const Planned* p : plans) c.models.push_back(p->dir.name);
  const auto row = [&](std::string label, auto cell) {
    c.rows.push_back({std::move(label), {}});
    for (const Planned* p : plans) c.rows.back().second.push_back(cell(*p));
  };
  row("kind", [](const Planned& p) { return p.layout.model->info().type; });
  row("parameters", [](const Planned& p) { return Grouped(p.layout.anatomy->Parameters()); });
  row("precision", [](const Planned& p) { return WeightsName(p, p.layout.choice); });
  row("cache", [](const Planned& p) { return std::string(p.layout.choice.kv->name); });
  row("context", [](const Planned& p) { return std::to_string(p.layout.model->info().context); });
  row("audio positions", [](const Planned& p) { return std::to_string(AudioTokens(p)); });
  row("KV bytes a token",
      [](const Planned& p) { return Grouped(static_cast<uint64_t>(p.layout.model->info().kv_bytes_per_token)); });
  // The rows of each plan's own table. A row that some lack stands behind the one that it follows where it is; names of parts
  // come twice (weights and caches), so the row that they are part of belongs to the key.
  std::vector<std::pair<std::string, std::string>> keys;
  std::vector<std::map<std::string, uint64_t>> cells(plans.size());
  for (size_t i = 0; i < plans.size(); ++i) {
    size_t at = 0;
    std::string group;
    for (const PlanRow& r : PlanRows(*plans[i])) {
      if (!r.name.starts_with(' ')) group = r.name;
      const std::string key = group + "/" + r.name;
      cells[i][key] = r.bytes;
      const auto same = [&](const auto& k) { return k.first == key; };
      auto found = std::find_if(keys.begin(), keys.end(), same);
      if (found == keys.end()) found = keys.insert(keys.begin() + static_cast<std::ptrdiff_t>(at), {key, r.name});
      at = static_cast<size_t>(found - keys.begin()) + 1;
    }
  }
  for (const auto& [key, name] : keys) {
    c.rows.push_back({name, {}});
    for (const auto& of : cells) c.rows.back().second.push_back(of.contains(key) ? Human({of.at(key)}) : "-");
  }
  row("total, bytes", [](const Planned& p) { return std::to_string(p.layout.plan.total.n); });
  row("smallest budget", [](const Planned& p) { return std::to_string(p.smallest.n); });
  row(plans[0]->request.budget ? fmt::format("fits {}", Human(plans[0]->budget)) : "fits what is free",
      [](const Planned& p) { return std::string(p.fits ? "yes" : "no"); });
  return c;
}

Json LedgerJson(const Ledger& ledger) {
  Json components = Json::object();
  for (const LedgerRow& r : ledger.rows)
    components[r.name] = {
        {"planned_bytes", r.planned.n},
        {"actual_bytes", r.actual.n},
        {"error", r.actual.n == 0 ? Json(nullptr)
                                  : Json(static_cast<double>(r.planned.n) / static_cast<double>(r.actual.n) - 1)}};
  Json json = {{"planned_bytes", ledger.planned.n},
               {"peak_bytes", ledger.peak.n},
               {"error", ledger.error},
               {"components", components}};
  if (const double bits = ledger.cache.AverageBits(); bits > 0) {
    json["kv_bits"] = {{"average", bits}};
    for (const int b : {2, 3, 4, 8}) json["kv_bits"][std::to_string(b)] = ledger.cache.tokens[static_cast<size_t>(b)];
  }
  return json;
}

std::string LedgerTable(const Ledger& ledger) {
  std::string out = fmt::format("{:<14}{:>16}{:>16}{:>10}\n", "component", "planned", "actual", "error");
  const auto row = [&](std::string_view name, uint64_t planned, uint64_t actual) {
    const double error = actual == 0 ? 0 : static_cast<double>(planned) / static_cast<double>(actual) - 1;
    out += fmt::format("{:<14}{:>16}{:>16}{:>+9.2f}%\n", name, planned, actual, error * 100);
  };
  for (const LedgerRow& r : ledger.rows) row(r.name, r.planned.n, r.actual.n);
  row("total", ledger.planned.n, ledger.peak.n);
  if (const double bits = ledger.cache.AverageBits(); bits > 0) {
    const auto share = [&](size_t b) {
      int64_t all = 0;
      for (const int64_t n : ledger.cache.tokens) all += n;
      return fmt::format("{} at {}", ledger.cache.tokens[b] * 100 / all, b);
    };
    out += fmt::format("cache: {:.2f} bits on average (% of tokens: {}, {}, {}, {})\n", bits, share(8), share(4),
                       share(3), share(2));
  }
  return out + fmt::format("peak {} of {} planned: {}\n", Human(ledger.peak), Human(ledger.planned),
                           ledger.peak <= ledger.planned ? "kept" : "EXCEEDED");
}

}  // namespace sotto
