// _sotto: the planner for Python. Not the interface, which is python/sotto/__init__.py: each function that can fail answers
// with one JSON document, as `sotto plan --json` prints it, or {"error": …}; Python makes a report or an exception of it.
#include <malloc.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include "answer.h"
#include "engine/planning.h"
#include "memory_manager.h"
#include "packed_matrix.h"
#include "plan/machine.h"

namespace sotto {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

// The document, and the table for people as a JSON string ("" beside an error).
using Answer = std::pair<std::string, std::string>;

Result<Answer> PlanOrRefuse(const ModelDir& dir, const PlanRequest& request) {
  const Planned planned = TRY(PlanModel(dir, request));
  if (!planned.fits && !request.unbounded) return Refusal(planned);
  return Answer{Text(PlanJson(planned)), Text(Json(PlanTable(planned)))};
}

// Paths are bytes here, because they need not be UTF-8.
std::string Path(const nb::bytes& path) { return {path.c_str(), path.size()}; }

Answer PlanAnswer(const nb::bytes& model, const std::optional<std::string>& memory, const std::string& weights,
                  const std::string& kv, int64_t context, int64_t batch, int64_t beam, int64_t tp, double audio_seconds,
                  int64_t encoder_seq_length, int threads, bool require_fit) {
  PlanRequest request;
  request.unbounded = !require_fit;
  request.weights = weights;
  request.kv = kv;
  request.context = context;
  request.batch = batch;
  request.beam = beam;
  request.tp = tp;
  request.audio_seconds = audio_seconds;
  request.encoder_positions = encoder_seq_length;
  request.threads = threads;
  if (memory) {
    const Result<Bytes> budget = ParseSize(*memory, AvailableMemory());
    if (!budget.ok()) return {Text(budget.error()), ""};
    request.budget = *budget;
  }
  // Names depend on the environment, which other Python threads may be changing: looked up before they go on.
  const Result<ModelDir> dir = FindModel(Path(model), ModelUse::kPlan);
  if (!dir.ok()) return {Text(dir.error()), ""};
  const nb::gil_scoped_release others_go_on;
  Result<Answer> answer = PlanOrRefuse(*dir, request);
  return answer.ok() ? *std::move(answer) : Answer{Text(answer.error()), ""};
}

std::string ParseSizeAnswer(const std::string& text) {
  const Result<Bytes> size = ParseSize(text, AvailableMemory());
  return size.ok() ? Text(Json{{"bytes", size->n}}) : Text(size.error());
}

}  // namespace

NB_MODULE(_sotto, m) {
  m.doc() = "The planner behind the package sotto, which is what to import.";
  nb::set_leak_warnings(false);  // tensors of torch that are alive when Python ends hold on to matrices
  m.attr("version") = SOTTO_VERSION;
  m.def("plan", PlanAnswer, "model"_a, "memory"_a.none(), "weights"_a, "kv"_a, "context"_a, "batch"_a, "beam"_a, "tp"_a,
        "audio_seconds"_a, "encoder_seq_length"_a, "threads"_a, "require_fit"_a,
        "The document of `sotto plan --json`, and the command's table as a JSON string; {\"error\": ...} and \"\" "
        "otherwise.");
  m.def("parse_size", ParseSizeAnswer, "text"_a, "{\"bytes\": N} or {\"error\": ...}.");
  m.def(
      "human", [](uint64_t bytes) { return Human({bytes}); }, "bytes"_a, "\"1.25 GiB\", as in the command's tables.");
  m.def(
      "available_memory", [] { return AvailableMemory().n; }, "What this process may still take, bytes.");
  m.def(
      "catalog_dir",
      [] {
        const std::string dir = CatalogDir();
        return nb::bytes(dir.data(), dir.size());
      },
      "Where published configs are looked up; empty when there are none.");
  m.def(
      "set_catalog_dir", [](const nb::bytes& path) { SetCatalogDir(Path(path)); }, "path"_a,
      "Where the package keeps them; SOTTO_CATALOG goes before it.");
  m.def(
      "give_back_memory", [] { malloc_trim(0); }, "Gives what the C library holds free back to the system.");
  BindMemoryManager(m);
  BindPackedMatrix(m);
}

}  // namespace sotto
