#include "codec/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sotto {

uint64_t Checksum(std::span<const std::byte> bytes, uint64_t before) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), before);
}

}  // namespace sotto
