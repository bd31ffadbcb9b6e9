// EncodePlanes: histograms of all panels, codes for classes of panels by turns of "best code of a class" and "best class of a panel"
// (k-means with code lengths for distances), then the panels.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/bytes.h"
#include "base/check.h"
#include "codec/planes_decode.h"

namespace sotto {
namespace {

constexpr int kTurns = 3;

// What it costs is nothing in wide panels.
uint64_t AlignmentOf(const PlanesSource& source) { return source.in >= 2048 ? kPlanesAlign : 1; }

// L of one panel, group by group.
struct PanelValues {
  std::vector<int32_t> rows;  // [16][in]
  std::vector<int16_t> high;  // [groups][64]
  std::vector<uint8_t> raw;
};

class Encoder {
 public:
  explicit Encoder(const PlanesSource& source) : source_(source), groups_(PlaneGroups(source.in)) {
    values_.rows.resize(static_cast<size_t>(source.in) * kPlaneChannels);
    values_.high.resize(static_cast<size_t>(groups_) * kPlaneGroup);
    values_.raw.resize(values_.high.size());
  }

  void Read(int64_t panel) {
    std::fill(values_.high.begin(), values_.high.end(), int16_t{0});
    std::fill(values_.raw.begin(), values_.raw.end(), uint8_t{0});
    const int64_t first = panel * kPlaneChannels, count = std::min<int64_t>(kPlaneChannels, source_.out - first);
    source_.rows(first, count, values_.rows.data());
    for (int64_t c = 0; c < count; ++c)
      for (int64_t k = 0; k < source_.in; ++k) {
        const int32_t v = values_.rows[static_cast<size_t>(c * source_.in + k)];
        CHECK(MagnitudeOf(v) >> source_.raw_bits <= (source_.scheme == PlaneScheme::kStep ? kMostSteps : 127));
        const auto at = static_cast<size_t>(k / kPlaneInputs * kPlaneGroup + c * kPlaneInputs + k % kPlaneInputs);
        values_.high[at] = static_cast<int16_t>(v >> source_.raw_bits);
        values_.raw[at] = static_cast<uint8_t>(v & ((1 << source_.raw_bits) - 1));
      }
  }

  // And adds to the counts of single values (those beyond a byte at its ends), if wanted.
  Magnitudes Histogram(std::array<uint64_t, 256>* counts) const {
    Magnitudes h{};
    for (const int16_t v : values_.high) {
      ++h[static_cast<size_t>(std::min(MagnitudeOf(v), 127))];
      if (counts != nullptr) ++(*counts)[static_cast<size_t>(std::clamp<int>(v, -128, 127) + 128)];
    }
    return h;
  }

