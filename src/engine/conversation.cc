#include "engine/conversation.h"

#include <fmt/format.h>

#include <algorithm>

namespace sotto {

Result<Conversation> Conversation::Make(Engine& engine, ChatFormat format, Settings settings) {
  std::vector<int32_t> end_tokens = TRY(EndTokens(engine.planned()));
  // A tokenizer's end token ends a turn, also where the configs only know the end of a text.
  if (const auto it = format.tokens.find("eos_token"); it != format.tokens.end() && it->is_string())
    if (const auto id = engine.tokenizer().IdOf(it->get<std::string>())) end_tokens.push_back(*id);
  return Conversation(engine, std::move(format), std::move(settings), std::move(end_tokens));
}

Conversation::Conversation(Engine& engine, ChatFormat format, Settings settings, std::vector<int32_t> end_tokens)
    : engine_(&engine),
      format_(std::move(format)),
      settings_(std::move(settings)),
      end_tokens_(std::move(end_tokens)),
      session_(engine),
      sampler_(settings_.sampler, engine.model().info().vocab_size,
               engine.run(kRunning)[engine.layout().slots.sampler]) {}

void Conversation::Clear() {
  turns_.clear();
  audios_.clear();
  read_.clear();
  session_.Rewind(0);
}

int64_t Conversation::Positions(std::span<const int32_t> ids) const {
  int64_t positions = 0;
  for (const int32_t id : ids) positions += id >= 0 ? 1 : audios_[static_cast<size_t>(-1 - id)].positions;
  return positions;
}

Result<std::vector<int32_t>> Conversation::PromptIds() const {
  Json messages = Json::array();
  if (!settings_.system.empty()) messages.push_back(Message("system", settings_.system));
  for (size_t i = 0; i < turns_.size(); ++i) {
    messages.push_back(UserMessage(format_, turns_[i].text, turns_[i].audios.size()));
    if (i + 1 < turns_.size()) messages.push_back(Message("assistant", turns_[i].answer));
  }
  std::vector<int32_t> ids;
  TRY(EncodePrompt(engine_->tokenizer(), format_, TRY(format_.Render(std::move(messages))), format_.audio_marker, false,
                   &ids));
  if (ids.empty())
    return BadModel("the model's chat template makes nothing of a conversation; sotto run --raw does without");
  std::vector<int32_t> audios;
  for (const Turn& turn : turns_) audios.insert(audios.end(), turn.audios.begin(), turn.audios.end());
  size_t places = 0;
  for (int32_t& id : ids)
    if (id == kAudioPlace && places++ < audios.size()) id = -1 - audios[places - 1];
  if (places != audios.size())
    return Usage(fmt::format("the conversation has places for {} audios, and {} were given", places, audios.size()));
  return ids;
}

Result<bool> Conversation::ReadNew(std::span<const int32_t> ids, const std::atomic<bool>& stop, Reply* reply) {
  while (!ids.empty()) {
    const auto text =
        static_cast<size_t>(std::find_if(ids.begin(), ids.end(), [](int32_t id) { return id < 0; }) - ids.begin());
    if (static_cast<int64_t>(text) > session_.room()) return false;
    const int64_t before = session_.length();
    const Status status = session_.Read(ids.first(text), stop);
    read_.insert(read_.end(), ids.begin(), ids.begin() + (session_.length() - before));
    TRY(status);
    ids = ids.subspan(text);
    if (ids.empty()) break;
    Audio& audio = audios_[static_cast<size_t>(-1 - ids[0])];
    if (audio.positions > session_.room()) return false;
    const int64_t start = session_.length();
    const auto heard =
        ReadPrompt(session_, *engine_, {&kAudioPlace, 1}, kAudioPlace, {&audio.path, 1}, stop, &reply->warnings);
    if (!heard.ok()) {
      if (session_.Rewind(start) != start) read_.clear();
      if (heard.error().code == Code::kUsage)
        return false;  // one place and one audio: only the context can be at fault
      return heard.error();
    }
    audio.positions = heard->audio;
    read_.push_back(ids[0]);
    ids = ids.subspan(1);
  }
  return true;
}

Result<bool> Conversation::Read(std::span<const int32_t> ids, const std::atomic<bool>& stop, Reply* reply) {
  auto common =
      static_cast<size_t>(std::mismatch(ids.begin(), ids.end(), read_.begin(), read_.end()).first - ids.begin());
  common = std::min(common, ids.size() - 1);  // the last one is read again for its logits
  reply->cached = session_.Rewind(Positions(ids.first(common)));
  if (reply->cached == 0) common = 0;
  read_.resize(common);
  return ReadNew(ids.subspan(common), stop, reply);
}

Status Conversation::Prefill(std::span<const int32_t> answer, int64_t room, const std::atomic<bool>& stop,
                             Reply* reply) {
  for (;;) {
    std::vector<int32_t> ids = TRY(PromptIds());
    reply->audio = 0;
    const size_t prompt = ids.size();
    ids.insert(ids.end(), answer.begin(), answer.end());
    const bool fits = TRY(Read(ids, stop, reply));
    const bool may_drop = settings_.shift && turns_.size() > 1;
    if (fits && (!may_drop || session_.room() >= room)) {
      const std::span<const int32_t> read = std::span(ids).first(prompt);
      reply->prompt = Positions(read);
      for (const int32_t id : read)
        if (id < 0) reply->audio += Positions({&id, 1});
      return {};
    }
    if (!may_drop)
      return Usage(fmt::format("the context of {} positions is full: {}, --context makes it larger",
                               engine_->model().info().context,
                               turns_.size() == 1 ? "this message alone does not fit"
                                                  : "/clear begins anew, --shift forgets the oldest turns"));
    turns_.pop_front();
    ++reply->dropped;
  }
}

Result<Reply> Conversation::Answer(const std::atomic<bool>& stop, FunctionRef<void(std::string_view)> say) {
  Reply reply;
  const int64_t room = engine_->model().info().context / 4;  // to drop turns seldom, as each time all is read again
  TRY(Prefill({}, settings_.shift ? room : 0, stop, &reply));
  sampler_.Forget();
  for (const int32_t id : read_)
    if (id >= 0) sampler_.Saw(id);
  int64_t before = session_.length();
  size_t in_prompt = 0;  // of the answer's tokens: already in read_
  const auto make_room = [&](std::span<const int32_t> answer) {
    if (!settings_.shift || turns_.size() < 2) return false;
    turns_.pop_front();
    ++reply.dropped;
    in_prompt = answer.size() - 1;
    const bool made = Prefill(answer.first(in_prompt), room, stop, &reply).ok() && session_.room() > 0;
    before = session_.length();
    return made;
  };
  reply.answer =
      Generate(session_, engine_->tokenizer(), sampler_, settings_.generate, end_tokens_, stop, say, make_room);
  if (stop.load()) reply.answer.end = Generated::End::kInterrupted;  // also while room was made
  const auto tail = reply.answer.ids.begin() + static_cast<std::ptrdiff_t>(in_prompt);
  read_.insert(read_.end(), tail, tail + (session_.length() - before));
  return reply;
}

Result<Reply> Conversation::Ask(std::string text, std::vector<std::string> audios, const std::atomic<bool>& stop,
                                FunctionRef<void(std::string_view)> say) {
  Turn& turn = turns_.emplace_back(Turn{std::move(text), "", {}});
  for (std::string& path : audios) {
    turn.audios.push_back(static_cast<int32_t>(audios_.size()));
    audios_.push_back({std::move(path)});
  }
  Result<Reply> reply = Answer(stop, say);
  if (reply.ok())
    turns_.back().answer = reply->answer.text;
  else
    turns_.pop_back();
  return reply;
}

}  // namespace sotto
