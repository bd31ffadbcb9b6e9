#include "engine/speed.h"

#include <algorithm>

namespace sotto {
namespace {

enum class Pass { kNone, kWindow, kToken, kHead };

// The pass that multiplies a slot. Keys and values of cross-attention are made once for a window; an embedding that is no head is
// looked up.
Pass PassOf(const Slot& s, bool tied) {
  if (s.form != Form::kMatrix) return Pass::kNone;
  switch (s.component) {
    case Component::kEncoder:
    case Component::kProjector:
    case Component::kQformer:
    case Component::kAggregator:
    case Component::kVision: return Pass::kWindow;
    case Component::kCrossAttention:
      return s.name.ends_with("k_proj.weight") || s.name.ends_with("v_proj.weight") ? Pass::kWindow : Pass::kToken;
    case Component::kDecoder:
    case Component::kExperts:
    case Component::kAdapters: return Pass::kToken;
    case Component::kLmHead: return Pass::kHead;
    case Component::kEmbedding: return tied ? Pass::kHead : Pass::kNone;
    default: return Pass::kNone;
  }
}

// An operation besides each product: norms, rotations, activations.
constexpr double kCallsBesides = 1;

class Prediction {
 public:
  Prediction(const Layout& layout, const MachineSpeed& machine)
      : l_(layout), m_(machine), info_(layout.model->info()), tied_(l_.anatomy->Parameters(Component::kLmHead) == 0) {
    ForEach([&](const Slot&, Pass pass, const Stored& stored) {
      if (pass != Pass::kWindow) bytes_ += static_cast<double>(stored.bytes.n);
    });
  }

  double Decode(int64_t rows, int64_t depth) const {
    double s = Matrices(Pass::kToken, rows) + Matrices(Pass::kHead, rows);
    s += static_cast<double>(rows) * Attention(depth, [&](double bytes, double products) {
           return std::max(bytes / m_.attention, products / m_.attention_row);
         });
    return WithDisk(s, Stack::kDecoder);
  }

  double Prefill(int64_t rows, int64_t depth) const {
    double s = Matrices(Pass::kToken, rows) + Matrices(Pass::kHead, 1);
    s += static_cast<double>(rows) *
         Attention(depth, [&](double, double products) { return products / m_.attention_rows; });
    return WithDisk(s, Stack::kDecoder);
  }

  // The encoder, and what becomes of its states: attention between all positions.
  double Window() const {
    const auto positions = static_cast<double>(info_.n_frames) / 2;
    double width = 0;
    int layers = 0;
    ForEach([&](const Slot& slot, Pass, const Stored&) {
      if (slot.stack != Stack::kEncoder) return;
      layers = std::max(layers, slot.layer + 1);
      width = std::max(width, static_cast<double>(std::min(slot.shape[0], slot.shape[1])));
    });
    const double s =
        Matrices(Pass::kWindow, info_.n_frames / 2) + layers * 2 * positions * positions * width / m_.attention_rows;
    return WithDisk(s, Stack::kEncoder);
  }

 private:
  template <class Visit>
  void ForEach(const Visit& visit) const {
    for (uint32_t id = 0; id < l_.anatomy->slots().size(); ++id) {
      const Slot& slot = l_.anatomy->at(id);
      if (const Pass pass = PassOf(slot, tied_); pass != Pass::kNone) visit(slot, pass, l_.plan.recipe[id]);
    }
  }

  double Matrices(Pass which, int64_t rows) const {
    double s = 0;
    const bool cached = bytes_ <= m_.cache / 2;  // what a token reads is still there for the next one
    ForEach([&](const Slot& slot, Pass pass, const Stored& stored) {
      if (pass != which) return;
      const FormSpeed& form = m_.Of(stored);
      const auto weights = static_cast<double>(slot.Elements());
      const double once = cached ? weights / form.cached
                                 : std::max(static_cast<double>(stored.bytes.n) / m_.memory, weights / form.decode);
      const double many = rows > 1 ? weights * static_cast<double>(rows) / form.prefill : 0;
      s += std::max(once, many) + (1 + kCallsBesides) * m_.call;
    });
    return s;
  }

  // Of one token: seconds(bytes, products) of each layer.
  template <class Seconds>
  double Attention(int64_t depth, const Seconds& seconds) const {
    const auto of = [&](const KvLayer& kv, int64_t keys) {
      const auto n = static_cast<double>(keys);
      const double size = l_.choice.kv->BytesPerElement({kv.heads, kv.head_dim, info_.context});
      return seconds(n * size * static_cast<double>(kv.Elements()),
                     2 * n * static_cast<double>(info_.heads * kv.head_dim));
    };
    double s = 0;
    for (const KvLayer& kv : info_.kv_layers) s += of(kv, kv.window > 0 ? std::min(depth, kv.window) : depth);
    if (!info_.kv_layers.empty())
      s += static_cast<double>(info_.cross_layers) * of(info_.kv_layers.front(), info_.audio_positions);
    return s;
  }

  // 0: unknown.
  double WithDisk(double computing, Stack stack) const {
    const auto bytes = static_cast<double>(l_.StreamedBytes(stack));
    if (bytes == 0) return computing;
    return m_.disk > 0 ? std::max(computing, bytes / m_.disk) : 0;
  }

  const Layout& l_;
  const MachineSpeed& m_;
  const ModelInfo& info_;
  bool tied_;
  double bytes_ = 0;  // of weights that a token reads
};

double Rate(int64_t rows, double seconds) { return seconds > 0 ? static_cast<double>(rows) / seconds : 0; }

}  // namespace

double DecodeSeconds(const Layout& layout, const MachineSpeed& machine, int64_t rows, int64_t depth) {
  return Prediction(layout, machine).Decode(rows, depth);
}

SpeedPrediction PredictSpeed(const Layout& layout, const MachineSpeed& machine) {
  CHECK(layout.model->runs());
  const Prediction p(layout, machine);
  const ModelInfo& info = layout.model->info();
  const int64_t depth = info.context / 2, rows = std::min(layout.model->max_rows(), std::max<int64_t>(1, depth));
  return {Rate(layout.choice.batch, p.Decode(layout.choice.batch, depth)), Rate(rows, p.Prefill(rows, depth)),
          info.n_mels > 0 ? p.Window() : 0};
}

std::optional<CalibratedSpeed> PredictSpeed(const Planned& p) {
  if (!p.layout.model->runs() || p.request.tp > 1 || p.request.beam > 1) return std::nullopt;
  const std::optional<MachineSpeed> machine = FindMachineSpeed(p.isa, p.threads);
  if (!machine) return std::nullopt;
  CalibratedSpeed speed{PredictSpeed(p.layout, *machine), machine->date};
  return speed.is.tokens_per_second > 0 ? std::optional(speed) : std::nullopt;
}

Json SpeedJson(const SpeedPrediction& s) {
  return {{"tokens_per_second", s.tokens_per_second},
          {"prefill_tokens_per_second", s.prefill_tokens_per_second},
          {"seconds_per_window", s.seconds_per_window > 0 ? Json(s.seconds_per_window) : Json()}};
}

}  // namespace sotto
