// Byte pair encoding of one word.
#include <algorithm>
#include <bit>
#include <functional>

#include "text/utf8.h"
#include "text/words.h"

namespace sotto {
namespace {

constexpr uint32_t kNone = TokenTables::kNone;
constexpr uint32_t kGone = kNone - 1;  // in place of a symbol's predecessor: it was joined to its left neighbour

// Larger scores come first. Numbers of one sign are ordered like their bits.
uint32_t OrderOf(double score) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(score));
  return bits >> 31 != 0 ? bits : ~(bits | 1u << 31);
}

}  // namespace

struct WordEncoder::Join {
  uint32_t order = kNone, id = kNone;  // kNone: these two are not joined
};

WordEncoder::Join WordEncoder::JoinOf(uint32_t left, uint32_t right, std::string_view whole) const {
  if (settings_.by_rank) {
    const uint32_t id = tables_.Find(whole);
    return {id, id};
  }
  if (settings_.model != TokenModel::kScores) {
    const uint32_t rank = tables_.Rank(left, right);
    return {rank, rank == kNone ? kNone : tables_.Merged(rank)};
  }
  for (const uint32_t id : {left, right})
    if (id != kNone && tables_.Has(id, TokenTables::kUserDefined)) return {};
  const uint32_t id = tables_.Find(whole);
  if (id == kNone || tables_.Has(id, TokenTables::kHidden)) return {};
  return {OrderOf(tables_.Score(id)), id};
}

// Remembers what a token that only helps was made of.
void WordEncoder::Note(uint32_t id, size_t left_bytes) {
  if (tables_.has_unused() && id != kNone && tables_.Has(id, TokenTables::kUnused))
    left_bytes_[id] = static_cast<uint32_t>(left_bytes);
}

// begin(position, id) for the symbols that joining starts with; kNone for an unknown character.
template <class Begin>
void WordEncoder::EachSymbol(std::string_view word, const Begin& begin) {
  if (settings_.model == TokenModel::kBytes) {
    for (size_t at = 0; at < word.size(); ++at) begin(at, tables_.ByteId(static_cast<unsigned char>(word[at])));
    return;
  }
  const bool merges = settings_.model == TokenModel::kMerges;
  bool after_unknown = false;
  for (size_t at = 0, bytes = 0; at < word.size(); at += bytes) {
    if (const AddedEntry* symbol = tables_.LongestAdded(Stage::kSymbol, word, at); symbol != nullptr) {
      bytes = tables_.Pattern(*symbol).size();
      begin(at, symbol->id);
      continue;
    }
    bytes = CharacterAt(word, at).bytes;
    uint32_t id = tables_.Find(word.substr(at, bytes));
    if (id != kNone && tables_.Has(id, TokenTables::kHidden)) id = kNone;
    const bool unknown = id == kNone;
    if (unknown && merges && settings_.byte_fallback) {
      for (size_t i = at; i < at + bytes; ++i) begin(i, tables_.ByteId(static_cast<unsigned char>(word[i])));
      continue;
    }
    if (unknown && merges) id = tables_.unknown();
    if (unknown && merges && (id == kNone || (after_unknown && settings_.fuse_unknown))) continue;
    after_unknown = unknown;
    begin(at, id);
  }
}

void WordEncoder::JoinShort(std::string_view word) {
  uint32_t ids[kShortWord];
  uint8_t begins[kShortWord + 1];
  Join joins[kShortWord];  // joins[i]: of i and i + 1
  size_t n = 0;
  EachSymbol(word, [&](size_t at, uint32_t id) {
    begins[n] = static_cast<uint8_t>(at);
    ids[n++] = id;
  });
  begins[n] = static_cast<uint8_t>(word.size());
  const auto find = [&](size_t i) {
    joins[i] = JoinOf(ids[i], ids[i + 1], word.substr(begins[i], begins[i + 2] - begins[i]));
    Note(joins[i].id, begins[i + 1] - begins[i]);
  };
  for (size_t i = 0; i + 1 < n; ++i) find(i);
  while (n > 1) {
    const auto* best = std::min_element(joins, joins + n - 1, [](Join a, Join b) { return a.order < b.order; });
    if (best->id == kNone) break;
    const size_t at = static_cast<size_t>(best - joins);
    ids[at] = best->id;
    std::copy(ids + at + 2, ids + n, ids + at + 1);
    std::copy(begins + at + 2, begins + n + 1, begins + at + 1);
    std::copy(joins + at + 1, joins + n - 1, joins + at);
    --n;
    if (at > 0) find(at - 1);
    if (at + 1 < n) find(at);
  }
  for (size_t i = 0; i < n; ++i) Say(ids[i], word.substr(begins[i], begins[i + 1] - begins[i]));
}

void WordEncoder::JoinLong(std::string_view word) {
  // Symbols lie where their first bytes do. A possible join is kept as order << 32 | position of its left symbol; it is
  // stale when the symbols there have changed and their join is another. Each join removes one symbol and offers at most
  // two new ones, so the heap never holds more than the n - 1 it begins with and one more for each join.
  struct Symbol {
    uint32_t id, previous, next;
  };
  std::vector<Symbol> symbols(word.size());
  std::vector<uint64_t> heap;  // the least is on top
  heap.reserve(2 * word.size());
  uint32_t first = kNone, last = kNone;
  EachSymbol(word, [&](size_t position, uint32_t id) {
    const auto at = static_cast<uint32_t>(position);
    symbols[at] = {id, last, kNone};
    (last == kNone ? first : symbols[last].next) = at;
    last = at;
  });
  const auto end = [&](uint32_t at) { return symbols[at].next == kNone ? word.size() : symbols[at].next; };
  const auto join = [&](uint32_t at) -> Join {
    const uint32_t next = symbols[at].next;
    if (next == kNone) return {};
    return JoinOf(symbols[at].id, symbols[next].id, word.substr(at, end(next) - at));
  };
  const auto offer = [&](uint32_t at) {
    const Join found = join(at);
    if (found.id == kNone) return false;
    Note(found.id, symbols[at].next - at);
    heap.push_back(uint64_t{found.order} << 32 | at);
    return true;
  };
  for (uint32_t at = first; at != kNone; at = symbols[at].next) offer(at);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto at = static_cast<uint32_t>(heap.back());
    const auto order = static_cast<uint32_t>(heap.back() >> 32);
    heap.pop_back();
    Symbol& left = symbols[at];
    if (left.previous == kGone) continue;
    const Join now = join(at);
    if (now.id == kNone || now.order != order) continue;
    Symbol& right = symbols[left.next];
    left.id = now.id;
    left.next = right.next;
    right.previous = kGone;
    if (left.next != kNone) symbols[left.next].previous = at;
    if (left.previous != kNone && offer(left.previous)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
    if (offer(at)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  }
  for (uint32_t at = first; at != kNone; at = symbols[at].next) Say(symbols[at].id, word.substr(at, end(at) - at));
}

}  // namespace sotto
