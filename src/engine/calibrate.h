// Measures what engine/machine_speed.h keeps, in about ten seconds, with the kernels that models run on and nothing else. Every figure
// is the best of several: what disturbs a measurement only makes it slower.
//
//   MachineSpeed speed = TRY(Calibrate({.threads = 2}, progress));
#pragma once
#include <functional>

#include "engine/machine_speed.h"

namespace sotto {

// The weights that are read: random, one matrix behind the other, more than the caches of most machines hold. Besides them a
// calibration takes activations and scratch, a few MiB.
inline constexpr uint64_t kCalibrationBytes = 64 * kMiB;
inline constexpr uint64_t kDiskBytes = 256 * kMiB;

struct CalibrateOptions {
  int threads = 0;        // 0: all CPUs of this process
  std::string disk;       // a file whose first kDiskBytes are read; "": one is written beside `temporary`, and removed
  std::string temporary;  // a path whose folder is there
};

// `progress(done, total)` steps; false interrupts. kBadInput for a file that can't be read, kUsage for threads. A disk without reads past
// the page cache is not measured.
Result<MachineSpeed> Calibrate(const CalibrateOptions& options, const std::function<bool(int, int)>& progress);

}  // namespace sotto
