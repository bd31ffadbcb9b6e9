#include "weights/checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace sotto {
namespace {

// Computed from nothing but the config, whatever module they stand in.
bool IsBuffer(std::string_view name) {
  constexpr std::string_view kEnds[] = {"inv_freq",    "position_ids", "running_mean",
                                        "running_var", "masked_bias",  "num_batches_tracked",
                                        "mel_filters", "mel_scale.fb", "spectrogram.window"};
  return std::any_of(std::begin(kEnds), std::end(kEnds), [&](std::string_view end) { return name.ends_with(end); });
}

// "layers.0.mlp.experts.7.up_proj.weight" to "layers.0.mlp.experts.gate_up_proj.weight": slots hold all experts, one behind the other.
std::string StackExperts(std::string name) {
  constexpr std::string_view kExperts = ".experts.";
  const size_t at = name.find(kExperts);
  if (at == name.npos) return name;
  const size_t number = at + kExperts.size(), dot = name.find_first_not_of("0123456789", number);
  if (dot == number || dot == name.npos || name[dot] != '.') return name;
  std::string rest = name.substr(dot + 1);
  for (const std::string_view part : {"gate_proj", "up_proj"})
    if (rest.starts_with(part)) rest = "gate_up_proj" + rest.substr(part.size());
  return name.substr(0, number) + rest;
}

// What suffix a tensor has whose numbers are the weight itself, one for one or packed.
bool IsWeight(std::string_view suffix) {
  return suffix == "weight" || suffix == "bias" || suffix == "qweight" || suffix == "weight_packed";
}

uint64_t Elements(std::span<const int64_t> shape) {
  uint64_t n = 1;
  for (const int64_t d : shape) n = SatMul(n, static_cast<uint64_t>(d));
  return n;
}

struct Found {
  uint64_t elements = 0, bytes = 0;
  bool packed = false;  // the number of elements is not told by the shape
};

class Matcher {
 public:
  Matcher(const ModelFiles& files, const Anatomy& anatomy, bool quantized)
      : files_(files), anatomy_(anatomy), quantized_(quantized), names_(anatomy), found_(names_.count()) {}

