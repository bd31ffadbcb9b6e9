#include "engine/pack/pack.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "engine/convert/directory.h"
#include "engine/pack/matrix.h"
#include "engine/pack/record.h"
#include "engine/pack/sources.h"

namespace sotto {
namespace {

constexpr double kLeastBits = 2, kMostBits = 12;
constexpr double kTolerance = 0.0005;                   // of the size: half of what is promised
constexpr int64_t kSamplePanels = 24;                   // of a matrix, to find about the steps
constexpr uint64_t kSampleWeights = uint64_t{1} << 26;  // of the model, to find what encoding adds to plans

Error Interrupted() { return {Code::kInterrupted, "interrupted"}; }

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
      matrices_.push_back({.id = id,
                           .slot = &slot,
                           .origin = origin,
                           .rows = slot.shape[0],
                           .cols = slot.shape[1] * slot.shape[2],
                           .taps = slot.shape[2]});
      elements_ += matrices_.back().elements();
    }
    // One behind the other, all of them at multiples of kPlanesAlign: so they can be used as they lie in the file (--mapped).
    std::stable_partition(order_.begin(), order_.end(),
                          [&](uint32_t id) { return IsPacked(original_.anatomy->at(id), original_.origins[id]); });
    if (matrices_.empty())
      return BadModel(
          request_.mode == PackMode::kHalves
              ? "no matrix of this model is F16 or BF16, which --lossless codes; use --bits or --lossless-int8"
              : "this model has no matrices to pack");
    TRY(SpreadSteps());
    TRY(SurveyAll());
    PackRecord record(request_.out + ".partial/packing", Identity(), matrices_.size());
    if (request_.mode == PackMode::kRate && !record.continues()) TRY(FindSteps(plain));
    if (record.continues()) multiples_ = record.multiples();
    multiples_.resize(matrices_.size());
    return Write(&record);
  }

 private:
  bool IsPacked(const Slot& slot, const WeightOrigin& origin) const {
    if (slot.form != Form::kMatrix) return false;
    return request_.mode != PackMode::kHalves || origin.type->name == "F16" || origin.type->name == "BF16";
  }

  // What must be the same for an interrupted run to be gone on with.
  Json Identity() const {
    Json files = Json::array();
    const auto add = [&](const ModelFiles& of) {
      for (int i = 0; i < of.count(); ++i) {
        std::error_code ignored;
        const auto changed = std::filesystem::last_write_time(of.file(i).path(), ignored).time_since_epoch().count();
        files.push_back({of.file(i).path(), of.file(i).size(), static_cast<int64_t>(changed)});
      }
    };
    add(*original_.files);
    for (const NamedPart& part : original_.parts)
      if (part.files) add(*part.files);
    return {{"schema", "sotto.packing/1"},
            {"mode", static_cast<int>(request_.mode)},
            {"bits", request_.bits},
            {"size", request_.size},
            {"scale_of_tensor", request_.scale_of_tensor},
            {"level", request_.level},
            {"sensitivities", SensitivitiesJson(request_.sensitivities)},
            {"files", std::move(files)}};
  }

  bool measured() const { return !request_.sensitivities.tensors.empty(); }

  // The mean of spreads, weight by weight, is 1 in bits, so that the common multiple stays what it is without measurements.
  Status SpreadSteps() {
    if (!measured()) return {};
    double all = 0, mean = 0;
    for (PackedMatrix& m : matrices_) all += m.spread = TRY(request_.sensitivities.ValueOf(m.slot->name));
    for (PackedMatrix& m : matrices_) {
      const double share = static_cast<double>(m.elements()) / static_cast<double>(elements_);
      m.spread = SpreadOf(share, all > 0 ? m.spread / all : share);
      mean += share * std::log2(m.spread);
    }
    for (PackedMatrix& m : matrices_) m.spread /= std::exp2(mean);
    return {};
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
    return static_cast<float>(std::min(multiple * m.spread, measured() ? kMostStep : 1e9) * rms);
  }

  // Steps have no zero: a matrix of zeros is coded as int8.
  PlanesSource RateSource(const PackedMatrix& m, double multiple, SourceState* state) const {
    return m.power > 0 ? StepSource(m, StepOf(m, multiple), state) : Int8Source(m, true, state);
  }

  Result<double> BytesAt(const PackedMatrix& m, double multiple, bool sampled) {
    SourceState state;
    const PlanesSource source = RateSource(m, multiple, &state);
    double bytes;
    if (sampled) {
      bytes = EstimatePlanes(source, level_, kSamplePanels, threads_);
    } else {
      PlanesPlan& plan = plans_[IndexOf(m)];
      plan = PlanPlanes(source, level_, threads_);
      plan_multiples_[IndexOf(m)] = multiple;
      bytes = static_cast<double>(plan.bytes);
    }
    TRY(state.status());
    if (!progress_(done_, total_)) return Interrupted();
    return bytes;
  }

  Result<double> BytesAt(double multiple, bool sampled) {
    double bytes = 0;
    for (const PackedMatrix& m : matrices_) bytes += TRY(BytesAt(m, multiple, sampled));
    return bytes;
  }

  size_t IndexOf(const PackedMatrix& m) const { return static_cast<size_t>(&m - matrices_.data()); }

  // Known already where the steps were found in this run.
  PlanesPlan PlanOf(const PackedMatrix& m, const PlanesSource& source) {
    const size_t i = IndexOf(m);
    if (!plans_.empty() && plan_multiples_[i] == multiples_[i]) return std::move(plans_[i]);
    return PlanPlanes(source, level_, threads_);
  }

  // What encoding adds to the plans, all together: from some matrices, encoded and thrown away, in large models.
  Result<double> Surplus() {
    double planned = 0, surplus = 0, all = 0;
    const uint64_t every = std::max<uint64_t>(1, elements_ / kSampleWeights);
    for (const PackedMatrix& m : matrices_) {
      SourceState state;
      const PlanesSource source = SourceOf(m, &state);
      if (plan_multiples_[IndexOf(m)] != multiples_[IndexOf(m)]) TRY(BytesAt(m, multiples_[IndexOf(m)], false));
      const PlanesPlan& plan = plans_[IndexOf(m)];
      all += static_cast<double>(plan.bytes);
      if (IndexOf(m) % every != 0) continue;
      planned += static_cast<double>(plan.bytes);
      surplus +=
          static_cast<double>(TRY(EncodePlanes(source, plan, threads_)).size()) - static_cast<double>(plan.bytes);
      TRY(state.status());
      if (!progress_(done_, total_)) return Interrupted();
    }
    return surplus / planned * all;
  }

  // The steps whose planned size is the goal, from samples first; what encoding adds to plans is then taken off the goal.
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
    plans_.resize(matrices_.size());
    plan_multiples_.resize(matrices_.size());
    const bool sampled = std::any_of(matrices_.begin(), matrices_.end(),
                                     [](const PackedMatrix& m) { return PlanePanels(m.rows) >= 2 * kSamplePanels; });
    if (sampled) TRY(MeetPlanned(goal, weights, true));
    double planned = goal;
    for (int turn = 0; turn < 4; ++turn) {
      const double found = TRY(MeetPlanned(planned, weights, false));
      const double real = found + TRY(Surplus());
      if (real <= goal && real >= goal * (1 - 2 * kTolerance)) break;
      planned += goal * (1 - kTolerance) - real;
    }
    return {};
  }

  // Halving the step adds one bit to every weight, nearly: a secant in log2(step) meets a size in a few turns.
  Result<double> MeetPlanned(double goal, double weights, bool sampled) {
    double low = -14, high = 4;  // log2 of multiples whose sizes are above and below the goal
    double at = start_ > 0 ? std::log2(start_) : 2.3 - 8 * goal / weights;
    for (int turn = 0; turn < 20; ++turn) {
      const double bytes = TRY(BytesAt(std::exp2(at), sampled));
      start_ = std::exp2(at);
      multiples_.assign(matrices_.size(), start_);
      if (bytes <= goal && bytes >= goal * (1 - kTolerance)) return bytes;
      (bytes > goal ? low : high) = at;
      const double secant = at + 8 * (bytes - goal * (1 - kTolerance / 2)) / weights;
      at = turn < 5 && secant > low && secant < high ? secant : (low + high) / 2;
    }
    // Sizes move in jumps, where a matrix's code changes: the size below, and finer steps for single matrices while there is room.
    multiples_.assign(matrices_.size(), std::exp2(high));
    double left = goal - TRY(BytesAt(std::exp2(high), sampled));
    if (sampled) return goal - left;
    for (size_t i = 0; i < matrices_.size() && left > goal * kTolerance / 2; ++i) {
      const double now = TRY(BytesAt(matrices_[i], std::exp2(high), false));
      double more = 0, too_fine = high - 1, fine = high;
      for (int turn = 0; turn < 10; ++turn) {
        const double middle = (too_fine + fine) / 2;
        const double difference = TRY(BytesAt(matrices_[i], std::exp2(middle), false)) - now;
        (difference > left ? too_fine : fine) = middle;
        if (difference <= left) more = difference;
      }
      left -= more;
      multiples_[i] = std::exp2(fine);
    }
    return goal - left;
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
    return RateSource(m, multiples_[IndexOf(m)], state);
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

  Result<Packed> Write(PackRecord* record) {
    PartialDirectory out(request_.out);
    if (!record->continues()) TRY(out.Create());
    AtomicFile file = TRY(AtomicFile::Create(out.partial() + "/model.safetensors", !record->continues()));
    TRY(record->Begin(multiples_));
    Result<Packed> packed = WriteTensors(out, file, record);
    if (packed.ok() || packed.error().code != Code::kInterrupted) return packed;
    file.Keep();
    record->Keep();
    out.Keep();
    return packed;
  }

  Result<Packed> WriteTensors(const PartialDirectory& out, AtomicFile& file, PackRecord* record) {
    TRY(WriteCompanions(original_, out.partial()));
    const File written = TRY(File::Open(out.partial() + "/model.safetensors.partial", Code::kFailed));
    const uint64_t room = HeaderRoom();
    Listing listing;
    Packed packed;
    Json metadata = {{"format", "pt"}, {"sotto.packed", "1"}, {"sotto.level", request_.level}};
    auto m = matrices_.begin();  // order_ begins with them
    for (const uint32_t id : order_) {
      const Slot& slot = original_.anatomy->at(id);
      const WeightOrigin& origin = original_.origins[id];
      PackedTensor t{slot.name, std::string(origin.type->name), {slot.shape.begin(), slot.shape.begin() + slot.dims}};
      t.elements = slot.Elements(), t.bytes = origin.bytes;
      const uint64_t at = room + listing.bytes;
      if (m == matrices_.end() || m->id != id) {
        TRY(CopyBytes(*origin.file, origin.offset, origin.bytes, file, at, nullptr));
        listing.Add(slot.name, t.scheme, ShapeOf(slot), origin.bytes);
        packed.Add(std::move(t));
        continue;
      }
      const Json* const made = record->Find(slot.name);
      if (made != nullptr && IsThere(*made, written, at, *m, &t)) {
        ++packed.resumed;
      } else {
        TRY(Code(*m, file, at, &t));
        TRY(record->Add({{"name", t.name},
                         {"at", at},
                         {"bytes", t.bytes},
                         {"entropy", t.entropy},
                         {"error_db", t.error_db},
                         {"step", t.step}}));
      }
      listing.Add(slot.name + std::string(kPlanesSuffix), "U8", fmt::format("[{}]", t.bytes), t.bytes);
      Json& fact = metadata["sotto." + slot.name] =
          fmt::format("{} {:.4f} bits {:.2f} dB", t.scheme, t.entropy, t.error_db);
      if (measured()) {
        t.sensitivity = request_.sensitivities.Find(slot.name)->value;
        t.predicted_kl = t.error_db > 0 ? t.sensitivity * std::pow(10, -t.error_db / 10) : 0;
        fact = fmt::format("{} sensitivity {:.4g} kl {:.4g}", fact.get<std::string>(), t.sensitivity, t.predicted_kl);
      }
      packed.Add(std::move(t));
      done_ += origin.bytes;
      ++m;
      if (!progress_(std::min(done_, total_), total_)) return Interrupted();
    }
    if (measured()) metadata["sotto.predicted_kl"] = fmt::format("{:.4g}", packed.predicted_kl);
    const std::string header = listing.Header(metadata.dump(), room);
    CHECK(header.size() == room);
    TRY(file.WriteAt(0, std::as_bytes(std::span(header))));
    TRY(file.Commit());
    record->Drop();
    TRY(out.Commit());
    packed.file_bytes = room + listing.bytes;
    return packed;
  }

  // One matrix, coded and written.
  Status Code(const PackedMatrix& m, const AtomicFile& file, uint64_t at, PackedTensor* t) {
    SourceState counted, written;
    const PlanesPlan plan = PlanOf(m, SourceOf(m, &counted));
    const PlanesSource source = SourceOf(m, &written);
    const std::vector<std::byte> block = TRY(EncodePlanes(source, plan, threads_));
    TRY(counted.status());
    TRY(written.status());
    TRY(file.WriteAt(at, block));
    t->scheme = SchemeName(source.scheme);
    t->bytes = block.size();
    t->entropy = plan.entropy;
    t->step = request_.mode == PackMode::kRate ? static_cast<double>(source.scales[0]) : 0;
    if (written.squares() > 0)
      t->error_db = 10 * std::log10(m.power * static_cast<double>(m.elements()) / written.squares());
    return {};
  }

  // Whether an interrupted run has written this matrix, whole and in this place.
  static bool IsThere(const Json& made, const File& file, uint64_t at, const PackedMatrix& m, PackedTensor* t) {
    for (const char* key : {"at", "bytes", "entropy", "error_db", "step"})
      if (!made.contains(key) || !made[key].is_number()) return false;
    const auto bytes = made["bytes"].get<uint64_t>();
    if (made["at"].get<uint64_t>() != at || at > file.size() || bytes > file.size() - at) return false;
    std::vector<std::byte> block(bytes);
    PlanesHeader header;
    if (bytes < sizeof header || !file.ReadAt(at, block).ok()) return false;
    std::memcpy(&header, block.data(), sizeof header);
    if (!CheckPlanesHeader(header, bytes, m.rows, m.cols, t->name).ok()) return false;
    if (header.checksum != PlanesChecksum(block)) return false;
    t->scheme = SchemeName(header.scheme);
    t->bytes = bytes;
    t->entropy = made["entropy"].get<double>();
    t->error_db = made["error_db"].get<double>();
    t->step = made["step"].get<double>();
    return true;
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
  std::vector<PlanesPlan> plans_;  // of each matrix at plan_multiples_
  std::vector<double> plan_multiples_;
  double start_ = 0;
};

}  // namespace

