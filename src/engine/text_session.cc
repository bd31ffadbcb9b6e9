#include "engine/text_session.h"

#include <fmt/format.h>

#include <algorithm>

namespace sotto {

TextSession::TextSession(Engine& engine, int32_t sequence)
    : engine_(engine),
      model_(engine.model()),
      ops_(engine.ops()),
      run_(engine.run(kGenerate)),
      sequence_(sequence),
      context_(engine.model().info().context),
      seq_(static_cast<size_t>(model_.max_rows()), sequence),
      pos_(seq_.size()) {}

Status TextSession::Step(std::span<const int32_t> ids) {
  const size_t n = ids.size();
  for (size_t i = 0; i < n; ++i) pos_[i] = static_cast<int32_t>(length_ + static_cast<int64_t>(i));
  model_.Step(ops_, run_, {{seq_.data(), n}, {pos_.data(), n}}, ids);
  length_ += static_cast<int64_t>(n);
  longest_ = std::max(longest_, length_);
  return engine_.passed();
}

std::span<float> TextSession::LogitsOf(int64_t row) {
  const View logits = model_.Logits(ops_, run_, row, 1);
  return {logits.F32(), static_cast<size_t>(logits.cols)};
}

Status TextSession::Read(std::span<const int32_t> ids, const std::atomic<bool>& stop) {
  return ReadAll(ids, stop, nullptr);
}
Status TextSession::Read(std::span<const int32_t> ids, const std::atomic<bool>& stop, EachRow each) {
  return ReadAll(ids, stop, &each);
}

Status TextSession::ReadAll(std::span<const int32_t> ids, const std::atomic<bool>& stop, const EachRow* each) {
  if (static_cast<int64_t>(ids.size()) > room())
    return Usage(fmt::format("{} more tokens do not fit behind {} in a context of {}; pass a larger --context",
                             ids.size(), length_, context_));
  while (!ids.empty()) {
    if (stop.load(std::memory_order_relaxed)) return Error{Code::kInterrupted, "interrupted"};
    const size_t n = std::min(ids.size(), seq_.size());
    TRY(Step(ids.first(n)));
    ids = ids.subspan(n);
    if (each != nullptr)
      for (size_t i = 0; i < n; ++i) (*each)(logits_ = LogitsOf(static_cast<int64_t>(i)));
    else if (ids.empty())
      logits_ = LogitsOf(static_cast<int64_t>(n) - 1);
  }
  return {};
}

int64_t TextSession::Rewind(int64_t length) {
  CHECK(length >= 0 && length <= length_);
  const ModelInfo& info = model_.info();
  const bool ring = info.kv_bytes_per_token != info.kv_bytes_per_token_beyond_window;
  if (ring && longest_ > length) length = 0;
  length_ = length;
  if (length == 0) longest_ = 0;
  return length_;
}

}  // namespace sotto
