// `sotto_bench_packed tables`. Every coded matrix is decoded again and compared; sizes are those of whole blocks, headers and scales in.
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>
#include <queue>
#include <random>

#include "codec/ggml_blocks.h"
#include "codec/half.h"
#include "engine/pack/matrix.h"
#include "packed_bench.h"

namespace sotto {

std::string NameOf(Shape shape) {
  return shape == Shape::kGaussian ? "Gaussian" : shape == Shape::kLaplace ? "Laplace" : "Student t(6)";
}

Tensor Draw(Shape shape, int64_t rows, int64_t cols, Threads& threads) {
  Tensor t{rows, cols, std::vector<float>(static_cast<size_t>(rows * cols))};
  threads.For(rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      std::mt19937_64 rng(static_cast<uint64_t>(r) + 1);
      const auto uniform = [&] { return (static_cast<double>(rng() >> 11) + 0.5) * 0x1p-53; };  // inside (0, 1)
      const auto gaussian = [&] {
        const double radius = std::sqrt(-2 * std::log(uniform()));
        return radius * std::cos(2 * std::numbers::pi * uniform());
      };
      for (int64_t c = 0; c < cols; ++c) {
        double v = gaussian();
        if (shape == Shape::kLaplace) v = (v < 0 ? 1 : -1) * std::log(uniform());
        if (shape == Shape::kStudent6)  // over the root of a chi-squared of 6 degrees, a sixth of it
          v /= std::sqrt(-2 * std::log(uniform() * uniform() * uniform()) / 6);
        t.values[static_cast<size_t>(r * cols + c)] = static_cast<float>(0.02 * v);
      }
    }
  });
  return t;
}

Result<PackedMatrix> MatrixOf(const Tensor& tensor, const void* data, std::string_view type, Threads& threads) {
  PackedMatrix m;
  m.memory = static_cast<const std::byte*>(data);
  m.origin.type = FindGgmlType(type);
  m.rows = tensor.rows, m.cols = tensor.cols;
  Meter meter(0, [](uint64_t, uint64_t) { return true; });
  TRY(Survey(&m, type != "F32", threads, meter));
  return m;
}

std::vector<PlaneCount> PlaneCounts() {
  std::vector<PlaneCount> all{{"2 planes", {2, 4}}};
  for (const char* name : {"fast", "mid", "archive"}) {
    const PlanesLevel level = LevelOf(name).value();
    all.push_back({fmt::format("{} ({})", name, level.planes), level});
  }
  std::swap(all[0], all[1]);  // by planes
  return all;
}