void Packed::Add(PackedTensor t) {
  if (t.packed()) {
    packed_elements += t.elements;
    packed_bytes += t.bytes;
  }
  if (t.predicted_kl >= 0) predicted_kl = std::max(predicted_kl, 0.0) + t.predicted_kl;
  tensors.push_back(std::move(t));
}

Result<Packed> Pack(const ModelDir& dir, const PackRequest& request, ConvertProgress progress) {
  if (!dir.gguf_path.empty())
    return Usage("packing starts from a Hugging Face directory, and this is a .gguf; give its original");
  if (request.mode == PackMode::kRate && (request.bits > 0) == (request.size > 0))
    return Usage("say how small: --bits a weight, --size of the file, --memory of the process, or --lossless");
  if (request.mode != PackMode::kRate && !request.sensitivities.tensors.empty())
    return Usage("sensitivities have no effect on what is lossless; they go with --bits, --size or --memory");
  TRY(CheckOut(dir, {.weights = "", .out = request.out, .force = request.force}, false));
  PackRequest r = request;
  if (r.threads == 0) r.threads = Threads::Available();
  if (r.level.empty()) r.level = r.mode == PackMode::kHalves ? "archive" : "fast";
  const PlanesLevel level = TRY(LevelOf(r.level));
  const Original original = TRY(OpenOriginal(dir));
  Result<Packed> packed = Packer(original, r, level, progress).Run();
  if (packed.ok() || packed.error().code != Code::kInterrupted) return packed;
  const std::string partial = r.out + ".partial";
  return Error{Code::kInterrupted, IsDirectory(partial)
                                       ? fmt::format("interrupted; what is done lies in {}, and the same command "
                                                     "goes on from there",
                                                     partial)
                                       : "interrupted; nothing was left behind"};
}

}  // namespace sotto
