// A plan as a file that commands run (`--plan plan.json`): which model in which files, and every choice. It runs as it was planned or
// not at all: files, machine and free memory are compared first.
//
//   TRY(WritePlanFile(planned, {{"predicted", speed}}, "plan.json"));
//   PlanFile file = TRY(ReadPlanFile("plan.json"));
//   Planned planned = TRY(PlanModel(file.dir, file.request));
#pragma once
#include <optional>
#include <string>

#include "base/json.h"
#include "engine/planning.h"

namespace sotto {

struct PlanFile {
  ModelDir dir;
  PlanRequest request;
};

// `about`: what was said about it, which is kept and not read. REQUIRES: planned.fits, and the model has weights. kFailed.
Status WritePlanFile(const Planned& planned, const Json& about, const std::string& path);

// kBadModel: the file is no plan, or the model's files (size, time, beginning) or the machine (CPU, kernels, number of CPUs) are not those
// that were planned. kOverBudget: less is free than it needs.
Result<PlanFile> ReadPlanFile(const std::string& path);

}  // namespace sotto
