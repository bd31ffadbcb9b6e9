#include "engine/fit/plan_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "codec/checksum.h"
#include "engine/machine_speed.h"
#include "plan/machine.h"
#include "weights/hub_cache.h"

namespace sotto {
namespace {

constexpr const char* kSchema = "sotto.planfile/1";
// Of each file so much is compared, besides size and time: headers of weights, and all of most other files.
constexpr uint64_t kBeginning = kMiB, kPiece = 16 * kKiB;

struct FileState {
  uint64_t bytes = 0, checksum = 0;
  int64_t changed = 0;  // nanoseconds since 1970
  friend bool operator==(const FileState&, const FileState&) = default;
};

Result<FileState> StateOf(const std::string& path) {
  const File file = TRY(File::Open(path, Code::kBadModel));
  FileState s{file.size(), 0, 0};
  std::array<std::byte, kPiece> piece;
  for (uint64_t at = 0; at < std::min(s.bytes, kBeginning); at += kPiece) {
    const auto part = std::span(piece).first(std::min(kPiece, s.bytes - at));
    TRY(file.ReadAt(at, part));
    s.checksum = Checksum(part, s.checksum);
  }
  struct stat status {};
  if (::fstat(file.fd(), &status) == 0) s.changed = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
  return s;
}

// What a model reads.
std::vector<std::string> FilesOf(const ModelDir& dir) {
  std::vector<std::string> files;
  if (!dir.gguf_path.empty()) {
    files.push_back(dir.gguf_path);
    if (!dir.mmproj_path.empty()) files.push_back(dir.mmproj_path);
    return files;
  }
  for (const std::string& name : ListDirectory(dir.path))
    for (const char* end : {".safetensors", ".json", ".model", ".txt", ".jinja"})
      if (name.ends_with(end)) files.push_back(dir.path + "/" + name);
  return files;
}

// A plan that somebody wrote by hand is refused like one of an older version, not guessed at.
class Reader {
 public:
  Reader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}
  Result<std::string> Text(const char* key) const {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_string()) return Broken(key);
    return it->get<std::string>();
  }
  Result<int64_t> Whole(const char* key, int64_t least, int64_t most) const {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_number_integer() ||
        (it->is_number_unsigned() && it->get<uint64_t>() > INT64_MAX))
      return Broken(key);
    const auto value = it->get<int64_t>();
    return value >= least && value <= most ? Result<int64_t>(value) : Broken(key);
  }
  Result<double> Number(const char* key) const {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_number() || !std::isfinite(it->get<double>())) return Broken(key);
    return it->get<double>();
  }
  Result<Reader> Object(const char* key) const {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_object()) return Broken(key);
    return Reader(*it, path_);
  }
  Result<std::vector<Reader>> List(const char* key) const {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_array()) return Broken(key);
    std::vector<Reader> all;
    for (const Json& entry : *it) {
      if (!entry.is_object()) return Broken(key);
      all.emplace_back(entry, path_);
    }
    return all;
  }
  Error Broken(const char* key) const {
    return BadModel(fmt::format("{} is not a plan that `sotto fit -o` wrote ('{}'); make it again", path_, key));
  }

 private:
  const Json& object_;
  std::string path_;
};

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
        state.changed != TRY(r.Whole("changed_ns", INT64_MIN, INT64_MAX)) ||
        fmt::format("{:016x}", state.checksum) != checksum)
      return BadModel(fmt::format("{} has changed since {} was made; fit anew", name, path));
  }
  if (now.size() != files.size())
    return BadModel(fmt::format("{} has other files than when {} was made; fit anew", dir.name, path));
  return {};
}

}  // namespace

Status WritePlanFile(const Planned& p, const Json& predicted, const std::string& path) {
  CHECK(p.fits && p.dir.has_weights);
  Json files = Json::array();
  ModelDir dir = p.dir;
  for (std::string* part : {&dir.path, &dir.gguf_path, &dir.mmproj_path})
    if (!part->empty()) *part = std::filesystem::absolute(*part).lexically_normal().string();
  for (const std::string& name : FilesOf(dir)) {
    const FileState s = TRY(StateOf(name));
    files.push_back(
        {{"path", name}, {"bytes", s.bytes}, {"changed_ns", s.changed}, {"xxh3", fmt::format("{:016x}", s.checksum)}});
  }
  const Layout& l = p.layout;
  const Choice& c = l.choice;
  const Json j = {
      {"schema", kSchema},
      {"model", dir.gguf_path.empty() ? dir.path : dir.gguf_path},
      {"mmproj", dir.mmproj_path},
      {"files", files},
      {"machine", MachineJson(p.isa, p.threads)},
      {"choice",
       {{"weights", c.weights.as_stored ? "auto" : NameOf(c.weights)},
        {"kv", c.kv->name},
        {"resident", l.streamed.empty() ? "all" : std::to_string(l.stack_layers - static_cast<int>(l.streamed.size()))},
        {"context", l.model->info().context},
        {"batch", c.batch},
        {"audio_seconds", p.request.audio_seconds}}},
      {"total_bytes", l.plan.total.n},
      {"predicted", predicted}};
  return WriteAtomically(path, j.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

Result<PlanFile> ReadPlanFile(const std::string& path) {
  const Json j = TRY(ReadJson(path, Code::kBadModel));
  const Reader whole(j, path);
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
