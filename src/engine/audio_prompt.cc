#include "engine/audio_prompt.h"

#include <fmt/format.h>

#include <algorithm>

namespace sotto {

Result<AudioWindows> AudioWindows::Open(Engine& engine, const std::string& path) {
  AudioWindows windows(engine, path);
  TRY(windows.Rewind());
  return windows;
}

Status AudioWindows::Rewind() {
  const EngineSlots& slots = engine_->layout().slots;
  const Planned& planned = engine_->planned();
  window_.reset();
  stream_.reset();  // its memory is the next one's
  stream_ = std::make_unique<AudioStream>(TRY(AudioStream::Open(path_, engine_->run(kRunning)[slots.stream[0]])));
  const std::span<std::byte> memory = engine_->run(kRunning)[slots.window[0]];
  window_ = std::make_unique<SlidingWindow>(
      *stream_, std::span(reinterpret_cast<float*>(memory.data()), memory.size() / sizeof(float)),
      planned.mel.n_samples, WindowContext(engine_->model().info(), planned.mel));
  heard_ = 0;
  return {};
}

Result<MelWindow> AudioWindows::Window() {
  MelWindow window{.samples = TRY(window_->At(heard_ * engine_->planned().mel.n_samples)), .largest = largest_};
  if (WindowContext(engine_->model().info(), engine_->planned().mel) == 0) return window;  // each is heard on its own
  window.before = window_->before();
  window.after = window_->after();
  window.last = window_->end_of_audio();
  return window;
}

Status AudioWindows::FindLargest(MelWindow window) {
  if (!FileExists(path_)) {  // a pipe is read once
    loudness_unknown_ = true;
    return {};
  }
  for (; !window.samples.empty(); window = TRY(Window())) {
    float own = 0;
    engine_->ComputeMel(window, &own);
    largest_ = std::max(largest_, own);
    ++heard_;
  }
  return Rewind();
}

Result<MelWindow> AudioWindows::Next() {
  const int64_t most = engine_->model().info().audio_windows;
  MelWindow window = TRY(Window());
  if (most > 0 && heard_ == most) {
    cut_ = !window.samples.empty();
    return MelWindow{};
  }
  if (heard_ == 0 && !window.last) {
    TRY(FindLargest(window));
    window = TRY(Window());
  }
  ++heard_;
  return window;
}

std::vector<std::string> AudioWindows::Warnings() const {
  std::vector<std::string> all = stream_->warnings();
  const double seconds = static_cast<double>(heard_ * engine_->planned().mel.n_samples) / kSampleRate;
  if (cut_)
    all.push_back(fmt::format("{}: this model hears {:g} s of an audio, the rest was not heard", path_, seconds));
  if (loudness_unknown_)
    all.push_back(
        fmt::format("{}: a pipe is read once, so each window was heard by its own loudest moment instead of the whole "
                    "audio's; give a file",
                    path_ == "-" ? "standard input" : path_));
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
      const MelWindow window = TRY(windows.Next());
      if (window.samples.empty()) break;
      const View vectors = TRY(engine.Hear(window, 0));
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
