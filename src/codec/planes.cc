#include "codec/planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/try_for.h"
#include "codec/checksum.h"
#include "codec/half.h"
#include "codec/planes_decode.h"

namespace sotto {

using codec::HeadBytes, codec::kMostLiteralBytes, codec::kPlanesPad, codec::ValuesBytes;

namespace {

constexpr uint64_t kMostFill = kPlanesAlign - 1;  // zeros before a panel, and behind the last

Error Bad(const std::string& what, const std::string& why) {
  return {Code::kBadModel, fmt::format("the packed tensor '{}' {}; pack the model again", what, why)};
}

uint32_t Word(const uint8_t* from) {
  uint32_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

}  // namespace

uint64_t PlanesChecksum(std::span<const std::byte> data) { return Checksum(data.subspan(sizeof(PlanesHeader))); }

Planes::Planes(const std::byte* data) : data_(data), header_(reinterpret_cast<const PlanesHeader*>(data)) {
  const std::byte* at = data + sizeof(PlanesHeader);
  codes_ = reinterpret_cast<const PlaneCode*>(at);
  at += header_->codes * sizeof(PlaneCode);
  scales_ = reinterpret_cast<const float*>(at);
  at += uint64_t{header_->scales} * 4;
  values_ = reinterpret_cast<const uint8_t*>(at);
  index_ = reinterpret_cast<const uint32_t*>(at + ValuesBytes(header_->scheme));
}

PlanePanel Planes::Panel(int64_t index) const {
  const uint32_t* entry = index_ + 2 * index;
  const auto* begin = reinterpret_cast<const uint8_t*>(data_);
  PlanePanel p;
  p.code = codes_[entry[1] >> 24];
  p.groups = groups();
  p.base = begin + entry[0];
  p.raw = p.base + p.groups * 8 * p.code.base_bits;
  const uint8_t* sizes = p.raw + p.groups * 8 * header_->raw_bits;
  p.literals = sizes + 4 * std::max(0, p.code.planes - 1);
  p.literals_end = p.literals + (entry[1] & kMostLiteralBytes);
  const uint8_t* at = p.literals_end;
  for (int i = 0; i < p.code.planes; ++i) {
    p.plane[static_cast<size_t>(i)] = at;
    if (i + 1 < p.code.planes) at += Word(sizes + 4 * i);
  }
  return p;
}

namespace {

// `bits` bits of each weight of a group.
void UnpackFields(const uint8_t* from, int bits, uint8_t* values) {
  std::memset(values, 0, kPlaneGroup);
  int shift = 0;
  for (; bits - shift >= 4; shift += 4, from += 32)
    for (int j = 0; j < 32; ++j) {
      values[j] |= static_cast<uint8_t>((from[j] & 15) << shift);
      values[32 + j] |= static_cast<uint8_t>((from[j] >> 4) << shift);
    }
  if (bits - shift >= 2) {
    for (int j = 0; j < kPlaneGroup; ++j)
      values[j] |= static_cast<uint8_t>((from[j % 16] >> (j / 16 * 2) & 3) << shift);
    shift += 2, from += 16;
  }
  if (bits > shift) {
    for (int j = 0; j < kPlaneGroup; ++j) values[j] |= static_cast<uint8_t>((from[j / 8] >> j % 8 & 1) << shift);
  }
}

}  // namespace

namespace codec {

void DecodePlanes(PlaneReader* r, int groups, int offset, uint8_t* to) {
  const PlaneCode& code = r->panel.code;
  const int sign = 1 << (code.base_bits - 1);
  for (; groups > 0; --groups, to += kPlaneGroup) {
    uint8_t fields[kPlaneGroup];
    UnpackFields(r->panel.base + r->group++ * 8 * code.base_bits, code.base_bits, fields);
    for (int j = 0; j < kPlaneGroup; ++j) {
      const bool negative = (fields[j] & sign) != 0;
      int m = fields[j] & (sign - 1);
      for (size_t i = 0; i < code.planes && m >= code.threshold[i]; ++i) {
        const uint64_t at = r->bits[i]++;
        const int bit = r->panel.plane[i][at / 8] >> at % 8 & 1;
        m = 2 * m - code.threshold[i] + (negative ? 1 - bit : bit);
      }
      to[j] = static_cast<uint8_t>((negative ? -1 - m : m) + offset);
    }
  }
}

}  // namespace codec

bool PlaneLiterals::AreWhole(const PlanePanel& panel) {
  const int64_t chunks = Chunks(panel.groups);
  const uint8_t *at = panel.literals + chunks, *end = panel.literals_end;
  if (end - panel.literals < chunks) return false;
  for (int64_t c = 0; c < chunks; ++c) {
    int64_t count = panel.literals[c], last = -1;
    if (count == kMany) {
      if (end - at < 2) return false;
      count = static_cast<uint16_t>(Int16(at));
      at += 2;
    }
    for (; count > 0; --count) {
      if (end - at < 2) return false;
      const int entry = Int16(at), place = entry & (kChunk - 1), bytes = entry >> 11 == 0 ? 4 : 2;
      if (place <= last || c * kChunk + place >= panel.groups * kPlaneGroup || end - at < bytes) return false;
      last = place;
      at += bytes;
    }
  }
  return at == end;
}

Isa PlaneIsa() {
  static const Isa isa =
      Supports(Isa::kAvx2) ? Isa::kAvx2 : Isa::kPortable;  // asking takes microseconds where CPUID traps
  return isa;
}

PlaneReader::PlaneReader(const PlanePanel& p, Isa isa) : panel(p), decode_(codec::DecodePlanes) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2 || isa == Isa::kAvx512)
    if (const auto fast = codec::DecodePlanesAvx2(p.code)) decode_ = fast;
#else
  (void)isa;
#endif
}

