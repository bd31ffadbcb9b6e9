// Adds _sotto.PackedMatrix to the module (packed_matrix.cc).
#pragma once
#include <nanobind/nanobind.h>

namespace sotto {
void BindPackedMatrix(nanobind::module_& m);
}
