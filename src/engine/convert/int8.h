// A model directory with int8 matrices: docs/int8.md draws it.
#pragma once
#include "engine/convert/original.h"

namespace sotto {

Result<Converted> WriteInt8(const Original& original, const ConvertRequest& request, ConvertProgress progress);

}  // namespace sotto
