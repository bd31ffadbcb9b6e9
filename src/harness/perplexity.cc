#include "harness/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "engine/text_session.h"
#include "ops/row.h"

namespace sotto {
namespace {

constexpr size_t kPieceBytes = 64 << 10;

// A text in pieces that end where a line ends and the next begins with a letter or a mark: no tokenizer joins tokens across that.
class Pieces {
 public:
  static Result<Pieces> Open(const std::string& path) {
    Pieces p;
    p.file_.reset(path == "-" ? stdin : std::fopen(path.c_str(), "rb"));
    if (p.file_ == nullptr) return BadInput(path + " cannot be opened; check the path");
    if (path != "-" && std::fseek(p.file_.get(), 0, SEEK_END) == 0) {
      p.size_ = static_cast<uint64_t>(std::max(std::ftell(p.file_.get()), 0L));
      std::rewind(p.file_.get());
    }
    return p;
  }

  uint64_t size() const { return size_; }
  uint64_t read() const { return read_; }

  // False at the end. A line longer than kPieceBytes is cut where it is.
  bool Next(std::string* piece) {
    piece->swap(rest_);
    rest_.clear();
    while (!ended_ && piece->size() < kPieceBytes) {
      const size_t had = piece->size();
      piece->resize(kPieceBytes);
      const size_t got = std::fread(piece->data() + had, 1, kPieceBytes - had, file_.get());
      piece->resize(had + got);
      read_ += got;
      ended_ = got == 0;
    }
    for (size_t at = ended_ ? 0 : piece->rfind('\n'); at != piece->npos && at > 0; at = piece->rfind('\n', at - 1)) {
      if (at + 1 >= piece->size() || static_cast<unsigned char>((*piece)[at + 1]) <= ' ') continue;
      rest_ = piece->substr(at + 1);
      piece->resize(at + 1);
      break;
    }
    return !piece->empty();
  }

 private:
  struct Close {
    void operator()(std::FILE* f) const {
      if (f != stdin) std::fclose(f);
    }
  };
  std::unique_ptr<std::FILE, Close> file_;
  std::string rest_;
  uint64_t size_ = 0, read_ = 0;
  bool ended_ = false;
};

}  // namespace

double Perplexity::value() const { return std::exp(nll / static_cast<double>(std::max<uint64_t>(tokens, 1))); }
double Perplexity::bits_per_byte() const {
  return nll / std::log(2.0) / static_cast<double>(std::max<uint64_t>(bytes, 1));
}

Result<Perplexity> MeasurePerplexity(Engine& engine, const std::string& path, const PerplexityOptions& options,
                                     const std::atomic<bool>& stop,
                                     const std::function<void(uint64_t, uint64_t)>& progress) {
  const Tokenizer& tokenizer = engine.tokenizer();
  std::vector<int32_t>
      ids;  // what a window is read as: the tokenizer's beginning of a text, if it has one, and the window
  TRY(tokenizer.Encode("", {.add_special = true}, &ids));
  const size_t begin = std::min<size_t>(ids.size(), 1);
  const size_t context = static_cast<size_t>(engine.model().info().context) - begin;
  const auto stride = static_cast<size_t>(options.stride > 0 ? options.stride : std::max<int64_t>(1, context / 2));
  if (stride > context) return Usage(fmt::format("--stride {} is more than the context of {} tokens", stride, context));
  Pieces pieces = TRY(Pieces::Open(path));
  Perplexity p;
  TextSession session(engine);
  std::vector<int32_t> window, fresh;  // fresh: behind the window
  std::string piece;
  uint64_t taken = 0;
  const auto more = [&]() -> Result<bool> {  // false at the end of the text
    if (p.cut || !pieces.Next(&piece)) return false;
    TRY(tokenizer.Encode(piece, {}, &fresh));
    return true;
  };
  for (;;) {
    const bool first = window.empty();
    const size_t keep = first ? 0 : std::min(window.size(), context - stride);
    window.erase(window.begin(), window.end() - static_cast<ptrdiff_t>(keep));
    while (fresh.size() < context - keep)
      if (!TRY(more())) break;
    size_t count = std::min(fresh.size(), context - keep);
    if (options.max_tokens > 0 && taken + count > static_cast<uint64_t>(options.max_tokens)) {
      count = static_cast<size_t>(static_cast<uint64_t>(options.max_tokens) - taken);
      p.cut = true;
    }
    if (count == 0) break;
    window.insert(window.end(), fresh.begin(), fresh.begin() + static_cast<ptrdiff_t>(count));
    fresh.erase(fresh.begin(), fresh.begin() + static_cast<ptrdiff_t>(count));
    taken += count;
    session.Rewind(0);
    ids.resize(begin);
    ids.insert(ids.end(), window.begin(), window.end());
    size_t next = 0 - begin;  // the window's token that a row predicts: the one behind its own
    TRY(session.Read(ids, stop, [&](std::span<const float> logits) {
      ++next;
      if (next >= window.size() || next < keep) return;
      const int32_t id = window[next];
      p.nll += static_cast<double>(LogSumExp(logits.data(), static_cast<int64_t>(logits.size()))) -
               static_cast<double>(logits[static_cast<size_t>(id)]);
      p.bytes += tokenizer.Token(id).size();
      ++p.tokens;
    }));
    progress(pieces.read(), pieces.size());
  }
  if (p.tokens == 0) return BadInput(path + " holds fewer than two tokens; give a longer text");
  return p;
}

}  // namespace sotto
