#include "engine/pack/pack.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/convert/directory.h"
#include "engine/pack/matrix.h"
#include "engine/pack/sources.h"

namespace sotto {
namespace {

constexpr double kLeastBits = 2, kMostBits = 12;
constexpr double kTolerance = 0.0005;  // of the size: half of what is promised

class Packer {
 public:
  Packer(const Original& original, const PackRequest& request, PlanesLevel level, ConvertProgress progress)
      : original_(original), request_(request), level_(level), threads_(request.threads), progress_(progress) {}

  Result<Packed> Run() {
    uint64_t plain = 0;
    for (uint32_t id = 0; id < original_.origins.size(); ++id) {
      const Slot& slot = original_.anatomy->at(id);
      const WeightOrigin& origin = original_.origins[id];
      if (slot.role != Role::kWeight || origin.file == nullptr) continue;
      order_.push_back(id);
      if (!IsPacked(slot, origin)) {
        plain += origin.bytes;
        continue;
      }
      matrices_.push_back(
          {id, &slot, origin, slot.shape[0], slot.shape[1] * slot.shape[2], slot.shape[2], 0, 0, {}, {}});
      elements_ += matrices_.back().elements();
    }
    if (matrices_.empty())
      return BadModel(
          request_.mode == PackMode::kHalves
              ? "no matrix of this model is F16 or BF16, which --lossless codes; use --bits or --lossless-int8"
              : "this model has no matrices to pack");
    TRY(SurveyAll());
    if (request_.mode == PackMode::kRate) TRY(FindSteps(plain));
    return Write();
  }

 private:
  bool IsPacked(const Slot& slot, const WeightOrigin& origin) const {
    if (slot.form != Form::kMatrix) return false;
    return request_.mode != PackMode::kHalves || origin.type->name == "F16" || origin.type->name == "BF16";
  }

  Status SurveyAll() {
    uint64_t bytes = 0;
    for (const PackedMatrix& m : matrices_) bytes += m.origin.bytes;
    total_ = bytes * 2;
    Meter meter(total_, progress_);
    for (PackedMatrix& m : matrices_) TRY(Survey(&m, request_.mode == PackMode::kHalves, threads_, meter));
    done_ = bytes;
    return {};
  }

  float StepOf(const PackedMatrix& m, double multiple) const {
    const double rms = std::sqrt(m.power);
    return rms > 0 ? static_cast<float>(multiple * rms) : 1.0F;
  }

  Result<uint64_t> BytesAt(const PackedMatrix& m, double multiple) {
    SourceState state;
    const PlanesSource source = StepSource(m, StepOf(m, multiple), &state);
    const uint64_t bytes = PlanPlanes(source, level_, threads_).bytes;
    TRY(state.status());
    if (!progress_(done_, total_)) return Error{Code::kInterrupted, "interrupted; nothing was left behind"};
    return bytes;
  }

  Result<uint64_t> BytesAt(double multiple) {
    uint64_t bytes = 0;
    for (const PackedMatrix& m : matrices_) bytes += TRY(BytesAt(m, multiple));
    return bytes;
  }

  // The bytes of all blocks, encoded and thrown away.
  Result<uint64_t> EncodedBytes() {
    uint64_t bytes = 0;
    for (const PackedMatrix& m : matrices_) {
      SourceState state;
      const PlanesSource source = SourceOf(m, &state);
      bytes += TRY(EncodePlanes(source, PlanPlanes(source, level_, threads_), threads_)).size();
      TRY(state.status());
      if (!progress_(done_, total_)) return Error{Code::kInterrupted, "interrupted; nothing was left behind"};
    }
    return bytes;
  }