  // Appends the panel; false, and nothing appended, when a group has too many escapes.
  bool Append(const PlaneCode& code, std::vector<uint8_t>* out, uint32_t* literals) const {
    const size_t start = out->size(), groups = static_cast<size_t>(groups_);
    std::array<std::vector<uint8_t>, kMostPlanes> plane;
    std::array<uint64_t, kMostPlanes> bits{};
    std::vector<uint8_t> counts, missing;
    size_t chunk = 0;  // where its literals begin, and how many they are
    int many = 0;
    const auto end_chunk = [&] {
      counts.push_back(static_cast<uint8_t>(std::min<int>(many, PlaneLiterals::kMany)));
      if (many >= PlaneLiterals::kMany)
        missing.insert(missing.begin() + static_cast<std::ptrdiff_t>(chunk),
                       {static_cast<uint8_t>(many & 255), static_cast<uint8_t>(many >> 8)});
      chunk = missing.size(), many = 0;
    };
    const int cap = code.cap();
    for (size_t g = 0; g < groups; ++g) {
      if (g > 0 && g * kPlaneGroup % PlaneLiterals::kChunk == 0) end_chunk();
      uint8_t base[kPlaneGroup];
      std::array<int, kMostPlanes> escapes{};
      for (size_t j = 0; j < kPlaneGroup; ++j) {
        const int16_t v = values_.high[g * kPlaneGroup + j];
        int m = MagnitudeOf(v);
        if (m > cap) {
          const auto place = static_cast<int>(g * kPlaneGroup % PlaneLiterals::kChunk + j);
          const int more = v < 0 ? cap - m : m - cap;
          const bool near = more >= PlaneLiterals::kLeast && more <= PlaneLiterals::kMost;
          const auto push = [&](int word) {
            missing.insert(missing.end(), {static_cast<uint8_t>(word & 255), static_cast<uint8_t>(word >> 8 & 255)});
          };
          push(place | (near ? more : 0) * static_cast<int>(PlaneLiterals::kChunk));
          if (!near) push(more);
          ++many;
          m = cap;
        }
        std::array<int, kMostPlanes> bit;
        for (size_t i = code.planes; i-- > 0;) {
          const int t = code.threshold[i];
          bit[i] = m >= t ? (m - t + (v < 0 ? 1 : 0)) & 1 : -1;
          if (m >= t) m = t + (m - t) / 2;
        }
        base[j] = static_cast<uint8_t>(m | (v < 0 ? 1 << (code.base_bits - 1) : 0));
        for (size_t i = 0; i < code.planes; ++i) {
          if (bit[i] < 0) continue;
          if (++escapes[i] > kMostEscapes && code.planes <= kFewPlanes) return out->resize(start), false;
          if (bits[i] % 8 == 0) plane[i].push_back(0);
          plane[i].back() = static_cast<uint8_t>(plane[i].back() | bit[i] << bits[i] % 8);
          ++bits[i];
        }
      }
      PackFields(base, code.base_bits, out);
    }
    for (size_t g = 0; g < groups; ++g) PackFields(&values_.raw[g * kPlaneGroup], source_.raw_bits, out);
    for (size_t i = 0; i + 1 < code.planes; ++i) {
      const auto size = static_cast<uint32_t>(plane[i].size());
      for (int b = 0; b < 4; ++b) out->push_back(static_cast<uint8_t>(size >> 8 * b));
    }
    end_chunk();
    out->insert(out->end(), counts.begin(), counts.end());
    out->insert(out->end(), missing.begin(), missing.end());
    for (size_t i = 0; i < code.planes; ++i) out->insert(out->end(), plane[i].begin(), plane[i].end());
    *literals = static_cast<uint32_t>(counts.size() + missing.size());
    return true;
  }

 private:
  static void PackFields(const uint8_t* values, int bits, std::vector<uint8_t>* out) {
    int shift = 0;
    for (; bits - shift >= 4; shift += 4)
      for (int j = 0; j < 32; ++j)
        out->push_back(static_cast<uint8_t>((values[j] >> shift & 15) | (values[32 + j] >> shift & 15) << 4));
    if (bits - shift >= 2) {
      for (int j = 0; j < 16; ++j) {
        int byte = 0;
        for (int q = 0; q < 4; ++q) byte |= (values[16 * q + j] >> shift & 3) << 2 * q;
        out->push_back(static_cast<uint8_t>(byte));
      }
      shift += 2;
    }
    if (bits > shift)
      for (int j = 0; j < 8; ++j) {
        int byte = 0;
        for (int b = 0; b < 8; ++b) byte |= (values[8 * j + b] >> shift & 1) << b;
        out->push_back(static_cast<uint8_t>(byte));
      }
  }

