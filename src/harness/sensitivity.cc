#include "harness/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/file.h"
#include "codec/half.h"
#include "codec/panel.h"
#include "engine/audio_prompt.h"
#include "engine/chat.h"
#include "engine/decode.h"
#include "engine/generate.h"
#include "harness/divergence.h"

namespace sotto {
namespace {

constexpr uint64_t kMostText = 64 * kKiB;  // bytes of the file that are read; eight a token of kMostCalibrationTokens

// What is read in one go: a stretch of the text, a prompt with audio and its answer, or a window of audio and its transcript.
struct Passage {
  std::string audio;
  bool opens = true;  // the audio is opened anew; else this is its next window
  std::vector<int32_t> ids;
  size_t first = 0;  // row whose logits count, and all behind it
};

using EachRow = FunctionRef<void(std::span<const float> logits)>;

// All passages of a calibration, again and again.
class Reader {
 public:
  Reader(Engine& engine, const std::atomic<bool>& stop)
      : engine_(engine),
        stop_(stop),
        transcribes_(engine.model().info().type == "encoder-decoder"),
        decoder_(engine.model(), engine.ops(), engine.tokens(), engine.run(kGenerate), 1) {
    if (!transcribes_) session_.emplace(engine);
  }

  Status Prepare(const Calibration& c) {
    left_ = c.tokens;
    for (const std::string& audio : c.audios)
      if (left_ > 0) TRY(transcribes_ ? Transcribe(audio) : Ask(audio, c.question));
    if (!c.text.empty() && left_ > 0) TRY(Cut(c.text));
    if (left_ == c.tokens) return BadInput("the calibration holds nothing to predict; give a longer text or audio");
    return {};
  }

  // The logits of every position that counts, in order.
  Status Read(EachRow each) {
    std::optional<AudioWindows> windows;
    const std::vector<int32_t> none;
    for (const Passage& p : passages_) {
      size_t row = 0;
      const auto counted = [&](std::span<const float> logits) {
        if (row++ >= p.first) each(logits);
      };
      if (transcribes_) {
        if (stop_.load()) return Error{Code::kInterrupted, "interrupted"};
        if (p.opens) windows.emplace(TRY(AudioWindows::Open(engine_, p.audio)));
        TRY(engine_.Hear(TRY(windows->Next()), 0));
        std::vector<int32_t> said;
        decoder_.Greedy(0, p.ids, 0, -1, counted, &said);
        continue;
      }
      session_->Rewind(0);
      const std::vector<std::string> audios(p.audio.empty() ? 0 : 1, p.audio);
      std::vector<std::string> warnings;
      TRY(ReadPrompt(*session_, engine_, p.ids, kAudioPlace, audios, stop_, &warnings, counted));
    }
    return {};
  }

 private:
  // Stretches of the text as long as the context.
  Status Cut(const std::string& path) {
    const File file = TRY(File::Open(path, Code::kBadInput));
    std::string text(std::min(file.size(), kMostText), ' ');
    TRY(file.ReadAt(0, std::as_writable_bytes(std::span(text))));
    std::vector<int32_t> begin, ids;
    TRY(engine_.tokenizer().Encode("", {.add_special = true}, &begin));
    begin.resize(std::min<size_t>(begin.size(), 1));
    TRY(engine_.tokenizer().Encode(text, {}, &ids));
    const auto most = static_cast<size_t>(engine_.model().info().context) - begin.size();
    for (size_t at = 0; at < ids.size() && left_ > 0; at += most) {
      const size_t n = std::min({most, ids.size() - at, static_cast<size_t>(left_)});
      Passage p{"", true, begin, begin.size()};
      p.ids.insert(p.ids.end(), ids.begin() + static_cast<ptrdiff_t>(at), ids.begin() + static_cast<ptrdiff_t>(at + n));
      left_ -= static_cast<int64_t>(n);
      passages_.push_back(std::move(p));
    }
    return {};
  }

  // Every window of an audio with what the model itself writes of it.
  Status Transcribe(const std::string& path) {
    const WhisperTokens& tokens = engine_.tokens();
    AudioWindows windows = TRY(AudioWindows::Open(engine_, path));
    for (bool opens = true; left_ > 0; opens = false) {
      const MelWindow window = TRY(windows.Next());
      if (window.samples.empty()) break;
      TRY(engine_.Hear(window, 0));
      DecodeLane lane;
      lane.prompt = {tokens.sot};
      if (tokens.multilingual) {
        if (!tokens.languages.empty()) lane.prompt.push_back(decoder_.DetectLanguage(0));
        if (tokens.transcribe) lane.prompt.push_back(*tokens.transcribe);
      }
      DecodeLane* lanes[] = {&lane};
      TRY(decoder_.Decode(lanes, engine_.model().info().context, stop_));
      Passage p{path, opens, lane.prompt, lane.prompt.size() - 1};
      const size_t n = std::min(lane.tokens.size(), static_cast<size_t>(left_) - 1);
      p.ids.insert(p.ids.end(), lane.tokens.begin(), lane.tokens.begin() + static_cast<ptrdiff_t>(n));
      left_ -= static_cast<int64_t>(n) + 1;
      passages_.push_back(std::move(p));
    }
    return {};
  }