namespace {

// Matrices whose figures are added up: one, or the linears of a model.
struct Family {
  std::string name;
  std::vector<Tensor> tensors;
  std::vector<std::string> halves;  // types in which it is coded as halves
  double size() const {
    double n = 0;
    for (const Tensor& t : tensors) n += static_cast<double>(t.size());
    return n;
  }
};

// What zstd makes of bytes; 0 where the machine has no libzstd.so.1. No dependency: a figure beside ours.
size_t ZstdBytes(const void* from, size_t size, int level) {
  static void* const library = dlopen("libzstd.so.1", RTLD_NOW);
  if (library == nullptr) return 0;
  const auto bound = reinterpret_cast<size_t (*)(size_t)>(dlsym(library, "ZSTD_compressBound"));
  const auto compress =
      reinterpret_cast<size_t (*)(void*, size_t, const void*, size_t, int)>(dlsym(library, "ZSTD_compress"));
  if (bound == nullptr || compress == nullptr) return 0;
  std::vector<std::byte> to(bound(size));
  const size_t n = compress(to.data(), to.size(), from, size, level);
  return n <= to.size() ? n : 0;
}

// Bits of a Huffman code of these counts: the sum of all inner nodes.
double HuffmanBits(std::span<const uint64_t> counts) {
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> nodes;
  for (const uint64_t n : counts)
    if (n > 0) nodes.push(n);
  double bits = 0;
  while (nodes.size() > 1) {
    uint64_t sum = nodes.top();
    nodes.pop();
    sum += nodes.top();
    nodes.pop();
    nodes.push(sum);
    bits += static_cast<double>(sum);
  }
  return bits;
}

Result<std::vector<std::byte>> Encode(const PlanesSource& source, const PlanesPlan& plan, Threads& threads) {
  std::vector<std::byte> block = TRY(EncodePlanes(source, plan, threads));
  TRY(CheckPlanes(block, source.out, source.in, "the matrix", PlaneIsa(), &threads));
  return block;
}

// The weights of a block of kInt8, row by row.
std::vector<int8_t> Int8Of(const std::vector<std::byte>& block, Threads& threads) {
  const Planes planes(block.data());
  const int64_t out = planes.header().out, in = planes.header().in;
  std::vector<int8_t> codes(static_cast<size_t>(out * in));
  threads.For(planes.panels(), 1, [&](int64_t begin, int64_t end, int) {
    std::vector<uint8_t> decoded(static_cast<size_t>(planes.groups()) * kPlaneGroup);
    for (int64_t p = begin; p < end; ++p) {
      PlaneReader(planes.Panel(p), PlaneIsa()).Next(static_cast<int>(planes.groups()), 0, decoded.data());
      PlaneLiterals(planes.Panel(p)).Before(planes.groups() * kPlaneGroup, [&](int64_t place, int missing) {
        decoded[static_cast<size_t>(place)] = static_cast<uint8_t>(decoded[static_cast<size_t>(place)] + missing);
      });
      for (int64_t c = 0; c < std::min<int64_t>(kPlaneChannels, out - p * kPlaneChannels); ++c)
        for (int64_t k = 0; k < in; ++k)
          codes[static_cast<size_t>((p * kPlaneChannels + c) * in + k)] = static_cast<int8_t>(
              decoded[static_cast<size_t>(k / kPlaneInputs * kPlaneGroup + c * kPlaneInputs + k % kPlaneInputs)]);
    }
  });
  return codes;
}

// The int8 input: scale = absmax / 127 of a row or of all, to the nearest, ties to even.
std::vector<int8_t> Quantize(const Tensor& t, bool one_scale) {
  std::vector<int8_t> codes(t.values.size());
  const auto largest = [](std::span<const float> v) {
    float most = 0;
    for (const float x : v) most = std::max(most, std::fabs(x));
    return most;
  };
  const float all = largest(t.values);
  for (int64_t r = 0; r < t.rows; ++r) {
    const std::span row(t.values.data() + r * t.cols, static_cast<size_t>(t.cols));
    const float most = one_scale ? all : largest(row), inverse = most < 1e-30F ? 0 : 127 / most;
    for (size_t i = 0; i < row.size(); ++i)
      codes[static_cast<size_t>(r * t.cols) + i] = static_cast<int8_t>(std::nearbyint(row[i] * inverse));
  }
  return codes;
}

Result<Json> LosslessInt8(const Family& f, bool one_scale, int zstd_level, Threads& threads) {
  const std::vector<PlaneCount> levels = PlaneCounts();
  std::vector<double> bits(levels.size());
  double entropy = 0, zstd = 0;
  bool equal = true;
  for (const Tensor& t : f.tensors) {
    const PackedMatrix m = TRY(MatrixOf(t, t.values.data(), "F32", threads));
    const std::vector<int8_t> codes = Quantize(t, one_scale);
    SourceState state;
    const PlanesSource source = Int8Source(m, one_scale, &state);
    for (size_t i = 0; i < levels.size(); ++i) {
      const PlanesPlan plan = PlanPlanes(source, levels[i].level, threads);
      const std::vector<std::byte> block = TRY(Encode(source, plan, threads));
      bits[i] += 8 * static_cast<double>(block.size());
      equal = equal && Int8Of(block, threads) == codes;
      if (i == 0) entropy += plan.entropy * static_cast<double>(t.size());
    }
    zstd += 8 * static_cast<double>(ZstdBytes(codes.data(), codes.size(), zstd_level));
  }
  const double n = f.size();
  Json row{{"matrix", f.name}, {"scale of", one_scale ? "tensor" : "channel"}, {"entropy", entropy / n}};
  for (size_t i = 0; i < levels.size(); ++i) row[levels[i].name] = bits[i] / n;
  row["archive - entropy"] = (bits.back() - entropy) / n;
  row["ratio, fast"] = 8 * n / bits[0];
  row["ratio, archive"] = 8 * n / bits.back();
  row["zstd"] = zstd > 0 ? Json(zstd / n) : Json();
  row["equal"] = equal;
  return row;
}

// Exponents by a Huffman code, sign and mantissa as they are: what DFloat11 stores, without its tables.
double HuffmanExponents(std::span<const uint16_t> halves, bool bf16) {
  std::array<uint64_t, 256> counts{};
  for (const uint16_t h : halves) ++counts[bf16 ? h >> 7 & 255 : h >> 10 & 31];
  return HuffmanBits(counts) + (bf16 ? 8.0 : 11.0) * static_cast<double>(halves.size());
}

Result<Json> LosslessHalves(const Family& f, const std::string& type, int zstd_level, Threads& threads) {
  const bool bf16 = type == "BF16";
  double fast = 0, archive = 0, entropy = 0, huffman = 0, zstd = 0;
  bool equal = true;
  for (const Tensor& t : f.tensors) {
    const size_t n = t.values.size();
    std::vector<uint16_t> halves(n);
    bf16 ? FloatToBf16(t.values.data(), t.size(), halves.data())
         : FloatToHalf(t.values.data(), t.size(), halves.data());
    const PackedMatrix m = TRY(MatrixOf(t, halves.data(), type, threads));
    SourceState state;
    const PlanesSource source = HalvesSource(m, &state);
    std::vector<float> want(n), got(n);
    bf16 ? Bf16ToFloat(halves.data(), t.size(), want.data()) : HalfToFloat(halves.data(), t.size(), want.data());
    for (double* bits : {&fast, &archive}) {
      const PlanesPlan plan = PlanPlanes(source, LevelOf(bits == &fast ? "fast" : "archive").value(), threads);
      const std::vector<std::byte> block = TRY(Encode(source, plan, threads));
      *bits += 8 * static_cast<double>(block.size());
      UnpackPlaneRows(block.data(), 0, t.rows, got.data());
      equal = equal && std::memcmp(want.data(), got.data(), n * sizeof(float)) == 0;
      if (bits == &fast) entropy += plan.entropy * static_cast<double>(n);
    }
    huffman += HuffmanExponents(halves, bf16);
    std::vector<uint8_t> bytes(2 * n);  // upper ones, then lower ones: zstd gains nothing where they alternate
    for (size_t i = 0; i < n; ++i)
      bytes[i] = static_cast<uint8_t>(halves[i] >> 8), bytes[n + i] = static_cast<uint8_t>(halves[i]);
    zstd += 8 * static_cast<double>(ZstdBytes(bytes.data(), n, zstd_level) + ZstdBytes(&bytes[n], n, zstd_level));
  }
  const double n = f.size();
  return Json{{"matrix", f.name},
              {"type", type},
              {"entropy", entropy / n},
              {"fast", fast / n},
              {"archive", archive / n},
              {"ratio, archive", 16 * n / archive},
              {"Huffman-coded exponents", huffman / n},
              {"zstd, bytes apart", zstd > 0 ? Json(zstd / n) : Json()},
              {"equal", equal}};
}

// Squared errors of a GGUF type, by our quantizer without an importance matrix.
double SquaresOf(const GgmlType& type, const Tensor& t, Threads& threads) {
  const GgmlQuantize quantize = QuantizerOf(type).value();
  const GgmlDequantize dequantize = DequantizerOf(type).value();
  std::vector<double> squares(static_cast<size_t>(t.rows));
  threads.For(t.rows, 1, [&](int64_t begin, int64_t end, int) {
    std::vector<std::byte> blocks(GgmlBytes(type, 1, static_cast<uint64_t>(t.cols)));
    std::vector<float> got(static_cast<size_t>(t.cols));
    for (int64_t r = begin; r < end; ++r) {
      const float* row = t.values.data() + r * t.cols;
      quantize(row, t.cols, blocks.data());
      dequantize(blocks.data(), t.cols, got.data());
      for (size_t i = 0; i < got.size(); ++i) {
        const double error = double{row[i]} - got[i];
        squares[static_cast<size_t>(r)] += error * error;
      }
    }
  });
  return std::accumulate(squares.begin(), squares.end(), 0.0);
}

struct Rated {
  PackedMatrix matrix;
  double step = 0;  // at which its error is that of the type
};
struct Rate {
  double bits = 0, entropy = 0, squares = 0;  // of all
};

// All matrices with their steps times `factor`; `encode`: real blocks, not their plans.
Result<Rate> RateAt(const std::vector<Rated>& all, double factor, const PlanesLevel& level, bool encode,
                    Threads& threads) {
  Rate rate;
  for (const Rated& r : all) {
    SourceState state;
    const PlanesSource source = StepSource(r.matrix, static_cast<float>(r.step * factor), &state);
    const PlanesPlan plan = PlanPlanes(source, level, threads);
    rate.squares += state.squares();
    rate.entropy += plan.entropy * static_cast<double>(r.matrix.elements());
    rate.bits += 8 * static_cast<double>(encode ? TRY(Encode(source, plan, threads)).size() : plan.bytes);
  }
  return rate;
}

// The error at `goal` bits or up to 0.1 % less: halving the step adds a bit, nearly; where it doesn't, halves of what is left.
// `known`: bits at a factor of 1.
Result<Rate> AtBits(const std::vector<Rated>& all, double goal, double known, double n, const PlanesLevel& level,
                    Threads& threads) {
  double low = -3, high = 3, at = (known - goal * 0.9995) / n;  // log2 of factors
  Rate rate;
  for (int turn = 0; turn < 20; ++turn) {
    rate = TRY(RateAt(all, std::exp2(at), level, false, threads));
    if (rate.bits <= goal && rate.bits >= goal * 0.999) break;
    (rate.bits > goal ? low : high) = at;
    const double next = at + (rate.bits - goal * 0.9995) / n;
    at = turn < 4 && next > low && next < high ? next : (low + high) / 2;
  }
  return rate;
}

Result<Json> AtErrorOf(const Family& f, const GgmlType& type, Threads& threads) {
  std::vector<Rated> all;
  double n = 0, squares = 0, power = 0;
  for (const Tensor& t : f.tensors) {
    if (t.cols % type.block != 0) continue;
    Rated& r = all.emplace_back(Rated{TRY(MatrixOf(t, t.values.data(), "F32", threads))});
    const double want = SquaresOf(type, t, threads), size = static_cast<double>(t.size());
    r.step = std::sqrt(12 * want / size);  // exact for small steps
    n += size, squares += want, power += r.matrix.power * size;
  }
  if (all.empty()) return Json();
  const double goal = n * 8 * type.bytes / type.block;
  const char* const levels[] = {"fast", "mid", "archive"};
  Json bits = Json::array(), errors = Json::array();
  Rate rate = TRY(RateAt(all, 1, {}, false, threads));
  for (Rated& r : all) r.step *= std::sqrt(squares / rate.squares);
  for (const char* level : levels) {
    const PlanesLevel planes = LevelOf(level).value();
    rate = TRY(RateAt(all, 1, planes, true, threads));
    bits.push_back(rate.bits / n);
    errors.push_back(TRY(AtBits(all, goal, rate.bits, n, planes, threads)).squares / squares);
  }
  return Json{{"matrix", f.name},
              {"at the error of", type.name},
              {"its bits", goal / n},
              {"its error, dB", 10 * std::log10(power / squares)},
              {"our error / its", rate.squares / squares},
              {"entropy", rate.entropy / n},
              {"fast", bits[0]},
              {"mid", bits[1]},
              {"archive", bits[2]},
              {"at its bits: error ratio, fast", errors[0]},
              {"error ratio, mid", errors[1]},
              {"error ratio, archive", errors[2]}};
}

// All matrices but the embedding.
Result<Family> LinearsOf(const std::string& model, Threads& threads) {
  const Original o = TRY(OpenOriginal(TRY(FindModel(model, ModelUse::kRun))));
  Family f{fmt::format("{}, linears", o.dir.name), {}, {}};
  Meter meter(0, [](uint64_t, uint64_t) { return true; });
  for (uint32_t id = 0; id < o.origins.size(); ++id) {
    const Slot& slot = o.anatomy->at(id);
    const WeightOrigin& origin = o.origins[id];
    if (slot.form != Form::kMatrix || slot.component == Component::kEmbedding || origin.file == nullptr) continue;
    Tensor& t = f.tensors.emplace_back(Tensor{slot.shape[0], slot.shape[1] * slot.shape[2], {}});
    t.values.resize(static_cast<size_t>(t.size()));
    TRY(PassRows({origin, t.rows, t.cols, 0, slot.name}, 1, threads, meter,
                 [&](int64_t first, std::span<const float> rows, int) -> Status {
                   std::copy(rows.begin(), rows.end(), t.values.begin() + first * t.cols);
                   return {};
                 }));
    const std::string type(origin.type->name);
    if (f.halves.empty() && (type == "F16" || type == "BF16")) f.halves.push_back(type);
  }
  if (f.tensors.empty()) return BadModel(o.dir.name + " has no linears to measure");
  return f;
}

}  // namespace

