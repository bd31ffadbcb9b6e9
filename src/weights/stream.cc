#include "weights/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/thread.h"

namespace sotto {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

LayerStream::LayerStream(const Source& s)
    : anatomy_(s.anatomy),
      run_(s.run),
      layers_(s.layers),
      tensors_(s.layers.size()),
      filler_(s.anatomy, s.run, s.staging, alone_) {}

Result<std::unique_ptr<LayerStream>> LayerStream::Start(Source source) {
  std::unique_ptr<LayerStream> s(new LayerStream(source));
  for (SlotTensor& t : source.tensors) {
    const Slot& slot = s->anatomy_.at(t.id);
    const std::optional<size_t> layer = s->Find(slot.stack, slot.layer);
    CHECK(layer.has_value());
    const File* const file = t.origin.file;
    if (!source.bounce.empty() && !s->direct_.contains(file))
      s->direct_.emplace(file, TRY(file->Direct(source.bounce)));
    if (!source.bounce.empty()) t.origin.file = &s->direct_.at(file);
    s->tensors_[*layer].push_back({t, {}, false});
  }
  const auto main = [](void* self) -> void* {
    static_cast<LayerStream*>(self)->ReadOn();
    return nullptr;
  };
  s->running_ = StartThread(main, s.get(), &s->thread_);
  if (!s->running_)
    return Error{Code::kFailed, "the system gives no thread to read layers with; raise its limit (ulimit -u)"};
  return s;
}

LayerStream::~LayerStream() {
  if (!running_) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  pthread_join(thread_, nullptr);
}

// A stack passes again and again: what follows its last layer is its first.
size_t LayerStream::After(size_t layer) const {
  const Stack stack = layers_[layer].stack;
  if (layer + 1 < layers_.size() && layers_[layer + 1].stack == stack) return layer + 1;
  return static_cast<size_t>(
      std::find_if(layers_.begin(), layers_.end(), [&](const StackLayer& l) { return l.stack == stack; }) -
      layers_.begin());
}

// The reader: the next layer, as soon as its place is free.
void LayerStream::ReadOn() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto place = [&]() -> Place& { return places_[static_cast<size_t>(layers_[next_].place)]; };
    changed_.wait(lock, [&] { return stop_ || (status_.ok() && place().state == State::kFree); });
    if (stop_) return;
    const size_t layer = next_;
    Place& into = place();
    into = {State::kReading, layer};
    next_ = After(layer);
    lock.unlock();
    Status read = ReadLayer(layer);
    lock.lock();
    into.state = read.ok() ? State::kReady : State::kFree;
    if (read.ok()) bytes_read_ += layers_[layer].bytes;
    if (status_.ok()) status_ = std::move(read);
    changed_.notify_all();
  }
}

bool LayerStream::Enter(Stack stack, int layer) {
  const std::optional<size_t> wanted = Find(stack, layer);
  if (!wanted) return true;
  std::unique_lock lock(mutex_);
  const double begin = Now();
  Place& place = places_[static_cast<size_t>(layers_[*wanted].place)];
  for (;;) {
    if (!status_.ok()) return false;
    if (place.state == State::kReady && place.layer == *wanted) break;
    CHECK(place.state != State::kComputing);  // one layer computes at a time
    const bool coming = (place.state == State::kReading && place.layer == *wanted) || next_ == *wanted;
    if (!coming || place.state == State::kReady) {  // another stack's turn, or behind a pass that ended early
      next_ = *wanted;
      for (Place& p : places_)
        if (p.state == State::kReady) p.state = State::kFree;
      changed_.notify_all();
    }
    changed_.wait(lock);
  }
  place.state = State::kComputing;
  waited_ += Now() - begin;
  return true;
}

void LayerStream::Leave(Stack stack, int layer) {
  const std::optional<size_t> left = Find(stack, layer);
  if (!left) return;
  {
    const std::lock_guard lock(mutex_);
    places_[static_cast<size_t>(layers_[*left].place)].state = State::kFree;
  }
  changed_.notify_all();
}

std::optional<size_t> LayerStream::Find(Stack stack, int layer) const {
  for (size_t i = 0; i < layers_.size(); ++i)
    if (layers_[i].stack == stack && layers_[i].layer == layer) return i;
  return std::nullopt;
}

Status LayerStream::ReadLayer(size_t layer) {
  for (Tensor& t : tensors_[layer]) TRY(ReadTensor(&t));
  return {};
}

Status LayerStream::ReadTensor(Tensor* t) {
  const auto& [id, piece, origin] = t->what;
  if (piece != Piece::kPlanes) return filler_.Fill(t->what);
  const std::byte* const data = run_.At(id);
  if (!t->checked) {
    TRY(filler_.Fill(t->what));
    std::memcpy(&t->header, data, sizeof t->header);
    t->checked = true;
    return {};
  }
  TRY(filler_.ReadPlanes(id, origin));
  if (std::memcmp(data, &t->header, sizeof t->header) == 0 &&
      PlanesChecksum({data, static_cast<size_t>(origin.bytes)}) == t->header.checksum)
    return {};
  return BadModel(fmt::format("{} changed while it was read; fetch it again", origin.file->path()));
}

Status LayerStream::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}
uint64_t LayerStream::bytes_read() const {
  const std::lock_guard lock(mutex_);
  return bytes_read_;
}
double LayerStream::seconds_waited() const {
  const std::lock_guard lock(mutex_);
  return waited_;
}

}  // namespace sotto
