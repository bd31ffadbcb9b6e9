// Adds _sotto.MemoryManager to the module (memory_manager.cc).
#pragma once
#include <nanobind/nanobind.h>

namespace sotto {
void BindMemoryManager(nanobind::module_& m);
}