Result<Json> MeasureTables(const PackedBench& o) {
  Threads threads(o.threads);
  Json int8 = Json::array(), halves = Json::array(), rates = Json::array();
  const auto measure = [&](const Family& f) -> Status {
    for (const bool one_scale : {true, false}) int8.push_back(TRY(LosslessInt8(f, one_scale, o.zstd_level, threads)));
    for (const std::string& type : f.halves) halves.push_back(TRY(LosslessHalves(f, type, o.zstd_level, threads)));
    for (const char* type : {"Q4_0", "Q4_K", "Q5_K"})
      if (Json row = TRY(AtErrorOf(f, *FindGgmlType(type), threads)); !row.is_null()) rates.push_back(std::move(row));
    return {};
  };
  if (!o.model.empty()) TRY(measure(TRY(LinearsOf(o.model, threads))));
  for (const int64_t size : o.sizes)
    for (const Shape shape : kShapes) {
      Family f{fmt::format("{}, {} x {}", NameOf(shape), size, size), {}, {"BF16", "F16"}};
      f.tensors.push_back(Draw(shape, size, size, threads));
      TRY(measure(f));
    }
  return Json{{"INT8 without loss, bits a weight", std::move(int8)},
              {"Rate-controlled, bits a weight", std::move(rates)},
              {"Halves without loss, bits a weight", std::move(halves)}};
}

}  // namespace sotto
