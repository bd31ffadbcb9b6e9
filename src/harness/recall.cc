#include "harness/recall.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/file.h"
#include "engine/text_session.h"
#include "ops/row.h"

namespace sotto {
namespace {

constexpr uint64_t kMostProse = 1 << 20;  // bytes of a file that are read
constexpr std::string_view kProse =
    " The river rises in the hills behind the town and runs slowly to the sea. In spring the water is high, and boats "
    "carry "
    "wood and stone to the harbour. People walk along its banks in the evening, and children throw bread to the birds. "
    "The old "
    "bridge was built of oak; the new one is of iron, and trains cross it every hour. On market days farmers bring "
    "apples, "
    "cheese and flowers. When the wind comes from the north the mill turns fast, and its sound is heard from far away.";

bool IsWord(std::string_view token) {
  for (const std::string_view space : {" ", "\u2581"}) {
    if (!token.starts_with(space)) continue;
    token.remove_prefix(space.size());
    return token.size() >= 3 && std::all_of(token.begin(), token.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  }
  return false;
}

class Asker {
 public:
  Asker(Engine& engine, uint64_t seed) : tokenizer_(engine.tokenizer()), session_(engine), random_(seed) {}

  Status Prepare(Engine& engine, const std::string& path) {
    const int64_t vocabulary = engine.model().info().vocab_size;
    bool key = true;
    for (int32_t id = 0; id < std::min<int64_t>(vocabulary, tokenizer_.vocab_size()); ++id)
      if (!tokenizer_.IsSpecial(id) && IsWord(tokenizer_.Token(id))) {
        (key ? keys_ : values_).push_back(id);
        key = !key;
      }
    if (values_.size() < 16)
      return Usage("the vocabulary has fewer than 32 words of three or more small letters; recall needs them");
    const std::string text = path.empty() ? std::string(kProse) : TRY(ReadSmallFile(path, kMostProse, Code::kBadInput));
    TRY(tokenizer_.Encode(text, {}, &prose_));
    if (prose_.empty()) return BadInput(path + " holds no text; give another");
    for (const Json* from : {&engine.planned().config, FindPart(engine.planned().config)})
      if (from != nullptr && begin_.empty())
        if (const auto it = from->find("bos_token_id"); it != from->end() && it->is_number_unsigned())
          if (it->get<uint64_t>() < static_cast<uint64_t>(vocabulary)) begin_.push_back(it->get<int32_t>());
    return {};
  }

  // Some queries of one sequence of `length` tokens, at most `most`.
  Status Recall(int64_t length, int64_t most, const std::atomic<bool>& stop, RecallRow* row) {
    const auto n = static_cast<size_t>(length);
    const size_t pairs = std::min(n / 4 - 1, keys_.size());
    const size_t queries = std::min({pairs, std::max<size_t>(1, n / 8), static_cast<size_t>(most)});
    Shuffle(&keys_, pairs);
    std::vector<int32_t> ids = begin_, values;
    for (size_t i = 0; i < pairs; ++i) {
      values.push_back(values_[Below(values_.size())]);
      ids.insert(ids.end(), {keys_[i], values.back()});
    }
    Fill(n - 2 * queries, &ids);
    std::vector<size_t> asked(pairs);
    for (size_t i = 0; i < pairs; ++i) asked[i] = i;
    Shuffle(&asked, queries);
    const size_t first = ids.size();
    for (size_t i = 0; i < queries; ++i) ids.insert(ids.end(), {keys_[asked[i]], values[asked[i]]});
    row->asked += static_cast<int64_t>(queries);
    return Score(ids, first, stop, [&](size_t at, int32_t said) {
      if ((at - first) % 2 == 0 && said == ids[at + 1]) ++row->right;
    });
  }

  Status Passkey(int64_t length, double depth, const std::atomic<bool>& stop, RecallRow* row) {
    std::string digits;
    for (int i = 0; i < 5; ++i) digits += static_cast<char>('0' + Below(10));
    std::vector<int32_t> told, question, ids = begin_, end;
    TRY(tokenizer_.Encode(fmt::format(" The pass key is {}. Remember it.", digits), {}, &told));
    TRY(tokenizer_.Encode(" What is the pass key? The pass key is", {}, &question));
    TRY(tokenizer_.Encode(fmt::format(" What is the pass key? The pass key is {}.", digits), {}, &end));
    const auto n = static_cast<size_t>(length), apart = begin_.size() + told.size() + end.size();
    if (n < apart + 2) return {};
    const auto before = static_cast<size_t>(static_cast<double>(n - apart) * depth);
    Fill(ids.size() + before, &ids);
    ids.insert(ids.end(), told.begin(), told.end());
    Fill(n - end.size(), &ids);
    const size_t answer = ids.size() + question.size();
    ids.insert(ids.end(), end.begin(), end.end());
    bool right = true;
    TRY(Score(ids, answer - 1, stop, [&](size_t at, int32_t said) {
      if (at + 2 < ids.size()) right &= said == ids[at + 1];  // the full stop is not asked for
    }));
    ++row->passkeys;
    row->found += right;
    return {};
  }

 private:
  static const Json* FindPart(const Json& config) {
    const auto it = config.find("text_config");
    return it != config.end() && it->is_object() ? &*it : nullptr;
  }
  size_t Below(size_t n) { return static_cast<size_t>(random_() % n); }
  template <class T>
  void Shuffle(std::vector<T>* items, size_t first) {
    for (size_t i = 0; i < first; ++i) std::swap((*items)[i], (*items)[i + Below(items->size() - i)]);
  }
  // Prose until there are `size` ids.
  void Fill(size_t size, std::vector<int32_t>* ids) {
    for (size_t at = Below(prose_.size()); ids->size() < size; ++at) ids->push_back(prose_[at % prose_.size()]);
  }
  // each(position, likeliest next token) from position `first` on.
  Status Score(std::span<const int32_t> ids, size_t first, const std::atomic<bool>& stop,
               FunctionRef<void(size_t, int32_t)> each) {
    session_.Rewind(0);
    TRY(session_.Read(ids.first(first), stop));
    size_t at = first;
    return session_.Read(ids.subspan(first), stop, [&](std::span<const float> logits) {
      if (at + 1 < ids.size())
        each(at, static_cast<int32_t>(ArgMax(logits.data(), static_cast<int64_t>(logits.size()))));
      ++at;
    });
  }

  const Tokenizer& tokenizer_;
  TextSession session_;
  std::mt19937_64 random_;
  std::vector<int32_t> keys_, values_, prose_, begin_;
};

}  // namespace

Result<std::vector<RecallRow>> MeasureRecall(Engine& engine, const RecallOptions& options,
                                             const std::atomic<bool>& stop,
                                             const std::function<void(double, double)>& progress) {
  Asker asker(engine, options.seed);
  TRY(asker.Prepare(engine, options.prose));
  std::vector<RecallRow> rows;
  for (const int64_t length : options.lengths) {
    if (length < 16) return Usage(fmt::format("a length of {} tokens is too short; 16 are needed", length));
    if (length <= engine.model().info().context) rows.push_back({length, 0, 0, 0, 0});
  }
  if (rows.empty())
    return Usage(fmt::format("no length fits the context of {} tokens; pass a larger --context or smaller --lengths",
                             engine.model().info().context));
  double done = 0;
  const auto all = static_cast<double>(rows.size());
  for (RecallRow& row : rows) {
    while (row.asked < options.queries) {
      TRY(asker.Recall(row.length, options.queries - row.asked, stop, &row));
      progress(done + 0.5 * static_cast<double>(row.asked) / static_cast<double>(options.queries), all);
    }
    for (int64_t i = 0; i < options.passkeys; ++i) {
      const double depth =
          options.passkeys > 1 ? static_cast<double>(i) / static_cast<double>(options.passkeys - 1) : 0.5;
      TRY(asker.Passkey(row.length, depth, stop, &row));
      progress(done + 0.5 + 0.5 * static_cast<double>(i + 1) / static_cast<double>(options.passkeys), all);
    }
    ++done;
  }
  return rows;
}

}  // namespace sotto
