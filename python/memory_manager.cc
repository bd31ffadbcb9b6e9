// _sotto.MemoryManager: what python/sotto/__init__.py makes sotto.MemoryManager of. Answers are JSON texts, as in
// module.cc. It is used with Python's lock held, except while it plans.
#include "memory_manager.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "answer.h"
#include "engine/admission_report.h"

namespace sotto {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

class Manager {
 public:
  std::string Open(const std::string& profile, const nb::bytes& model, const std::optional<uint64_t>& min_free,
                   double keep_free, const std::string& when, uint64_t audio_overhead, int threads) {
    const std::string name{model.c_str(), model.size()};
    const nb::gil_scoped_release others_go_on;
    const Status opened = Prepare(profile, name, min_free, keep_free, when, audio_overhead, threads);
    return opened.ok() ? "{}" : Text(opened.error());
  }

  // Instead of what the system says.
  void SetMemory(const std::optional<uint64_t>& total, const std::optional<uint64_t>& available) {
    total_ = total;
    available_ = available;
  }

  std::string Recommend() const { return Text(RecommendJson(manager_->rules(), manager_->Free())); }

  std::string Check(const std::string& quantization) const {
    const Result<Rung> rung = FindRung(manager_->rules(), quantization);
    if (!rung.ok()) return Text(rung.error());
    return Text(CheckJson(manager_->rules(), *rung, manager_->Free(), manager_->Stats().now.reserved));
  }

  std::string Register(const std::string& quantization, const std::string& name) {
    const Result<Rung> rung = FindRung(manager_->rules(), quantization);
    if (!rung.ok()) return Text(rung.error());
    const bool legacy = !manager_->rules().reserves;
    if (!legacy && rooms_.contains(name))
      return Text(Usage("'" + name + "' is registered already; unregister_model() it first, or give another name"));
    Result<Reservation> room = manager_->Reserve(name, *rung);
    if (!room.ok()) return Text(room.error());
    if (legacy) room->Loaded();
    rooms_[name] = std::move(room).value();
    return "{}";
  }

  std::string Resident(const std::string& name, const std::optional<uint64_t>& so_far) {
    const auto it = rooms_.find(name);
    if (it == rooms_.end()) return Text(Usage("'" + name + "' is not registered; register_model_load() it first"));
    it->second.Resident({so_far.value_or(UINT64_MAX)});
    return "{}";
  }

  void Unregister(const std::string& name) { rooms_.erase(name); }

  std::string CheckStatus() {
    manager_->Check();
    return Text(StatusJson(manager_->Stats()));
  }
  std::string Stats() const { return Text(StatsJson(manager_->Stats())); }
  std::string Threshold() const {
    const Result<Bytes> threshold = LoadThreshold(manager_->Stats());
    return threshold.ok() ? Text(Json{{"bytes", threshold->n}}) : Text(threshold.error());
  }

 private:
  Status Prepare(const std::string& profile, const std::string& model, const std::optional<uint64_t>& min_free,
                 double keep_free, const std::string& when, uint64_t audio_overhead, int threads) {
    PlanRequest request;
    request.threads = threads;
    AdmissionRules rules = TRY(MakeRules(profile, model, request));
    if (min_free)
      for (Rung& r : rules.rungs) r.buffer = {*min_free};
    if (!(keep_free >= 0 && keep_free <= 1)) return Usage("keep_free is a share from 0 to 1, such as 0.25");
    rules.keep_free = keep_free;
    if (!when.empty()) rules.when = TRY(ParseShareTest(when));
    rules.audio_overhead = {audio_overhead};
    manager_.emplace(std::move(rules), [this] {
      SystemMemory memory = total_ && available_ ? SystemMemory{} : ReadSystemMemory();
      if (total_) memory.total = {*total_};
      if (available_) memory.available = {*available_};
      return memory;
    });
    return {};
  }

  std::optional<uint64_t> total_, available_;
  std::optional<MemoryManager> manager_;
  std::map<std::string, Reservation> rooms_;  // go before the manager does
};

}  // namespace

void BindMemoryManager(nb::module_& m) {
  nb::class_<Manager>(m, "MemoryManager", "What sotto.MemoryManager is made of; open() goes first.")
      .def(nb::init<>())
      .def("open", &Manager::Open, "profile"_a, "model"_a, "min_free"_a.none(), "keep_free"_a, "when"_a,
           "audio_overhead"_a, "threads"_a)
      .def("set_memory", &Manager::SetMemory, "total"_a.none(), "available"_a.none())
      .def("recommend", &Manager::Recommend)
      .def("check", &Manager::Check, "quantization"_a)
      .def("register", &Manager::Register, "quantization"_a, "name"_a)
      .def("resident", &Manager::Resident, "name"_a, "so_far"_a.none())
      .def("unregister", &Manager::Unregister, "name"_a)
      .def("check_status", &Manager::CheckStatus)
      .def("stats", &Manager::Stats)
      .def("threshold", &Manager::Threshold);
}

}  // namespace sotto
