#include "harness/lowmem.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/file.h"
#include "base/npy.h"
#include "engine/pack/inspect.h"
#include "engine/planning.h"
#include "harness/child.h"
#include "harness/divergence.h"
#include "weights/gguf.h"

namespace sotto {
namespace {

constexpr size_t kMostTokens = 512;            // over which KL is measured
constexpr uint64_t kMostText = 64 * kKiB;      // of a text that is cut to so many tokens
constexpr int64_t kMostVocabulary = 16 << 20;  // of logits

// A directory that is gone, with all in it, when this is.
class Workplace {
 public:
  Workplace() = default;
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;
  ~Workplace() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  Status Make() {
    std::error_code none;
    std::string path = std::filesystem::temp_directory_path(none).string() + "/sotto-bench-XXXXXX";
    if (none || ::mkdtemp(path.data()) == nullptr)
      return Failed(fmt::format("cannot make {}: {}; TMPDIR names another place for what is packed", path,
                                none ? none.message() : std::strerror(errno)));
    path_ = path;
    return {};
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

Result<uint64_t> FileBytes(const Planned& planned) {
  if (planned.files) return planned.files->total_bytes();
  const GgufFiles files = TRY(GgufFiles::Open(planned.dir.gguf_path));
  uint64_t bytes = 0;
  for (int i = 0; i < files.count(); ++i) bytes += files.file(i).size();
  return bytes;
}

class Bench {
 public:
  Bench(const std::string& model, const LowmemRequest& request, const std::atomic<bool>& stop, LowmemProgress progress)
      : model_(model), request_(request), stop_(stop), progress_(progress) {}

  Result<Lowmem> Run() {
    const Planned planned = TRY(PlanBaseline());
    found_.model = planned.dir.name;
    TRY(place_.Make());
    TRY(TakePacked(planned));
    TRY(WriteAtomically(place_ / "prompt", request_.prompt));
    found_.baseline = TRY(Answer(model_, "running " + planned.dir.name + " as it is"));
    found_.baseline.file_bytes = TRY(FileBytes(planned));
    ids_ = std::move(prompt_ids_);
    ids_.insert(ids_.end(), found_.baseline.ids.begin(), found_.baseline.ids.end());
    found_.packed = TRY(Answer(packed_, "running it packed"));
    found_.packed.file_bytes = found_.matrices.file_bytes;
    TRY(MeasureDivergence());
    return std::move(found_);
  }

 private:
  // The model as its files have it, and the context and cache that both runs get.
  Result<Planned> PlanBaseline() {
    PlanRequest r;
    r.unbounded = true;
    r.context = request_.context;
    r.kv = request_.kv;
    r.threads = request_.threads;
    Planned planned = TRY(PlanModel(TRY(FindModel(model_, ModelUse::kRun)), r));
    if (planned.layout.model->info().type == "encoder-decoder")
      return Usage(
          fmt::format("{} takes no prompt, and answers to prompts are what is compared here; `sotto pack` and "
                      "`sotto eval wer` compare it by what it hears",
                      planned.dir.name));
    if (!planned.fits) return Refusal(planned);
    found_.kv = planned.layout.choice.kv->name;
    context_ = planned.layout.model->info().context;
    return planned;
  }

  // What is packed, or has been: its matrices, and how far they are from the model's.
  Status TakePacked(const Planned& planned) {
    packed_ = request_.packed;
    if (packed_.empty()) {
      PackRequest r = request_.pack;
      r.out = packed_ = place_ / "packed";
      r.threads = request_.threads;
      Result<Packed> packed =
          Pack(planned.dir, r, [&](uint64_t done, uint64_t all) { return Go("packing", done, all); });
      if (stop_) return Error{Code::kInterrupted, "interrupted; nothing was left behind"};
      if (!packed.ok()) return std::move(packed).error();
    }
    found_.matrices = TRY(Inspect(packed_));
    if (found_.matrices.packed_elements == 0)
      return Usage(
          fmt::format("{} holds nothing that sotto pack has made; leave --packed out to have it made", packed_));
    for (const PackedTensor& t : found_.matrices.tensors) Count(t);
    if (!planned.files || !planned.stored.format.empty()) return {};
    Threads threads(planned.threads);
    const ModelDir made = TRY(FindModel(packed_, ModelUse::kRun));
    found_.error = TRY(CompareWithOriginal(planned.dir, made, threads,
                                           [&](uint64_t done, uint64_t all) { return Go("comparing", done, all); }));
    return {};
  }

  // "model.layers.0.self_attn.q_proj.weight" is a q_proj; rows of an embedding are no Linear layer, even where a head shares them.
  void Count(const PackedTensor& t) {
    if (!t.packed()) return;
    std::string_view name = t.name;
    if (name.ends_with(".weight")) name.remove_suffix(7);
    name.remove_prefix(name.rfind('.') + 1);
    if (name.find("embed") != name.npos || name == "wte")
      ++found_.embeddings;
    else
      ++found_.linear[std::string(name)];
  }

  std::vector<std::string> Shared() const {
    std::vector<std::string> a = {
        "--context", std::to_string(context_), "--kv", found_.kv, "--weights", "auto", "--resident", "all", "--json"};
    if (request_.threads > 0) a.insert(a.end(), {"--threads", std::to_string(request_.threads)});
    return a;
  }

  Result<Json> Command(std::vector<std::string> arguments, const std::string& input, const std::string& stage) {
    const std::string command = arguments[0];
    const std::string text = TRY(RunSelf(arguments, input, stop_, [&](double s) { progress_(stage, s, 0); }));
    return ParseJson(text, "sotto " + command, Code::kFailed);
  }

  Result<LowmemRun> Answer(const std::string& model, const std::string& stage) {
    std::vector<std::string> a = {"run",     model,          "-",
                                  "--quiet", "--ignore-eos", "--temperature",
                                  "0",       "--max-tokens", std::to_string(request_.max_tokens)};
    const auto shared = Shared();
    a.insert(a.end(), shared.begin(), shared.end());
    const Json j = TRY(Command(std::move(a), place_ / "prompt", stage));
    prompt_ids_ = j["prompt_ids"].get<std::vector<int32_t>>();
    LowmemRun run{.weights = j["plan"]["workload"]["weights"],
                  .weight_bytes = j["plan"]["memory"]["weights_bytes"],
                  .planned_bytes = j["ledger"]["planned_bytes"],
                  .peak_bytes = j["ledger"]["peak_bytes"],
                  .prompt_speed = j["speed"]["prompt_tokens_per_second"],
                  .text = j["text"],
                  .ids = j["ids"]};
    if (const Json& speed = j["speed"]["tokens_per_second"]; speed.is_number()) run.speed = speed;
    return run;
  }

  Status ReadText() {
    const File file = TRY(File::Open(request_.text, Code::kBadInput));
    std::string text(std::min(file.size(), kMostText), '\0');
    TRY(file.ReadAt(0, std::as_writable_bytes(std::span(text))));
    TRY(WriteAtomically(place_ / "text", text));
    ids_ = TRY(Command({"tokenize", model_, "--add-special", "--json"}, place_ / "text", "reading the text"))["ids"]
               .get<std::vector<int32_t>>();
    if (ids_.empty()) return BadInput(request_.text + " holds no text; give some");
    return {};
  }

  Result<NpyReader> Logits(const std::string& model, const std::string& name, const std::string& stage) {
    std::vector<std::string> a = {"logits", model,        "--ids", fmt::format("{}", fmt::join(ids_, ",")),
                                  "-o",     place_ / name};
    const auto shared = Shared();
    a.insert(a.end(), shared.begin(), shared.end());
    TRY(Command(std::move(a), place_ / "prompt", stage));
    return NpyReader::Open(place_ / name);
  }

  // Logits of both lie in files, one row of each in memory.
  Status MeasureDivergence() {
    if (!request_.text.empty()) TRY(ReadText());
    ids_.resize(std::min({ids_.size(), kMostTokens, static_cast<size_t>(context_)}));
    NpyReader clean = TRY(Logits(model_, "baseline.npy", "logits of the model as it is"));
    NpyReader other = TRY(Logits(packed_, "packed.npy", "logits of it packed"));
    if (clean.shape() != other.shape() || clean.shape().size() != 2 || clean.shape()[1] > kMostVocabulary)
      return Usage(fmt::format("{} was not packed from {}: their vocabularies differ", packed_, model_));
    const int64_t rows = clean.shape()[0], n = clean.shape()[1];
    std::vector<float> x(static_cast<size_t>(n)), y(x.size()), scratch(x.size());
    for (int64_t r = 0; r < rows; ++r) {
      TRY(clean.Next(x));
      TRY(other.Next(y));
      found_.kl += Divergence(x.data(), y.data(), n, scratch.data()) / static_cast<double>(rows);
    }
    found_.kl = std::max(found_.kl, 0.0);  // of rounding
    found_.kl_tokens = rows;
    return {};
  }

  bool Go(const std::string& stage, uint64_t done, uint64_t all) {
    progress_(stage, static_cast<double>(done), static_cast<double>(all));
    return !stop_;
  }

  const std::string& model_;
  const LowmemRequest& request_;
  const std::atomic<bool>& stop_;
  LowmemProgress progress_;
  Workplace place_;
  std::string packed_;
  int64_t context_ = 0;
  std::vector<int32_t> prompt_ids_, ids_;  // ids_: over which KL is measured
  Lowmem found_;
};

}  // namespace

int Lowmem::linear_layers() const {
  int all = 0;
  for (const auto& [kind, count] : linear) all += count;
  return all;
}

double Lowmem::ratio_over_int8() const {
  return static_cast<double>(matrices.packed_elements) / static_cast<double>(matrices.packed_bytes);
}

double Lowmem::reduction() const {
  return static_cast<double>(baseline.peak_bytes) / static_cast<double>(packed.peak_bytes);
}

int64_t Lowmem::same_tokens() const {
  const std::vector<int32_t>&a = baseline.ids, &b = packed.ids;
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

Verdict Judge(double value, const std::array<double, 3>& bounds) {
  return static_cast<Verdict>(std::upper_bound(bounds.begin(), bounds.end(), value) - bounds.begin());
}

const char* NameOf(Verdict verdict) {
  constexpr std::array<const char*, 4> kNames = {"below minimum", "minimum", "good", "excellent"};
  return kNames[static_cast<size_t>(verdict)];
}

Result<Lowmem> MeasureLowmem(const std::string& model, const LowmemRequest& request, const std::atomic<bool>& stop,
                             LowmemProgress progress) {
  return Bench(model, request, stop, progress).Run();
}

}  // namespace sotto
