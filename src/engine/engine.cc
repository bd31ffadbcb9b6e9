#include "engine/engine.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>

#include "base/try_for.h"
#include "codec/ggml_blocks.h"
#include "plan/machine.h"
#include "weights/stream.h"

namespace sotto {

namespace {

// Blocks that the files don't hold are made while loading.
Status CheckWritable(const Planned& planned) {
  const WeightKind& weights = planned.layout.choice.weights;
  if (weights.as_stored) return {};
  if (planned.stored.format == "packed")
    return Usage(fmt::format("{} holds packed weights, which run as they are; leave --weights {} out", planned.dir.name,
                             NameOf(weights)));
  if (!planned.gguf && planned.stored.dtype == DType::kI8 && weights != WeightKind{DType::kI8})
    return Usage(fmt::format("{} holds int8 weights, which run as they are; leave --weights {} out", planned.dir.name,
                             NameOf(weights)));
  for (const Stored& s : planned.layout.plan.recipe)
    if (s.blocks != nullptr) TRY(QuantizerOf(*s.blocks));
  return {};
}

}  // namespace

Engine::Engine() = default;
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::Open(Planned planned, const std::function<bool(uint64_t, uint64_t)>& progress) {
  if (!planned.layout.model->runs())
    return BadModel(fmt::format("{} can be planned, not run: {}; `sotto plan` answers for it", planned.dir.name,
                                planned.layout.model->info().not_run));
  if (!planned.stored.kept.empty() && !planned.gguf && planned.stored.format != "packed")
    return BadModel(fmt::format("{} holds {} weights, which can be planned, but not run in this version",
                                planned.dir.name, planned.stored.format));
  TRY(CheckWritable(planned));
  if (!planned.fits) return Refusal(planned);
  if (!planned.files && !planned.gguf)
    return BadModel(planned.dir.name + " has a published config but no weights here; fetch them with: sotto pull " +
                    planned.dir.name);
  const Anatomy& anatomy = *planned.layout.anatomy;
  if (planned.gguf)
    TRY(CheckLoadable(*planned.gguf, anatomy));
  else
    TRY(CheckHeaders(*planned.files, planned.parts, anatomy));  // planning takes other tools' names for tensors, too
  if (planned.request.tokenizer && !planned.tokenizer) return BadModel(planned.no_tokenizer);
  std::unique_ptr<Engine> e(new Engine());
  e->planned_ = std::move(planned);
  TRY(e->Fill(progress));
  return e;
}

namespace {
std::span<std::byte> WholePages(std::span<std::byte> memory) {
  const uint64_t skip =
      RoundUp(reinterpret_cast<uintptr_t>(memory.data()), kPage) - reinterpret_cast<uintptr_t>(memory.data());
  return memory.subspan(skip, (memory.size() - skip) / kPage * kPage);
}
}  // namespace

Status Engine::Fill(const std::function<bool(uint64_t, uint64_t)>& progress) {
  const EngineSlots& slots = layout().slots;
  arena_ = TRY(Arena::Map(layout().plan.arena));
  if (const FilePages pages = layout().mapped; pages.bytes > 0)
    TRY(arena_.MapFile(layout().plan.at[slots.mapped.id].offset, planned_.files->file(0), pages.begin, pages.bytes));
  threads_ = std::make_unique<Threads>(planned_.threads);
  // The tokenizer is read beside the weights: while one waits for the disk, the other computes.
  Status tokenizer_read;
  Aside tokenizer(planned_.tokenizer && planned_.threads > 1, [&] { tokenizer_read = ReadTokenizer(); });
  TRY(TakeMemory());
  if (model().info().n_mels > 0) mel_.emplace(TRY(LogMel::Create(planned_.mel, run(kLoad)[slots.mel_tables])));
  const Anatomy& anatomy = *layout().anatomy;
  const auto staging = run(kLoad)[slots.staging];
  std::vector<SlotTensor> streamed;
  if (planned_.gguf)
    TRY(LoadWeights(*planned_.gguf, anatomy, run(kLoad), staging, *threads_, &streamed, progress));
  else
    TRY(LoadWeights(*planned_.files, planned_.parts, anatomy, run(kLoad), staging, *threads_, &streamed, progress));
  tokenizer.Join();
  TRY(std::move(tokenizer_read));
  ops_ = MakeCpuBackend(planned_.isa, threads_.get(),
                        ScratchOf(*layout().anatomy, *layout().model, *layout().choice.kv, planned_.threads),
                        run(kRunning)[slots.scratch]);
  if (layout().streamed.empty()) return {};
  std::span<std::byte> bounce;
  if (planned_.request.direct) bounce = WholePages(run(kRunning)[slots.bounce]);
  stream_ = TRY(LayerStream::Start(
      {anatomy, run(kRunning), layout().streamed, std::move(streamed), run(kRunning)[slots.stream_staging], bounce}));
  gate_ = stream_.get();
  return {};
}

Status Engine::passed() const { return stream_ == nullptr ? Status() : stream_->status(); }

Status Engine::ReadTokenizer() {
  if (!planned_.tokenizer) return {};
  const std::span<std::byte> memory = run(kLoad)[layout().slots.tokenizer].first(planned_.tokenizer_bytes);
  tokenizer_ = planned_.gguf ? TRY(Tokenizer::Open(planned_.gguf->text(), *planned_.tokenizer, memory))
                             : TRY(Tokenizer::Open(planned_.dir.path, *planned_.tokenizer, memory));
  if (model().info().type != "encoder-decoder") return {};
  Json generation;
  const std::string path = planned_.dir.path + "/generation_config.json";
  if (FileExists(path)) generation = TRY(ReadJson(path, Code::kBadModel));
  tokens_ = TRY(ReadWhisperTokens(planned_.config, generation, *tokenizer_));
  return {};
}

// All pages but those of the file at once, by all threads: zeroing them is as much work as reading them from the page cache.
Status Engine::TakeMemory() {
  constexpr uint64_t kPiece = 32 * kMiB;
  const uint64_t first = layout().mapped.bytes;
  const auto pieces = static_cast<int64_t>((arena_.size().n - first + kPiece - 1) / kPiece);
  return TryFor(*threads_, pieces, 1, [&](int64_t begin, int64_t end, int) {
    return arena_.Take(first + static_cast<uint64_t>(begin) * kPiece, static_cast<uint64_t>(end - begin) * kPiece);
  });
}

View Engine::ComputeMel(const MelWindow& window, float* largest) {
  const View mel = model().Mel(run(kEncode), static_cast<int64_t>(window.samples.size()));
  const float own = mel_->Compute(window, mel, run(kEncode)[layout().slots.mel_scratch], threads_.get());
  if (largest != nullptr) *largest = own;
  return mel;
}

Result<View> Engine::Hear(const MelWindow& window, int32_t sequence) {
  ComputeMel(window);
  const View heard = model().Encode(*ops_, run(kEncode), static_cast<int64_t>(window.samples.size()), sequence);
  TRY(passed());
  return heard;
}

namespace {

// Which pages of the arena are resident (mincore), one entry a page.
std::vector<unsigned char> ResidentPages(const Arena& arena) {
  std::vector<unsigned char> pages((arena.size().n + kPage - 1) / kPage);
  if (::mincore(arena.base(), arena.size().n, pages.data()) != 0) std::fill(pages.begin(), pages.end(), 1);
  return pages;
}

uint64_t ResidentBytes(const std::vector<unsigned char>& pages, uint64_t offset, uint64_t bytes) {
  uint64_t resident = 0;
  for (uint64_t at = offset, end = offset + bytes; at < end;) {
    const uint64_t next = std::min(end, (at / kPage + 1) * kPage);
    if ((pages[at / kPage] & 1U) != 0) resident += next - at;
    at = next;
  }
  return resident;
}

}  // namespace

Ledger MakeLedger(const Engine& engine) {
  const MemoryPlan& plan = engine.layout().plan;
  const Anatomy& anatomy = *engine.layout().anatomy;
  Ledger ledger;
  ledger.planned = plan.total;
  ledger.peak = PeakResident();
  ledger.error = static_cast<double>(ledger.planned.n) / static_cast<double>(std::max<uint64_t>(ledger.peak.n, 1)) - 1;
  if (const KvStore* cache = engine.planned().layout.model->cache()) ledger.cache = cache->Use();
  const std::vector<unsigned char> pages = ResidentPages(engine.arena());
  const std::pair<const char*, std::vector<Role>> groups[] = {{"weights", {Role::kWeight, Role::kRing}},
                                                              {"mapped", {Role::kMapped}},
                                                              {"kv_cache", {Role::kKv}},
                                                              {"activations", {Role::kActivation, Role::kStaging}},
                                                              {"audio", {Role::kAudio}},
                                                              {"tables", {Role::kTable}}};
  for (const auto& [name, roles] : groups) {
    LedgerRow row{name, {}, {}};  // what is live in the peak phase, so that rows add up to the whole
    for (uint32_t id = 0; id < plan.at.size(); ++id) {
      const Slot& slot = anatomy.at(id);
      if ((slot.live & (1 << plan.peak_phase)) == 0 || std::find(roles.begin(), roles.end(), slot.role) == roles.end())
        continue;
      row.planned += Bytes{plan.at[id].bytes};
      row.actual += Bytes{ResidentBytes(pages, plan.at[id].offset, plan.at[id].bytes)};
    }
    if (row.planned.n > 0 || roles[0] != Role::kMapped) ledger.rows.push_back(row);
  }
  const uint64_t arena = ResidentBytes(pages, 0, engine.arena().size().n);
  ledger.rows.push_back({"process", plan.runtime, Bytes{ledger.peak.n > arena ? ledger.peak.n - arena : 0}});
  return ledger;
}

}  // namespace sotto
