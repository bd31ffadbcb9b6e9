#include <algorithm>

#include "kv/packed.h"

namespace sotto {
namespace {

constexpr int kBitsPerPage = 64;  // of width: 8 tokens of 8 bits, 16 of 4, …

}  // namespace

int64_t SparePages(KvWidths widths) {
  if (widths.least() == widths.most()) return 0;
  int64_t pages = 0;
  for (const int bits : kKvWidths) pages += widths.Has(bits) ? KvGroupPages(bits, 1) : 0;
  return pages;
}

bool Observes(const PackedKvOptions& o) { return o.rule == KvRule::kSmart || o.rule == KvRule::kHistory; }

PackedKvIndex::PackedKvIndex(const PackedKvSizes& s, const PackedKvOptions& o) {
  const auto take = [this](uint64_t* at, int64_t count, uint64_t each) {
    *at = total;
    total += RoundUp(static_cast<uint64_t>(count) * each, 8);
  };
  for (size_t i = 0; i < std::size(kKvWidths); ++i) {
    const int bits = kKvWidths[i];
    if (!o.widths.Has(bits)) continue;
    const int64_t tokens = s.Tokens(bits);
    take(&groups[i].pages, KvGroupPages(bits == 3 ? 2 : bits, tokens), sizeof(std::byte*));
    if (bits == 3) take(&groups[i].planes, KvGroupPages(1, tokens), sizeof(std::byte*));
    take(&groups[i].positions, tokens, sizeof(int32_t));
  }
  if (SparePages(o.widths) > 0) take(&widths, s.capacity, 1);
  if (!Observes(o)) return;
  take(&by_distance, 1, sizeof(MassByDistance));
  take(&observed, s.capacity, sizeof(float));
}

int64_t PackedKvSizes::Tokens(int bits) const {
  return std::min(capacity, bits == 3 ? pages * kBitsPerPage / 3 : pages * KvPageTokens(bits));
}

uint64_t PackedKvSizes::DenseBytes() const {
  return static_cast<uint64_t>(capacity * layers) * 4 * static_cast<uint64_t>(page.kv_heads * page.head_dim);
}

uint64_t PackedKvSizes::Bytes(const PackedKvOptions& options) const {
  const uint64_t scales = static_cast<uint64_t>(capacity) * static_cast<uint64_t>(page.kv_heads) * 2 * sizeof(uint16_t);
  return static_cast<uint64_t>(pages) * (static_cast<uint64_t>(page.page_bytes()) + sizeof(std::byte*)) +
         static_cast<uint64_t>(layers) * (scales + PackedKvIndex(*this, options).total);
}

int64_t PackedKvSizes::LeastPages(const PackedKvOptions& o) const {
  const int64_t spare = SparePages(o.widths), held = spare == 0 ? 0 : std::min(capacity, o.sinks + o.recent);
  const int64_t layer = KvGroupPages(o.widths.most(), held) + KvGroupPages(o.widths.least(), capacity - held);
  return layers * layer + (spare == 0 ? 0 : spare + KvGroupPages(o.widths.most(), 1));
}

PackedKvSizes SizePackedKv(const KvShape& shape, int64_t layers, int64_t sequences, const PackedKvOptions& options) {
  PackedKvSizes s{{static_cast<int>(shape.heads), static_cast<int>(shape.head_dim)}, shape.capacity, layers, 0};
  s.pages = s.LeastPages(options);
  if (options.uniform()) return s;
  const uint64_t budget = options.budget_bytes > 0
                              ? options.budget_bytes / static_cast<uint64_t>(std::max<int64_t>(sequences, 1))
                              : static_cast<uint64_t>(options.budget_share * static_cast<double>(s.DenseBytes()));
  int64_t most = layers * KvGroupPages(options.widths.most(), s.capacity) + SparePages(options.widths) + 1;
  while (s.pages < most) {  // the largest number that fits
    PackedKvSizes more = s;
    more.pages = s.pages + (most - s.pages + 1) / 2;
    if (more.Bytes(options) <= budget)
      s = more;
    else
      most = more.pages - 1;
  }
  return s;
}

}  // namespace sotto
