// sotto kv: what the rules of the packed cache of keys and values give, on vectors of importance.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <numeric>

#include "cli/options.h"
#include "kv/reference_rule.h"
#include "kv/rules.h"

namespace sotto::cli {
namespace {

constexpr size_t kMostBytes = 64 << 20;  // of standard input
constexpr size_t kMostVectors = 4096, kMostTokens = 1 << 20;
constexpr int64_t kMostHeads = 4096, kMostHeadDim = 4096;

struct Options {
  std::string rule;
  int64_t sinks = KvAllocation().sinks, recent = KvAllocation().recent;
  bool held = false, json = false;  // held: one of the two was given
};

struct Vector {
  std::string name;
  ReferenceCache cache;
  std::vector<double> importance;
};

Result<double> Number(const Json& j, const char* key, double least, double most, double otherwise,
                      const std::string& where) {
  const auto it = j.find(key);
  if (it == j.end() && !std::isnan(otherwise)) return otherwise;
  if (it == j.end() || !it->is_number() || !(it->get<double>() >= least && it->get<double>() <= most))
    return BadInput(fmt::format("{} of {} is not a number from {} to {}", key, where, least, most));
  return it->get<double>();
}

Result<int64_t> Count(const Json& j, const char* key, int64_t most, const std::string& where) {
  const double number = TRY(Number(j, key, 1, static_cast<double>(most), std::nan(""), where));
  if (number != std::floor(number)) return BadInput(fmt::format("{} of {} is not a whole number", key, where));
  return static_cast<int64_t>(number);
}

// The form of the published vectors.
Result<Vector> Read(const Json& j, const std::string& where) {
  if (!j.is_object())
    return BadInput(fmt::format("{} is not a JSON object with budget, num_heads, head_dim and importance", where));
  Vector v;
  if (const auto name = j.find("name"); name != j.end() && name->is_string()) v.name = name->get<std::string>();
  v.cache.budget = TRY(Number(j, "budget", 0, 1, std::nan(""), where));
  v.cache.heads = TRY(Count(j, "num_heads", kMostHeads, where));
  v.cache.head_dim = TRY(Count(j, "head_dim", kMostHeadDim, where));
  if (v.cache.head_dim % 8 != 0) return BadInput(fmt::format("head_dim of {} is not a multiple of 8", where));
  v.cache.high_precision_fraction = TRY(Number(j, "high_precision_fraction", 0, 0.5, 0.02, where));
  if (const auto bits = j.find("bits"); bits != j.end()) {
    std::vector<int64_t> list;
    if (bits->is_array() && bits->size() <= 16)
      for (const Json& b : *bits) list.push_back(b.is_number_integer() ? b.get<int64_t>() : 0);
    const std::optional<KvWidths> widths = KvWidths::Of(list);
    if (!widths) return BadInput(fmt::format("bits of {} is not a list of 2, 3, 4 or 8", where));
    v.cache.widths = *widths;
  }
  const auto importance = j.find("importance");
  if (importance == j.end() || !importance->is_array() || importance->size() > kMostTokens)
    return BadInput(fmt::format("importance of {} is not a list of at most {} numbers", where, kMostTokens));
  for (const Json& i : *importance) {
    if (!i.is_number() || !(i.get<double>() >= 0 && i.get<double>() <= 1e30))
      return BadInput(fmt::format("importance of {} holds something that is not a number from 0 to 1e30", where));
    v.importance.push_back(i.get<double>());
  }
  if (const auto n = j.find("n"); n != j.end() && *n != v.importance.size())
    return BadInput(fmt::format("n of {} is not the length of importance, {}", where, v.importance.size()));
  return v;
}

uint64_t Fp16Bytes(const Vector& v) {
  return 4 * v.importance.size() * static_cast<uint64_t>(v.cache.heads * v.cache.head_dim);
}

Result<std::vector<uint8_t>> Widths(const Vector& v, const Options& o) {
  if (o.rule == "reference") return ReferenceWidths(v.cache, v.importance);
  KvAllocation cache{v.cache.heads, v.cache.head_dim, 0, v.cache.widths, o.sinks, o.recent};
  cache.budget_bytes = static_cast<uint64_t>(std::floor(v.cache.budget * static_cast<double>(Fp16Bytes(v)) + 1e-6));
  return AllocateWidths(*FindKvRule(o.rule), cache, v.importance);
}

Json Document(const Vector& v, const Options& o, const std::vector<uint8_t>& bits) {
  const int64_t scale_bits = o.rule == "reference" ? 32 : 16;
  Json counts = Json::object();
  for (int b = v.cache.widths.least(); b != 0; b = v.cache.widths.Above(b))
    if (const auto count = std::count(bits.begin(), bits.end(), b); count > 0) counts[std::to_string(b)] = count;
  const auto sum = std::accumulate(bits.begin(), bits.end(), int64_t{0});
  const auto n = static_cast<double>(std::max<size_t>(bits.size(), 1));
  const double average = static_cast<double>(sum) / n;
  Json j{{"rule", o.rule},
         {"bits", bits},
         {"avg_bits", average},
         {"counts", counts},
         {"ratio", average / 16 + static_cast<double>(scale_bits) / (16 * static_cast<double>(v.cache.head_dim))}};
  if (!v.name.empty()) j["name"] = v.name;
  return j;
}

Result<std::string> ReadInput() {
  std::string text;
  std::array<char, 1 << 16> piece;
  while (std::cin.read(piece.data(), piece.size()) || std::cin.gcount() > 0) {
    text.append(piece.data(), static_cast<size_t>(std::cin.gcount()));
    if (text.size() > kMostBytes)
      return BadInput(fmt::format("standard input is longer than {} MiB", kMostBytes >> 20));
  }
  return text;
}

Status Allocate(const Options& o) {
  if (o.rule != "reference" && !FindKvRule(o.rule))
    return Usage(fmt::format("there is no rule {}; there are reference, uniform, recency, history and smart", o.rule));
  if (o.held && (o.rule == "reference" || o.rule == "uniform"))
    return Usage(fmt::format("--sinks and --recent have no effect on {}; leave them out", o.rule));
  const Json input = TRY(ParseJson(TRY(ReadInput()), "standard input", Code::kBadInput));
  const bool many = input.is_array();
  if (many && input.size() > kMostVectors)
    return BadInput(fmt::format("standard input holds more than {} vectors", kMostVectors));
  Json documents = Json::array();
  for (size_t i = 0; i < (many ? input.size() : 1); ++i) {
    const Vector v =
        TRY(Read(many ? input[i] : input, many ? fmt::format("vector {} of standard input", i + 1) : "standard input"));
    documents.push_back(Document(v, o, TRY(Widths(v, o))));
  }
  if (o.json) {
    const Json out = many ? Json{{"allocations", documents}} : documents[0];
    fmt::print("{}\n", out.dump(-1, ' ', false, Json::error_handler_t::replace));
    return {};
  }
  for (const Json& d : documents) {
    fmt::print("{:16} {:.4f} bits, {:.4f} of FP16:", d.value("name", ""), d["avg_bits"].get<double>(),
               d["ratio"].get<double>());
    for (const uint8_t b : d["bits"].get<std::vector<uint8_t>>()) fmt::print(" {}", b);
    fmt::print("\n");
  }
  return {};
}

}  // namespace

void AddKv(CLI::App* root, Commands* commands) {
  CLI::App* app = root->add_subcommand("kv", "The packed cache of keys and values: what its rules decide");
  app->require_subcommand(1);
  auto o = std::make_shared<Options>();
  CLI::App* allocate =
      app->add_subcommand("allocate", "Bits of each token by a rule, for the importance that standard input gives");
  allocate
      ->add_option("--rule", o->rule,
                   "uniform: all alike; recency: by age; history: by the attention received; smart: by that over what "
                   "is usual at its "
                   "distances; reference: the published allocation, exact")
      ->required();
  const auto held = [o](const std::string&) {
    o->held = true;
    return std::string();
  };
  allocate->add_option("--sinks", o->sinks, "Tokens that are held high because they received far more than is usual")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->each(held)
      ->capture_default_str();
  allocate->add_option("--recent", o->recent, "Newest tokens that are held high")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->each(held)
      ->capture_default_str();
  allocate->add_flag("--json", o->json, "One JSON document on standard output");
  allocate->footer(
      "Standard input: {\"budget\": share of FP16's bytes with scales, \"num_heads\": 8, \"head_dim\": 64, "
      "\"importance\": [...]}, from the oldest "
      "token\nto the newest, or a list of such; also \"bits\": [2, 3, 4, 8], \"n\", \"name\", "
      "\"high_precision_fraction\" (of reference).\n"
      "Example:\n"
      "  echo '{\"budget\": 0.25, \"num_heads\": 2, \"head_dim\": 64, \"importance\": [9, 1, 1, 4, 1, 1, 1, 1]}' | "
      "sotto kv allocate --rule smart "
      "--recent 2 --json\n"
      "Exit: 0 done, 2 usage, 3 bad input, 5 the budget is below the smallest, which is named.");
  commands->push_back({allocate, [o] {
                         const Status done = Allocate(*o);
                         return done.ok() ? 0 : Report(done.error(), o->json);
                       }});
}

}  // namespace sotto::cli
