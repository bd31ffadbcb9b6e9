// A cache of 8, 4, 3 and 2 bits a number (codec/kv_page.h) that keeps to a number of bytes. Each sequence has so many pages, all of one
// size, for all of its layers. A token comes in at the most bits; when the pages are full, those that the rule (kv/rules.h) expects the
// least of go down, 8 -> 4 -> 3 -> 2, in whichever layer they are, and free theirs. All heads of a token have one width.
//
// What a piece of a prompt reads of itself it reads at 8 bits; pieces are of kPieceRows tokens, so what is kept depends on how a text was
// cut. A forgotten token's traces (the attention that it paid) stay.
#pragma once
#include <memory>
#include <string>

#include "kv/packed_options.h"
#include "kv/store.h"

namespace sotto {

inline constexpr int kKvWidths[] = {8, 4, 3, 2};

std::unique_ptr<KvPolicy> MakePackedKv(std::string name, const PackedKvOptions& options);

// Of one sequence: `layers` of one shape.
struct PackedKvSizes {
  KvPageShape page;
  int64_t capacity = 0, layers = 0, pages = 0;

  int64_t Tokens(int bits) const;  // of a width in one layer at most
  uint64_t Bytes(const PackedKvOptions& options) const;
  // The fewest pages that hold `capacity` tokens in each layer.
  int64_t LeastPages(const PackedKvOptions& options) const;
  // What fp16 would take.
  uint64_t DenseBytes() const;
};
// As many pages as `options` give one of `sequences`; the fewest that do when that is too little.
PackedKvSizes SizePackedKv(const KvShape& shape, int64_t layers, int64_t sequences, const PackedKvOptions& options);

// Where the arrays of one layer and sequence stand behind each other.
struct PackedKvIndex {
  struct Group {
    uint64_t positions = 0, pages = 0, planes = 0;
  };
  Group groups[std::size(kKvWidths)];
  uint64_t by_distance = 0, observed = 0, widths = 0, total = 0;

  PackedKvIndex(const PackedKvSizes& sizes, const PackedKvOptions& options);
};

// Pages that must be free while tokens go from one width to another, each of which may begin one. 0: there is one width.
int64_t SparePages(KvWidths widths);
// Whether the rule asks what attention each token received.
bool Observes(const PackedKvOptions& options);

}  // namespace sotto
