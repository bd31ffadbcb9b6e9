#include "engine/generate.h"

#include <fmt/format.h>

#include <algorithm>

namespace sotto {
namespace {

// Holds back what may become a stop string.
class StopFilter {
 public:
  explicit StopFilter(const std::vector<std::string>& stops) : stops_(stops) {}

  // Moves what is certain from `pending` to `out`; true when a stop string was met, which is dropped with all behind it.
  bool Push(std::string* pending, std::string* out) const {
    size_t first = std::string::npos;
    for (const std::string& s : stops_)
      if (!s.empty()) first = std::min(first, pending->find(s));
    if (first != std::string::npos) {
      out->append(*pending, 0, first);
      pending->clear();
      return true;
    }
    const size_t held = Held(*pending);
    out->append(*pending, 0, pending->size() - held);
    pending->erase(0, pending->size() - held);
    return false;
  }

 private:
  // Bytes at the end that begin a stop string.
  size_t Held(std::string_view text) const {
    size_t most = 0;
    for (const std::string& s : stops_)
      for (size_t n = std::min(text.size(), s.size() - std::min<size_t>(s.size(), 1)); n > most; --n)
        if (text.ends_with(std::string_view(s).substr(0, n))) most = n;
    return most;
  }

  const std::vector<std::string>& stops_;
};

const Json* FindKey(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

}  // namespace

std::string_view NameOf(Generated::End end) {
  constexpr std::string_view kNames[] = {"stop", "length", "context", "interrupted"};
  return kNames[static_cast<size_t>(end)];
}

Result<std::vector<int32_t>> EndTokens(const Planned& planned) {
  Json generation = Json::object();
  const std::string path = planned.dir.path + "/generation_config.json";
  if (!planned.dir.path.empty() && !planned.gguf && FileExists(path)) generation = TRY(ReadJson(path, Code::kBadModel));
  const Json* value = generation.is_object() ? FindKey(generation, "eos_token_id") : nullptr;
  if (value == nullptr) value = FindKey(planned.config, "eos_token_id");
  if (const Json* text = FindKey(planned.config, "text_config");
      value == nullptr && text != nullptr && text->is_object())
    value = FindKey(*text, "eos_token_id");
  std::vector<int32_t> ids;
  if (value == nullptr) return ids;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
        id.get<int64_t>() >= planned.layout.model->info().vocab_size)
      return BadModel(
          fmt::format("'eos_token_id' holds {}, which is no token of this model; take the config from the "
                      "model's own page",
                      id.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 40)));
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

Generated Generate(TextSession& session, const Tokenizer& tokenizer, Sampler& sampler, const GenerateOptions& options,
                   std::span<const int32_t> end_tokens, const std::atomic<bool>& stop,
                   FunctionRef<void(std::string_view)> say, FunctionRef<bool(std::span<const int32_t>)> make_room) {
  Generated out;
  StreamDecoder decoder(tokenizer, /*skip_special=*/true);
  const StopFilter filter(options.stop);
  std::string pending, fresh;
  bool stopped = false;
  const auto give = [&] {
    stopped = filter.Push(&pending, &fresh);
    if (!fresh.empty()) say(fresh);
    out.text += fresh;
    fresh.clear();
  };
  std::vector<float> raw;
  for (;;) {
    if (options.logprobs > 0) raw.assign(session.logits().begin(), session.logits().end());
    const int32_t id = sampler.Next(session.logits());
    if (!options.ignore_eos && std::find(end_tokens.begin(), end_tokens.end(), id) != end_tokens.end()) break;
    out.ids.push_back(id);
    sampler.Saw(id);
    if (options.logprobs > 0) {
      GeneratedToken t{id, 0, {}};
      t.logprob = sampler.Likeliest(raw, id, static_cast<size_t>(options.logprobs), &t.likeliest);
      out.logprobs.push_back(std::move(t));
    }
    decoder.Push(id, &pending);
    give();
    if (stopped) break;
    const bool enough = options.max_tokens > 0 && static_cast<int64_t>(out.ids.size()) >= options.max_tokens;
    if (enough || (session.room() == 0 && !make_room(out.ids))) {
      out.end = enough ? Generated::End::kLength : Generated::End::kContext;
      break;
    }
    if (!session.Read({&id, 1}, stop).ok()) {
      out.end = Generated::End::kInterrupted;
      break;
    }
  }
  if (!stopped) {  // what was held back was no stop string after all
    decoder.Finish(&pending);
    give();
    if (!stopped && !pending.empty()) {
      say(pending);
      out.text += pending;
    }
  }
  return out;
}

}  // namespace sotto
