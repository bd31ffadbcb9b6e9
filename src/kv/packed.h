// A cache of 8, 4, 3 and 2 bits a number (codec/kv_page.h) that keeps to a number of bytes. Each layer of each sequence has so many
// pages, all of one size. A token comes in at the most bits; when the pages are full, those that the rule (kv/rules.h) expects the least
// of go down, 8 -> 4 -> 3 -> 2, and free theirs. All heads of a token have one width.
//
// What a piece of a prompt reads of itself it reads at 8 bits; pieces are of kPieceRows tokens, so what is kept depends on how a text was
// cut. A forgotten token's traces (the attention that it paid) stay.
#pragma once
#include <memory>
#include <string>

#include "kv/packed_options.h"
#include "kv/store.h"

namespace sotto {

std::unique_ptr<KvPolicy> MakePackedKv(std::string name, const PackedKvOptions& options);

// Of one layer and sequence.
struct PackedKvSizes {
  KvPageShape page;
  int64_t capacity = 0, pages = 0;

  int64_t Tokens(int bits) const;  // of a width at most
  uint64_t Bytes(const PackedKvOptions& options) const;
  // The fewest pages that hold `capacity` tokens.
  int64_t LeastPages(const PackedKvOptions& options) const;
};
// For the budget, which is that of `layers` such caches; as few as must be when it is too small.
PackedKvSizes SizePackedKv(const KvShape& shape, const PackedKvOptions& options, int64_t layers);

}  // namespace sotto
