// KvStore: the keys and values that attention reads, for all layers and sequences, behind one interface. A policy (dense fp32,
// fp16, bf16 here; packed ones beside them) is one file. Its memory is slots of the anatomy: it allocates nothing.
#pragma once
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "ops/backend.h"
#include "plan/arena.h"

namespace sotto {

struct KvShape {
  int64_t heads = 0, head_dim = 0, capacity = 0;  // capacity: positions a sequence
  int64_t v_dim = 0;                              // of a value; 0: as a key
  int64_t window = 0;                             // positions that a row sees; 0: all. The cache is then a ring.
};

// Which sequence and position each row of a batch belongs to.
struct BatchRows {
  std::span<const int32_t> seq, pos;
  int64_t count() const { return static_cast<int64_t>(seq.size()); }
};

struct AttnSpec {
  int heads = 0, head_dim = 0;  // of the queries: a multiple of the cache's heads
  float scale = 1;
  int64_t keys =
      0;  // 0: causal, a row at position p sees itself and what is before; else every row sees exactly this many
};

class KvStore {
 public:
  virtual ~KvStore() = default;
  // k, v: [rows, heads * head_dim] fp32, one row for each entry of `rows`.
  virtual void Store(const Run& run, int layer, BatchRows rows, View k, View v) = 0;
  // q, out: [rows, heads * head_dim]. `mass`, if given: [rows * heads, keys] the softmax weights.
  virtual void Attend(Backend& ops, const Run& run, int layer, BatchRows rows, View q, const AttnSpec& spec, View out,
                      View* mass = nullptr) const = 0;
};

struct KvPolicy {
  std::string_view name;
  DType dtype;
  // Declares the slots, named prefix + "k" / "v", one pair a layer. `at` carries the lifetime and the prefix.
  std::unique_ptr<KvStore> (*declare)(const Scope& at, std::span<const KvShape> layers, int64_t sequences);
};

// fp32, fp16, bf16; nullptr when there is none of that name.
const KvPolicy* FindKvPolicy(std::string_view name);

}  // namespace sotto
