#include "engine/planning.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <tuple>

#include "audio/stream.h"
#include "audio/window.h"
#include "codec/planes.h"
#include "engine/residence.h"
#include "models/config.h"
#include "plan/machine.h"
#include "text/sampler.h"
#include "text/tokenizer.h"
#include "weights/checkpoint.h"
#include "weights/gguf_config.h"
#include "weights/hub_cache.h"
#include "weights/recipe.h"

namespace sotto {
namespace {

constexpr int kMostThreads = 256;
constexpr uint64_t kBounceBytes = 4 * kMiB;

// The config's own word for its files' precision, when there are no files to look into: at its top, or in one of its parts.
DType PublishedType(const Json& config) {
  const auto in = [](const Json& object) -> std::optional<DType> {
    for (const char* key : {"dtype", "torch_dtype"})
      if (const auto it = object.find(key); it != object.end() && it->is_string()) {
        if (*it == "float16") return DType::kF16;
        if (*it == "bfloat16") return DType::kBF16;
        if (*it == "float32") return DType::kF32;
      }
    return std::nullopt;
  };
  if (const auto type = in(config)) return *type;
  for (const char* part : {"text_config", "thinker_config"})
    if (const auto it = config.find(part); it != config.end() && it->is_object())
      if (const auto type = in(*it)) return *type;
  return DType::kF32;
}

Result<std::unique_ptr<Model>> BuildWhole(const Json& config, const GgufModel* gguf, const Workload& workload,
                                          Anatomy& anatomy) {
  auto model = BuildModel(config, workload, anatomy);
  if (gguf == nullptr) return model;
  if (!model.ok()) return Error{model.error().code, gguf->path() + ", read as a config: " + model.error().message};
  TRY(gguf->AddVision(&anatomy));
  return model;
}

}  // namespace

Result<std::vector<Choice>> Ladder(const PlanRequest& request, const StoredWeights& stored) {
  std::vector<WeightKind> weights;
  if (request.weights == "auto" && !stored.kept.empty()) {
    weights.push_back({DType::kF32, nullptr, true});
  } else if (request.weights == "auto") {
    weights.push_back({stored.dtype});
    if (stored.dtype == DType::kF32) weights.push_back({DType::kF16});
    weights.push_back({DType::kI8});
  } else {
    weights.push_back(TRY(ParseWeightKind(request.weights)));
  }
  std::vector<Choice> ladder;
  for (const WeightKind& w : weights) {
    if (request.kv != "auto") {
      ladder.push_back({w, TRY(ParseKvPolicy(request.kv)), 1});
      continue;
    }
    if (w == WeightKind{DType::kF32}) ladder.push_back({w, DenseKvPolicy(DType::kF32), 1});
    ladder.push_back({w, DenseKvPolicy(DType::kF16), 1});
  }
  return ladder;
}

uint64_t MaxPromptBytes(int64_t context) {
  return std::max<uint64_t>(64 * kKiB, SatMul(8, static_cast<uint64_t>(context)));
}

int64_t WindowContext(const ModelInfo& info, const MelParams& mel) {
  return info.type == "audio-llm" && info.audio_windows != 1 ? mel.n_fft / 2 : 0;
}

namespace {

// Whether the cache can be kept so. Whisper's own is small, and what it hears is read by all its tokens at once.
Status CheckCache(const ModelInfo& info, const Workload& workload) {
  const KvPolicy& kv = *workload.kv;
  if (kv.PageTokens(info.context) == 0) return {};
  if (info.type == "encoder-decoder")
    return Usage(
        fmt::format("--kv {} packs the caches of language models; choose fp32, fp16, bf16 or auto here", kv.name));
  std::vector<KvShape> layers;
  for (const KvLayer& l : info.kv_layers) {
    if (l.latent > 0)
      return Usage(
          fmt::format("--kv {} keeps keys and values, and this model keeps latent vectors; choose fp16", kv.name));
    if (l.heads > 0)
      layers.push_back({l.heads, l.head_dim, info.context, l.v_dim, l.window < info.context ? l.window : 0});
  }
  return kv.Check(layers, workload.sequences * workload.beams);
}

}  // namespace

Result<Layout> LayOut(const Planned& p, const PlanRequest& request, const Choice& choice) {
  Layout l;
  l.choice = choice;
  l.anatomy = std::make_unique<Anatomy>();
  Workload workload{request.context, choice.batch, request.beam, choice.kv, p.threads};
  if (request.audio_seconds > 0) workload.audio_seconds = request.audio_seconds;
  workload.encoder_positions = request.encoder_positions;
  const Scope engine{l.anatomy.get(), "engine."};
  if (request.mapped) {
    l.mapped = PagesOfPlanes(p.stored.kept);
    l.slots.mapped = Table(engine, "mapped", l.mapped.bytes, Role::kMapped);
  }
  l.model = TRY(BuildWhole(p.config, p.gguf.get(), workload, *l.anatomy));
  TRY(CheckCache(l.model->info(), workload));
  if (request.tp > 1) l.anatomy->KeepOneRank(request.tp);
  const bool hears = l.model->info().n_mels > 0, streams = choice.streamed > 0,
             widened = p.gguf != nullptr || p.stored.dtype == DType::kI8;
  l.slots.staging =
      Table(engine.During(kLoad), "staging", StagingBytes(*l.anatomy, p.threads, widened), Role::kStaging);
  if (streams)
    l.slots.stream_staging =
        Table(engine.During(kRunning), "stream_staging", StagingBytes(*l.anatomy, 1, widened), Role::kStaging);
  if (streams && request.direct)
    l.slots.bounce = Table(engine.During(kRunning), "bounce", kBounceBytes + kPage, Role::kStaging);
  l.slots.scratch = Table(engine.During(kRunning), "scratch",
                          CpuScratchBytes(ScratchOf(*l.anatomy, *l.model, *choice.kv, p.threads)).n, Role::kActivation);
  l.slots.tokenizer = Table(engine, "tokenizer", p.tokenizer_bytes);
  if (l.model->info().type != "encoder-decoder")
    l.slots.sampler = Table(engine.During(kRunning), "sampler", Sampler::MemoryBytes(l.model->info().vocab_size));
  if (hears) {
    l.slots.mel_tables = Table(engine, "mel_tables", LogMel::TableBytes(p.mel).n, Role::kAudio);
    l.slots.mel_scratch =
        Table(engine.During(kEncode), "mel_scratch", LogMel::ScratchBytes(p.mel, p.threads).n, Role::kAudio);
  }
  for (int64_t i = 0; hears && i < choice.batch; ++i) {
    const std::string number = std::to_string(i);
    l.slots.stream.emplace_back(engine.During(kRunning), "stream." + number, AudioStream::BufferBytes(), Role::kAudio);
    l.slots.window.emplace_back(
        engine.During(kRunning), "window." + number,
        SlidingWindow::MemorySamples(p.mel.n_samples, WindowContext(l.model->info(), p.mel)) * sizeof(float),
        Role::kAudio);
  }
  if (request.kept_logits > 0) {
    const auto row = static_cast<uint64_t>(l.model->info().vocab_size) * sizeof(float);
    l.slots.kept_logits =
        Table(engine, "kept_logits", SatMul(static_cast<uint64_t>(request.kept_logits) + 1, row), Role::kActivation);
    uint64_t matrix = 0;
    for (const Slot& s : l.anatomy->slots())
      if (s.form == Form::kMatrix) matrix = std::max(matrix, PanelBytes({}, s.shape[0], s.shape[1] * s.shape[2]).n);
    l.slots.kept_matrix = Table(engine, "kept_matrix", matrix, Role::kActivation);
  }
  Bytes runtime = RuntimeBound(p.threads + (streams ? 1 : 0), hears ? static_cast<int>(choice.batch) : 0);
  if (const ModelInfo& info = l.model->info(); info.type != "encoder-decoder")
    runtime += Bytes{RoundUp(SatMul(kPromptHeap, MaxPromptBytes(info.context)), kMiB)};
  Recipe recipe = MakeRecipe(*l.anatomy, choice.weights, p.isa);
  if (choice.weights.as_stored) KeepStored(*l.anatomy, p.stored.kept, p.isa, &recipe);
  if (request.mapped) MapPlanes(*l.anatomy, p.stored.kept, l.slots.mapped.id, l.mapped, &recipe);
  l.stack_layers = CountStackLayers(*l.anatomy);
  l.streamed = StreamLayers(l.anatomy.get(), &recipe, choice.streamed);
  l.plan = Plan(*l.anatomy, std::move(recipe), runtime);
  return l;
}

namespace {

// What the front end is told by preprocessor_config.json; the published defaults (WhisperFeatureExtractor) where there is none.
Result<MelParams> ReadMel(const ModelDir& dir, const Model& model) {
  const ModelInfo& info = model.info();
  MelParams mel;
  if (info.n_mels == 0) return mel;
  mel.n_mels = info.n_mels;
  mel.n_samples = info.n_frames * mel.hop;
  if (!model.runs()) return mel;  // its front end may be another
  const std::string path = dir.path.empty() ? "" : dir.path + "/preprocessor_config.json";
  TRY(LogMel::Check(mel));
  if (path.empty() || !FileExists(path)) return mel;
  const Json j = TRY(ReadJson(path, Code::kBadModel));
  const std::pair<const char*, int64_t> fixed[] = {{"n_fft", mel.n_fft},
                                                   {"hop_length", mel.hop},
                                                   {"sampling_rate", kSampleRate},
                                                   {"feature_size", mel.n_mels},
                                                   {"n_samples", mel.n_samples}};
  for (const auto& [key, value] : fixed) {
    const int64_t given = TRY(ConfigInt(j, key, 1, INT64_MAX, value));
    if (given != value)
      return BadModel(fmt::format(
          "preprocessor_config.json: '{}' is {}, but the model's config.json and architecture need {}; take both "
          "files from the same page",
          key, given, value));
  }
  return mel;
}

// The headers decide; without any, the config's word.
Result<StoredWeights> StoredIn(Planned& p, const Model& model, const Anatomy& anatomy) {
  const std::string quantization = QuantizationOf(p.config);
  const bool strict =
      model.info().type == "encoder-decoder" || (p.files && (p.files->holds_int8() || p.files->holds_packed()));
  if (p.files && strict && quantization.empty()) return CheckHeaders(*p.files, p.parts, anatomy);
  if (p.files) return MatchHeaders(*p.files, anatomy, quantization);
  StoredWeights stored;
  stored.dtype = PublishedType(p.config);
  stored.format = quantization;
  if (quantization.empty() || p.request.weights != "auto") return stored;
  if (!p.dir.from_catalog)
    return BadModel(fmt::format(
        "{} says that its weights are {}, which only the headers of its .safetensors files can count, and there are "
        "none here; fetch them with sotto pull, or pass --weights bf16 (or another precision) to plan that",
        p.dir.config_path, quantization));
  p.notes.push_back(
      fmt::format("published as {}, planned as {}: the catalogue holds no headers to count packed weights by",
                  quantization, NameOf(stored.dtype)));
  return stored;
}

// Whether matrices can be used where they lie: as `sotto pack` leaves them in its one file.
Status CheckMapped(const Planned& p) {
  const PlanRequest& r = p.request;
  if (r.resident != "all" || r.direct)
    return Usage(
        "--mapped leaves matrices in the file, and --resident and --direct read them into memory: leave one of the "
        "two out");
  if (r.weights != "auto")
    return Usage(
        fmt::format("--mapped takes weights as the file holds them: leave --weights {} out", r.weights.substr(0, 40)));
  if (!p.files || p.stored.format != "packed")
    return Usage(fmt::format(
        "--mapped uses what `sotto pack` has made, and {} holds {} weights, which loading converts: pack it first, or "
        "leave --mapped out",
        p.dir.name, p.stored.Name()));
  const bool one = p.files->count() == 1 && std::none_of(p.parts.begin(), p.parts.end(),
                                                         [](const NamedPart& part) { return part.files.has_value(); });
  if (one && std::all_of(p.stored.kept.begin(), p.stored.kept.end(),
                         [](const Kept& k) { return !k.planes || k.offset % kPlanesAlign == 0; }))
    return {};
  return Usage(
      fmt::format("{} was packed by an older sotto, and its matrices can't be used where they lie in the file: pack "
                  "the model again, or leave --mapped out",
                  p.dir.name));
}

// An audio half is never taken unasked: which of several belongs to a model, names don't tell.
void NoteAudioHalf(const ModelDir& dir, std::vector<std::string>* notes) {
  for (const std::string& name : ListDirectory(dir.path))
    if (name.starts_with("mmproj") && name.ends_with(".gguf"))
      notes->push_back(
          fmt::format("{0}/{1} lies beside it and is not counted; with it: --mmproj {0}/{1}", dir.path, name));
}

}  // namespace

std::string WeightsName(const Planned& planned, const Choice& choice) {
  return choice.weights.as_stored ? planned.stored.format : NameOf(choice.weights);
}

ScratchNeed ScratchOf(const Anatomy& anatomy, const Model& model, const KvPolicy& kv, int threads) {
  ScratchNeed need{threads, 1, static_cast<int>(model.info().head_dim)};
  need.page_tokens = kv.PageTokens(model.info().context);
  for (const KvLayer& l : model.info().kv_layers) need.kv_heads = std::max(need.kv_heads, static_cast<int>(l.heads));
  need.heads = static_cast<int>(model.info().heads);
  for (const Slot& s : anatomy.slots())
    if (s.form == Form::kMatrix) need.in = std::max(need.in, s.shape[1] * s.shape[2]);
  return need;
}

namespace {

// What --resident says.
struct Residents {
  std::optional<int> layers;  // so many
  bool as_fit = false;
};
Result<Residents> ParseResidents(const std::string& text) {
  if (text == "all") return Residents{};
  if (text == "auto") return Residents{{}, true};
  int layers = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layers);
  if (error != std::errc() || end != text.data() + text.size() || layers < 0)
    return Usage(fmt::format("--resident {} is not all, auto or a number of layers", text.substr(0, 40)));
  return Residents{layers, false};
}

Result<int> StreamedOf(const Planned& p, const PlanRequest& request, const Choice& choice, int resident) {
  const int all = TRY(LayOut(p, request, choice)).stack_layers;
  if (resident > all)
    return Usage(fmt::format("--resident {}: {} has {} layers that could be read from the disk; pass fewer, or all",
                             resident, p.dir.name, all));
  return all - resident;
}

// The fewest layers that must be read in every pass for `choice` to fit, when nothing fits without.
Status StreamToFit(Choice choice, Planned* p) {
  Choice none = choice;  // of the layers is resident
  none.streamed = TRY(LayOut(*p, p->request, choice)).stack_layers;
  p->smallest = std::min(p->smallest, TRY(LayOut(*p, p->request, none)).plan.total);
  if (p->fits) return {};
  Layout l = TRY(LayOutToFit(*p, p->request, choice, p->budget));
  p->fits = l.plan.total <= p->budget;
  if (p->fits || l.plan.total < p->layout.plan.total) p->layout = std::move(l);
  return {};
}

}  // namespace

