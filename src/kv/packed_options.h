// What `--kv q8|q4|q3|q2|smart[:key=value,…]` says: how a packed cache spends its bytes.
//
//   const PackedKvOptions o = TRY(ParsePackedKv("smart:budget=0.25,bits=2/4/8,recent=32"));
#pragma once
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "kv/rules.h"

namespace sotto {

struct PackedKvOptions {
  KvRule rule = KvRule::kSmart;
  KvWidths widths;
  // Of the whole cache, everything in it counted: bytes, or (when that is 0) a share of what fp16 takes. Both 0: all that the least
  // width needs, which is then the only one.
  uint64_t budget_bytes = 0;
  double budget_share = 0.25;
  int64_t sinks = 4, recent = 8;  // tokens that are held at the most bits

  bool uniform() const { return budget_bytes == 0 && budget_share == 0; }
};

// kUsage: the key or value that it can't be, and what it may be.
Result<PackedKvOptions> ParsePackedKv(std::string_view text);
// Whether it is one of those names at all.
bool IsPackedKv(std::string_view text);

}  // namespace sotto