namespace {

// The next group's L.
void WithLiterals(PlaneReader* reader, PlaneLiterals* literals, int* values) {
  uint8_t bytes[kPlaneGroup];
  reader->Next(1, 0, bytes);
  for (int j = 0; j < kPlaneGroup; ++j) values[j] = static_cast<int8_t>(bytes[j]);
  literals->Before(reader->group * kPlaneGroup,
                   [&](int64_t place, int missing) { values[place % kPlaneGroup] += missing; });
}

}  // namespace

PlaneFloats::PlaneFloats(const Planes& planes, int64_t panel, Isa isa)
    : planes_(planes),
      first_channel_(panel * kPlaneChannels),
      reader_(planes.Panel(panel), isa),
      literals_(reader_.panel) {}

namespace {

// A group of bytes, four inputs of a channel after the other, as numbers [4][16]. Loops that compilers vectorize.
void WidenGroup(const uint8_t* bytes, float half, const float* scale, float* __restrict tile) {
  uint32_t inputs[kPlaneChannels];
  std::memcpy(inputs, bytes, sizeof inputs);
  for (int i = 0; i < kPlaneInputs; ++i)
    for (int c = 0; c < kPlaneChannels; ++c) {
      const auto value = static_cast<int32_t>(inputs[c] << (24 - 8 * i)) >> 24;
      tile[i * kPlaneChannels + c] = (static_cast<float>(value) + half) * scale[c];
    }
}

}  // namespace

// Without raw fields: a few groups at a time, and literals behind.
void PlaneFloats::NextBytes(int64_t groups, float half, const float* scale, float* tile) {
  constexpr int64_t kAtOnce = 16;
  uint8_t bytes[kAtOnce * kPlaneGroup];
  for (; groups > 0; groups -= kAtOnce, tile += kAtOnce * kPlaneGroup) {
    const int64_t first = reader_.group * kPlaneGroup, count = std::min(groups, kAtOnce);
    reader_.Next(static_cast<int>(count), 0, bytes);
    for (int64_t g = 0; g < count; ++g) WidenGroup(bytes + g * kPlaneGroup, half, scale, tile + g * kPlaneGroup);
    literals_.Before(reader_.group * kPlaneGroup, [&](int64_t place, int missing) {
      const int64_t at = place - first, channel = at % kPlaneGroup / kPlaneInputs;
      const int value = static_cast<int8_t>(bytes[at]) + missing;
      tile[at / kPlaneGroup * kPlaneGroup + at % kPlaneInputs * kPlaneChannels + channel] =
          (static_cast<float>(value) + half) * scale[channel];
    });
  }
}

void PlaneFloats::Next(int64_t groups, float* tile) {
  const PlanesHeader& h = planes_.header();
  float scale[kPlaneChannels] = {};
  for (int64_t c = 0; c < kPlaneChannels && h.scales > 0 && first_channel_ + c < int64_t{h.out}; ++c)
    scale[c] = planes_.Scale(first_channel_ + c);
  const float half = h.scheme == PlaneScheme::kStep ? 0.5F : 0;
  if (h.raw_bits == 0) return NextBytes(groups, half, scale, tile);
  for (; groups > 0; --groups, tile += kPlaneInputs * kPlaneChannels) {
    const uint8_t* raw_fields = reader_.panel.raw + reader_.group * 8 * h.raw_bits;
    int values[kPlaneGroup];
    uint8_t raw[kPlaneGroup];
    WithLiterals(&reader_, &literals_, values);
    UnpackFields(raw_fields, h.raw_bits, raw);
    for (int j = 0; j < kPlaneGroup; ++j) {
      const int high = values[j], channel = j / kPlaneInputs;
      float* to = tile + j % kPlaneInputs * kPlaneChannels + channel;
      if (h.scheme == PlaneScheme::kF16 || h.scheme == PlaneScheme::kBF16) {
        const int sign = high < 0 ? 0x8000 : 0, top = planes_.values()[MagnitudeOf(high) & 127];
        const auto bits = static_cast<uint16_t>(sign | top << h.raw_bits | raw[j]);
        *to = h.scheme == PlaneScheme::kF16 ? HalfToFloat(bits) : Bf16ToFloat(bits);
      } else {
        *to = (static_cast<float>(high * (1 << h.raw_bits) + raw[j]) + half) * scale[channel];
      }
    }
  }
}