  const PlanesSource& source_;
  int64_t groups_;
  PanelValues values_;
};

Magnitudes Sum(const std::vector<Magnitudes>& all, const std::vector<uint8_t>& of, size_t which) {
  Magnitudes sum{};
  for (size_t p = 0; p < all.size(); ++p)
    for (size_t m = 0; m < sum.size() && of[p] == which; ++m) sum[m] += all[p][m];
  return sum;
}

// The codes that are used, in the order of their first panels, and each panel's.
std::vector<PlaneCode> Classify(const std::vector<Magnitudes>& panels, const PlanesLevel& level,
                                std::vector<uint8_t>* of) {
  std::vector<double> mean(panels.size());
  for (size_t p = 0; p < panels.size(); ++p)
    for (size_t m = 0; m < panels[p].size(); ++m) mean[p] += static_cast<double>(m * panels[p][m]);
  std::vector<size_t> order(panels.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return mean[a] < mean[b]; });
  const size_t classes = std::clamp<size_t>(static_cast<size_t>(level.classes), 1, panels.size());
  for (size_t i = 0; i < order.size(); ++i) (*of)[order[i]] = static_cast<uint8_t>(i * classes / order.size());
  std::vector<PlaneCode> codes(classes);
  for (int turn = 0; turn < kTurns; ++turn) {
    for (size_t c = 0; c < classes; ++c) codes[c] = ChooseCode(Sum(panels, *of, c), level.planes);
    for (size_t p = 0; p < panels.size(); ++p) {
      const auto bits = [&](const PlaneCode& code) { return CodeBits(code, panels[p]); };
      const auto best = std::min_element(codes.begin(), codes.end(),
                                         [&](const PlaneCode& a, const PlaneCode& b) { return bits(a) < bits(b); });
      (*of)[p] = static_cast<uint8_t>(best - codes.begin());
    }
  }
  std::vector<PlaneCode> used;
  for (uint8_t& c : *of) {
    auto at = std::find(used.begin(), used.end(), codes[c]);
    if (at == used.end()) at = used.insert(used.end(), codes[c]);
    c = static_cast<uint8_t>(at - used.begin());
  }
  return used;
}

// For a panel in which too many neighbours escape: the best code without planes.
PlaneCode PlainCode(const Magnitudes& histogram) {
  PlaneCode best{8, 0, {}};
  for (uint8_t bits = 2; bits < 8; ++bits)
    if (const PlaneCode code{bits, 0, {}}; CodeBits(code, histogram) < CodeBits(best, histogram)) best = code;
  return best;
}

PlanesHeader HeaderOf(const PlanesSource& source, const std::vector<PlaneCode>& codes) {
  PlanesHeader h;
  h.scheme = source.scheme;
  h.raw_bits = static_cast<uint8_t>(source.raw_bits);
  h.out = static_cast<uint32_t>(source.out), h.in = static_cast<uint32_t>(source.in);
  h.codes = static_cast<uint32_t>(codes.size()), h.scales = static_cast<uint32_t>(source.scales.size());
  return h;
}

template <class T>
void AppendTo(std::vector<std::byte>* out, const T* from, size_t count) {
  const auto* bytes = reinterpret_cast<const std::byte*>(from);
  out->insert(out->end(), bytes, bytes + count * sizeof(T));
}

using Counts = std::array<uint64_t, 256>;  // of single values, those beyond a byte at its ends

// Of panels 0, every, 2 every, …
std::vector<Magnitudes> Histograms(const PlanesSource& source, int64_t every, Threads& threads, Counts* all) {
  CHECK(source.out > 0 && source.in > 0 && source.raw_bits >= 0 && source.raw_bits <= 8);
  std::vector<Magnitudes> histograms(static_cast<size_t>((PlanePanels(source.out) + every - 1) / every));
  std::vector<Counts> counts(static_cast<size_t>(threads.count()));
  std::vector<Encoder> encoders(counts.size(), Encoder(source));
  threads.For(static_cast<int64_t>(histograms.size()), 1, [&](int64_t begin, int64_t end, int thread) {
    Encoder& encoder = encoders[static_cast<size_t>(thread)];
    for (int64_t i = begin; i < end; ++i) {
      encoder.Read(i * every);
      histograms[static_cast<size_t>(i)] =
          encoder.Histogram(all != nullptr ? &counts[static_cast<size_t>(thread)] : nullptr);
    }
  });
  for (const Counts& c : counts)
    for (size_t i = 0; all != nullptr && i < c.size(); ++i) (*all)[i] += c[i];
  return histograms;
}

// What Append appends, but for chunks of very many literals, and for negative ones that just reach without a word of their own.
uint64_t PanelBytes(const PlaneCode& code, const Magnitudes& histogram, int64_t groups, int raw_bits) {
  const auto tail = [&](int m) {
    return std::accumulate(histogram.begin() + std::min<int>(m, static_cast<int>(histogram.size())), histogram.end(),
                           uint64_t{0});
  };
  uint64_t bytes = static_cast<uint64_t>(groups) * 8 * (uint64_t{code.base_bits} + static_cast<uint64_t>(raw_bits));
  for (size_t i = 0; i < code.planes; ++i) bytes += (tail(code.threshold[i]) + 7) / 8 + (i > 0 ? 4 : 0);
  const uint64_t literals = tail(code.cap() + 1) + tail(code.cap() + kNearLiteral + 1);
  return bytes + static_cast<uint64_t>(PlaneLiterals::Chunks(groups)) + literals * (kLiteralBits / 8);
}

}  // namespace

