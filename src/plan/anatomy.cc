#include "plan/anatomy.h"

#include <algorithm>
#include <utility>

namespace sotto {

std::string_view NameOf(Role role) {
  constexpr std::string_view kNames[] = {"weight", "kv", "activation", "audio", "staging", "table", "ring", "mapped"};
  return kNames[static_cast<int>(role)];
}

std::string_view NameOf(Component component) {
  constexpr std::string_view kNames[kComponents] = {
      "encoder", "decoder",    "cross_attention",     "embedding", "projector", "lm_head",  "experts",
      "qformer", "aggregator", "per_layer_embedding", "mimo",      "vision",    "adapters", "engine"};
  return kNames[static_cast<int>(component)];
}

std::string_view PhaseName(int index) {
  constexpr std::string_view kNames[kPhaseCount] = {"load", "encode", "generate"};
  return kNames[index];
}

uint64_t Slot::Elements() const {
  uint64_t n = 1;
  for (int64_t d : shape) n = SatMul(n, static_cast<uint64_t>(d));
  return n;
}

uint32_t Anatomy::Add(Slot slot) {
  for (int64_t d : slot.shape) CHECK(d >= 0);
  slots_.push_back(std::move(slot));
  return static_cast<uint32_t>(slots_.size() - 1);
}

uint64_t Anatomy::Parameters() const {
  uint64_t n = 0;
  for (const Slot& s : slots_)
    if (s.role == Role::kWeight) n = SatAdd(n, s.Elements());
  return n;
}

uint64_t Anatomy::Parameters(Component component) const {
  uint64_t n = 0;
  for (const Slot& s : slots_)
    if (s.role == Role::kWeight && s.component == component) n = SatAdd(n, s.Elements());
  return n;
}

void Anatomy::KeepOneRank(int64_t ranks) {
  CHECK(ranks >= 1);
  for (Slot& s : slots_) {
    if (s.shard.kind == Shard::kWhole) continue;
    int64_t& size = s.shape[s.shard.kind == Shard::kFirst ? 0 : 1];
    const int64_t units = (size + s.shard.unit - 1) / s.shard.unit;
    size = std::min(size, (units + ranks - 1) / ranks * s.shard.unit);
  }
}

Scope Scope::operator/(std::string_view name) const {
  Scope s = *this;
  s.prefix += std::string(name) + ".";
  return s;
}
Scope Scope::As(Component c) const {
  Scope s = *this;
  s.component = c;
  return s;
}
Scope Scope::During(Phases p) const {
  Scope s = *this;
  s.live = p;
  return s;
}
Scope Scope::Layer(int i, Stack of) const {
  Scope s = *this;
  s.layer = i;
  s.stack = of;
  return s;
}

namespace {
Slot Base(const Scope& at, std::string_view name, Role role) {
  Slot s;
  s.name = at.prefix + std::string(name);
  s.role = role;
  s.component = at.component;
  s.live = at.live;
  s.layer = at.layer;
  s.stack = at.stack;
  return s;
}
}  // namespace

Matrix::Matrix(const Scope& at, std::string_view name, int64_t out, int64_t in, Shard shard) {
  Slot s = Base(at, name, Role::kWeight);
  s.shard = shard;
  s.form = Form::kMatrix;
  s.shape = {out, in, 1};
  s.dims = 2;
  id = at.into->Add(std::move(s));
}

ConvMatrix::ConvMatrix(const Scope& at, std::string_view name, int64_t out, int64_t in, int64_t taps) {
  Slot s = Base(at, name, Role::kWeight);
  s.form = Form::kMatrix;
  s.source = Source::kConv;
  s.shape = {out, in, taps};
  s.dims = 3;
  id = at.into->Add(std::move(s));
}

Vector::Vector(const Scope& at, std::string_view name, int64_t n, Shard shard) {
  Slot s = Base(at, name, Role::kWeight);
  s.shard = shard;
  s.form = Form::kVector;
  s.shape = {n, 1, 1};
  id = at.into->Add(std::move(s));
}

RowTable::RowTable(const Scope& at, std::string_view name, int64_t rows, int64_t cols) {
  Slot s = Base(at, name, Role::kWeight);
  s.form = Form::kRows;
  s.shape = {rows, cols, 1};
  s.dims = 2;
  id = at.into->Add(std::move(s));
}

Buffer::Buffer(const Scope& at, std::string_view name, int64_t rows, int64_t cols, DType dtype, Role role,
               Shard shard) {
  Slot s = Base(at, name, role);
  s.shard = shard;
  s.dtype = dtype;
  s.shape = {rows, cols, 1};
  s.dims = 2;
  id = at.into->Add(std::move(s));
}

Cache::Cache(const Scope& at, std::string_view name, int64_t planes, int64_t rows, int64_t cols, DType dtype,
             Shard shard) {
  Slot s = Base(at, name, Role::kKv);
  s.shard = shard;
  s.dtype = dtype;
  s.shape = {planes, rows, cols};
  s.dims = 3;
  id = at.into->Add(std::move(s));
}

Table::Table(const Scope& at, std::string_view name, uint64_t bytes, Role role) {
  CHECK(bytes <= static_cast<uint64_t>(INT64_MAX));
  Slot s = Base(at, name, role);
  s.dtype = DType::kU8;
  s.shape = {static_cast<int64_t>(bytes), 1, 1};
  id = at.into->Add(std::move(s));
}

}  // namespace sotto