uint64_t Layout::StreamedBytes(Stack stack) const {
  uint64_t sum = 0;
  for (const StackLayer& s : streamed)
    if (s.stack == stack) sum += s.bytes;
  return sum;
}

Result<Planned> PlanModel(const ModelDir& dir, const PlanRequest& request) {
  Planned p;
  p.dir = dir;
  if (!dir.gguf_path.empty()) {
    p.gguf = std::make_shared<const GgufModel>(TRY(GgufModel::Open(dir.gguf_path, dir.mmproj_path)));
    if (dir.mmproj_path.empty()) NoteAudioHalf(dir, &p.notes);
  } else if (!dir.mmproj_path.empty()) {
    return Usage("--mmproj goes with a .gguf file, whose audio half it is; a directory holds both");
  }
  const GgufModel* const gguf = p.gguf.get();
  p.config = gguf != nullptr ? gguf->config() : TRY(ReadConfig(dir));
  if (!p.config.is_object()) return BadModel("config.json is not an object; take it from the model's own page");
  p.isa = TRY(DetectIsa());
  if (request.threads < 0 || request.threads > kMostThreads)
    return Usage(fmt::format("--threads {} is not from 1 to {}", request.threads, kMostThreads));
  p.threads = request.threads > 0 ? request.threads : Threads::Available();
  if (request.beam < 1 || request.beam > kMostSequences)
    return Usage(fmt::format("--beam {} is not from 1 to {}", request.beam, kMostSequences));
  if (request.tp < 1 || request.tp > 1024) return Usage(fmt::format("--tp {} is not from 1 to 1024", request.tp));
  if (!(request.audio_seconds >= 0 && request.audio_seconds <= kMostAudioSeconds))
    return Usage(fmt::format("--audio-seconds {} is not from 0 to {}", request.audio_seconds, kMostAudioSeconds));
  if (request.batch < 0 || request.batch > kMostSequences)
    return Usage(fmt::format("--batch {} is not from 1 to {}", request.batch, kMostSequences));
  p.request = request;
  {  // headers against the config, before anything depends on either
    Anatomy anatomy;
    Workload least{0, 1, 1, DenseKvPolicy(DType::kF32), 1};
    if (request.audio_seconds > 0)
      least.audio_seconds = request.audio_seconds;  // thirty may not fit the model's context
    const std::unique_ptr<Model> model = TRY(BuildWhole(p.config, gguf, least, anatomy));
    p.mel = TRY(ReadMel(dir, *model));
    if (const int64_t positions = request.encoder_positions; positions != 0) {
      if (model->info().type != "encoder-decoder")
        return Usage(
            "--encoder-seq-length has no effect here: only an encoder-decoder's cross-attention reads encoder "
            "positions; --audio-seconds says how much audio joins the sequence");
      if (positions < 1 || positions > model->info().audio_positions)
        return Usage(fmt::format("--encoder-seq-length {} is not from 1 to the {} positions that this encoder has",
                                 positions, model->info().audio_positions));
      p.mel.n_samples = 2 * positions * p.mel.hop;
    }
    if (gguf == nullptr && dir.has_weights) {
      p.files = TRY(ModelFiles::Open(dir.path));
      p.parts = TRY(OpenParts(p.config));
    }
    p.stored = gguf != nullptr ? TRY(gguf->Match(anatomy)) : TRY(StoredIn(p, *model, anatomy));
    if (request.mapped) TRY(CheckMapped(p));
    if (request.context < 0 || request.context > model->info().max_context)
      return Usage(fmt::format("--context {} is not from 1 to the {} positions that this model was published for",
                               request.context, model->info().max_context));
    if (request.tokenizer) {
      if (gguf != nullptr) {
        Result<TokenizerSize> size = Tokenizer::Measure(gguf->text());
        if (size.ok())
          p.tokenizer = *size;
        else
          p.no_tokenizer = size.error().message;  // it can be planned all the same
      } else if (!dir.path.empty() && HasTokenizer(dir.path)) {
        p.tokenizer = TRY(Tokenizer::Measure(dir.path));
      } else {
        p.no_tokenizer = dir.path + " has no tokenizer beside its weights; fetch it from the model's own page";
      }
      p.tokenizer_bytes =
          p.tokenizer ? p.tokenizer->bytes() : Tokenizer::BytesBound(static_cast<uint64_t>(model->info().vocab_size));
    }
  }
  const Bytes available = AvailableMemory();
  p.budget = request.budget.value_or(available);
  const int64_t least_batch = std::max<int64_t>(request.batch, 1);

  const bool unbounded = request.unbounded && !request.budget;
  std::vector<Choice> ladder = TRY(Ladder(request, p.stored));
  const Residents residents = TRY(ParseResidents(request.resident));
  p.smallest = Bytes{UINT64_MAX};
  for (Choice& choice : ladder) {
    choice.batch = least_batch;
    if (residents.layers) choice.streamed = TRY(StreamedOf(p, request, choice, *residents.layers));
    Layout l = TRY(LayOut(p, request, choice));
    const bool smaller = l.plan.total < p.smallest;
    p.smallest = std::min(p.smallest, l.plan.total);
    if (unbounded) {  // the question is how much, not whether: the first choice is the answer
      if (p.layout.model != nullptr) continue;
      p.fits = l.plan.total <= p.budget;
      p.layout = std::move(l);
    } else if (!p.fits && l.plan.total <= p.budget) {
      p.fits = true;
      p.layout = std::move(l);
    } else if (!p.fits) {
      p.rejected.push_back(choice);
      if (smaller) p.layout = std::move(l);
    }
  }
  // The smallest weights are read in the least time.
  if (residents.as_fit && !unbounded) TRY(StreamToFit(ladder.back(), &p));
  if (!p.fits && !residents.as_fit && !residents.layers && !request.mapped) {
    Choice least = ladder.back();
    least.streamed = p.layout.stack_layers;
    p.smallest_streamed = TRY(LayOut(p, request, least)).plan.total;
  }
  // The batch grows within the precision already chosen.
  for (int64_t batch = least_batch + 1;
       p.fits && request.batch == 0 && batch <= std::min(request.useful_batch, kMostSequences); ++batch) {
    Choice more = p.layout.choice;
    more.batch = batch;
    Layout l = TRY(LayOut(p, request, more));
    if (l.plan.total > p.budget) break;
    p.layout = std::move(l);
  }
  return p;
}

Error Refusal(const Planned& planned) {
  CHECK(!planned.fits);
  Error e{Code::kOverBudget, ""};
  e.required_bytes = planned.layout.plan.total.n;
  e.budget_bytes = planned.budget.n;
  e.smallest_budget_bytes = planned.smallest.n;
  e.message = fmt::format(
      "{} does not fit in {} bytes ({}): {} bytes are missing; the smallest budget that works is {} bytes ({}), with "
      "{} weights and "
      "{} cache: pass --memory {}",
      planned.dir.name, planned.budget.n, Human(planned.budget), planned.smallest.n - planned.budget.n,
      planned.smallest.n, Human(planned.smallest), WeightsName(planned, planned.layout.choice),
      planned.layout.choice.kv->name, planned.smallest.n);
  if (planned.smallest_streamed.n != 0 && planned.smallest_streamed < planned.smallest && planned.layout.model->runs())
    e.message += fmt::format("; or {} with --resident auto, which reads layers from the disk as they are needed",
                             planned.smallest_streamed.n);
  return e;
}

}  // namespace sotto