  // The steps whose planned size is the goal; what encoding adds to plans is then taken off the goal.
  Status FindSteps(uint64_t plain) {
    const double weights = static_cast<double>(elements_);
    double goal = request_.bits / 8 * weights;
    if (request_.size > 0) goal = static_cast<double>(request_.size) - static_cast<double>(plain + HeaderRoom());
    const double bits = 8 * goal / weights;
    if (!(bits >= kLeastBits && bits <= kMostBits))
      return Usage(fmt::format(
          "{:.2f} bits a weight are asked for, and packing goes from {} to {} bits: from {} to {} bytes for this model",
          bits, kLeastBits, kMostBits, plain + HeaderRoom() + static_cast<uint64_t>(kLeastBits / 8 * weights),
          plain + HeaderRoom() + static_cast<uint64_t>(kMostBits / 8 * weights)));
    double planned = goal;
    for (int turn = 0; turn < 4; ++turn) {
      TRY(MeetPlanned(planned, weights));
      const auto real = static_cast<double>(TRY(EncodedBytes()));
      if (real <= goal && real >= goal * (1 - 2 * kTolerance)) break;
      planned += goal * (1 - kTolerance) - real;
    }
    return {};
  }

  // Halving the step adds one bit to every weight, nearly: a secant in log2(step) meets a size in a few turns.
  Status MeetPlanned(double goal, double weights) {
    double low = -14, high = 4;  // log2 of multiples whose sizes are above and below the goal
    double at = start_ > 0 ? std::log2(start_) : 2.3 - 8 * goal / weights;
    for (int turn = 0; turn < 20; ++turn) {
      const auto bytes = static_cast<double>(TRY(BytesAt(std::exp2(at))));
      start_ = std::exp2(at);
      multiples_.assign(matrices_.size(), start_);
      if (bytes <= goal && bytes >= goal * (1 - kTolerance)) return {};
      (bytes > goal ? low : high) = at;
      const double secant = at + 8 * (bytes - goal * (1 - kTolerance / 2)) / weights;
      at = turn < 5 && secant > low && secant < high ? secant : (low + high) / 2;
    }
    // Sizes move in jumps, where a matrix's code changes: the size below, and finer steps for single matrices while there is room.
    multiples_.assign(matrices_.size(), std::exp2(high));
    auto left = goal - static_cast<double>(TRY(BytesAt(std::exp2(high))));
    for (size_t i = 0; i < matrices_.size() && left > goal * kTolerance / 2; ++i) {
      const auto now = static_cast<double>(TRY(BytesAt(matrices_[i], std::exp2(high))));
      double more = 0, too_fine = high - 1, fine = high;
      for (int turn = 0; turn < 10; ++turn) {
        const double middle = (too_fine + fine) / 2;
        const double difference = static_cast<double>(TRY(BytesAt(matrices_[i], std::exp2(middle)))) - now;
        (difference > left ? too_fine : fine) = middle;
        if (difference <= left) more = difference;
      }
      left -= more;
      multiples_[i] = std::exp2(fine);
    }
    return {};
  }

  // What a header can take at most.
  uint64_t HeaderRoom() const {
    uint64_t room = 512;
    for (const uint32_t id : order_) room += 2 * original_.anatomy->at(id).name.size() + 360;
    return RoundUp(room, 64);
  }

  PlanesSource SourceOf(const PackedMatrix& m, SourceState* state) const {
    if (request_.mode == PackMode::kInt8) return Int8Source(m, request_.scale_of_tensor, state);
    if (request_.mode == PackMode::kHalves) return HalvesSource(m, state);
    return StepSource(m, StepOf(m, multiples_[static_cast<size_t>(&m - matrices_.data())]), state);
  }

  static std::string_view SchemeName(PlaneScheme s) {
    switch (s) {
      case PlaneScheme::kInt8: return "int8";
      case PlaneScheme::kStep: return "step";
      case PlaneScheme::kF16: return "fp16";
      case PlaneScheme::kBF16: return "bf16";
    }
    return "?";
  }