  // An audio, a question, and what the model itself answers.
  Status Ask(const std::string& path, const std::string& question) {
    const ChatFormat format = TRY(ReadChatFormat(engine_.planned()));
    if (!format.chat_template)
      return Usage(engine_.planned().dir.name + " has no chat template, so it can't be asked about audio; use --text");
    Passage p{path, true, {}, 0};
    const std::string prompt = TRY(format.Render(Json::array({UserMessage(format, question, 1)})));
    TRY(EncodePrompt(engine_.tokenizer(), format, prompt, format.audio_marker, false, &p.ids));
    const std::vector<int32_t> ends = TRY(EndTokens(engine_.planned()));
    std::vector<std::string> warnings;
    session_->Rewind(0);
    const std::vector<std::string> audios = {path};
    const PromptCount count = TRY(ReadPrompt(*session_, engine_, p.ids, kAudioPlace, audios, stop_, &warnings));
    p.first = static_cast<size_t>(count.text + count.audio) - 1;
    while (--left_ > 0 && session_->room() > 0) {
      const std::span<const float> logits = session_->logits();
      const auto id = static_cast<int32_t>(ArgMax(logits.data(), static_cast<int64_t>(logits.size())));
      if (std::find(ends.begin(), ends.end(), id) != ends.end()) break;
      p.ids.push_back(id);
      TRY(session_->Read({&id, 1}, stop_));
    }
    passages_.push_back(std::move(p));
    return {};
  }

  Engine& engine_;
  const std::atomic<bool>& stop_;
  const bool transcribes_;
  WhisperDecoder decoder_;
  std::optional<TextSession> session_;
  std::vector<Passage> passages_;
  int64_t left_ = 0;
};

// A number that looks random, the same everywhere (splitmix64's mixer).
uint64_t Mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

float Wide(DType type, const std::byte* at) {
  float x = 0;
  if (type == DType::kF32) std::memcpy(&x, at, 4);
  if (type == DType::kF16) HalfToFloat(reinterpret_cast<const uint16_t*>(at), 1, &x);
  if (type == DType::kBF16) Bf16ToFloat(reinterpret_cast<const uint16_t*>(at), 1, &x);
  return x;
}

void Narrow(DType type, float x, std::byte* at) {
  if (type == DType::kF32) std::memcpy(at, &x, 4);
  if (type == DType::kF16) FloatToHalf(&x, 1, reinterpret_cast<uint16_t*>(at));
  if (type == DType::kBF16) FloatToBf16(&x, 1, reinterpret_cast<uint16_t*>(at));
}

// A matrix in the arena, with noise in it until it is put back.
class Disturbed {
 public:
  Disturbed(Engine& engine, uint32_t id)
      : threads_(engine.threads()),
        slot_(engine.layout().anatomy->at(id)),
        stored_(engine.layout().plan.recipe[id]),
        id_(id),
        data_(engine.run(kRunning).At(id)),
        bytes_(stored_.bytes.n),
        copy_(engine.run(kRunning)[engine.layout().slots.kept_matrix].data()) {
    std::memcpy(copy_, data_, bytes_);
  }
  Disturbed(const Disturbed&) = delete;
  Disturbed& operator=(const Disturbed&) = delete;
  ~Disturbed() { std::memcpy(data_, copy_, bytes_); }

  // The noise's power relative to the matrix's, near `noise`; 0 where the matrix is all zeros.
  double Add(double noise) {
    const double power = SumOfRows([](std::byte*, float x, uint64_t) { return double{x} * x; });
    if (power == 0) return 0;
    const auto widest = static_cast<float>(std::sqrt(3 * noise * power / static_cast<double>(slot_.Elements())));
    const uint64_t seed = Mixed(id_);
    const double added = SumOfRows([&](std::byte* at, float x, uint64_t index) {
      const float share = static_cast<float>(Mixed(seed ^ index) >> 40) * 0x1p-23F - 1;
      Narrow(stored_.dtype, x + widest * share, at);
      const double difference = double{Wide(stored_.dtype, at)} - x;
      return difference * difference;
    });
    return added / power;
  }

 private:
  // The sum of what `each(place, weight, index)` gives, row by row: the same whatever threads there are.
  template <class Each>
  double SumOfRows(const Each& each) {
    const PanelFormat format{stored_.dtype, stored_.group, nullptr};
    const int64_t rows = slot_.shape[0], k = slot_.shape[1] * slot_.shape[2], group = stored_.group;
    const auto size = static_cast<int64_t>(SizeOf(stored_.dtype));
    std::vector<double> sums(static_cast<size_t>(rows));
    threads_.For(rows, kPanel, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        std::byte* const panel = data_ + static_cast<uint64_t>(r / kPanel) * PanelStride(format, k);
        for (int64_t i = 0; i < k; ++i) {
          std::byte* const at = panel + ((i / group * kPanel + r % kPanel) * group + i % group) * size;
          sums[static_cast<size_t>(r)] += each(at, Wide(stored_.dtype, at), static_cast<uint64_t>(r * k + i));
        }
      }
    });
    return std::accumulate(sums.begin(), sums.end(), 0.0);
  }

