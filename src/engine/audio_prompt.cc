#include "engine/audio_prompt.h"

#include <fmt/format.h>

#include <algorithm>

namespace sotto {

AudioWindows::AudioWindows(Engine& engine, std::string path, AudioStream stream)
    : engine_(&engine), path_(std::move(path)), stream_(std::make_unique<AudioStream>(std::move(stream))) {
  const std::span<std::byte> memory = engine.run(kRunning)[engine.layout().slots.window[0]];
  window_ = std::make_unique<SlidingWindow>(
      *stream_, std::span(reinterpret_cast<float*>(memory.data()), memory.size() / sizeof(float)),
      engine.planned().mel.n_samples);
}

Result<AudioWindows> AudioWindows::Open(Engine& engine, const std::string& path) {
  AudioStream stream = TRY(AudioStream::Open(path, engine.run(kRunning)[engine.layout().slots.stream[0]]));
  return AudioWindows(engine, path, std::move(stream));
}

Result<std::span<const float>> AudioWindows::Next() {
  const int64_t most = engine_->model().info().audio_windows;
  const std::span<const float> samples = TRY(window_->At(heard_ * engine_->planned().mel.n_samples));
  if (most > 0 && heard_ == most) {
    cut_ = !samples.empty();
    return std::span<const float>();
  }
  ++heard_;
  return samples;
}

std::vector<std::string> AudioWindows::Warnings() const {
  std::vector<std::string> all = stream_->warnings();
  if (cut_)
    all.push_back(fmt::format("{}: this model hears {:g} s of an audio, the rest was not heard", path_,
                              static_cast<double>(heard_ * engine_->planned().mel.n_samples) / kSampleRate));
  return all;
}

namespace {

struct Prompt {
  TextSession& session;
  Engine& engine;
  const std::atomic<bool>& stop;
  const TextSession::EachRow* each;

  Status Read(std::span<const int32_t> ids) {
    return each != nullptr ? session.Read(ids, stop, *each) : session.Read(ids, stop);
  }

  // Positions that the audio took.
  Result<int64_t> Hear(const std::string& path, std::vector<std::string>* warnings) {
    AudioWindows windows = TRY(AudioWindows::Open(engine, path));
    int64_t taken = 0;
    for (;;) {
      const std::span<const float> samples = TRY(windows.Next());
      if (samples.empty()) break;
      const View vectors = TRY(engine.Hear(samples, 0));
      std::vector<int32_t> rows(static_cast<size_t>(vectors.rows));
      for (size_t i = 0; i < rows.size(); ++i) rows[i] = -1 - static_cast<int32_t>(i);
      TRY(Read(rows));
      taken += vectors.rows;
    }
    for (std::string& w : windows.Warnings()) warnings->push_back(std::move(w));
    return taken;
  }
};

Result<PromptCount> ReadAll(Prompt prompt, std::span<const int32_t> ids, int32_t placeholder,
                            std::span<const std::string> audios, std::vector<std::string>* warnings) {
  PromptCount count;
  size_t next = 0;
  while (!ids.empty()) {
    const auto text = static_cast<size_t>(std::find(ids.begin(), ids.end(), placeholder) - ids.begin());
    TRY(prompt.Read(ids.first(text)));
    count.text += static_cast<int64_t>(text);
    ids = ids.subspan(text);
    if (ids.empty()) break;
    if (next == audios.size())
      return Usage(
          fmt::format("the prompt has a place for audio more than the {} given; pass another --audio FILE", next));
    const int64_t taken = TRY(prompt.Hear(audios[next++], warnings));
    count.audio += taken;
    int64_t places = 0;
    while (places < static_cast<int64_t>(ids.size()) && ids[static_cast<size_t>(places)] == placeholder) ++places;
    // One place stands for the audio; more are one for each vector, and those of the next audio may follow at once.
    if (places < taken && places != 1)
      return Usage(fmt::format("{} becomes {} vectors, but the prompt repeats its placeholder {} times",
                               audios[next - 1], taken, places));
    ids = ids.subspan(static_cast<size_t>(places >= taken && taken > 0 ? taken : 1));
  }
  if (next < audios.size())
    return Usage(fmt::format("{} audios were given, but the prompt has a place for {}", audios.size(), next));
  return count;
}

}  // namespace

Result<PromptCount> ReadPrompt(TextSession& session, Engine& engine, std::span<const int32_t> ids, int32_t placeholder,
                               std::span<const std::string> audios, const std::atomic<bool>& stop,
                               std::vector<std::string>* warnings) {
  return ReadAll({session, engine, stop, nullptr}, ids, placeholder, audios, warnings);
}

Result<PromptCount> ReadPrompt(TextSession& session, Engine& engine, std::span<const int32_t> ids, int32_t placeholder,
                               std::span<const std::string> audios, const std::atomic<bool>& stop,
                               std::vector<std::string>* warnings, TextSession::EachRow each) {
  return ReadAll({session, engine, stop, &each}, ids, placeholder, audios, warnings);
}

std::optional<int32_t> AudioPlaceholder(const Json& config) {
  for (const char* key : {"audio_token_index", "audio_token_id"})
    if (const auto it = config.find(key);
        it != config.end() && it->is_number_integer() && it->get<int64_t>() >= 0 && it->get<int64_t>() <= INT32_MAX)
      return it->get<int32_t>();
  return std::nullopt;
}

}  // namespace sotto
