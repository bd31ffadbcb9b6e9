// LayerStream: layers that are read from the disk for each pass. A thread of its own reads them in the order in which they pass into the
// ring of the plan (plan/residency.h), ahead of use: while one computes, the next is read.
//
//   LayerStream stream({anatomy, run, layers, tensors, staging});
//   Run passing(anatomy, plan, arena, kGenerate, &stream);      // models take turns (LayerTurn)
//   TRY(stream.status());                                       // behind each pass: a turn that failed ended it
//
// A packed matrix is checked in full when it is read first; later it must have the same checksum, so a file that changes
// meanwhile is an error and never a wrong access.
#pragma once
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "codec/planes.h"
#include "plan/residency.h"
#include "weights/fill.h"

namespace sotto {

class LayerStream : public LayerGate {
 public:
  struct Source {
    const Anatomy& anatomy;
    Run run;
    std::vector<StackLayer> layers;   // as StreamLayers gives them
    std::vector<SlotTensor> tensors;  // of their slots; of codes before their scales
    std::span<std::byte> staging;     // StagingBytes() for one thread
    std::span<std::byte> bounce;      // not empty: files are read past the page cache, through it
  };
  static Result<std::unique_ptr<LayerStream>> Start(Source source);
  ~LayerStream() override;

  bool Enter(Stack stack, int layer) override;
  void Leave(Stack stack, int layer) override;
  Status status() const;

  uint64_t bytes_read() const;
  double seconds_waited() const;  // by passes, for layers

 private:
  enum class State : uint8_t { kFree, kReading, kReady, kComputing };
  struct Place {
    State state = State::kFree;
    size_t layer = 0;  // of layers_
  };
  struct Tensor {
    SlotTensor what;
    PlanesHeader header{};  // of a packed matrix that was checked
    bool checked = false;
  };
  explicit LayerStream(const Source& source);
  void ReadOn();
  size_t After(size_t layer) const;
  std::optional<size_t> Find(Stack stack, int layer) const;  // nothing: it is resident
  Status ReadLayer(size_t layer);
  Status ReadTensor(Tensor* t);

  const Anatomy& anatomy_;
  Run run_;
  std::vector<StackLayer> layers_;
  std::vector<std::vector<Tensor>> tensors_;  // by layer
  std::map<const File*, File> direct_;
  Threads alone_{1};
  SlotFiller filler_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Place, kRingPlaces> places_;
  size_t next_ = 0;  // the layer to be read next
  bool stop_ = false;
  Status status_;
  uint64_t bytes_read_ = 0;
  double waited_ = 0;
  pthread_t thread_{};
  bool running_ = false;
};

}  // namespace sotto
