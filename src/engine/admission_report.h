// The memory manager's answers as documents: those of `sotto memory … --json` and of Python's sotto.MemoryManager.
#pragma once
#include "base/json_fwd.h"
#include "engine/admission.h"

namespace sotto {

// {"recommended": "Q4_K_M", …, "rungs": […]}; null and an error beside it when nothing may be loaded.
Json RecommendJson(const AdmissionRules& rules, const SystemMemory& memory);

// {"can_load": true, "reason": …}; an error beside it when not. `memory` is less by the bytes `reserved` by other
// loads.
Json CheckJson(const AdmissionRules& rules, const Rung& rung, const SystemMemory& memory, Bytes reserved);

// {"status": "ok", "message": …}
Json StatusJson(const MemoryStats& stats);

Json StatsJson(const MemoryStats& stats);

}  // namespace sotto
