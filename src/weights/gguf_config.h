// What a GGUF file says of its model: its settings as a config.json of Hugging Face's kind, which models are built from, and its
// tensors as the slots of the anatomy that was built. An mmproj file beside it is the audio half.
//
//   GgufModel gguf = TRY(GgufModel::Open("model.gguf", "mmproj.gguf"));
//   model = TRY(BuildModel(gguf.config(), workload, anatomy));
//   gguf.AddVision(anatomy);
//   StoredWeights stored = TRY(gguf.Match(anatomy));
//
// Settings of what is never run (expert routing) are not read.
#pragma once
#include <optional>
#include <string>

#include "weights/gguf.h"
#include "weights/gguf_names.h"
#include "weights/stored.h"

namespace sotto {

class GgufModel {
 public:
  // `mmproj`: "" for a language model alone. kBadModel for a damaged file, and for an architecture or projector that isn't mapped.
  static Result<GgufModel> Open(const std::string& path, const std::string& mmproj);

  const Json& config() const { return config_; }
  const GgufFiles& text() const { return text_; }  // the language model's
  const std::string& path() const { return text_.file(0).path(); }
  uint64_t vocabulary() const { return vocabulary_; }  // tokens that the file lists, or rows of its embedding

  // A vision encoder in the mmproj file, as one slot a tensor: counted, since the file holds it, and never run here.
  Status AddVision(Anatomy* anatomy) const;
  // Every weight slot has its tensors, of its shape, and no tensor is left over: else kBadModel naming the tensor and both
  // numbers. The slots' bytes are those of their tensors.
  Result<StoredWeights> Match(const Anatomy& anatomy) const;
  // Where the tensor of each weight slot lies, in the files' order. REQUIRES: Match succeeded, and no slot is of several tensors.
  Status ForEachWeight(const Anatomy& anatomy, FunctionRef<Status(uint32_t slot, const WeightOrigin&)> visit) const;

 private:
  Status OpenAudio(const std::string& path);

  GgufFiles text_;
  std::optional<GgufFiles> audio_;
  const GgufFamily* text_names_ = nullptr;
  const GgufFamily* audio_names_ = nullptr;
  Json config_;
  uint64_t vocabulary_ = 0;
};

}  // namespace sotto
