// Anatomy: the one description of a model. A tensor, cache or buffer is a C++ member whose constructor registers a Slot (name,
// role, type, shape, lifetime) here. The planner sums the slots, the loader fills them, the engine runs on them: three
// readings of one list, so they cannot drift.
//
//   struct Mlp {
//     Scope at; const Config& c;
//     Matrix fc1{at, "fc1.weight", c.ffn, c.d_model};
//     Vector fc1_bias{at, "fc1.bias", c.ffn};
//   };
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "plan/dtype.h"

namespace sotto {

// Reports group by role. kTable: tokenizer and other parsed files; kAudio: samples, mel, resampler; kRing: where layers that are
// not resident lie while they compute (plan/residency.h); kMapped: pages of the model's own file.
enum class Role : uint8_t { kWeight, kKv, kActivation, kAudio, kStaging, kTable, kRing, kMapped };
std::string_view NameOf(Role role);

// The part of a model that a slot belongs to: the rows of `parameters` in a plan. kExperts: the routed experts of a mixture.
enum class Component : uint8_t {
  kEncoder,
  kDecoder,
  kCrossAttention,
  kEmbedding,
  kProjector,
  kLmHead,
  kExperts,
  kQformer,
  kAggregator,
  kPerLayerEmbedding,
  kMimo,  // Kimi-Audio's second decoder, which speaks
  kVision,
  kAdapters,
  kEngine
};
std::string_view NameOf(Component component);
inline constexpr int kComponents = 14;

// A set of phases in which a slot is live. Slots that are never live together may share addresses.
using Phases = uint8_t;
inline constexpr Phases kLoad = 1, kEncode = 2, kGenerate = 4;
inline constexpr Phases kRunning = kEncode | kGenerate, kAlways = kLoad | kRunning;
inline constexpr int kPhaseCount = 3;
std::string_view PhaseName(int index);  // load, encode, generate

// Layers that pass one behind the other, so that one may be read from the disk while others compute.
enum class Stack : uint8_t { kNone, kEncoder, kDecoder };

// How a weight may be kept. kMatrix: [out, in], any precision, in panels. kVector: fp32 (norms and biases: little memory, much
// harm). kRows: read row by row (positions), fp32 or fp16. kPlain: not a weight.
enum class Form : uint8_t { kPlain, kMatrix, kVector, kRows };

// How the tensor of the file becomes the slot. kConv: [out, in, taps] is kept as [out, taps, in].
enum class Source : uint8_t { kCopy, kConv };

// How tensor parallelism divides a slot among ranks: whole on each, or by its first or second dimension in pieces of `unit`
// (a head's rows stay together; with fewer units than ranks some ranks hold the same one).
struct Shard {
  enum Kind : uint8_t { kWhole, kFirst, kSecond } kind = kWhole;
  int64_t unit = 1;
};

struct Slot {
  std::string name;  // a weight's name in the checkpoint (Hugging Face's), else our own
  Role role = Role::kWeight;
  Component component = Component::kEngine;
  DType dtype = DType::kF32;              // of caches, buffers, tables; a weight's is the recipe's choice
  std::array<int64_t, 3> shape{1, 1, 1};  // outermost first, padded with 1
  int dims = 1;
  Phases live = kAlways;
  Form form = Form::kPlain;
  Source source = Source::kCopy;
  Shard shard;
  int layer = -1;
  Stack stack = Stack::kNone;

  uint64_t Elements() const;  // saturates
};

class Anatomy {
 public:
  uint32_t Add(Slot slot);
  std::span<const Slot> slots() const { return slots_; }
  const Slot& at(uint32_t id) const { return slots_[id]; }
  uint64_t Parameters() const;
  uint64_t Parameters(Component component) const;
  // Leaves of every slot the part that one of `ranks` holds. Parameters() then counts a rank's.
  void KeepOneRank(int64_t ranks);

  // Where a model's files and its slots differ by right. Elsewhere: a part whose tensors may stand in another model's files (the
  // config names it) or in none of this kind (LoRA). Unused: tensors that files hold and nothing reads, by the beginning of
  // their plain names (weights/stored.h).
  void Elsewhere(Component component) { elsewhere_ |= 1U << static_cast<int>(component); }
  bool IsElsewhere(Component component) const { return (elsewhere_ >> static_cast<int>(component) & 1U) != 0; }
  void Unused(std::string beginning) { unused_.push_back(std::move(beginning)); }
  std::span<const std::string> unused() const { return unused_; }

 private:
  std::vector<Slot> slots_;
  std::vector<std::string> unused_;
  uint32_t elsewhere_ = 0;
};

// Where in a model a member stands: carries the name's prefix, the component, the layer and the lifetime down.
struct Scope {
  Anatomy* into = nullptr;
  std::string prefix;
  Component component = Component::kEngine;
  Phases live = kAlways;
  int layer = -1;
  Stack stack = Stack::kNone;

  Scope operator/(std::string_view name) const;  // "a." / "b" is "a.b."
  Scope As(Component c) const;
  Scope During(Phases p) const;
  Scope Layer(int i, Stack of = Stack::kNone) const;
};

struct Member {
  uint32_t id = UINT32_MAX;  // not registered: any use is a failed CHECK
};
struct Matrix : Member {  // y = W x, W [out, in]
  Matrix() = default;
  Matrix(const Scope& at, std::string_view name, int64_t out, int64_t in, Shard shard = {});
};
struct ConvMatrix : Member {  // file [out, in, taps], kept as [out, taps * in]: a linear over a window of `taps` frames
  ConvMatrix() = default;
  ConvMatrix(const Scope& at, std::string_view name, int64_t out, int64_t in, int64_t taps);
};
struct Vector : Member {
  Vector() = default;
  Vector(const Scope& at, std::string_view name, int64_t n, Shard shard = {});
};
struct RowTable : Member {
  RowTable() = default;
  RowTable(const Scope& at, std::string_view name, int64_t rows, int64_t cols);
};
struct Buffer : Member {  // [rows, cols] of activations
  Buffer() = default;
  Buffer(const Scope& at, std::string_view name, int64_t rows, int64_t cols, DType dtype = DType::kF32,
         Role role = Role::kActivation, Shard shard = {});
};
struct Cache : Member {  // [planes, rows, cols] of keys or values
  Cache() = default;
  Cache(const Scope& at, std::string_view name, int64_t planes, int64_t rows, int64_t cols, DType dtype,
        Shard shard = {});
};
struct Table : Member {  // bytes of a known count
  Table() = default;
  Table(const Scope& at, std::string_view name, uint64_t bytes, Role role = Role::kTable);
};

}  // namespace sotto