  Result<Packed> Write() {
    const PartialDirectory out(request_.out);
    TRY(out.Create());
    TRY(CopyCompanions(original_.dir.path, out.partial()));
    AtomicFile file = TRY(AtomicFile::Create(out.partial() + "/model.safetensors"));
    const uint64_t room = HeaderRoom();
    Listing listing;
    Packed packed;
    Json facts = Json::object();
    const auto matrix_of = [&](uint32_t id) {
      return std::find_if(matrices_.begin(), matrices_.end(), [id](const PackedMatrix& m) { return m.id == id; });
    };
    for (const uint32_t id : order_) {
      const Slot& slot = original_.anatomy->at(id);
      const WeightOrigin& origin = original_.origins[id];
      PackedTensor t{slot.name, std::string(origin.type->name), {slot.shape.begin(), slot.shape.begin() + slot.dims}};
      t.elements = slot.Elements(), t.bytes = origin.bytes;
      const uint64_t at = room + listing.bytes;
      if (const auto m = matrix_of(id); m == matrices_.end()) {
        TRY(CopyBytes(*origin.file, origin.offset, origin.bytes, file, at, nullptr));
        listing.Add(slot.name, t.scheme, ShapeOf(slot), origin.bytes);
      } else {
        SourceState counted, written;
        const PlanesPlan plan = PlanPlanes(SourceOf(*m, &counted), level_, threads_);
        const PlanesSource source = SourceOf(*m, &written);
        const std::vector<std::byte> block = TRY(EncodePlanes(source, plan, threads_));
        TRY(counted.status());
        TRY(written.status());
        TRY(file.WriteAt(at, block));
        listing.Add(slot.name + std::string(kPlanesSuffix), "U8", fmt::format("[{}]", block.size()), block.size());
        t.scheme = SchemeName(source.scheme);
        t.bytes = block.size();
        t.entropy = plan.entropy;
        t.step = request_.mode == PackMode::kRate ? static_cast<double>(source.scales[0]) : 0;
        if (written.squares() > 0)
          t.error_db = 10 * std::log10(m->power * static_cast<double>(m->elements()) / written.squares());
        packed.packed_elements += t.elements;
        packed.packed_bytes += t.bytes;
        facts[slot.name] = fmt::format("{} {:.4f} bits {:.2f} dB", t.scheme, t.entropy, t.error_db);
        done_ += origin.bytes;
        if (!progress_(std::min(done_, total_), total_))
          return Error{Code::kInterrupted, "interrupted; nothing was left behind"};
      }
      packed.tensors.push_back(std::move(t));
    }
    Json metadata = {{"format", "pt"}, {"sotto.packed", "1"}, {"sotto.level", request_.level}};
    for (auto& [name, fact] : facts.items()) metadata["sotto." + name] = fact;
    const std::string header = listing.Header(metadata.dump(), room);
    CHECK(header.size() == room);
    TRY(file.WriteAt(0, std::as_bytes(std::span(header))));
    TRY(file.Commit());
    TRY(out.Commit());
    packed.file_bytes = room + listing.bytes;
    return packed;
  }

  const Original& original_;
  const PackRequest& request_;
  PlanesLevel level_;
  Threads threads_;
  ConvertProgress progress_;
  std::vector<uint32_t> order_;
  std::vector<PackedMatrix> matrices_;
  uint64_t elements_ = 0, done_ = 0, total_ = 0;
  std::vector<double> multiples_;  // of each matrix's root mean square
  double start_ = 0;
};

}  // namespace

Result<Packed> Pack(const ModelDir& dir, const PackRequest& request, ConvertProgress progress) {
  if (!dir.gguf_path.empty())
    return Usage("packing starts from a Hugging Face directory, and this is a .gguf; give its original");
  if (request.mode == PackMode::kRate && (request.bits > 0) == (request.size > 0))
    return Usage("say how small: --bits a weight, --size of the file, --memory of the process, or --lossless");
  TRY(CheckOut(dir, {.weights = "", .out = request.out, .force = request.force}, false));
  PackRequest r = request;
  if (r.threads == 0) r.threads = Threads::Available();
  if (r.level.empty()) r.level = r.mode == PackMode::kHalves ? "archive" : "fast";
  const PlanesLevel level = TRY(LevelOf(r.level));
  const Original original = TRY(OpenOriginal(dir));
  return Packer(original, r, level, progress).Run();
}

}  // namespace sotto