void UnpackPlaneRows(const std::byte* data, int64_t first, int64_t count, float* out) {
  constexpr int64_t kGroupsAtOnce = 32;
  const Planes planes(data);
  const int64_t in = planes.header().in, end = first + count;
  CHECK(first >= 0 && count >= 0 && end <= int64_t{planes.header().out});
  float tile[kGroupsAtOnce * kPlaneGroup];
  for (int64_t row = first; row < end;) {
    const int64_t channel = row % kPlaneChannels, rows = std::min(kPlaneChannels - channel, end - row);
    PlaneFloats floats(planes, row / kPlaneChannels, PlaneIsa());
    for (int64_t k = 0; k < in; k += kGroupsAtOnce * kPlaneInputs) {
      const int64_t inputs = std::min(kGroupsAtOnce * kPlaneInputs, in - k);
      floats.Next(PlaneGroups(inputs), tile);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < inputs; ++i)
          out[(row - first + r) * in + k + i] = tile[i * kPlaneChannels + channel + r];
    }
    row += rows;
  }
}

double PlanesEntropy(const std::byte* data) {
  const Planes planes(data);
  const PlanesHeader& h = planes.header();
  std::array<uint64_t, 256> counts{};
  for (int64_t p = 0; p < planes.panels(); ++p) {
    PlaneReader reader(planes.Panel(p), PlaneIsa());
    PlaneLiterals literals(reader.panel);
    for (int64_t g = 0; g < planes.groups(); ++g) {
      int values[kPlaneGroup];
      WithLiterals(&reader, &literals, values);
      for (int j = 0; j < kPlaneGroup; ++j)  // without what fills up groups and panels
        if (p * kPlaneChannels + j / kPlaneInputs < int64_t{h.out} &&
            g * kPlaneInputs + j % kPlaneInputs < int64_t{h.in})
          ++counts[static_cast<size_t>(std::clamp(values[j], -128, 127) + 128)];
    }
  }
  return Entropy(counts) + h.raw_bits;
}

namespace {

Status CheckPanel(const Planes& planes, int64_t index, PlaneCode code, uint64_t literals, Isa isa,
                  std::span<const uint8_t> data, const std::function<Error(const std::string&)>& bad) {
  const uint64_t fields =
      static_cast<uint64_t>(planes.groups()) * 8 * (uint64_t{code.base_bits} + planes.header().raw_bits);
  const uint64_t sizes = code.planes > 0 ? 4 * (code.planes - uint64_t{1}) : 0;
  if (fields + sizes + literals > data.size()) return bad("is cut short");
  const PlanePanel p = planes.Panel(index);
  uint64_t left = data.size() - fields - sizes - literals;
  std::array<uint64_t, kMostPlanes> room{};
  for (size_t i = 0; i < code.planes; ++i) {
    room[i] = i + 1U < code.planes ? Word(&data[fields + 4 * i]) : left;
    if (room[i] > left) return bad("has a plane longer than its panel");
    left -= room[i];
  }
  if (left != 0 && code.planes > 0) return bad("has bytes that belong to nothing");
  if (!PlaneLiterals::AreWhole(p)) return bad("has literals that are none");
  PlaneReader reader(p, isa);  // a group reads at most 16 bytes from where a plane ends: kPlanesPad has them
  uint8_t values[kPlaneGroup];
  PlaneLiterals literal(p);
  bool misplaced = false;
  for (int64_t g = 0; g < p.groups; ++g) {
    const auto before = reader.bits;
    reader.Next(1, 0, values);
    for (size_t i = 0; i < code.planes; ++i) {
      if (reader.bits[i] > 8 * room[i]) return bad("has a plane that ends too early");
      if (code.planes <= kFewPlanes && reader.bits[i] - before[i] > kMostEscapes)
        return bad("has more escapes in a group than its format allows");
    }
    literal.Before((g + 1) * kPlaneGroup, [&](int64_t place, int missing) {
      const auto v = static_cast<int8_t>(values[place % kPlaneGroup]);
      const int largest = planes.header().scheme == PlaneScheme::kStep ? kMostSteps : 127;
      misplaced |= MagnitudeOf(v) != code.cap() || (missing < 0) != (v < 0) || MagnitudeOf(v + missing) > largest;
    });
  }
  if (misplaced) return bad("has a literal where none can be");
  for (size_t i = 0; i < code.planes; ++i) {
    const uint64_t spare = room[i] - (reader.bits[i] + 7) / 8;
    if (spare > (i + 1U < code.planes ? 0 : kMostFill)) return bad("has a plane that is too long");
  }
  return {};
}

}  // namespace

