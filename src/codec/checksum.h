// XXH3, 64 bits: whether bytes are those that they were. Not a defence against somebody who wants them to collide.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace sotto {

// Of several pieces: each behind the checksum of those before it.
uint64_t Checksum(std::span<const std::byte> bytes, uint64_t before = 0);

}  // namespace sotto