  Status Add(const TensorHeader& t) {
    std::string type(t.type);
    std::transform(type.begin(), type.end(), type.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    stored_.by_type[type] = SatAdd(stored_.by_type[type], t.bytes);
    if (!quantized_) (void)TRY(files_.TypeOf(t));
    if (t.dtype && t.shape.size() > 1) of_type_[static_cast<size_t>(*t.dtype)] += t.bytes;

    const std::string plain = PlainName(t.name), name = StackExperts(plain);
    const bool tied = name == "lm_head.weight" || name == "proj_out.weight";
    if (IsBuffer(name) || IsUnused(plain) || (tied && !names_.Find(name))) return {};
    const size_t dot = std::min(name.rfind('.'), name.size());
    const std::string suffix = dot < name.size() ? name.substr(dot + 1) : "";
    auto weight = names_.Find(name);
    const bool stacked = !weight && suffix == "weight" && names_.Find(name.substr(0, dot));  // experts
    const bool whole = weight || stacked;
    if (!weight && (stacked || quantized_)) weight = ModuleOf(name);
    const uint64_t elements = Elements(t.shape);
    if (!weight) return Strange(t, elements, suffix);
    Found& found = found_[*weight];
    found.bytes = SatAdd(found.bytes, t.bytes);
    const bool packed = whole && quantized_ && (type == "u8" || type == "i32");
    found.packed |= packed || suffix == "qweight" || suffix == "weight_packed";
    if (!whole || packed) return {};  // scales and the like
    if (!stacked && !FitsSlot(names_.slot(*weight), t.shape)) return WrongShape(t, names_.slot(*weight));
    found.elements = SatAdd(found.elements, elements);
    all_ = SatAdd(all_, elements);
    return {};
  }

  Result<StoredWeights> Finish(const std::string& quantization) {
    uint64_t wanted = 0;
    std::vector<size_t> missing;
    std::array<bool, kComponents> any{};
    for (size_t i = 0; i < found_.size(); ++i)
      if (found_[i].bytes > 0) any[static_cast<size_t>(names_.slot(i).component)] = true;
    for (size_t i = 0; i < found_.size(); ++i) {
      const Slot& slot = names_.slot(i);
      if (anatomy_.IsElsewhere(slot.component) && !any[static_cast<size_t>(slot.component)]) continue;
      wanted = SatAdd(wanted, slot.Elements());
      const bool whole = found_[i].packed || found_[i].elements == slot.Elements();
      if (found_[i].bytes > 0 && !whole)
        return BadModel(
            fmt::format("the model's files hold {} elements of '{}', but config.json makes it {}; config and weights "
                        "are not of the same model",
                        found_[i].elements, slot.name, slot.Elements()));
      if (found_[i].bytes > 0) continue;
      missing.push_back(i);
    }
    if (quantized_)
      TRY(Spread(missing));
    else if (all_ != wanted)
      return WrongCount(wanted, missing);
    for (const DType t : {DType::kF16, DType::kBF16})
      if (of_type_[static_cast<size_t>(t)] > of_type_[static_cast<size_t>(stored_.dtype)]) stored_.dtype = t;
    if (!quantized_) stored_.parameters = all_;
    stored_.format = quantization;
    if (quantized_)
      for (size_t i = 0; i < found_.size(); ++i) stored_.kept.push_back({names_.slot(i).Elements(), found_[i].bytes});
    return std::move(stored_);
  }

 private:
  bool IsUnused(std::string_view plain) const {
    const auto unused = anatomy_.unused();
    return std::any_of(unused.begin(), unused.end(), [&](const std::string& u) { return plain.starts_with(u); });
  }

  // The slot that something beside a weight belongs to: "…q_proj.scales", "…q_proj.weight.quant_state.nf4" to "…q_proj.weight".
  std::optional<size_t> ModuleOf(std::string name) const {
    for (size_t dot = name.rfind('.'); dot != name.npos; dot = name.rfind('.')) {
      name.resize(dot);
      for (const std::string& slot : {name, name + ".weight"})
        if (const auto weight = names_.Find(slot)) return weight;
    }
    return std::nullopt;
  }

  // A tensor that no slot is called like: counted, and remembered for the error.
  Status Strange(const TensorHeader& t, uint64_t elements, std::string_view suffix) {
    all_ = SatAdd(all_, elements);
    strange_bytes_ = SatAdd(strange_bytes_, t.bytes);
    if (strange_.empty() && (!quantized_ || IsWeight(suffix))) strange_ = t.name;
    return {};
  }

  Error WrongShape(const TensorHeader& t, const Slot& slot) const {
    return BadModel(
        fmt::format("{}: '{}' has the shape [{}], but config.json makes it [{}]; config and weights are not of the "
                    "same model",
                    files_.file(t.file).path(), t.name, fmt::join(t.shape, ", "),
                    fmt::join(std::span(slot.shape).first(static_cast<size_t>(slot.dims)), ", ")));
  }

  Error WrongCount(uint64_t wanted, std::span<const size_t> missing) const {
    std::string first;
    if (missing.empty() && !strange_.empty()) first = fmt::format(" ('{}' is not in it)", strange_);
    if (!missing.empty() && strange_.empty()) first = fmt::format(" ('{}' is missing)", names_.slot(missing[0]).name);
    return BadModel(
        fmt::format("config.json describes {} parameters, but the headers of the model's files hold {}{}; config and "
                    "weights are not of the same model",
                    wanted, all_, first));
  }

  // Bytes that found no slot go to the slots that found none, or, scales of no module, to all; in proportion to their elements.
  Status Spread(std::vector<size_t> to) {
    if (!to.empty() && strange_bytes_ == 0)
      return BadModel(fmt::format("the model's files lack '{}', which config.json describes; fetch the model again",
                                  names_.slot(to[0]).name));
    if (to.empty() && !strange_.empty())
      return BadModel(
          fmt::format("the model's files hold '{}', which config.json does not describe; config and weights are not "
                      "of the same model",
                      strange_));
    for (size_t i = 0; to.empty() && i < names_.count(); ++i) to.push_back(i);
    uint64_t elements = 0, left = strange_bytes_;
    for (const size_t i : to) elements = SatAdd(elements, names_.slot(i).Elements());
    for (const size_t i : to) {
      const uint64_t own = names_.slot(i).Elements();
      const auto part =
          own >= elements ? left : static_cast<uint64_t>(static_cast<unsigned __int128>(left) * own / elements);
      found_[i].bytes += part;
      left -= part;
      elements -= std::min(elements, own);
    }
    return {};
  }

  const ModelFiles& files_;
  const Anatomy& anatomy_;
  bool quantized_;
  WeightNames names_;
  std::vector<Found> found_;  // by weight
  std::array<uint64_t, 8> of_type_{};
  uint64_t all_ = 0, strange_bytes_ = 0;
  std::string strange_;  // the first tensor that no slot is called like
  StoredWeights stored_;
};

}  // namespace

std::string QuantizationOf(const Json& config) {
  const Json* q = nullptr;
  const auto look = [&](const Json& in) {
    for (const char* key : {"quantization_config", "compression_config"})
      if (const auto it = in.find(key); q == nullptr && it != in.end() && it->is_object()) q = &*it;
  };
  look(config);
  for (const char* part : {"text_config", "thinker_config"})
    if (const auto it = config.find(part); it != config.end() && it->is_object()) look(*it);
  if (q == nullptr) return "";
  const auto text = [&](const char* key) {
    const auto it = q->find(key);
    const std::string value = it != q->end() && it->is_string() ? it->get<std::string>() : "";
    const bool plain =
        value.size() <= 40 && std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
    return plain ? value : std::string();
  };
  std::string name = text("quant_method");
  if (name.empty()) name = "quantized";
  for (const char* key : {"bits", "w_bit"})
    if (const auto it = q->find(key); it != q->end() && it->is_number_unsigned() && it->get<uint64_t>() <= 16)
      return fmt::format("{} {}-bit", name, it->get<uint64_t>());
  for (const auto& [key, bits] : {std::pair("load_in_4bit", 4), std::pair("load_in_8bit", 8)})
    if (const auto it = q->find(key); it != q->end() && *it == true) return fmt::format("{} {}-bit", name, bits);
  const std::string format = text("format");
  return format.empty() ? name : name + " " + format;
}

Result<StoredWeights> MatchHeaders(const ModelFiles& files, const Anatomy& anatomy, const std::string& quantization) {
  Matcher matcher(files, anatomy, !quantization.empty());
  TRY(files.ForEachTensor([&](const TensorHeader& t) { return matcher.Add(t); }));
  return matcher.Finish(quantization);
}

}  // namespace sotto
