#include "text/bpe.h"

#include <algorithm>

#include "base/check.h"

namespace sotto {
namespace {

constexpr uint32_t kNone = TokenTables::kNone;
constexpr size_t kMaxShort = 64;

void MergeShort(const TokenTables& tables, std::string_view word, std::vector<int32_t>* out) {
  uint32_t ids[kMaxShort], ranks[kMaxShort];  // ranks[i]: of joining i and i + 1
  size_t n = word.size();
  for (size_t i = 0; i < n; ++i) ids[i] = tables.ByteId(static_cast<unsigned char>(word[i]));
  for (size_t i = 0; i + 1 < n; ++i) ranks[i] = tables.Rank(ids[i], ids[i + 1]);
  while (n > 1) {
    const size_t best = static_cast<size_t>(std::min_element(ranks, ranks + n - 1) - ranks);
    if (ranks[best] == kNone) break;
    ids[best] = tables.Merged(ranks[best]);
    std::copy(ids + best + 2, ids + n, ids + best + 1);
    std::copy(ranks + best + 1, ranks + n - 1, ranks + best);
    --n;
    if (best > 0) ranks[best - 1] = tables.Rank(ids[best - 1], ids[best]);
    if (best + 1 < n) ranks[best] = tables.Rank(ids[best], ids[best + 1]);
  }
  out->insert(out->end(), ids, ids + n);
}

struct Symbol {
  uint32_t id, previous, next;
};

// A possible join, by rank and position; stale when its symbols have changed.
struct Join {
  uint64_t order;                                                      // rank << 32 | position of the left symbol
  friend bool operator<(Join a, Join b) { return a.order > b.order; }  // std's heap gives the largest
};

void MergeLong(const TokenTables& tables, std::string_view word, std::vector<int32_t>* out) {
  // Each join removes one symbol and offers at most two new ones, so the heap never holds more than the n - 1 it begins
  // with and one more for each join.
  std::vector<Symbol> symbols(word.size());
  std::vector<Join> heap;
  heap.reserve(2 * word.size());
  const auto offer = [&](uint32_t at) {
    const uint32_t next = symbols[at].next;
    const uint32_t rank = next == kNone ? kNone : tables.Rank(symbols[at].id, symbols[next].id);
    if (rank != kNone) heap.push_back({uint64_t{rank} << 32 | at});
    return rank != kNone;
  };
  const uint32_t n = static_cast<uint32_t>(word.size());
  for (uint32_t i = 0; i < n; ++i)
    symbols[i] = {tables.ByteId(static_cast<unsigned char>(word[i])), i == 0 ? kNone : i - 1,
                  i + 1 == n ? kNone : i + 1};
  for (uint32_t i = 0; i + 1 < n; ++i) offer(i);
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const uint32_t at = static_cast<uint32_t>(heap.back().order);
    const uint32_t rank = static_cast<uint32_t>(heap.back().order >> 32);
    heap.pop_back();
    Symbol& left = symbols[at];
    if (left.id == kNone || left.next == kNone || tables.Rank(left.id, symbols[left.next].id) != rank) continue;
    Symbol& right = symbols[left.next];
    left.id = tables.Merged(rank);
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) symbols[left.next].previous = at;
    if (left.previous != kNone && offer(left.previous)) std::push_heap(heap.begin(), heap.end());
    if (offer(at)) std::push_heap(heap.begin(), heap.end());
  }
  for (uint32_t i = 0; i != kNone; i = symbols[i].next) out->push_back(static_cast<int32_t>(symbols[i].id));
}

}  // namespace

void MergeWord(const TokenTables& tables, std::string_view word, size_t short_word, std::vector<int32_t>* out) {
  DCHECK(short_word <= kMaxShort && word.size() < kNone);
  if (word.size() <= short_word)
    MergeShort(tables, word, out);
  else
    MergeLong(tables, word, out);
}

}  // namespace sotto
