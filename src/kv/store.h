// KvStore: the keys and values that attention reads, for all layers and sequences, behind one interface. A policy (dense fp32,
// fp16, bf16 here; packed ones beside them) is one file. Its memory is slots of the anatomy: it allocates nothing.
#pragma once
#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
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

// What a packed cache holds now.
struct KvUse {
  std::array<int64_t, 9> tokens{};  // by bits, of all layers and sequences
  double AverageBits() const {      // of a number, without scales; 0: no token
    int64_t bits = 0, all = 0;
    for (size_t b = 0; b < tokens.size(); ++b) bits += static_cast<int64_t>(b) * tokens[b], all += tokens[b];
    return all == 0 ? 0 : static_cast<double>(bits) / static_cast<double>(all);
  }
};

class KvStore {
 public:
  virtual ~KvStore() = default;
  virtual KvUse Use() const { return {}; }
  // k, v: [rows, heads * head_dim] fp32, one row for each entry of `rows`; they stay as they are until Attend has read them, and
  // may be changed. Storing a position that was stored before forgets it and all behind it.
  virtual void Store(Backend& ops, const Run& run, int layer, BatchRows rows, View k, View v) = 0;
  // q, out: [rows, heads * head_dim]; q may be changed. `mass`, if given: [rows * heads, keys] the softmax weights.
  virtual void Attend(Backend& ops, const Run& run, int layer, BatchRows rows, View q, const AttnSpec& spec, View out,
                      View* mass = nullptr) = 0;
};

// How a cache is kept: chosen once, lives as long as the process, so that policies are compared by their addresses.
class KvPolicy {
 public:
  KvPolicy(std::string name, DType dtype) : name(std::move(name)), dtype(dtype) {}
  virtual ~KvPolicy() = default;
  KvPolicy(const KvPolicy&) = delete;
  KvPolicy& operator=(const KvPolicy&) = delete;

  // Declares the slots, named prefix + layer. `at` carries the lifetime and the prefix. What it can't keep, by Check, it declares too.
  virtual std::unique_ptr<KvStore> Declare(const Scope& at, std::span<const KvShape> layers,
                                           int64_t sequences) const = 0;
  // kUsage: caches that this policy can't keep, and the longest context or the budget that would do.
  virtual Status Check(std::span<const KvShape> layers, int64_t sequences) const = 0;
  // Of one number of a key or value, all told, in a cache of this shape.
  virtual double BytesPerElement(const KvShape& shape) const = 0;
  // Power of what is lost, over that of keys and values.
  virtual double Noise() const = 0;
  // Tokens whose pages one attention reads at most, for its scratch (ScratchNeed::page_tokens); 0: no pages.
  virtual int64_t PageTokens(int64_t context) const = 0;

  const std::string name;
  const DType dtype;  // of a dense cache; of a packed one what it is measured against, kF16
};

// fp32, fp16, bf16; the packed ones: q8, q4, q3, q2, smart and smart:key=value,… (kv/packed.h). kUsage: what is wrong, and what there is.
Result<const KvPolicy*> ParseKvPolicy(std::string_view name);
// REQUIRES: kF32, kF16 or kBF16.
const KvPolicy* DenseKvPolicy(DType dtype);

}  // namespace sotto