PlanesPlan PlanPlanes(const PlanesSource& source, const PlanesLevel& level, Threads& threads) {
  Counts all{};
  const std::vector<Magnitudes> histograms = Histograms(source, 1, threads, &all);
  PlanesPlan plan;
  plan.of.resize(histograms.size());
  plan.codes = Classify(histograms, level, &plan.of);
  plan.entropy = Entropy(all) + source.raw_bits;
  plan.bytes = codec::HeadBytes(HeaderOf(source, plan.codes));
  for (size_t p = 0; p < histograms.size(); ++p)
    plan.bytes = RoundUp(plan.bytes, AlignmentOf(source)) +
                 PanelBytes(plan.codes[plan.of[p]], histograms[p], PlaneGroups(source.in), source.raw_bits);
  plan.bytes = RoundUp(plan.bytes + codec::kPlanesPad, kPlanesAlign);
  return plan;
}

double EstimatePlanes(const PlanesSource& source, const PlanesLevel& level, int64_t panels, Threads& threads) {
  const int64_t all = PlanePanels(source.out), every = std::max<int64_t>(1, all / panels);
  const std::vector<Magnitudes> histograms = Histograms(source, every, threads, nullptr);
  std::vector<uint8_t> of(histograms.size());
  const std::vector<PlaneCode> codes = Classify(histograms, level, &of);
  double bytes = 0;
  for (size_t p = 0; p < histograms.size(); ++p)
    bytes += static_cast<double>(PanelBytes(codes[of[p]], histograms[p], PlaneGroups(source.in), source.raw_bits));
  return bytes * static_cast<double>(all) / static_cast<double>(histograms.size());
}

Result<std::vector<std::byte>> EncodePlanes(const PlanesSource& source, const PlanesPlan& plan, Threads& threads) {
  const size_t panels = plan.of.size();
  struct Body {
    std::vector<uint8_t> bytes;
    uint32_t literals = 0;
    PlaneCode code;
  };
  std::vector<Body> bodies(panels);
  std::vector<Encoder> encoders(static_cast<size_t>(threads.count()), Encoder(source));
  threads.For(static_cast<int64_t>(panels), 1, [&](int64_t begin, int64_t end, int thread) {
    Encoder& encoder = encoders[static_cast<size_t>(thread)];
    for (auto p = static_cast<size_t>(begin); p < static_cast<size_t>(end); ++p) {
      Body& b = bodies[p];
      encoder.Read(static_cast<int64_t>(p));
      b.code = plan.codes[plan.of[p]];
      if (encoder.Append(b.code, &b.bytes, &b.literals) && b.literals <= codec::kMostLiteralBytes) continue;
      b.bytes.clear();
      b.code = PlainCode(encoder.Histogram(nullptr));
      CHECK(encoder.Append(b.code, &b.bytes, &b.literals));
    }
  });
  std::vector<PlaneCode> codes = plan.codes;
  std::vector<size_t> of(panels);
  for (size_t p = 0; p < panels; ++p) {
    auto at = std::find(codes.begin(), codes.end(), bodies[p].code);
    if (at == codes.end()) at = codes.insert(codes.end(), bodies[p].code);
    of[p] = static_cast<size_t>(at - codes.begin());
  }
  PlanesHeader h = HeaderOf(source, codes);
  uint64_t at = codec::HeadBytes(h);
  std::vector<uint32_t> index;
  const uint64_t alignment = AlignmentOf(source);
  for (size_t p = 0; p < panels; ++p) {
    at = RoundUp(at, alignment);
    if (at > UINT32_MAX - bodies[p].bytes.size())
      return Usage("a packed matrix of 4 GiB or more has no place in the format; choose fewer bits");
    index.insert(index.end(), {static_cast<uint32_t>(at), bodies[p].literals | static_cast<uint32_t>(of[p]) << 24});
    at += bodies[p].bytes.size();
    h.literals += bodies[p].literals;
  }
  h.bytes = RoundUp(at + codec::kPlanesPad, kPlanesAlign);
  std::vector<std::byte> out;
  out.reserve(h.bytes);
  AppendTo(&out, &h, 1);
  AppendTo(&out, codes.data(), codes.size());
  AppendTo(&out, source.scales.data(), source.scales.size());
  AppendTo(&out, source.values.data(), source.values.size());
  AppendTo(&out, index.data(), index.size());
  for (size_t p = 0; p < panels; ++p) {
    out.resize(index[2 * p]);
    AppendTo(&out, bodies[p].bytes.data(), bodies[p].bytes.size());
    std::vector<uint8_t>().swap(bodies[p].bytes);
  }
  out.resize(h.bytes);
  h.checksum = PlanesChecksum(out);
  std::memcpy(out.data(), &h, sizeof h);
  return out;
}

}  // namespace sotto
