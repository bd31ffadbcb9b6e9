#include "engine/fit/plan_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "engine/fit/record.h"
#include "engine/machine_speed.h"
#include "plan/machine.h"

namespace sotto {
namespace {

constexpr const char* kSchema = "sotto.planfile/1";
Json MachineJson(Isa isa, int threads) {
  return {{"cpu", CpuName()}, {"isa", NameOf(isa)}, {"cpus", Threads::Available()}, {"threads", threads}};
}

Status CheckMachine(const Reader& machine, const std::string& path) {
  const std::string cpu = TRY(machine.Text("cpu")), isa = TRY(machine.Text("isa"));
  const int64_t cpus = TRY(machine.Whole("cpus", 1, INT32_MAX));
  const Isa here = TRY(DetectIsa());
  if (cpu == CpuName() && isa == NameOf(here) && cpus == Threads::Available()) return {};
  return BadModel(
      fmt::format("{} was made for {} CPUs of {} with {} kernels, and here are {} of {} with {}; fit anew here", path,
                  cpus, cpu, isa, Threads::Available(), CpuName(), NameOf(here)));
}

Status CheckFiles(const std::vector<Reader>& files, const ModelDir& dir, const std::string& path) {
  const std::vector<std::string> now = FilesOf(dir);
  for (const Reader& r : files) {
    const std::string name = TRY(r.Text("path"));
    if (std::find(now.begin(), now.end(), name) == now.end())
      return BadModel(fmt::format("{} was made with {}, which is no longer there; fit anew", path, name));
    const std::string checksum = TRY(r.Text("xxh3"));
    const FileState state = TRY(StateOf(name));
    if (static_cast<int64_t>(state.bytes) != TRY(r.Whole("bytes", 0, INT64_MAX)) ||
        state.changed != TRY(r.Whole("changed_ns", INT64_MIN, INT64_MAX)) || ChecksumText(state.checksum) != checksum)
      return BadModel(fmt::format("{} has changed since {} was made; fit anew", name, path));
  }
  if (now.size() != files.size())
    return BadModel(fmt::format("{} has other files than when {} was made; fit anew", dir.name, path));
  return {};
}

}  // namespace

Status WritePlanFile(const Planned& p, const Json& about, const std::string& path) {
  CHECK(p.fits && p.dir.has_weights);
  Json files = Json::array();
  ModelDir dir = p.dir;
  for (std::string* part : {&dir.path, &dir.gguf_path, &dir.mmproj_path})
    if (!part->empty()) *part = std::filesystem::absolute(*part).lexically_normal().string();
  for (const std::string& name : FilesOf(dir)) {
    const FileState s = TRY(StateOf(name));
    files.push_back(
        {{"path", name}, {"bytes", s.bytes}, {"changed_ns", s.changed}, {"xxh3", ChecksumText(s.checksum)}});
  }
  const Layout& l = p.layout;
  const Choice& c = l.choice;
  Json j = {
      {"schema", kSchema},
      {"model", dir.gguf_path.empty() ? dir.path : dir.gguf_path},
      {"mmproj", dir.mmproj_path},
      {"files", files},
      {"machine", MachineJson(p.isa, p.threads)},
      {"choice",
       {{"weights", c.weights.as_stored ? "auto" : NameOf(c.weights)},
        {"kv", c.kv->name},
        {"resident", l.streamed.empty() ? "all" : std::to_string(l.stack_layers - static_cast<int>(l.streamed.size()))},
        {"mapped", p.request.mapped},
        {"context", l.model->info().context},
        {"batch", c.batch},
        {"audio_seconds", p.request.audio_seconds}}},
      {"total_bytes", l.plan.total.n}};
  j.update(about);
  return WriteAtomically(path, j.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

Result<PlanFile> ReadPlanFile(const std::string& path) {
  const Json j = TRY(ReadJson(path, Code::kBadModel));
  const Reader whole(j, path, "a plan that `sotto fit -o` wrote");
  if (!j.is_object() || TRY(whole.Text("schema")) != kSchema) return whole.Broken("schema");
  const Reader machine = TRY(whole.Object("machine")), choice = TRY(whole.Object("choice"));
  TRY(CheckMachine(machine, path));
  const Result<ModelDir> dir = FindModel(TRY(whole.Text("model")), ModelUse::kRun);
  if (!dir.ok()) return BadModel(fmt::format("{}: its model is gone: {}", path, dir.error().message));
  PlanFile file{*dir, {}};
  file.dir.mmproj_path = TRY(whole.Text("mmproj"));
  if (file.dir.gguf_path.empty() && !file.dir.mmproj_path.empty()) return whole.Broken("mmproj");
  TRY(CheckFiles(TRY(whole.List("files")), file.dir, path));
  PlanRequest& r = file.request;
  r.weights = TRY(choice.Text("weights"));
  r.kv = TRY(choice.Text("kv"));
  r.resident = TRY(choice.Text("resident"));
  r.mapped = TRY(choice.Flag("mapped"));
  r.context = TRY(choice.Whole("context", 1, INT32_MAX));
  r.batch = TRY(choice.Whole("batch", 1, kMostSequences));
  r.audio_seconds = TRY(choice.Number("audio_seconds"));
  r.threads = static_cast<int>(TRY(machine.Whole("threads", 1, INT16_MAX)));
  r.budget = Bytes{static_cast<uint64_t>(TRY(whole.Whole("total_bytes", 1, INT64_MAX)))};
  if (const Bytes free = AvailableMemory(); free < *r.budget) {
    Error e{Code::kOverBudget,
            fmt::format("{} needs {} bytes ({}), and {} bytes ({}) are free now: free the rest, or fit "
                        "anew for what there is",
                        path, r.budget->n, Human(*r.budget), free.n, Human(free))};
    e.required_bytes = e.smallest_budget_bytes = r.budget->n;
    e.budget_bytes = free.n;
    return e;
  }
  return file;
}

}  // namespace sotto
