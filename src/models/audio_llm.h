// Audio-language models: an encoder and a projector turn audio into vectors that join the decoder's sequence. There is no
// cross-attention: the decoder's cache holds a position for each vector.
#pragma once
#include <memory>

#include "base/function_ref.h"
#include "models/blocks/audio_encoder.h"
#include "models/blocks/plain.h"
#include "models/text.h"

namespace sotto {

inline constexpr int64_t kMaxFfn = 1 << 24;

// What one window of audio is to a model, and what all of a workload's audio becomes.
struct Hearing {
  int64_t n_mels = 0, frames = 0;   // of one window
  int64_t positions = 0;            // encoder states of one window
  int64_t window_tokens = 0;        // vectors of one window: what is held between encoder and decoder
  int64_t tokens = 0;               // vectors of the workload's audio: positions of the decoder
  int64_t encoder_kv_elements = 0;  // keys and values of all encoder layers: transient, never a cache
  int64_t encoder_heads = 0;        // of Whisper's tower
  int64_t windows = 0;              // that one audio has at most; 0: any number
};

int64_t Samples(double seconds);  // at 16 kHz
inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t MelFrames(int64_t samples) { return CeilDiv(samples, 160); }
int64_t PooledLength(int64_t frames);  // a convolution of stride 2, then an average of two
// Sum over windows of 30 s of `tokens(samples of the window)`.
template <class F>
int64_t OverWindows(int64_t samples, F tokens) {
  constexpr int64_t kWindow = 480'000;
  const int64_t whole = samples / kWindow, rest = samples % kWindow;
  return whole * tokens(kWindow) + (rest > 0 ? tokens(rest) : 0);
}

// The workload with a context that holds the audio; kUsage when the one asked for is too short.
Result<Workload> WithRoomForAudio(const Hearing& hearing, const TextConfig& text, const Workload& workload);
// The vectors of one window a sequence, between projector and decoder.
Buffer DeclareVectors(const Hearing& hearing, const TextConfig& text, const Workload& workload, Anatomy& anatomy);
void DescribeHearing(const Hearing& hearing, ModelInfo* info);

// A model that is planned and not run: declares the decoder below "language_model." and the audio vectors, and describes it.
// `declare` does the first for a decoder whose layers are not TextLayers.
using DeclareText = FunctionRef<void(const Scope& language, const Workload& workload, ModelInfo* info)>;
Result<std::unique_ptr<Model>> FinishAudioLlm(const Hearing& hearing, const TextConfig& text, const Workload& workload,
                                              Anatomy& anatomy);
Result<std::unique_ptr<Model>> FinishAudioLlm(const Hearing& hearing, const TextConfig& text, const Workload& workload,
                                              Anatomy& anatomy, DeclareText declare);

// How a family that runs hears with Whisper's encoder: what of a window, and how states become the decoder's vectors.
class AudioSide {
 public:
  // Mel frames that are computed and that the convolutions see (zeros follow), and positions that are computed.
  struct Part {
    int64_t frames, positions;
  };
  virtual ~AudioSide() = default;
  virtual Part PartOf(int64_t samples, int64_t window_frames) const = 0;
  virtual int64_t Tokens(int64_t states) const = 0;
  // states: [n, d], in a buffer that may be written over; vectors: [Tokens(n), d_model].
  virtual void Project(Backend& ops, const Run& run, View states, View vectors) const = 0;
};

// A model that runs. The tower and the side have been declared.
Result<std::unique_ptr<Model>> MakeAudioLlm(std::unique_ptr<AudioEncoder> tower, std::unique_ptr<AudioSide> side,
                                            const Hearing& hearing, const TextConfig& text, const Workload& workload,
                                            Anatomy& anatomy);

// Whisper's encoder (audio_config of Qwen2-Audio, Ultravox …) by its two ways of naming: d_model and encoder_layers, or
// hidden_size and num_hidden_layers.
Result<AudioEncoderConfig> ReadWhisperTower(const ClassConfig& audio);
// Declares it below "audio_tower.".
std::unique_ptr<AudioEncoder> MakeWhisperTower(const AudioEncoderConfig& c, Anatomy& anatomy);
// n_mels, frames, positions and encoder_kv_elements of it.
Hearing HearingOf(const AudioEncoderConfig& c);
// Both, for a model that is planned and not run.
Hearing DeclareWhisperTower(const AudioEncoderConfig& c, Anatomy& anatomy);

// The config of a model that another one names by `key` (text_model_id), from the Hugging Face cache or the catalogue. kBadModel.
Result<Json> NamedConfig(std::string_view key, const std::string& id);

}  // namespace sotto
