#include "kv/packed_tokens.h"

#include <algorithm>

namespace sotto {

namespace {
// A page's tokens at 3 bits are those of its upper two.
int PageBits(int bits) { return bits == 3 ? 2 : bits; }
}  // namespace

PackedTokens::Group PackedTokens::GroupOf(size_t layer, int bits) const {
  const auto i =
      static_cast<size_t>(std::find(std::begin(kKvWidths), std::end(kKvWidths), bits) - std::begin(kKvWidths));
  std::byte* const at = memory_.index(layer);
  return {bits, reinterpret_cast<std::byte**>(at + index_.groups[i].pages),
          reinterpret_cast<std::byte**>(at + index_.groups[i].planes),
          reinterpret_cast<int32_t*>(at + index_.groups[i].positions), &state_.layers[layer].count[i]};
}

std::span<const KvGroup> PackedTokens::Groups(size_t layer, KvGroup* views) const {
  size_t n = 0;
  for (const int bits : kKvWidths)
    if (const Group g = GroupOf(layer, bits); *g.count > 0) views[n++] = g.view();
  return {views, n};
}

void PackedTokens::Clear() {
  state_.cleared = true;
  state_.free = 0;
  for (int64_t i = sizes_.pages; i-- > 0;) memory_.free[state_.free++] = memory_.pages + i * sizes_.page.page_bytes();
  for (size_t l = 0; l < state_.layers.size(); ++l) {
    std::vector<int32_t> sinks = std::move(state_.layers[l].sinks);
    state_.layers[l] = {};
    state_.layers[l].sinks = std::move(sinks);
    if (Observes(options_)) *ByDistanceOf(l) = MassByDistance();
  }
}

void PackedTokens::Forget(size_t layer, int64_t length) {
  PackedKvLayer& l = state_.layers[layer];
  for (const int bits : kKvWidths) {
    const Group g = GroupOf(layer, bits);
    for (int64_t slot = *g.count; slot-- > 0;)
      if (g.positions[slot] >= length) Remove(layer, g, slot);
  }
  size_t kept = 0;
  for (size_t i = 0; i < l.found; ++i)
    if (l.sinks[i] < length) l.sinks[kept++] = l.sinks[i];
  l.found = kept;
  l.tokens = length;
}

void PackedTokens::Observe(size_t layer, std::span<const float> mass, int64_t queries) {
  float* const observed = ObservedOf(layer);
  std::fill_n(observed + static_cast<int64_t>(mass.size()) - queries, queries, 0.0F);
  sotto::Observe(mass, queries, {observed, mass.size()}, ByDistanceOf(layer));
}

void PackedTokens::Append(size_t layer, const KvGroup& from, int64_t slot) {
  const int most = options_.widths.most();
  const Group g = GroupOf(layer, most);
  const int64_t more = KvGroupPages(most, *g.count + 1) - KvGroupPages(most, *g.count);
  if (more > 0 && state_.free < more + SparePages(options_.widths)) MakeRoom();
  PackedKvLayer& l = state_.layers[layer];
  const auto position = static_cast<int32_t>(l.tokens++);
  if (SparePages(options_.widths) > 0) WidthsOf(layer)[position] = static_cast<uint8_t>(most);
  Put(layer, from, slot, position, g);
}

// Copies a token to the end of a group, which takes a page when it has to.
void PackedTokens::Put(size_t layer, const KvGroup& from, int64_t slot, int32_t position, Group to) {
  const int64_t n = *to.count;
  const auto take = [this](std::byte** page) {
    CHECK(state_.free > 0);
    *page = memory_.free[--state_.free];
  };
  const int of_page = KvPageTokens(PageBits(to.bits));
  if (n % of_page == 0) take(&to.pages[n / of_page]);
  if (to.bits == 3 && n % KvPageTokens(1) == 0) take(&to.planes[n / KvPageTokens(1)]);
  MoveToken(sizes_.page, from, slot, to.view(), n,
            memory_.scales(layer) + int64_t{position} * sizes_.page.kv_heads * 2);
  to.positions[n] = position;
  ++*to.count;
}

// The last token takes the slot; a page that is empty then is free.
void PackedTokens::Remove(size_t layer, Group g, int64_t slot) {
  const int64_t last = *g.count - 1;
  if (slot != last) {
    uint16_t* const scales = memory_.scales(layer) + int64_t{g.positions[last]} * sizes_.page.kv_heads * 2;
    MoveToken(sizes_.page, g.view(), last, g.view(), slot, scales);
    g.positions[slot] = g.positions[last];
  }
  *g.count = last;
  const int of_page = KvPageTokens(PageBits(g.bits));
  if (last % of_page == 0) memory_.free[state_.free++] = g.pages[last / of_page];
  if (g.bits == 3 && last % KvPageTokens(1) == 0) memory_.free[state_.free++] = g.planes[last / KvPageTokens(1)];
}

void PackedTokens::Weigh(size_t layer, std::span<float> weights) {
  PackedKvLayer& l = state_.layers[layer];
  // Rules that don't ask what was observed ask how many there are.
  const std::span<const float> observed{Observes(options_) ? ObservedOf(layer) : weights.data(), weights.size()};
  static const MassByDistance kNothing;
  const MassByDistance& by_distance = Observes(options_) ? *ByDistanceOf(layer) : kNothing;
  if (Observes(options_) && !l.looked) {
    l.found = FindSinks(observed, by_distance, -1, l.sinks);
    l.looked = true;
  }
  const double energy = l.values > 0 ? l.value_energy / static_cast<double>(l.values) : 1;
  TokenWeights(options_.rule, observed, by_distance, static_cast<float>(energy), weights);
  HoldTokens(std::span<const int32_t>(l.sinks).first(l.found), options_.recent, weights);
}

int64_t PackedTokens::PagesNow(size_t layer) const {
  int64_t pages = 0;
  for (size_t i = 0; i < std::size(kKvWidths); ++i) pages += KvGroupPages(kKvWidths[i], state_.layers[layer].count[i]);
  return pages;
}

int64_t PackedTokens::PagesThen(size_t layer) const {
  int64_t tokens[9] = {}, pages = 0;
  const uint8_t* const widths = WidthsOf(layer);
  for (int64_t i = 0; i < state_.layers[layer].tokens; ++i) ++tokens[widths[i]];
  for (const int bits : kKvWidths) pages += KvGroupPages(bits, tokens[bits]);
  return pages;
}

// Moves a layer's tokens to the widths that they are to have.
void PackedTokens::Lower(size_t layer) {
  const uint8_t* const widths = WidthsOf(layer);
  for (const int bits : kKvWidths) {
    const Group g = GroupOf(layer, bits);
    for (int64_t slot = *g.count; slot-- > 0;) {
      const int32_t position = g.positions[slot];
      if (widths[position] == bits) continue;
      Put(layer, g.view(), slot, position, GroupOf(layer, widths[position]));
      Remove(layer, g, slot);
    }
  }
}

// Lowers widths until a new token has its page and some more have, so that this is seldom asked for. Layers that give pages go before
// those that, beginning a page, take one: so no more are needed in between than SparePages.
void PackedTokens::MakeRoom() {
  const size_t layers = state_.layers.size();
  int64_t tokens = 0, now = 0;
  std::vector<KvPart>& parts = state_.parts;
  parts.clear();
  for (size_t l = 0; l < layers; ++l) {
    const auto n = static_cast<size_t>(state_.layers[l].tokens);
    const std::span<float> weights{memory_.weights + static_cast<int64_t>(l) * sizes_.capacity, n};
    if (n > 0) Weigh(l, weights);
    parts.push_back({weights, {WidthsOf(l), n}});
    tokens += state_.layers[l].tokens;
    now += PagesNow(l);
  }
  const int64_t spare = SparePages(options_.widths);
  const int64_t enough = spare + KvGroupPages(options_.widths.most(), 1) + tokens / 1024;
  for (int64_t free = state_.free; free < enough;) {
    if (Demote(parts, options_.widths, (enough - free) * KvPageTokens(1)).bits == 0) break;
    free = state_.free + now;
    for (size_t l = 0; l < layers; ++l) free -= PagesThen(l);
  }
  for (const bool giving : {true, false})
    for (size_t l = 0; l < layers; ++l)
      if ((PagesThen(l) < PagesNow(l)) == giving) Lower(l);
}

}  // namespace sotto
