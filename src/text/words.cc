#include "text/words.h"

namespace sotto {

void WordEncoder::Add(std::string_view word) {
  if (word.empty()) return;
  if (!settings_.sentencepiece) after_unknown_ = false;
  if (settings_.model == TokenModel::kUnigram)
    return settings_.sentencepiece ? AddUnigram<float>(word) : AddUnigram<double>(word);
  if (settings_.ignore_merges) {
    const uint32_t id = tables_.Find(word);
    if (id != TokenTables::kNone && !tables_.Has(id, TokenTables::kHidden))
      return out_->push_back(static_cast<int32_t>(id));
  }
  word.size() <= kShortWord ? JoinShort(word) : JoinLong(word);
}

void WordEncoder::Say(uint32_t id, std::string_view text) {
  if (id == TokenTables::kNone) return SayUnknown(text);
  if (tables_.Has(id, TokenTables::kUnused)) return TakeApart(text, 0);
  out_->push_back(static_cast<int32_t>(id));
  after_unknown_ = false;
}

// A character without a token: the tokens of its bytes, or one unknown token for it and its neighbours.
void WordEncoder::SayUnknown(std::string_view text) {
  if (settings_.byte_fallback) {
    for (const char c : text) out_->push_back(static_cast<int32_t>(tables_.ByteId(static_cast<unsigned char>(c))));
    return;
  }
  if (!after_unknown_) out_->push_back(static_cast<int32_t>(tables_.unknown()));
  after_unknown_ = true;
}

// A token that only helps to make longer ones becomes what it was last made of, and so on, as in SentencePiece.
void WordEncoder::TakeApart(std::string_view text, int depth) {
  constexpr int kMaxDepth = 100;
  const uint32_t id = tables_.Find(text);
  if (id == TokenTables::kNone || tables_.Has(id, TokenTables::kHidden)) return SayUnknown(text);
  const auto left = left_bytes_.find(id);
  if (!tables_.Has(id, TokenTables::kUnused) || depth > kMaxDepth) {
    out_->push_back(static_cast<int32_t>(id));
    after_unknown_ = false;
    return;
  }
  if (left == left_bytes_.end()) return SayUnknown(text);
  TakeApart(text.substr(0, left->second), depth + 1);
  TakeApart(text.substr(left->second), depth + 1);
}

}  // namespace sotto
