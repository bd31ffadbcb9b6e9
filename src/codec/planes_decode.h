// Decoders of the plane code, for one instruction set each. Internal to codec/.
#pragma once
#include "codec/planes.h"

namespace sotto::codec {

using DecodePlanesFunction = void (*)(PlaneReader*, int groups, int offset, uint8_t* to);
void DecodePlanes(PlaneReader* reader, int groups, int offset, uint8_t* to);
// For a code; null for those that have no fast one. Needs AVX2 and BMI2; builds for x86-64 only.
DecodePlanesFunction DecodePlanesAvx2(const PlaneCode& code);

}  // namespace sotto::codec
