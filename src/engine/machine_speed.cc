#include "engine/machine_speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "weights/recipe.h"

namespace sotto {
namespace {

constexpr const char* kSchema = "sotto.machine/1";
constexpr uint64_t kMostBytes = 64 * kKiB;

struct Number {
  const char* key;
  double MachineSpeed::*member;
};
constexpr Number kNumbers[] = {{"memory_bytes_per_second", &MachineSpeed::memory},
                               {"disk_bytes_per_second", &MachineSpeed::disk},
                               {"cache_bytes", &MachineSpeed::cache},
                               {"attention_bytes_per_second", &MachineSpeed::attention},
                               {"attention_products_per_second_of_a_row", &MachineSpeed::attention_row},
                               {"attention_products_per_second_of_rows", &MachineSpeed::attention_rows},
                               {"call_seconds", &MachineSpeed::call}};
struct Rate {
  const char* key;
  double FormSpeed::*member;
};
constexpr Rate kRates[] = {
    {"decode", &FormSpeed::decode}, {"cached", &FormSpeed::cached}, {"prefill", &FormSpeed::prefill}};

std::string TextIn(const Json& j, const char* key) {
  const auto it = j.find(key);
  return it != j.end() && it->is_string() ? it->get<std::string>() : "";
}

// A finite number above 0, or nothing.
std::optional<double> NumberIn(const Json& j, const char* key) {
  const auto it = j.find(key);
  if (it == j.end() || !it->is_number()) return std::nullopt;
  const double value = it->get<double>();
  return std::isfinite(value) && value > 0 ? std::optional(value) : std::nullopt;
}

std::optional<MachineSpeed> FromJson(const Json& j) {
  if (!j.is_object() || TextIn(j, "schema") != kSchema) return std::nullopt;
  MachineSpeed m{TextIn(j, "cpu"), TextIn(j, "isa"), TextIn(j, "date"),
                 static_cast<int>(std::min(NumberIn(j, "threads").value_or(0), 1e6))};
  for (const Number& n : kNumbers) {
    const std::optional<double> value = NumberIn(j, n.key);
    if (!value && n.member != &MachineSpeed::disk) return std::nullopt;
    m.*n.member = value.value_or(0);
  }
  const auto forms = j.find("weights_per_second");
  if (forms == j.end() || !forms->is_object() || forms->empty()) return std::nullopt;
  for (const auto& [name, rates] : forms->items()) {
    FormSpeed f{name};
    for (const Rate& r : kRates) {
      const std::optional<double> value = rates.is_object() ? NumberIn(rates, r.key) : std::nullopt;
      if (!value) return std::nullopt;
      f.*r.member = *value;
    }
    m.forms.push_back(std::move(f));
  }
  return m;
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? "" : value;
}

}  // namespace

std::string FormName(const Stored& s) {
  if (s.planes) return "planes1";
  return NameOf(WeightKind{s.dtype, s.blocks});
}

const FormSpeed& MachineSpeed::Of(const Stored& stored) const {
  CHECK(!forms.empty());
  const auto find = [&](const std::string& name) {
    return std::find_if(forms.begin(), forms.end(), [&](const FormSpeed& f) { return f.form == name; });
  };
  const std::string name = FormName(stored);
  auto found = find(name);
  if (found == forms.end()) found = find(name.ends_with("_k") ? "q5_k" : "q4_0");
  return found == forms.end() ? forms.front() : *found;
}

// x86 names its CPU; ARM gives numbers of maker and design.
std::string CpuName() {
  std::ifstream in("/proc/cpuinfo");
  std::string arm;
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) return line.substr(colon + 2);
    if (line.starts_with("CPU implementer") && !arm.empty()) break;  // the second core
    if (line.starts_with("CPU implementer") || line.starts_with("CPU part"))
      arm += "arm " + line.substr(colon + 2) + " ";
  }
  return arm;
}

std::string MachineSpeedPath() {
  if (std::string path = Environment("SOTTO_MACHINE"); !path.empty()) return path;
  const std::string cache = Environment("XDG_CACHE_HOME");
  return (cache.empty() ? Environment("HOME") + "/.cache" : cache) + "/sotto/machine.json";
}

Json MachineSpeedJson(const MachineSpeed& m) {
  Json forms = Json::object();
  for (const FormSpeed& f : m.forms)
    for (const Rate& r : kRates) forms[f.form][r.key] = f.*r.member;
  Json j = {{"schema", kSchema},    {"cpu", m.cpu},   {"isa", m.isa},
            {"threads", m.threads}, {"date", m.date}, {"weights_per_second", forms}};
  for (const Number& n : kNumbers) j[n.key] = m.*n.member;
  return j;
}

Status SaveMachineSpeed(const MachineSpeed& speed, const std::string& path) {
  std::error_code error;
  if (const auto folder = std::filesystem::path(path).parent_path(); !folder.empty())
    std::filesystem::create_directories(folder, error);
  return WriteAtomically(path, MachineSpeedJson(speed).dump(1) + "\n");
}

std::optional<MachineSpeed> FindMachineSpeed(Isa isa, int threads) {
  const std::string path = MachineSpeedPath();
  if (!FileExists(path)) return std::nullopt;
  const Result<std::string> text = ReadSmallFile(path, kMostBytes, Code::kBadInput);
  if (!text.ok()) return std::nullopt;
  const Result<Json> j = ParseJson(*text, path, Code::kBadInput);
  if (!j.ok()) return std::nullopt;
  std::optional<MachineSpeed> m = FromJson(*j);
  if (!m || m->cpu != CpuName() || m->isa != NameOf(isa) || m->threads != threads) return std::nullopt;
  return m;
}

MachineSpeed NominalSpeed() {
  constexpr double kMemory = 10e9, kDisk = 1e9, kAny = 1e18;
  return {"", "", "", 1, kMemory, kDisk, 0, kMemory, kAny, kAny, 0, {{"any", kAny, kAny, kAny}}};
}

}  // namespace sotto
