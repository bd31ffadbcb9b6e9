// A model directory with int8 matrices: docs/int8.md draws it.
#pragma once
#include "engine/convert/source.h"

namespace sotto {

Result<Converted> WriteInt8(const Source& source, const ConvertRequest& request, ConvertProgress progress);

}  // namespace sotto