  Threads& threads_;
  const Slot& slot_;
  const Stored& stored_;
  uint32_t id_;
  std::byte* data_;
  uint64_t bytes_;
  std::byte* copy_;
};

// Log-probabilities of the clean model, and how far others are from them.
class CleanRows {
 public:
  CleanRows(std::span<std::byte> memory, int64_t vocab_size)
      : n_(vocab_size),
        rows_(reinterpret_cast<float*>(memory.data())),
        most_(memory.size() / sizeof(float) / size() - 1) {}

  void Keep(std::span<const float> logits) {
    CHECK(count_ < most_);
    const float sum = LogSumExp(logits.data(), n_);
    std::transform(logits.begin(), logits.end(), Row(count_++), [sum](float x) { return x - sum; });
  }
  size_t count() const { return count_; }

  // KL(clean row `at` || what these logits say), nats.
  double Divergence(size_t at, std::span<const float> logits) {
    CHECK(at < count_);
    return sotto::Divergence(Row(at), logits.data(), n_, Row(most_));
  }

 private:
  size_t size() const { return static_cast<size_t>(n_); }
  float* Row(size_t i) const { return rows_ + i * size(); }
  int64_t n_;
  float* rows_;
  size_t most_, count_ = 0;
};

}  // namespace

Result<Planned> PlanSensitivity(const ModelDir& dir, PlanRequest request, const Calibration& c) {
  if (c.tokens < 1 || c.tokens > kMostCalibrationTokens)
    return Usage(fmt::format("--tokens {} is not from 1 to {}", c.tokens, kMostCalibrationTokens));
  if (!(c.noise > 0 && c.noise <= 1)) return Usage(fmt::format("--noise {:g} is not above 0 and at most 1", c.noise));
  if (request.resident != "all" || request.mapped)
    return Usage("--resident and --mapped have no effect here: every matrix is disturbed where it lies");
  request.kept_logits = c.tokens;
  request.batch = 1;
  const bool open = request.weights == "auto";
  if (open) request.weights = "fp32";
  if (request.weights != "fp32" && request.weights != "fp16" && request.weights != "bf16")
    return Usage(fmt::format("--weights {}: sensitivities are measured in fp32, fp16 or bf16", request.weights));
  Planned planned = TRY(PlanModel(dir, request));
  const DType stored = planned.stored.dtype;
  if (open && !planned.fits && (stored == DType::kF16 || stored == DType::kBF16)) {
    request.weights = NameOf(WeightKind{stored});
    planned = TRY(PlanModel(dir, request));
  }
  const std::string& type = planned.layout.model->info().type;
  const bool hears = planned.layout.model->info().n_mels > 0;
  if (!hears && !c.audios.empty()) return Usage(dir.name + " reads text only; what it is calibrated with is a text");
  if (hears && c.audios.empty()) return Usage(dir.name + " hears; give audio to calibrate it with");
  if (!hears && c.text.empty()) return Usage(dir.name + " reads; give a text to calibrate it with");
  if (type == "encoder-decoder" && !c.text.empty())
    return Usage(dir.name + " writes what it hears; give audio alone to calibrate it with");
  return planned;
}

Result<Sensitivities> MeasureSensitivity(Engine& engine, const Calibration& c, const std::atomic<bool>& stop,
                                         const std::function<void(double, double)>& progress) {
  Reader reader(engine, stop);
  TRY(reader.Prepare(c));
  CleanRows clean(engine.run(kRunning)[engine.layout().slots.kept_logits], engine.model().info().vocab_size);
  TRY(reader.Read([&](std::span<const float> logits) { clean.Keep(logits); }));
  Sensitivities s{engine.planned().dir.name, static_cast<int64_t>(clean.count()), c.noise, {}};
  const std::span<const Slot> slots = engine.layout().anatomy->slots();
  const auto is_measured = [](const Slot& slot) { return slot.role == Role::kWeight && slot.form == Form::kMatrix; };
  const auto all = static_cast<double>(std::count_if(slots.begin(), slots.end(), is_measured));
  for (uint32_t id = 0; id < slots.size(); ++id) {
    if (!is_measured(slots[id])) continue;
    Disturbed matrix(engine, id);
    const double noise = matrix.Add(c.noise);
    double kl = 0;
    size_t row = 0;
    if (noise > 0) TRY(reader.Read([&](std::span<const float> logits) { kl += clean.Divergence(row++, logits); }));
    kl = std::max(kl, 0.0) / static_cast<double>(clean.count());
    s.tensors.push_back({slots[id].name, noise > 0 ? kl / noise : 0, kl});
    progress(static_cast<double>(s.tensors.size()), all);
  }
  return s;
}

}  // namespace sotto
