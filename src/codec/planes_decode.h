// What writing, checking and decoding blocks of the plane code share. Internal to codec/.
#pragma once
#include "codec/planes.h"

namespace sotto::codec {

inline constexpr uint64_t kPlanesPad = 16;                              // zero bytes behind the last panel, at least
inline constexpr uint32_t kMostLiteralBytes = (uint32_t{1} << 24) - 1;  // of a panel

// Values of halves, and all that stands before the first panel.
inline uint64_t ValuesBytes(PlaneScheme s) { return s == PlaneScheme::kF16 || s == PlaneScheme::kBF16 ? 128 : 0; }
inline uint64_t HeadBytes(const PlanesHeader& h) {
  return sizeof h + h.codes * sizeof(PlaneCode) + uint64_t{h.scales} * 4 + ValuesBytes(h.scheme) +
         static_cast<uint64_t>(PlanePanels(h.out)) * 8;
}

using DecodePlanesFunction = void (*)(PlaneReader*, int groups, int offset, uint8_t* to);
void DecodePlanes(PlaneReader* reader, int groups, int offset, uint8_t* to);
// For a code; null for those that have no fast one. Needs AVX2 and BMI2; builds for x86-64 only.
DecodePlanesFunction DecodePlanesAvx2(const PlaneCode& code);

}  // namespace sotto::codec
