// What this machine does in a second: the constants that `sotto calibrate` measures (engine/calibrate.h) and speed is predicted from
// (engine/speed.h). Kept in a file, with the machine that they hold for.
//
//   std::optional<MachineSpeed> speed = FindMachineSpeed(isa, threads);      // nothing: never calibrated, or another machine
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "codec/isa.h"
#include "plan/memory_plan.h"

namespace sotto {

// Products with weights in one form, in weights a second.
struct FormSpeed {
  std::string form;    // FormName()
  double decode = 0;   // of one row, from memory
  double cached = 0;   // of one row, from the caches
  double prefill = 0;  // of many rows: weights times rows
};

struct MachineSpeed {
  std::string cpu, isa, date;
  int threads = 0;
  double memory = 0;                             // bytes a second that all threads read
  double disk = 0;                               // bytes a second past the page cache; 0: not measured
  double cache = 0;                              // bytes of the last-level cache
  double attention = 0;                          // bytes a second of keys and values that one row reads
  double attention_row = 0, attention_rows = 0;  // products a second of attention: of one row, of many
  double call = 0;                               // seconds that any operation takes
  std::vector<FormSpeed> forms;

  const FormSpeed& Of(const Stored& stored) const;  // of a form that was not measured: one that is about as fast
};

// "fp16", "int8", "q4_k"; "planes1" for what is packed: with the one plane that packing has unless it is told otherwise.
std::string FormName(const Stored& stored);

std::string CpuName();

// $SOTTO_MACHINE, else machine.json in $XDG_CACHE_HOME/sotto or ~/.cache/sotto.
std::string MachineSpeedPath();
Json MachineSpeedJson(const MachineSpeed& speed);  // "sotto.machine/1"
// Makes the folder, too. kFailed.
Status SaveMachineSpeed(const MachineSpeed& speed, const std::string& path);
// Those of this CPU with these kernels and threads. A file that can't be read as such is as none: calibrating writes it anew.
std::optional<MachineSpeed> FindMachineSpeed(Isa isa, int threads);

// For comparisons where nothing was measured: memory at 10 GB/s, a disk at 1 GB/s, arithmetic for nothing. Its figures are never shown.
MachineSpeed NominalSpeed();

}  // namespace sotto