Status CheckPlanesHeader(const PlanesHeader& h, uint64_t bytes, int64_t out, int64_t in, const std::string& what) {
  const auto bad = [&](const std::string& why) { return Bad(what, why); };
  if (std::memcmp(h.magic, PlanesHeader{}.magic, sizeof h.magic) != 0) return bad("is not one of sotto's");
  if (h.version != kPlanesVersion)
    return bad(
        fmt::format("is of version {}, and this sotto knows version {}: update sotto, or", h.version, kPlanesVersion));
  const bool halves = h.scheme == PlaneScheme::kF16 || h.scheme == PlaneScheme::kBF16;
  if (!halves && h.scheme != PlaneScheme::kInt8 && h.scheme != PlaneScheme::kStep) return bad("has an unknown scheme");
  const int least = h.scheme == PlaneScheme::kBF16 ? 7 : halves ? 8 : 0, most = h.scheme == PlaneScheme::kInt8 ? 0 : 8;
  if (h.raw_bits < least || h.raw_bits > most) return bad("has a wrong number of raw bits");
  if (h.out != out || h.in != in || out <= 0 || in <= 0 || out > kMostPlaneSide || in > kMostPlaneSide)
    return bad(fmt::format("is {} x {}, not {} x {} as config.json has it", h.out, h.in, out, in));
  if (h.codes == 0 || h.codes > 255 || (halves ? h.scales != 0 : h.scales != 1 && h.scales != h.out))
    return bad("has a wrong number of codes or scales");
  if (h.bytes != bytes || HeadBytes(h) + kPlanesPad > bytes) return bad("is cut short");
  return {};
}

Status CheckPlanes(std::span<const std::byte> data, int64_t out, int64_t in, const std::string& what, Isa isa,
                   Threads* threads) {
  const auto bad = [&](const std::string& why) { return Bad(what, why); };
  PlanesHeader h;
  if (data.size() < sizeof h) return bad("is shorter than its header");
  CHECK(reinterpret_cast<uintptr_t>(data.data()) % 4 == 0);
  std::memcpy(&h, data.data(), sizeof h);
  TRY(CheckPlanesHeader(h, data.size(), out, in, what));
  const Planes planes(data.data());
  if (PlanesChecksum(data) != h.checksum) return bad("is damaged: its checksum is another");
  for (const PlaneCode& code : planes.codes())
    if (!IsValid(code)) return bad("has a code that is none");
  for (uint32_t i = 0; i < h.scales; ++i)
    if (!(planes.scales()[i] >= 0 && planes.scales()[i] < 1e30F)) return bad("has a scale that is no number");
  for (uint64_t i = 0; i < ValuesBytes(h.scheme); ++i)
    if (planes.values()[i] >= 1 << (15 - h.raw_bits)) return bad("has a value of too many bits");
  const auto* begin = reinterpret_cast<const uint8_t*>(data.data());
  const auto panels = static_cast<uint64_t>(planes.panels());
  const uint8_t* index = begin + HeadBytes(h) - panels * 8;
  uint64_t literals = 0;
  for (uint64_t p = 0; p < panels; ++p) literals += Word(index + 8 * p + 4) & kMostLiteralBytes;
  if (literals != h.literals) return bad("has other literals than its header says");
  const auto check = [&](uint64_t p) -> Status {
    const uint64_t at = p == 0 ? HeadBytes(h) : Word(index + 8 * p), from = Word(index + 8 * p),
                   to = p + 1 < panels ? Word(index + 8 * p + 8) : h.bytes - kPlanesPad;
    if (from < at || from > at + kMostFill || to < from || to > h.bytes - kPlanesPad)
      return bad("has a panel out of place");
    const uint32_t word = Word(index + 8 * p + 4), code = word >> 24;
    if (code >= h.codes) return bad("names a code that it has not");
    const std::span<const uint8_t> panel(begin + from, begin + to);
    return CheckPanel(planes, static_cast<int64_t>(p), planes.codes()[code], word & kMostLiteralBytes, isa, panel, bad);
  };
  const auto check_all = [&](int64_t first, int64_t last, int) -> Status {
    for (int64_t p = first; p < last; ++p) TRY(check(static_cast<uint64_t>(p)));
    return {};
  };
  return threads == nullptr ? check_all(0, planes.panels(), 0) : TryFor(*threads, planes.panels(), 1, check_all);
}

}  // namespace sotto
