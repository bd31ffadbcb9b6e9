// Model: an architecture's slots and, where sotto can run it, its forward pass over them. One file an architecture,
// self-registered.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "kv/workload.h"
#include "ops/backend.h"
#include "plan/arena.h"

namespace sotto {

// What a decoder layer makes of each position. sotto's own caches are slots; other engines keep it by rules of their own.
struct KvLayer {
  int64_t heads = 0, head_dim = 0, v_dim = 0;  // of keys and values; no heads: it reads an earlier layer's
  int64_t window = 0;                          // positions that it sees; 0: all
  int64_t latent = 0, rope = 0;                // MLA: numbers a position that stand for keys and values; 0: none
  int64_t Elements() const { return latent > 0 ? latent + rope : heads * (head_dim + v_dim); }
};

// What callers must know of a model, with the config's published names.
struct ModelInfo {
  std::string type;                                          // encoder-decoder, audio-llm, decoder
  std::string not_run = "this version does not compute it";  // why it can only be planned; "" when it runs
  int64_t d_model = 0, head_dim = 0, vocab_size = 0;         // head_dim: the largest of its attentions
  int64_t context = 0;                                       // decoder positions that this instance can hold
  int64_t n_mels = 0, n_frames = 0;                          // of one audio window; 0 without an encoder
  int64_t audio_windows = 0;                                 // of one audio that the model hears at most; 0: any number
  int64_t audio_positions = 0;                               // encoder states of one window
  int64_t max_context = 0;                                   // positions that the model was published for
  int64_t audio_tokens = 0;                                  // that the workload's audio adds to the decoder's sequence
  int64_t kv_bytes_per_token = 0;                            // growth of the decoder's cache, all layers, one sequence
  int64_t kv_bytes_per_token_beyond_window = 0;              // the same once the sliding windows are full
  int64_t encoder_kv_formula_elements = 0;  // keys and values of all encoder layers: transient, never a cache
  std::string_view text_type;               // model_type of the language model; empty where it is no family's
  int64_t heads = 0, encoder_heads = 0;     // of queries; the encoder's only where it is Whisper's
  std::vector<KvLayer> kv_layers;           // of the decoder
  int64_t cross_layers = 0;                 // layers that read audio_positions, too, with kv_layers' heads
};

class Model {
 public:
  virtual ~Model() = default;
  const ModelInfo& info() const { return info_; }

  // False for a model that can be planned, not run: everything below is then a bug to call.
  bool runs() const { return info_.not_run.empty(); }
  // Where the log-mel of the next window's `samples` samples goes: [frames, n_mels] fp32, in kEncode; frames as many as the
  // model wants of them (all n_frames where windows are padded).
  virtual View Mel(const Run& run, int64_t samples) const;
  // Reads Mel(). An encoder-decoder writes the encoder's states [audio_positions, d_model] and the cross-attention cache of
  // `sequence`; an audio-language model the vectors [tokens, d_model] of the decoder that the window becomes, valid until
  // the next Encode of the sequence.
  virtual View Encode(Backend& ops, const Run& run, int64_t samples, int32_t sequence);
  // The encoder's states of the last Encode, before any projector.
  virtual View States(const Run& run) const;
  // One decoder pass over rows.count() <= max_rows() tokens, each of a sequence and a position. An id below 0 stands for row
  // -1 - id of the sequence's audio vectors.
  virtual void Step(Backend& ops, const Run& run, BatchRows rows, std::span<const int32_t> ids);
  // Logits [count, vocab_size] of rows [first, first + count) of the last Step; count <= the workload's sequences.
  virtual View Logits(Backend& ops, const Run& run, int64_t first, int64_t count);
  virtual int64_t max_rows() const;
  // The decoder's; nullptr: it has none.
  virtual const KvStore* cache() const { return nullptr; }

 protected:
  ModelInfo info_;
};

struct Architecture {
  std::string_view model_type;  // config.json's
  Result<std::unique_ptr<Model>> (*build)(const Json& config, const Workload& workload, Anatomy& anatomy);
  const Architecture* next = nullptr;  // the registry is a list through static objects: no allocation before main
};

void RegisterArchitecture(Architecture* architecture);

// kBadModel when config.json's model_type is not one that sotto knows; the message lists those that it does.
Result<std::unique_ptr<Model>> BuildModel(const Json& config, const Workload& workload, Anatomy& anatomy);

}  // namespace sotto
