#include "engine/decode.h"

#include <algorithm>
#include <cmath>

#include "ops/row.h"

namespace sotto {

WhisperDecoder::WhisperDecoder(Model& model, Backend& ops, const WhisperTokens& tokens, const Run& run,
                               int64_t sequences)
    : model_(model), ops_(ops), tokens_(tokens), run_(run.In(kGenerate)), context_(model.info().context) {
  for (auto* v : {&seq_, &pos_, &ids_}) v->resize(static_cast<size_t>(model.max_rows()));
  active_.reserve(static_cast<size_t>(sequences));
}

void WhisperDecoder::Feed(int32_t sequence, std::span<const int32_t> tokens, int64_t position) {
  const auto n = tokens.size();
  CHECK(n >= 1 && n <= ids_.size());
  for (size_t i = 0; i < n; ++i) {
    seq_[i] = sequence;
    pos_[i] = static_cast<int32_t>(position + static_cast<int64_t>(i));
  }
  model_.Step(ops_, run_, {{seq_.data(), n}, {pos_.data(), n}}, tokens);
}

std::span<float> WhisperDecoder::LogitsOf(int64_t row, int64_t slot_rows, int64_t slot) {
  const View logits = model_.Logits(ops_, run_, row, slot_rows);
  return {logits.F32(slot), static_cast<size_t>(logits.cols)};
}

int32_t WhisperDecoder::DetectLanguage(int32_t sequence) {
  CHECK(!tokens_.languages.empty());
  Feed(sequence, {&tokens_.sot, 1}, 0);
  const std::span<const float> logits = LogitsOf(0, 1, 0);
  const auto best =
      std::max_element(tokens_.languages.begin(), tokens_.languages.end(), [&](const auto& a, const auto& b) {
        return logits[static_cast<size_t>(a.id)] < logits[static_cast<size_t>(b.id)];
      });
  return best->id;
}

int32_t WhisperDecoder::Sample(DecodeLane* lane, std::span<float> logits) {
  ApplyWhisperRules(tokens_, lane->timestamps, lane->tokens, logits);
  const auto n = static_cast<int64_t>(logits.size());
  const auto id = static_cast<int32_t>(ArgMax(logits.data(), n));
  lane->sum_logprob += static_cast<double>(logits[static_cast<size_t>(id)] - LogSumExp(logits.data(), n));
  return id;
}

Status WhisperDecoder::Decode(std::span<DecodeLane*> lanes, int64_t max_new, const std::atomic<bool>& stop) {
  active_.clear();
  const auto accept = [&](DecodeLane* lane, int32_t id) {  // whether the lane goes on
    if (id == tokens_.eot) return lane->ended = true, false;
    lane->tokens.push_back(id);
    const auto length = static_cast<int64_t>(lane->prompt.size() + lane->tokens.size());
    return static_cast<int64_t>(lane->tokens.size()) < max_new && length < context_;
  };
  for (DecodeLane* lane : lanes) {
    CHECK(!lane->prompt.empty() && static_cast<int64_t>(lane->prompt.size()) < context_);
    lane->tokens.clear();
    lane->tokens.reserve(static_cast<size_t>(context_));
    lane->sum_logprob = 0;
    lane->ended = false;
    const std::span<const int32_t> prompt = lane->prompt;
    for (size_t at = 0; at < prompt.size();) {
      const size_t n = std::min(ids_.size(), prompt.size() - at);
      Feed(lane->sequence, prompt.subspan(at, n), static_cast<int64_t>(at));
      if (tokens_.no_speech && lane->sot_index >= at && lane->sot_index < at + n) {
        const std::span<const float> logits = LogitsOf(static_cast<int64_t>(lane->sot_index - at), 1, 0);
        const float all = LogSumExp(logits.data(), static_cast<int64_t>(logits.size()));
        lane->no_speech = std::exp(logits[static_cast<size_t>(*tokens_.no_speech)] - all);
      }
      at += n;
      if (at == prompt.size() && accept(lane, Sample(lane, LogitsOf(static_cast<int64_t>(n) - 1, 1, 0))))
        active_.push_back(lane);
    }
  }
  while (!active_.empty()) {
    if (stop.load(std::memory_order_relaxed)) return Error{Code::kInterrupted, "interrupted"};
    const size_t n = active_.size();
    for (size_t i = 0; i < n; ++i) {
      seq_[i] = active_[i]->sequence;
      pos_[i] = static_cast<int32_t>(active_[i]->prompt.size() + active_[i]->tokens.size()) - 1;
      ids_[i] = active_[i]->tokens.back();
    }
    model_.Step(ops_, run_, {{seq_.data(), n}, {pos_.data(), n}}, {ids_.data(), n});
    const View logits = model_.Logits(ops_, run_, 0, static_cast<int64_t>(n));
    size_t kept = 0;
    for (size_t i = 0; i < n; ++i) {
      const std::span<float> row{logits.F32(static_cast<int64_t>(i)), static_cast<size_t>(logits.cols)};
      if (accept(active_[i], Sample(active_[i], row))) active_[kept++] = active_[i];
    }
    active_.resize(kept);
  }
  return {};
}

void WhisperDecoder::Greedy(int32_t sequence, std::span<const int32_t> prompt, int64_t count, int32_t eot,
                            FunctionRef<void(std::span<const float>)> row_logits, std::vector<int32_t>* ids) {
  std::span<float> logits;
  int64_t position = 0;
  for (size_t at = 0; at < prompt.size();) {
    const size_t n = std::min(ids_.size(), prompt.size() - at);
    Feed(sequence, prompt.subspan(at, n), position);
    for (size_t i = 0; i < n; ++i) {
      logits = LogitsOf(static_cast<int64_t>(i), 1, 0);
      row_logits(logits);
    }
    at += n;
    position += static_cast<int64_t>(n);
  }
  for (int64_t i = 0; i < count && !logits.empty(); ++i) {
    const auto id = static_cast<int32_t>(ArgMax(logits.data(), static_cast<int64_t>(logits.size())));
    ids->push_back(id);
    if (id == eot || position >= context_ || i + 1 == count) break;
    Feed(sequence, {&id, 1}, position++);
    logits = LogitsOf(0, 1, 0);
  }
}

}  // namespace sotto
